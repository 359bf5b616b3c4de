"""snapmirror prefetch: fetch what clients are going to install before one asks for it."""

from pathlib import Path
from typing import Annotated

import typer

from .. import units
from ..ecosystem import Wishes
from ..errors import UsageError
from ..sync.prefetch import Prefetch, PrefetchReport
from .context import ConfigOption, JsonOption, choose, complete_repo, opened, output, output_json, say
from .ecosystems import ECOSYSTEMS
from .progress import progress


def prefetch(
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="Path of a repo whose files come on demand.", autocompletion=complete_repo)
    ],
    requirements: Annotated[
        list[Path] | None, typer.Option("--requirement", "-r", metavar="FILE", help="A requirements.txt (PyPI).")
    ] = None,
    lock: Annotated[
        list[Path] | None,
        typer.Option("--lock", metavar="FILE", help="pylock.toml, uv.lock (PyPI); conda-lock.yml, pixi.lock (conda)."),
    ] = None,
    environment: Annotated[
        list[Path] | None, typer.Option("--environment", metavar="FILE", help="An environment.yml (conda).")
    ] = None,
    spec: Annotated[
        list[str] | None, typer.Option("--spec", metavar="SPEC", help="A requirement (PyPI) or a MatchSpec (conda).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be fetched, and fetch nothing.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Fetch what requirements, locks, environments and specs need, before a client asks for it."""
    with opened(config, write=True, create=not dry_run, plan=dry_run) as (settings, store), progress() as bars:
        exactly = [one for one in settings.repo if one.path == repo.strip("/")]  # others may be below it
        chosen = exactly or choose(settings.repo, [repo])
        if len(chosen) != 1:
            raise UsageError(f"{repo}: several repos are below it ({', '.join(one.path for one in chosen)}); name one of them")
        kind = chosen[0].kind
        if requirements:
            _check_kind("-r", "pypi", kind)
        if environment:
            _check_kind("--environment", "conda", kind)
        files = [str(file.absolute()) for file in (*(requirements or ()), *(lock or ()), *(environment or ()))]
        if not files and not spec:
            raise UsageError("nothing to look for: give -r, --lock, --environment or --spec")
        run = Prefetch(store, ECOSYSTEMS, settings.repo, chosen[0], settings.download, bars)
        report = run.run(Wishes(files, spec or []), dry_run=dry_run)
    if json:
        output_json(report)
    else:
        _print(report)
    raise typer.Exit(3 if report.problems else 0)


def _check_kind(option: str, wanted: str, kind: str) -> None:
    """Raise UsageError for an option that is not for repos of this kind."""
    if kind != wanted:
        raise UsageError(f"{option} is for repos of kind {wanted}; this one is of kind {kind}")


def _print(report: PrefetchReport) -> None:
    for name, problem in report.problems.items():
        say(f"{report.repo}: {name}: {problem}")
    needed, fetched = units.files(report.files, report.bytes), units.files(report.fetch_files, report.fetch_bytes)
    output(f"{report.repo}: {needed} needed; {'would fetch' if report.dry_run else 'not held before:'} {fetched}")
