"""snapmirror check: look for damage, and repair it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from .. import units
from ..errors import DamagedError
from ..store import check as checking
from ..store.check import Listed, Problem
from ..store.store import Store
from ..sync.repair import repair as mend
from ..sync.repair import tree_problems
from ..transfer.hosts import CarefulHttp, Hosts
from .context import ConfigOption, JsonOption, opened, output, output_json, parsed, say, waiting
from .ecosystems import ECOSYSTEMS
from .progress import Lines

if TYPE_CHECKING:
    from ..store.signatures import PrivateKey


def check(
    read_data: Annotated[bool, typer.Option("--read-data", help="Also compare every byte with its name.")] = False,
    max_duration: Annotated[
        str | None,
        typer.Option("--max-duration", metavar="DURATION", help="Stop --read-data after this long; the next run goes on."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch missing files again from upstream; mend index and trees.")
    ] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Look for damage, and repair it if told to. Exit status 5 if any is left."""
    limit = None if max_duration is None else parsed("--max-duration", units.parse_duration, max_duration).total_seconds()
    with opened(config, write=True) as (settings, store):
        key = settings.sign.read_key()
        problems, read = _find_problems(store, key, limit, read_data=read_data)
        repaired: list[str] = []
        if repair and problems:
            with CarefulHttp(Hosts(), settings.download, say) as http:
                configured = {repo.path: repo for repo in settings.repo}
                repaired = mend(store, ECOSYSTEMS, configured, http, Lines(), problems, plain=settings.publish.plain)
            problems, _ = _find_problems(store, key, None, read_data=False)
    _print(problems, repaired, read, json=json)
    if problems and repair:
        say("upstream can't give what is still missing now: restore it from a backup, or forget the snapshots that need it")
    elif problems:
        say("`snapmirror check --repair` fetches again what upstream still has, and mends what can be made again")
    raise typer.Exit(DamagedError.exit_status if problems else 0)


def _find_problems(
    store: Store, key: "PrivateKey | None", limit: float | None, *, read_data: bool
) -> tuple[list[Problem], int]:
    """All problems, and how many bytes of blobs were read.

    key: the one that signs here, None if none does
    limit: seconds after which reading stops, None for none
    """
    with store.lock(waiting):
        problems = [
            *checking.structure(store, _leaf_files),
            *checking.signatures(store, key),
            *tree_problems(store, ECOSYSTEMS),
        ]
    read = 0
    if read_data:
        for result in checking.read_data(store, limit):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                read += result
        problems += checking.read_documents(store)
    return problems, read


def _leaf_files(kind: str, leaf: bytes) -> Iterator[Listed]:
    """The files that a leaf lists, as far as their digests are known. Fulfils store.check.LeafFiles."""
    return (Listed(file.name, file.sha256, file.size) for file in ECOSYSTEMS[kind].files(leaf) if file.sha256)


def _print(problems: list[Problem], repaired: list[str], read: int, *, json: bool) -> None:
    if json:
        found = [{"what": problem.what, "problem": problem.problem} for problem in problems]
        output_json({"problems": found, "repaired": repaired, "bytes_read": read})
        return
    for line in repaired:
        say(line)
    for problem in problems:
        output(f"{problem.what}: {problem.problem}")
    amount = f", {units.size(read)} read" if read else ""
    output(f"{units.plural(len(problems), 'problem')} found{amount}")
