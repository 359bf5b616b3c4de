"""snapmirror check: look for damage, and repair it."""

from collections.abc import Iterator
from typing import Annotated

import typer

from .. import units
from ..errors import DamagedError, UsageError
from ..store import check as checking
from ..store.check import Listed, Problem
from ..store.store import Store
from ..sync.repair import repair as mend
from ..sync.repair import tree_problems
from ..transfer.hosts import CarefulHttp, Hosts
from .context import ConfigOption, JsonOption, opened, say, show, show_json, waiting
from .ecosystems import ECOSYSTEMS
from .progress import Lines


def check(
    read_data: Annotated[bool, typer.Option("--read-data", help="Also compare every byte with its name.")] = False,
    max_duration: Annotated[
        str | None,
        typer.Option("--max-duration", metavar="DURATION", help="Stop --read-data after so long; the next call goes on."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Get missing files again from upstream; mend index and trees.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Look for damage. Exit status 5 if there is any left."""
    seconds = _seconds(max_duration)
    with opened(config, write=True) as (settings, store):
        problems, read = _find_problems(store, seconds, read_data=read_data)
        repaired: list[str] = []
        if repair and problems:
            with CarefulHttp(Hosts(), settings.download, say) as http:
                configured = {repo.path: repo for repo in settings.repo}
                repaired = mend(store, ECOSYSTEMS, configured, http, Lines(), problems, plain=settings.publish.plain)
            problems, _ = _find_problems(store, None, read_data=False)
    _print(problems, repaired, read, json=json)
    raise typer.Exit(DamagedError.exit_status if problems else 0)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return units.parse_duration(text).total_seconds()
    except ValueError as error:
        raise UsageError(f"--max-duration: {error}") from None


def _find_problems(store: Store, seconds: float | None, *, read_data: bool) -> tuple[list[Problem], int]:
    """Problems, and the bytes read for them."""
    with store.lock(waiting):
        problems = [*checking.structure(store, _leaf_files), *tree_problems(store, ECOSYSTEMS)]
    read = 0
    if read_data:
        for result in checking.read_data(store, seconds):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                read += result
        problems += checking.read_documents(store)
    return problems, read


def _leaf_files(kind: str, leaf: bytes) -> Iterator[Listed]:
    return (Listed(file.name, file.sha256, file.size) for file in ECOSYSTEMS[kind].files(leaf) if file.sha256)


def _print(problems: list[Problem], repaired: list[str], read: int, *, json: bool) -> None:
    if json:
        found = [{"what": problem.what, "problem": problem.problem} for problem in problems]
        show_json({"problems": found, "repaired": repaired, "bytes_read": read})
        return
    for line in repaired:
        say(line)
    for problem in problems:
        show(f"{problem.what}: {problem.problem}")
    what = f", {units.size(read)} read" if read else ""
    show(f"{units.plural(len(problems), 'problem')} found{what}")
