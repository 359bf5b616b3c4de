"""snapmirror sync: read upstreams and seal a snapshot."""

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from .. import units
from ..ecosystem import Repo
from ..errors import UsageError
from ..store.records import place_of
from ..sync.engine import Sync
from ..sync.report import DirectoryReport, RepoReport, Report
from ..sync.settings import Options
from .context import ConfigOption, JsonOption, opened, printable, say, show, show_json, time_id, waiting
from .ecosystems import ECOSYSTEMS
from .progress import progress

#: withheld files that are named one by one in a log
_NAMED = 20


def sync(
    repos: Annotated[list[str] | None, typer.Argument(metavar="[REPO]...", help="Paths: all repos at or below them.")] = None,
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
            help="As --seal-as, with only what upstream had by then, as far as its metadata tells.",
        ),
    ] = None,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Accept an upstream that lists under half of what it did.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End with status 4 if another process holds the store.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Status 3 if any file is withheld, not only a new one.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Sync repos with their upstreams and seal a dated snapshot."""
    if seal_as and as_of:
        raise UsageError("--seal-as and --as-of both date the snapshot; give one of them")
    at = time_id("--as-of" if as_of else "--seal-as", seal_as or as_of)
    with opened(config, write=True, create=not dry_run) as (settings, store), progress() as bars:
        chosen = _online(choose(settings.repo, repos or []))
        options = Options(dry_run, at, allow_shrink, bool(as_of), None if no_wait else waiting)
        run = Sync(store, ECOSYSTEMS, settings.repo, settings.download, settings.publish, bars, options)
        report = run.run(chosen)
    if json:
        show_json(report)
    else:
        _print(report)
    raise typer.Exit(report.exit_status(strict=strict))


def choose(configured: Sequence[Repo], paths: list[str]) -> list[Repo]:
    """The repos at or below some paths; all for none. Raises UsageError for a path that names none."""
    chosen: dict[str, Repo] = {}
    for path in (wanted.strip("/") for wanted in paths):
        below = [repo for repo in configured if repo.path == path or repo.path.startswith(f"{path}/")]
        if not below:
            known = ", ".join(repo.path for repo in configured) or "none"
            raise UsageError(f"{path}: no [[repo]] of the configuration is at or below it (configured: {known})")
        chosen.update({repo.path: repo for repo in below})
    if not configured:
        raise UsageError("the configuration has no [[repo]]: nothing to sync")
    return list(chosen.values()) if paths else list(configured)


def _online(repos: list[Repo]) -> list[Repo]:
    """Those of which upstream may be asked. Raises UsageError if there are none."""
    for repo in (repo for repo in repos if repo.offline):
        say(f"{repo.path}: is offline, so it is not synced")
    if all(repo.offline for repo in repos):
        raise UsageError("nothing to sync: every repo that is meant has offline = true")
    return [repo for repo in repos if not repo.offline]


def _print(report: Report) -> None:
    for path, repo in report.repos.items():
        if repo.problem:
            say(f"{path}: {repo.problem}")
        for name, directory in repo.directories.items():
            _print_directory(place_of(path, name), directory, report.dry_run)
    for path, repo in report.repos.items():
        if not repo.problem:
            show(f"{path}: {units.plural(repo.files, 'file')}, {units.size(repo.bytes)} in total")
    if report.dry_run:
        show(f"To fetch: {_to_fetch(report.repos.values())}; on the disk after: {units.size(report.bytes_after)}")
    elif report.snapshot:
        show(f"Sealed snapshot {report.snapshot}")
    show(f"Total size is {units.size(sum(repo.bytes for repo in report.repos.values()))}")


def _print_directory(path: str, directory: DirectoryReport, dry_run: bool) -> None:
    if directory.problem:
        kept = "it keeps its old state" if directory.state == "kept" else "it is not in the snapshot"
        say(f"{path}: {directory.problem}; {kept}")
    if directory.note:
        say(f"{path}: {directory.note}")
    for name, reason in list(directory.aside.items())[:_NAMED]:
        say(f"{path}/{printable(name)}: {reason}; it keeps its old state")
    if len(directory.aside) > _NAMED:
        say(f"{path}: {len(directory.aside) - _NAMED} more keep their old state; `--json` names them")
    for file, reason in list(directory.newly_withheld.items())[:_NAMED]:
        say(f"{path}/{printable(file)}: withheld: {reason}")
    if len(directory.newly_withheld) > _NAMED:
        say(f"{path}: {len(directory.newly_withheld) - _NAMED} more files withheld; `snapmirror show current` names them")
    if dry_run and directory.dropped:
        show(f"{path}: keeps {units.plural(directory.files, 'file')}; left out: {_left_out(directory.dropped)}")
    if dry_run and directory.fetch_files:
        show(f"{path}: would fetch {units.files(directory.fetch_files, directory.fetch_bytes)}")


def _left_out(dropped: dict[str, int]) -> str:
    rules = [f"{count:,} by {rule}" for rule, count in dropped.items() if rule != "names"]
    return ", ".join(rules + [f"{count:,} names that nothing needs" for rule, count in dropped.items() if rule == "names"])


def _to_fetch(repos: Iterable[RepoReport]) -> str:
    found = [directory for repo in repos for directory in repo.directories.values()]
    files = sum(directory.fetch_files for directory in found)
    return units.files(files, sum(directory.fetch_bytes for directory in found))
