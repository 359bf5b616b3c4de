"""snapmirror adopt: take a mirror that other tools have made into the store."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from .. import clock, units
from ..conda import CondaRepo
from ..conda.tree import CondaTree
from ..errors import UsageError
from ..store import seal
from ..store.catalog import Catalog
from ..store.store import Store
from ..sync.adopt import Adoption, Amount
from ..sync.engine import Options
from ..sync.local import file_path
from ..sync.report import Report
from .config import Config
from .context import ECOSYSTEMS, ConfigOption, JsonOption, opened, printable, say, show, show_json, waiting
from .progress import progress
from .sync import seal_time


class TreeReport(msgspec.Struct, kw_only=True):
    """What became of one tree."""

    folder: str
    #: id of the snapshot that was sealed; None if none was
    snapshot: str | None
    #: why nothing of it could be taken
    problem: str | None
    #: files that it lists, without those that were not taken
    files: int
    bytes: int
    #: of these, those that came in by a second name and as copies; the others were held already
    linked: int
    linked_bytes: int
    copied: int
    copied_bytes: int
    #: {path: why the file was not taken}
    withheld: dict[str, str]
    #: subdirs that keep their old state, or are not there: {path: why}
    kept: dict[str, str]


class AdoptReport(msgspec.Struct, kw_only=True):
    """The whole."""

    dry_run: bool
    trees: list[TreeReport] = []


class _Tree(msgspec.Struct, frozen=True):
    folder: Path
    #: id that its snapshot gets; None: now
    seal_as: str | None


def adopt(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The tree, or a folder of trees named by their dates.")],
    repo: Annotated[str, typer.Option("--repo", metavar="PATH", help="Path of the repo that it is a mirror of.")],
    seal_as: Annotated[
        str | None,
        typer.Option(
            "--seal-as", metavar="TIME", help="Date the snapshot in the past: an id, or a date meaning its last second."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Take an existing mirror tree into the store, by hard links where possible, and seal a snapshot of it."""
    at = seal_time(seal_as)
    report, statuses = AdoptReport(dry_run=dry_run), []
    with opened(config, write=True, create=not dry_run) as (settings, store):
        chosen = _find(settings, repo)
        for tree in _trees(folder.resolve(), chosen, at, store):
            done, status = _adopt(tree, chosen, settings, store, dry_run=dry_run)
            report.trees.append(done)
            statuses.append(status)
            if not json:
                _print(done, dry_run=dry_run)
    if json:
        show_json(report)
    raise typer.Exit(next((status for status in (1, 4, 3) if status in statuses), 0))


def _find(settings: Config, path: str) -> CondaRepo:
    """The repo that is meant. Raises UsageError if a tree can't become a state of it."""
    found = next((repo for repo in settings.repo if repo.path == path.strip("/")), None)
    if found is None:
        known = ", ".join(repo.path for repo in settings.repo) or "none"
        raise UsageError(f"--repo {path}: there is no [[repo]] with that path (configured: {known})")
    if not isinstance(found, CondaRepo):
        raise UsageError(f"--repo {path}: only a tree of a conda channel can be adopted, and this is {found.kind!r}")
    if found.download != "eager":
        raise UsageError(f'--repo {path}: it has download = "{found.download}", so it keeps no files; make it "eager" first')
    return found


def _trees(folder: Path, repo: CondaRepo, seal_as: str | None, store: Store) -> list[_Tree]:
    """The trees to adopt, in the order in which they can be sealed. Raises UsageError if there is none."""
    subdirs = {*repo.subdirs, "noarch"}
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder")
    inside = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    if subdirs & inside.keys():
        return [_Tree(folder, seal_as)]
    dated = {name: path for name, path in inside.items() if clock.parse_day(name)}
    days = {name: path for name, path in dated.items() if any((path / subdir).is_dir() for subdir in subdirs)}
    if not days:
        wanted = ", ".join(sorted(subdirs))
        raise UsageError(f"{folder}: holds none of the subdirs that {repo.path} is configured with ({wanted}), nor dated trees")
    if seal_as:
        raise UsageError(f"--seal-as {seal_as}: {folder} holds trees named by their dates, and these count")
    return _dated(days, repo.path, store.catalog(), store.now())


def _dated(days: Mapping[str, Path], repo: str, catalog: Catalog, present: datetime) -> list[_Tree]:
    """By date; what lies before the repo's oldest snapshot the other way round, or the second could not be sealed."""
    sealed = {entry.id[:8] for entry in catalog.entries if repo in entry.repos}
    taken = [entry.id for entry in catalog.entries if repo in entry.repos]
    before, after = [], []
    for day, path in sorted(days.items()):
        id_ = _id_of(day, catalog, present)
        if day.replace("-", "") in sealed:
            say(f"{path}: there is a snapshot of {repo} of that date already")
        elif id_ and taken and id_ < min(taken):
            before.append(_Tree(path, id_))
        else:
            after.append(_Tree(path, id_))
    for tree in after:
        if tree.seal_as:
            seal.check_past(catalog, tree.seal_as, [repo], present)
    return [*reversed(before), *after]


def _id_of(day: str, catalog: Catalog, present: datetime) -> str | None:
    """The last second of a day that no snapshot of another repo has; None for today, which has not come to its end."""
    instant = clock.parse_time(day)
    if instant is None or instant.date() == present.date():
        return None
    while clock.to_id(instant) in catalog.by_id:
        instant -= timedelta(seconds=1)
    return clock.to_id(instant)


def _adopt(tree: _Tree, repo: CondaRepo, settings: Config, store: Store, *, dry_run: bool) -> tuple[TreeReport, int]:
    there = msgspec.structs.replace(repo, upstream=tree.folder.as_uri(), packages="")
    configured = [there if one.path == repo.path else one for one in settings.repo]
    options = Options(dry_run, tree.seal_as, allow_shrink=tree.seal_as is not None, waiting=waiting)
    with progress("adopt") as bars:
        run = Adoption(
            store, {**ECOSYSTEMS, repo.kind: CondaTree()}, configured, settings.download, settings.publish, bars, options
        )
        report = run.run([there])
    linked, copied = run.linked, run.copied
    withheld = {
        f"{tree.folder}/{name}/{file}": reason
        for name, directory in report.repos[repo.path].directories.items()
        for file, reason in directory.withheld.items()
    }
    if dry_run:
        plan = run.plan_files()
        linked, copied = (Amount(len(part), sum(one.size for one in part)) for part in (plan.link, plan.copy))
        refused = [(source, error) for wanted, error in plan.refused for source in wanted.stated]
        withheld |= {str(file_path(source.urls[0])): error.problem for source, error in refused}
    return _report(tree, report, repo.path, linked, copied, withheld), 3 if withheld else report.exit_status(strict=True)


def _report(tree: _Tree, report: Report, path: str, linked: Amount, copied: Amount, withheld: dict[str, str]) -> TreeReport:
    repo = report.repos[path]
    return TreeReport(
        folder=str(tree.folder),
        snapshot=report.snapshot,
        problem=repo.problem,
        files=repo.files,
        bytes=repo.bytes,
        linked=linked.files,
        linked_bytes=linked.bytes,
        copied=copied.files,
        copied_bytes=copied.bytes,
        withheld=withheld,
        kept={f"{path}/{name}": found.problem for name, found in repo.directories.items() if found.problem},
    )


def _print(tree: TreeReport, *, dry_run: bool) -> None:
    if tree.problem:
        say(f"{tree.folder}: {tree.problem}")
    for path, problem in tree.kept.items():
        say(f"{path}: {problem}; nothing of it is taken")
    for path, reason in tree.withheld.items():
        say(f"{printable(path)}: not taken: {reason}")
    would = "would be " if dry_run else ""
    linked = f"{units.plural(tree.linked, 'file')}, {units.size(tree.linked_bytes)}, {would}linked"
    copied = f"{tree.copied:,}, {units.size(tree.copied_bytes)}, {would}copied"
    show(f"{tree.folder}: {linked}; {copied}; {len(tree.withheld):,} not taken")
    if tree.snapshot:
        show(f"Sealed snapshot {tree.snapshot}: {units.plural(tree.files, 'file')}, {units.size(tree.bytes)}")
