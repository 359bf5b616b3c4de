"""snapmirror sync: read upstreams and seal a snapshot."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from .. import units
from ..ecosystem import Repo
from ..errors import SnapmirrorError, UsageError
from ..store.records import place_of
from ..store.store import Store
from ..sync.engine import Sync
from ..sync.report import DirectoryReport, RepoReport, Report
from ..sync.settings import Options
from .context import ConfigOption, JsonOption, choose, complete_repo, opened, output, output_json, say, time_id, waiting
from .ecosystems import ECOSYSTEMS
from .progress import progress

#: withheld files that are named one by one in a log
_NAMED = 20


def sync(
    repos: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REPO]...", help="Paths: the repos at or below them.", autocompletion=complete_repo),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    seal_as: Annotated[
        str | None,
        typer.Option(
            "--seal-as", metavar="TIME", help="Date the snapshot in the past: an id, or a date meaning its last second."
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME",
            help="Like --seal-as, with only what upstream had by then, as far as its metadata tells.",
        ),
    ] = None,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Accept an upstream that lists less than half of what it did.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End with status 4 if another process holds the store.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Status 3 if any file is withheld, not only a new one.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Read upstreams, fetch what is new, and seal a dated snapshot."""
    if seal_as is not None and as_of is not None:
        raise UsageError("--seal-as and --as-of both date the snapshot; give only one of them")
    # An empty text is no time: what was meant for the past must not become current.
    at = time_id("--seal-as", seal_as) if as_of is None else time_id("--as-of", as_of)
    with (
        opened(config, write=True, create=not dry_run, plan=dry_run, sign=not dry_run) as (settings, store),
        progress() as bars,
    ):
        chosen = _online(choose(settings.repo, repos or []))
        options = Options(dry_run, at, allow_shrink, as_of is not None, None if no_wait else waiting)
        run = Sync(store, ECOSYSTEMS, settings.repo, settings.download, settings.exported, bars, options)
        report = run.run(chosen) if dry_run else _noted(store, run, chosen)
    if json:
        output_json(report)
    else:
        _print(report)
    raise typer.Exit(report.exit_status(strict=strict))


def _noted(store: Store, run: Sync, chosen: Sequence[Repo]) -> Report:
    """Run it, and note for the server's metrics how that ended, and what is held now."""
    with store.outcomes.noting("sync", [repo.path for repo in chosen]) as noted:
        report = run.run(chosen)
        noted.outcomes = {path: repo.outcome for path, repo in report.repos.items()}
    if report.snapshot:
        with contextlib.suppress(SnapmirrorError, OSError):  # the snapshot is there, whatever ails the index
            store.outcomes.note_held(*store.index.totals())
    return report


def _online(repos: list[Repo]) -> list[Repo]:
    """The repos whose upstream may be asked. Raises UsageError if there are none."""
    for repo in (repo for repo in repos if repo.offline):
        say(f"{repo.path}: is offline, so it is not synced")
    online = [repo for repo in repos if not repo.offline]
    if not online:
        raise UsageError("nothing to sync: take offline = true away from a [[repo]] to sync it")
    return online


def _print(report: Report) -> None:
    for path, repo in report.repos.items():
        if repo.problem:
            say(f"{path}: {repo.problem}")
        for name, directory in repo.directories.items():
            _print_directory(place_of(path, name), directory, report.dry_run)
    for path, repo in report.repos.items():
        if not repo.problem:
            output(f"{path}: {units.plural(repo.files, 'file')}, {units.size(repo.bytes)} in total")
    if report.dry_run:
        output(f"To fetch: {_to_fetch(report.repos.values())}; on the disk after: {units.size(report.bytes_after)}")
    elif report.snapshot:
        output(f"Sealed snapshot {report.snapshot}")
    output(f"Total size is {units.size(sum(repo.bytes for repo in report.repos.values()))}")


def _print_directory(path: str, directory: DirectoryReport, dry_run: bool) -> None:
    if directory.problem:
        kept = "it keeps its old state" if directory.state == "kept" else "it is not in the snapshot"
        say(f"{path}: {directory.problem}; {kept}")
    if directory.note:
        say(f"{path}: {directory.note}")
    for name, reason in list(directory.aside.items())[:_NAMED]:
        say(f"{path}/{name}: {reason}; it keeps its old state")
    if len(directory.aside) > _NAMED:
        say(f"{path}: {len(directory.aside) - _NAMED} more keep their old state; `--json` names them")
    for file, reason in list(directory.newly_withheld.items())[:_NAMED]:
        say(f"{path}/{file}: withheld: {reason}")
    if len(directory.newly_withheld) > _NAMED:
        say(f"{path}: {len(directory.newly_withheld) - _NAMED} more files withheld; `snapmirror show current` names them")
    if dry_run and directory.dropped:
        output(f"{path}: keeps {units.plural(directory.files, 'file')}; left out: {_left_out(directory.dropped)}")
    if dry_run and directory.fetch_files:
        output(f"{path}: would fetch {units.files(directory.fetch_files, directory.fetch_bytes)}")


def _left_out(dropped: dict[str, int]) -> str:
    rules = [f"{count:,} by {rule}" for rule, count in dropped.items() if rule != "names"]
    return ", ".join(rules + [f"{count:,} names that nothing needs" for rule, count in dropped.items() if rule == "names"])


def _to_fetch(repos: Iterable[RepoReport]) -> str:
    found = [directory for repo in repos for directory in repo.directories.values()]
    files = sum(directory.fetch_files for directory in found)
    return units.files(files, sum(directory.fetch_bytes for directory in found))
