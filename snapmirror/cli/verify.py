"""snapmirror verify: check a snapshot of a server against a public key, from another machine."""

from pathlib import Path
from typing import Annotated

import typer

from .. import addresses, units
from ..errors import DamagedError, UsageError
from ..store.catalog import CURRENT
from ..store.signatures import PublicKey
from ..sync.verify import Verification, Verifier
from ..transfer.http import Http
from ..transfer.settings import Download
from .context import JsonOption, output, output_json, printable, say
from .ecosystems import ECOSYSTEMS

#: files that are read if nothing is said
_SAMPLE = 20


def verify(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server, without a selector.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The public key, as `key generate` has made it.")],
    snapshot: Annotated[
        str, typer.Option("--snapshot", metavar="SNAPSHOT", help="`current`, a date, a time, an id or a pin.")
    ] = CURRENT,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=0, help=f"Read so many files, chosen at random ({_SAMPLE}).")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Read every file.")] = False,
    json: JsonOption = False,
) -> None:
    """Check record, directories, leaves and files of a server against a signature. Exit status 5 if anything differs."""
    if everything and sample is not None:
        raise UsageError("--all reads every file, --sample some of them; give only one of them")
    if not addresses.is_web(url):
        raise UsageError(f"{url}: write the address of the server: http://mirror:8080")
    trusted = PublicKey.read(key)
    with Http(Download(), say) as http:
        verifier = Verifier(http, url, trusted, ECOSYSTEMS)
        count = None if everything else _SAMPLE if sample is None else sample
        found = verifier.verify(verifier.find(snapshot, http.now()), count)
    if json:
        output_json(found)
    else:
        _print(found)
    raise typer.Exit(DamagedError.exit_status if found.problems else 0)


def _print(found: Verification) -> None:
    for failure in found.problems:
        output(printable(f"{failure.what}: {failure.problem}"))
    read = (
        (found.directories, "directory", "directories"),
        (found.buckets, "bucket", "buckets"),
        (found.leaves, "leaf", "leaves"),
        (found.files, "file", "files"),
    )
    amounts = ", ".join(f"{count:,} {one if count == 1 else many}" for count, one, many in read)
    output(f"read and as signed: {amounts}, {units.size(found.bytes)}")
    for why, count in found.unchecked.items():
        output(printable(f"not checked: {units.plural(count, 'file')} {why}"))
    verdict = f"is not as signed: {units.plural(len(found.problems), 'problem')}" if found.problems else "is as signed"
    output(f"Snapshot {found.snapshot} {verdict} (key {found.key})")
