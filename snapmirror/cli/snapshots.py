"""snapmirror snapshots and snapmirror show: what there is, and what one holds."""

from typing import Annotated, Any

import typer

from .. import units
from ..store.records import Record, Tombstone, place_of
from ..store.store import Store
from .context import ConfigOption, JsonOption, opened, printable, show_json, time_id
from .context import show as print_line

SnapshotArgument = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="`current`, a date, a time, an id or a pin.")]


def snapshots(
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DATE", help="Only those at or after an id, or a date meaning its first second."),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List the snapshots, oldest first."""
    first = time_id("--since", since, begin=True) or ""  # as an end it would leave the day itself out
    with opened(config, write=False) as (_, store):
        catalog = store.catalog()
        pins: dict[str, list[str]] = {}
        for pin in catalog.pins.values():
            pins.setdefault(pin.snapshot, []).append(pin.name)
        if json:
            records = [record for record in catalog.records if record.id >= first]
            show_json({"snapshots": [{**describe(store, record), "pins": pins.get(record.id, [])} for record in records]})
            return
        for entry in (entry for entry in catalog.entries if entry.id >= first):
            if isinstance(entry, Tombstone):
                print_line(f"{entry.id}  forgotten {entry.forgotten}")
            else:
                found = describe(store, entry)
                count = sum(repo["files"] for repo in found["repos"].values())
                size = sum(repo["bytes"] for repo in found["repos"].values())
                names = " ".join(sorted(pins.get(entry.id, [])))
                partial = " partial" if entry.partial else ""
                print_line(
                    f"{entry.id}  {units.plural(len(entry.repos), 'repo')}, {units.plural(count, 'file')}, "
                    f"{units.size(size)}{partial}{'  ' + names if names else ''}"
                )


def show(snapshot: SnapshotArgument, json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one snapshot: its repos, their directories, and what was withheld."""
    with opened(config, write=False) as (_, store):
        record = store.catalog().view(snapshot, store.now())
        found = {**describe(store, record), "withheld": _withheld(store, record)}
    if json:
        show_json(found)
        return
    print_line(f"snapshot {found['id']} (number {found['number']}{', partial' if found['partial'] else ''})")
    for path, repo in found["repos"].items():
        print_line(f"{path}: {repo['kind']}, read {repo['read']}, unchanged since {repo['since']}")
        if path in found["reconstructed"]:
            print_line(f"  as upstream had it then, as far as it can be told; not known: {found['reconstructed'][path]}")
        for name, directory in repo["directories"].items():
            size = f"{units.plural(directory['files'], 'file')}, {units.size(directory['bytes'])}"
            print_line(f"  {name or path.rpartition('/')[2]}: {size}, {directory['mode']}, {directory['digest']}")
    for directory, files in found["withheld"].items():
        for file, reason in files.items():
            print_line(f"withheld: {directory}/{printable(file)}: {printable(reason)}")


def describe(store: Store, record: Record) -> dict[str, Any]:
    """A record with each repo's counts, as `--json` prints it."""
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
