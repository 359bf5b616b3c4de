"""Which trees of other tools a folder holds, and in which order snapshots can be made of them.

Reads names of files and folders only.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from .. import clock
from ..ecosystem import Repo, TreeReader
from ..errors import UsageError
from ..store import seal
from ..store.catalog import Catalog


class Tree(msgspec.Struct, frozen=True):
    """What becomes one snapshot."""

    folder: Path
    #: the folder of each repo that has one there: `folder` itself, or below it
    repos: Mapping[str, Path]
    #: id that the snapshot gets; None: now
    seal_as: str | None


class Found(NamedTuple):
    """What is to be done with a folder."""

    #: in the order in which they can be sealed
    trees: Sequence[Tree]
    #: repos of which it holds nothing
    without: Collection[str]
    #: what is passed over because it was done before, in words
    done: Sequence[str]


def find(
    folder: Path,
    asked: str,
    repos: Sequence[Repo],
    readers: Mapping[str, TreeReader],
    seal_as: str | None,
    catalog: Catalog,
    present: datetime,
) -> Found:
    """The trees of repos at or below the path `asked`, in a folder that stands for this path or holds dated ones that do.

    repos: one or more; seal_as: the id that was asked for
    Raises UsageError if there is none, or if they can't be dated as they are.
    """

    def held(root: Path) -> dict[str, Path]:
        places = {repo.path: (repo, root / repo.path[len(asked) :].strip("/")) for repo in repos}
        return {path: place for path, (repo, place) in places.items() if readers[repo.kind].holds(repo, place)}

    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder")
    if here := held(folder):
        return Found([Tree(folder, here, seal_as)], [repo.path for repo in repos if repo.path not in here], [])
    dated = sorted(path for path in folder.iterdir() if clock.parse_day(path.name))
    days = {path: there for path in dated if (there := held(path))}
    if not days:
        raise UsageError(f"{folder}: holds {_nothing_of(asked, repos, readers)}, nor dated trees")
    if seal_as:
        raise UsageError(f"--seal-as {seal_as}: {folder} holds trees named by their dates, and these count")
    known = {path for there in days.values() for path in there}
    return _by_date(days, catalog, present)._replace(without=[repo.path for repo in repos if repo.path not in known])


def _nothing_of(asked: str, repos: Sequence[Repo], readers: Mapping[str, TreeReader]) -> str:
    if len(repos) == 1:
        return f"none of the {readers[repos[0].kind].looks_for(repos[0])}"
    places = ", ".join(sorted(repo.path[len(asked) :].strip("/") or "." for repo in repos))
    return f"no tree of a repo at or below {asked} (these would be its folders {places})"


def _by_date(days: Mapping[Path, Mapping[str, Path]], catalog: Catalog, present: datetime) -> Found:
    """By date; what lies before all snapshots of these repos the other way round, or the second could not be sealed."""
    sealed = {(entry.id[:8], repo) for entry in catalog.entries for repo in entry.repos}
    trees, done = [], []
    for folder, repos in days.items():
        day = folder.name.replace("-", "")
        done += [f"{folder}: there is a snapshot of {repo} of that date already" for repo in repos if (day, repo) in sealed]
        if left := {repo: place for repo, place in repos.items() if (day, repo) not in sealed}:
            trees.append(Tree(folder, left, _id_of(folder.name, catalog, present)))
    known = {repo for tree in trees for repo in tree.repos}
    oldest = min((entry.id for entry in catalog.entries if known & set(entry.repos)), default="")
    before = [tree for tree in trees if tree.seal_as and tree.seal_as < oldest]
    order = [*reversed(before), *(tree for tree in trees if tree not in before)]
    _check_order(order, known, catalog, present)
    return Found(order, (), done)


def _check_order(order: Sequence[Tree], repos: Collection[str], catalog: Catalog, present: datetime) -> None:
    """Raise UsageError if one could not be sealed after those before it: it is said before the first is."""
    ids = {repo: [entry.id for entry in catalog.entries if repo in entry.repos] for repo in repos}
    for tree in order:
        if tree.seal_as is None:
            continue
        seal.check_past(catalog, tree.seal_as, tree.repos, present)
        for repo in tree.repos:
            if ids[repo] and min(ids[repo]) < tree.seal_as < max(ids[repo]):
                raise UsageError(
                    f"{tree.folder}: no order suits both {repo} and the others, which have snapshots of other times; "
                    "adopt the folders of repos one by one, with --seal-as"
                )
            ids[repo] = [min([*ids[repo], tree.seal_as]), max([*ids[repo], tree.seal_as])]


def _id_of(day: str, catalog: Catalog, present: datetime) -> str | None:
    """The last second of a day that no snapshot of another repo has; None for one that is not over: now. Whoever names a tree
    by the day of a clock east of UTC has begun that day earlier.
    """
    instant = clock.parse_time(day)
    if instant is None or (instant >= present and clock.begun_somewhere(instant.date(), present)):
        return None
    while clock.to_id(instant) in catalog.by_id:
        instant -= timedelta(seconds=1)
    return clock.to_id(instant)
