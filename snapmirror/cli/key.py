"""snapmirror key: make the keys that sign snapshots."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import UsageError
from ..store import fs
from ..store.signatures import PrivateKey
from .context import output


def key(
    action: Annotated[Literal["generate"], typer.Argument(metavar="generate", help="Make a new pair of keys.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key; the public one is FILE.pub.")],
) -> None:
    """Make a pair of keys: FILE signs snapshots, and FILE.pub, which is printed, is for those who verify them."""
    if file.is_dir():
        raise UsageError(f"{file}: is a folder; give the name of a file")
    made, public = PrivateKey.generate(), file.with_name(f"{file.name}.pub")
    for path in (file, public):
        if path.exists():
            raise UsageError(f"{path}: is there already, and a key is never replaced; name another file")
    try:
        fs.write_new(file, made.encode(), mode=0o600)
        fs.write_new(public, f"{made.public}\n".encode())
        fs.sync_folder(file.absolute().parent)
    except FileExistsError as error:
        raise UsageError(f"{error.filename}: is there already, and a key is never replaced; name another file") from None
    output(str(made.public))
