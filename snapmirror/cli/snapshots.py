"""snapmirror snapshots and snapmirror show: what there is, and what one holds."""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import typer

from .. import units
from ..digests import Digest
from ..store.records import Record, Tombstone
from ..store.store import Store
from ..sync.shown import forgotten, of_record, withheld
from .context import ConfigOption, JsonOption, SnapshotArgument, opened, output, output_json, printable, time_id


def snapshots(
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DATE", help="Only those at or after an id, or a date, which means its first second."),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List the snapshots, oldest first."""
    first = time_id("--since", since, begin=True) or ""  # the day's last second would leave the day itself out
    with opened(config, write=False) as (_, store):
        catalog = store.catalog()
        store.metadata.expect(_directories(record for record in catalog.records if record.id >= first))
        pins: dict[str, list[str]] = {}
        for pin in catalog.pins.values():
            pins.setdefault(pin.snapshot, []).append(pin.name)
        if json:
            records = [record for record in catalog.records if record.id >= first]
            output_json({"snapshots": [{**describe(store, record), "pins": pins.get(record.id, [])} for record in records]})
            return
        for entry in (entry for entry in catalog.entries if entry.id >= first):
            if isinstance(entry, Tombstone):
                output(f"{entry.id}  forgotten {entry.forgotten}")
            else:
                _print_line(store, entry, sorted(pins.get(entry.id, [])))


def _directories(records: Iterable[Record]) -> set[Digest]:
    return {state.blob for record in records for repo in record.repos.values() for state in repo.directories.values()}


def _print_line(store: Store, record: Record, pins: list[str]) -> None:
    """A snapshot in the list of all."""
    repos = of_record(store, record).repos.values()
    files, size = sum(repo.files for repo in repos), sum(repo.bytes for repo in repos)
    amount = f"{units.plural(len(repos), 'repo')}, {units.plural(files, 'file')}, {units.size(size)}"
    names = f"  {' '.join(pins)}" if pins else ""
    output(f"{record.id}  {amount}{' partial' if record.partial else ''}{names}")


def show(snapshot: SnapshotArgument, json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one snapshot: its repos, their directories, and what was withheld."""
    with opened(config, write=False) as (_, store):
        catalog, now = store.catalog(), store.now()
        record, gone = catalog.view(snapshot, now), forgotten(catalog, snapshot, now)
        found = {**describe(store, record), "withheld": withheld(store, record), "forgotten": gone}
    if json:
        output_json(found)
        return
    output(f"snapshot {found['id']} (number {found['number']}{', partial' if found['partial'] else ''})")
    for path, repo in found["repos"].items():
        output(f"{path}: {repo['kind']}, read {repo['read']}, unchanged since {repo['since']}")
        if path in found["reconstructed"]:
            output(f"  as upstream had it then, as far as it can be told; not known: {found['reconstructed'][path]}")
        for name, directory in repo["directories"].items():
            size = f"{units.plural(directory['files'], 'file')}, {units.size(directory['bytes'])}"
            output(f"  {name or path.rpartition('/')[2]}: {size}, {directory['mode']}, {directory['digest']}")
    for path, problem in gone.items():
        output(f"{path} is left out: {problem}")
    for directory, files in found["withheld"].items():
        for file, reason in files.items():
            output(f"withheld: {directory}/{printable(file)}: {printable(reason)}")


def describe(store: Store, record: Record) -> dict[str, Any]:
    """A record with the counts of each repo and directory, as `--json` prints it. Raises DamagedError."""
    found: dict[str, Any] = msgspec.to_builtins(of_record(store, record))
    return found
