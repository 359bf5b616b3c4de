"""`published/`: what other programs see of the snapshots that have trees.

    published/<id>/<repo>/<directory>   symbolic links to tree objects
    published/.views/<digest>/…         the same for a selector that takes its repos from several snapshots
    published/current, <day>, <pin>     symbolic links to one of these

All of it is derived from the records and the tree objects; whoever writes next puts it right after a crash.
"""

import contextlib
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from .. import clock
from ..digests import sha256
from ..errors import DamagedError, Forgotten, SelectorError
from . import fs
from .catalog import CURRENT, Catalog
from .layout import Layout
from .records import Entry, Record
from .trees import leads_out

#: "repo/directory" -> name of its tree object; of a file that a repo has beside its directories: "repo/file" -> "object/file"
Links = dict[str, str]


def links_of(repo: str, links: Mapping[str, str], repos: Iterable[str]) -> Links:
    """Of the links of these repos those of one: the path of another may lead below its own."""
    inner = [f"{other}/" for other in repos if other.startswith(f"{repo}/")]
    return {
        place: tree
        for place, tree in links.items()
        if f"{place}/".startswith(f"{repo}/") and not f"{place}/".startswith(tuple(inner))
    }


class Published:
    """The links of one store. Changes need the store's lock."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def links(self, snapshot: str) -> Links:
        """The links of a snapshot's tree, empty if it has none."""
        return _read_links(self._layout.published / snapshot)

    def snapshots(self) -> list[str]:
        """Ids of the snapshots that have a tree."""
        with os.scandir(self._layout.published) as entries:
            return sorted(entry.name for entry in entries if clock.from_id(entry.name) and not entry.is_symlink())

    def publish(self, snapshot: str, links: Mapping[str, str]) -> None:
        """Make the tree of a snapshot, replacing what it had; without links it has none.

        Raises DamagedError if a place leads out of it.
        """
        for place in filter(leads_out, links):
            raise DamagedError(f"a directory with the name {place!r}", "is in a record, and can't be published: it leads out")
        target = self._layout.published / snapshot
        if self.links(snapshot) == dict(links):
            return
        if links:
            self._make(target, links, depth=1)
        else:
            fs.discard_tree(target)

    def _make(self, target: Path, links: Mapping[str, str], depth: int) -> None:
        """Make a folder of links; only when it is whole what has its name goes."""
        temporary = target.with_name(f".new-{secrets.token_hex(8)}")
        try:
            for place, tree in links.items():
                path = temporary / place
                with fs.full_disk(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                up = "../" * (depth + place.count("/"))
                fs.make_link(path, f"{up}.trees/{tree}")
            fs.sync_folders(temporary)
        except BaseException:
            fs.remove_tree(temporary)
            raise
        fs.discard_tree(target)
        fs.rename(temporary, target)
        fs.sync_folder(target.parent)

    def refresh(self, catalog: Catalog, present: datetime, drop: Collection[str] = ()) -> None:
        """Put `current`, the past days and the pins right; then remove the trees of snapshots that are not kept, and of those
        that are to be dropped. Durable.
        """
        standing_trees = self.snapshots()
        kept = {record.id for record in catalog.records if record.id not in drop}
        trees = {snapshot: self.links(snapshot) for snapshot in standing_trees if snapshot in kept}
        wanted = {}
        if trees:
            selectors = [CURRENT, *catalog.pins, *_past_days(min(trees), present)]
            wanted = {name: self._target(catalog, name, present, trees) for name in selectors}
        standing = self._selectors()
        for name, target in wanted.items():
            if target and standing.get(name) != target:
                fs.replace_link(self._layout.published / name, target)
        for name in standing:
            if not wanted.get(name):
                fs.unlink(self._layout.published / name)
        fs.sync_folder(self._layout.published)
        for snapshot in standing_trees:  # only now: no link leads to them any more
            if snapshot not in kept:
                fs.discard_tree(self._layout.published / snapshot)
        self._drop_views({target for target in wanted.values() if target})

    def lost(self, catalog: Catalog) -> Iterator[DamagedError]:
        """The newest record, if it is gone, which no gap in the numbers tells: links are put there only after it."""
        for target in sorted(set(self._selectors().values())):
            if clock.from_id(target) and target not in catalog.by_id:
                problem = "is missing, and links in published/ lead to its tree; restore it from a backup"
                yield DamagedError(f"snapshots/{target}.json", problem)

    def _selectors(self) -> dict[str, str]:
        """{`current`, day or pin: id, or path of a view, to which it leads}"""
        with os.scandir(self._layout.published) as entries:
            return {entry.name: os.readlink(entry.path) for entry in entries if entry.is_symlink()}

    def _target(self, catalog: Catalog, selector: str, present: datetime, trees: Mapping[str, Links]) -> str | None:
        """What a selector's link points to: a snapshot's tree if that says it all, else a view; None if nothing."""
        if not self._may_have(catalog, selector, present, trees):
            return None
        records: dict[str, Record] = {}
        for repo in catalog.repos:
            with contextlib.suppress(SelectorError):
                records[repo] = catalog.resolve(selector, repo, present)
        links: Links = {}
        for repo, record in records.items():
            links |= links_of(repo, trees.get(record.id, {}), record.repos)
        links = _apart(links)
        for snapshot in {record.id for record in records.values()}:
            if trees.get(snapshot) == links:
                return snapshot if links else None
        return self._view(links) if links else None

    def _may_have(self, catalog: Catalog, selector: str, present: datetime, trees: Collection[str]) -> bool:
        """Whether a selector may lead to a tree: most days since an old pin don't, whatever the repo. trees: ids with a tree"""
        try:
            newest: Entry = catalog.resolve(selector, None, present)
        except Forgotten as error:
            newest = catalog.by_id[error.snapshot]
        except SelectorError:
            return False
        return newest.partial or newest.id in trees  # what is not partial answers for every repo that there is

    def _view(self, links: Links) -> str:
        name = sha256(repr(sorted(links.items())).encode()).hex()
        if not (self._layout.views / name).is_dir():
            self._make(self._layout.views / name, links, depth=2)
        return f".views/{name}"

    def _drop_views(self, targets: set[str]) -> None:
        for view in self._layout.views.iterdir():
            if f".views/{view.name}" not in targets:
                fs.discard_tree(view)


def _apart(links: Links) -> Links:
    """Those that are below no other: what is a repo now may have been a folder of another one then, and a tree object is not
    written into.
    """
    parts = {place: place.split("/") for place in links}
    above = {place: ("/".join(names[:length]) for length in range(1, len(names))) for place, names in parts.items()}
    return {place: tree for place, tree in links.items() if links.keys().isdisjoint(above[place])}


def _read_links(folder: Path) -> Links:
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                with contextlib.suppress(FileNotFoundError):  # another process makes the tree again
                    found[os.path.relpath(path, folder)] = os.readlink(path).rpartition(".trees/")[2]
    return found


def _past_days(first: str, present: datetime) -> list[str]:
    """Every day from a snapshot's to yesterday."""
    instant = clock.from_id(first)
    day = instant.date() if instant else present.date()
    days = []
    while day < present.date():
        days.append(day.isoformat())
        day += timedelta(days=1)
    return days
