"""`patch_instructions.json`: corrections of what packages say of themselves, applied as conda-index applies them.

No CEP defines the format; CEP 21 adds `run_exports` to it, as version 2.
"""

from pathlib import Path
from typing import Any

import msgspec

from ..errors import BadIndexError

_OLD, _NEW = ".tar.bz2", ".conda"
Record = dict[str, Any]


class _Instructions(msgspec.Struct):
    patch_instructions_version: int
    packages: dict[str, Record] = {}
    conda: dict[str, Record] = msgspec.field(name="packages.conda", default_factory=dict)
    revoke: list[str] = []
    remove: list[str] = []


def apply(repodata: dict[str, Any], path: Path) -> None:
    """Patch a repodata in place; path: of the file, which need not exist. Raises BadIndexError if it can't be used.

    What it says of `x.tar.bz2` holds for `x.conda` too, which has the same content, unless it says otherwise of that.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Instructions)
    except FileNotFoundError:
        return
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadIndexError(path.as_uri(), str(error)) from None
    if found.patch_instructions_version not in (1, 2):
        raise BadIndexError(path.as_uri(), f"version {found.patch_instructions_version} is unknown (1 and 2 are known)")
    old, new = repodata["packages"], repodata["packages.conda"]
    for file, changes in found.packages.items():
        _change(old.get(file), changes)
        _change(new.get(_twin(file)), changes)
    for file, changes in found.conda.items():
        _change(new.get(file), changes)
    for file in found.revoke:
        for record in filter(None, (old.get(file), new.get(_twin(file)))):
            depends = record.get("depends")  # whatever a patch has made of it
            record["revoked"] = True
            record["depends"] = [*(depends if isinstance(depends, list) else ()), "package_has_been_revoked"]
    gone = [
        name
        for file in found.remove
        for name in dict.fromkeys((file, _twin(file)))
        if old.pop(name, None) or new.pop(name, None)
    ]
    repodata["removed"] = sorted({*repodata["removed"], *gone})


def _twin(file: str) -> str:
    """The name of the same content in the newer format."""
    return file.removesuffix(_OLD) + _NEW if file.endswith(_OLD) else file


def _change(record: Record | None, changes: Record) -> None:
    """Replace fields, if there is such a record; null takes one out."""
    if record is not None:
        record |= changes
        for key in [key for key in changes if changes[key] is None]:
            del record[key]
