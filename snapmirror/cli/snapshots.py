"""snapmirror snapshots and snapmirror show: what there is, and what one holds."""

from typing import Annotated, Any

import typer

from .. import units
from ..store.records import Record, Tombstone, place_of
from ..store.store import Store
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


def _print_line(store: Store, record: Record, pins: list[str]) -> None:
    """A snapshot in the list of all."""
    repos = [_describe_repo(store, record, path) for path in record.repos]
    files, size = (sum(repo[key] for repo in repos) for key in ("files", "bytes"))
    amount = f"{units.plural(len(repos), 'repo')}, {units.plural(files, 'file')}, {units.size(size)}"
    names = f"  {' '.join(pins)}" if pins else ""
    output(f"{record.id}  {amount}{' partial' if record.partial else ''}{names}")


def show(snapshot: SnapshotArgument, json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one snapshot: its repos, their directories, and what was withheld."""
    with opened(config, write=False) as (_, store):
        record = store.catalog().view(snapshot, store.now())
        found = {**describe(store, record), "withheld": _withheld(store, record)}
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
    for directory, files in found["withheld"].items():
        for file, reason in files.items():
            output(f"withheld: {directory}/{printable(file)}: {printable(reason)}")


def describe(store: Store, record: Record) -> dict[str, Any]:
    """A record with the counts of each repo and directory, as `--json` prints it. Raises DamagedError."""
    return {
        "id": record.id,
        "number": record.number,
        "partial": record.partial,
        "reconstructed": record.reconstructed,
        "repos": {path: _describe_repo(store, record, path) for path in record.repos},
    }


def _describe_repo(store: Store, record: Record, path: str) -> dict[str, Any]:
    repo = record.repos[path]
    directories = {}
    for name, state in repo.directories.items():
        document = store.metadata.directory(state.blob).document
        directories[name] = {
            "digest": state.digest,
            "read": state.read,
            "since": state.since,
            "mode": document.mode,
            "files": document.files,
            "bytes": document.size,
        }
    return {
        "kind": repo.kind,
        "read": repo.read,
        "since": repo.since,
        "files": sum(found["files"] for found in directories.values()),
        "bytes": sum(found["bytes"] for found in directories.values()),
        "directories": directories,
    }


def _withheld(store: Store, record: Record) -> dict[str, dict[str, str]]:
    """{"repo/directory": {file: reason}}, without those that withhold nothing."""
    found = {
        place_of(path, name): store.metadata.directory(state.blob).document.withheld
        for path, repo in record.repos.items()
        for name, state in repo.directories.items()
    }
    return {directory: files for directory, files in found.items() if files}
