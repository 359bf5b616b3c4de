"""snapmirror check: look for damage, and repair it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .. import units
from ..errors import DamagedError, UsageError
from ..store import check as checking
from ..store import scrub
from ..store.check import Listed, Problem
from ..store.needed import needed_by, runs
from ..store.signed import signatures
from ..store.store import Store
from ..sync.givers import giver
from ..sync.repair import repair as mend
from ..sync.repair import tree_problems
from ..transfer.hosts import CarefulHttp, Hosts
from .context import ConfigOption, JsonOption, opened, output, output_json, parsed, printable, say, waiting
from .ecosystems import ECOSYSTEMS
from .progress import Lines

if TYPE_CHECKING:
    from ..store.signatures import PrivateKey

#: a directory that was had again may need buckets, these leaves, and these files; then trees are mended
_ROUNDS = 5


def check(
    read_data: Annotated[bool, typer.Option("--read-data", help="Also compare every byte with its name.")] = False,
    max_duration: Annotated[
        str | None,
        typer.Option("--max-duration", metavar="DURATION", help="Stop --read-data after this long; the next run goes on."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch missing files again from upstream; mend index and trees.")
    ] = False,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="URL|DIR", help="With --repair: get it from another snapmirror or an old mirror."),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Look for damage, and repair it if told to. Exit status 5 if any is left."""
    if from_ is not None and not repair:
        raise UsageError("--from says where --repair gets what is lost; add --repair")
    if max_duration is not None and not read_data:
        raise UsageError("--max-duration says when --read-data stops; add --read-data, or nothing is read")
    source = None if from_ is None else giver(from_)
    limit = None if max_duration is None else parsed("--max-duration", units.parse_duration, max_duration).total_seconds()
    # Clashes of names are no matter of damage, and to look for them would end at the first record that can't be read.
    with opened(config, write=True, allow_clashes=True) as (settings, store), store.outcomes.noting("check") as noted:
        key = settings.sign.read_key()
        repaired = _index_made_again(store, repair=repair)
        found = _find_problems(store, key, limit, read_data=read_data)
        read, repaired = found.read, repaired + found.taken
        if repair and found.problems:
            configured = {repo.path: repo for repo in settings.repo}
            with CarefulHttp(Hosts(), settings.download.trusting([from_ or ""]), say) as http:
                for _ in range(_ROUNDS):
                    before = found.problems
                    done = mend(
                        store, ECOSYSTEMS, configured, http, Lines(), before, plain=settings.publish.plain, giver=source
                    )
                    found = _find_problems(store, key, None, read_data=False)
                    repaired += done + found.taken
                    if not found.problems or found.problems == before:
                        break
        report = _report(store, found.problems, list(dict.fromkeys(repaired)), read)
        noted.outcomes[""], noted.numbers = "damaged" if found.problems else "clean", {"problems": len(found.problems)}
    if json:
        output_json(report)
    else:
        _print(report, [record.id for record in store.snapshots.readable()[0].records])
    if found.problems:
        say(_advice(found.problems, repair=repair, given=from_ is not None))
    raise typer.Exit(DamagedError.exit_status if found.problems else 0)


def _index_made_again(store: Store, *, repair: bool) -> list[str]:
    """Make an index again that can't be read, if told to; what was done. Raises StoreError if it is left as it is."""
    problem = store.index_problem()
    if problem is None:
        return []
    if not repair:
        raise problem
    with store.lock_only(waiting):
        store.reindex()
    return ["made the index again"]


class _Found(NamedTuple):
    """What a check has found."""

    problems: list[Problem]
    #: what was done at once, a line each
    taken: list[str]
    #: bytes of blobs that were read
    read: int


def _find_problems(store: Store, key: "PrivateKey | None", limit: float | None, *, read_data: bool) -> _Found:
    """key: the one that signs here, None if none does; limit: seconds after which reading stops, None for none"""
    with store.lock_only(waiting):
        problems = [
            *checking.structure(store, _leaf_files),
            *signatures(store, key),
            *tree_problems(store, ECOSYSTEMS),
        ]
    # Without the lock: where a backup has come back with other permissions, all of the store is read.
    taken = [f"quarantined {digest.hex()}" for digest in scrub.take_away(store, problems)]
    read = 0
    if read_data:
        for result in scrub.read_data(store, limit):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                read += result
        problems += scrub.read_documents(store)
    return _Found(problems, taken, read)


def _report(store: Store, problems: list[Problem], repaired: list[str], read: int) -> dict[str, Any]:
    """What `--json` prints."""
    catalog, _ = store.snapshots.readable()
    needed = needed_by(store, catalog, _leaf_files, {problem.blob for problem in problems if problem.blob})
    never, oldest = scrub.ages(store)
    return {
        "problems": [
            {"what": problem.what, "problem": problem.problem} | ({"snapshots": needed[problem.blob]} if problem.blob else {})
            for problem in problems
        ],
        "repaired": repaired,
        "bytes_read": read,
        "never_read": never,
        "oldest_read": oldest,
    }


def _advice(problems: list[Problem], *, repair: bool, given: bool) -> str:
    if not repair:
        return "`snapmirror check --repair` fetches again what upstream still has, and mends what can be made again"
    if not any(problem.blob for problem in problems):
        return "what is still named can't be mended from here: each line says what to do, or restore it from a backup"
    place = "upstream and --from" if given else "upstream"
    more = "" if given else "get it from another mirror (--from), "
    return f"{place} can't give what is still missing now: {more}restore it from a backup, or forget the snapshots that need it"


def _leaf_files(kind: str, leaf: bytes) -> Iterator[Listed]:
    """The files that a leaf lists, as far as their digests are known. Fulfils store.check.LeafFiles."""
    return (Listed(file.name, file.sha256, file.size) for file in ECOSYSTEMS[kind].files(leaf) if file.sha256)


def _print(report: dict[str, Any], kept: Sequence[str]) -> None:
    """kept: ids of all snapshots, in order."""
    for line in report["repaired"]:
        say(line)
    for problem in report["problems"]:
        output(printable(f"{problem['what']}: {problem['problem']}"))
        if snapshots := problem.get("snapshots"):
            output(f"    needed by {runs(kept, snapshots)}")
    amount = f", {units.size(report['bytes_read'])} read" if report["bytes_read"] else ""
    output(f"{units.plural(len(report['problems']), 'problem')} found{amount}")
    never = f"; {units.plural(report['never_read'], 'blob')} never since stored" if report["never_read"] else ""
    if report["oldest_read"]:
        output(f"bytes were last compared with their names at {report['oldest_read']} or later{never}")
