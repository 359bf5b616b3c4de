"""snapmirror replicate, migrate, export and import: copies of snapshots, over the network or in files."""

from pathlib import Path
from typing import Annotated

import typer

from .. import addresses, units
from ..errors import UsageError
from ..remote.settings import is_remote
from ..store.store import Store
from ..sync.archive import Volumes, volumes_of
from ..sync.bringing import CopyError
from ..sync.copying import Check, Copying, CopyReport
from ..sync.exporting import Export
from ..sync.fetch import Progress
from ..sync.importing import ExportFile
from ..sync.origins import Opened, Server
from ..transfer.http import Http
from .config import Config, with_store
from .context import ConfigOption, JsonOption, opened, output, output_json, parsed, read_config, say, waiting
from .ecosystems import ECOSYSTEMS
from .progress import progress
from .stores import create, opener

SnapshotsOption = Annotated[
    list[str] | None,
    typer.Option("--snapshots", metavar="SNAPSHOT", help="Only this one; may be given several times. By default all."),
]
KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Public key with which every record must be signed.")
]


def replicate(
    origin: Annotated[
        str, typer.Argument(metavar="URL|DIR", help="Another snapmirror, or its store: a folder, or s3://bucket/prefix.")
    ],
    snapshots: SnapshotsOption = None,
    key: KeyOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print which snapshots would come, and bring nothing.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring snapshots of another snapmirror here, with all that they need, as they are there."""
    far = addresses.is_web(origin)
    if "://" in origin and not (far or is_remote(origin)):
        raise UsageError("that is no address of a snapmirror: write one like http://mirror:8080, or the folder of its store")
    with opened(config, write=True, create=not dry_run, plan=dry_run) as (settings, store), progress() as bars:
        copying = _copying(store, settings, bars, _checker(origin, key) if key else None)
        with Http(settings.download.trusting([origin]), bars.message, now=store.now) as http:
            if far:
                report = copying.run(Server(origin, http, store), snapshots or [], dry_run=dry_run)
            else:
                there = with_store(settings, origin)
                _refuse_itself(origin, there, settings)
                with opener(there, write=False)() as other:
                    report = copying.run(Opened(origin, other, http, store), snapshots or [], dry_run=dry_run)
    _print(report, as_json=json)


def migrate(
    from_: Annotated[str, typer.Argument(metavar="FROM", help="A store: its folder, or s3://bucket/prefix.")],
    to: Annotated[str, typer.Argument(metavar="TO", help="Another one, which is made if there is none.")],
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring all snapshots of one store into another, of the same kind or not. Run again, it goes on where it was."""
    settings = read_config(config)
    there, here = with_store(settings, from_), with_store(settings, to)
    _refuse_itself(from_, there, here)
    if create(here):
        say(f"created the store {here.store}")
    with (
        opener(there, write=False)() as other,
        opener(here, write=True)() as store,
        progress() as bars,
        Http(settings.download, bars.message, now=store.now) as http,
    ):
        report = _copying(store, here, bars).run(Opened(there.store, other, http, store), [])
    _print(report, as_json=json)


def _refuse_itself(origin: str, there: Config, here: Config) -> None:
    """Raise UsageError if two stores are one."""
    same = there.store == here.store
    if not (there.is_remote or here.is_remote):
        same = all(Path(one.store).exists() for one in (there, here)) and Path(there.store).samefile(here.store)
    if same:
        raise UsageError(f"{origin}: is the store that snapshots are to be brought into; name another one")


def export(
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to write; it must not be there.")],
    since: Annotated[
        str | None, typer.Option("--since", metavar="SNAPSHOT", help="What the other side has: leave out what this needs.")
    ] = None,
    snapshots: SnapshotsOption = None,
    volume_size: Annotated[
        str, typer.Option("--volume-size", metavar="SIZE", help="Cut it into FILE.001, FILE.002 and so on, of this size each.")
    ] = "",
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write snapshots into a file, for a site that has no network."""
    size = parsed("--volume-size", units.parse_size, volume_size) if volume_size else None
    if size == 0:
        raise UsageError("--volume-size: a volume must hold something; write for example 4GB")
    with opened(config, write=True) as (_, store), progress("export") as bars:
        report = Export(store, ECOSYSTEMS, bars, waiting).run(to, since, snapshots or [], size)
    if json:
        output_json(report)
        return
    for file in report.files:
        output(file)
    base = f", on top of {report.base}" if report.base else ""
    count = units.plural(len(report.snapshots), "snapshot")
    output(f"exported {count}{base}: {units.plural(report.blobs, 'blob')}, {units.size(report.bytes)}")


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The export: its file, all volumes, or the first.")],
    key: KeyOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring the snapshots of an export here, after all of it was checked."""
    with opened(config, write=True, create=True) as (settings, store), progress("import") as bars:
        volumes = Volumes(volumes_of(files))
        try:
            check = _checker(volumes.name, key) if key else None
            report = _copying(store, settings, bars, check).run(ExportFile(volumes), [])
        finally:
            volumes.close()
    _print(report, as_json=json)


def _checker(origin: str, key: Path) -> Check:
    from ..store.signatures import PublicKey  # its library takes 0.1 s to load

    trusted = PublicKey.read(key)

    def check(snapshot: str, record: bytes, signature: bytes | None) -> None:
        problem = "is missing" if signature is None else trusted.problem(record, signature)
        if problem:
            raise CopyError(addresses.redact(origin), f"the signature of snapshot {snapshot} {problem}")

    return check


def _copying(store: Store, settings: Config, bars: Progress, check: Check | None = None) -> Copying:
    taken = {repo.path.split("/")[0] for repo in settings.repo}
    return Copying(store, ECOSYSTEMS, settings.exported, settings.download, bars, waiting, taken=taken, check=check)


def _print(report: CopyReport, *, as_json: bool) -> None:
    if as_json:
        output_json(report)
        return
    for id_ in report.snapshots:
        output(f"{'would bring' if report.dry_run else 'brought'} {id_}")
    for name in report.pins:
        output(f"{'would set' if report.dry_run else 'set'} the pin {name}")
    if not (report.snapshots or report.forgotten or report.pins or report.blobs):
        output("nothing to do: all of it is here")
    elif not report.dry_run:
        output(f"came with {units.plural(report.blobs, 'blob')}, {units.size(report.bytes)}")
