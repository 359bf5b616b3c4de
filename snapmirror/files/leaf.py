"""Leaves: one file each, under its path below the repo.

The format is our own: a leaf is canonical MessagePack of {"name": path, "size": bytes, "sha256": raw digest, "md5": raw
digest, "modified": seconds since 1970}, without the keys whose value is not known.
"""

from collections.abc import Collection, Mapping

import msgspec

from .. import codec
from ..digests import Digest
from ..readings import File


class _Leaf(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    name: str
    size: int | None = None
    sha256: bytes | None = None
    md5: bytes | None = None
    modified: int | None = None


_DECODER = msgspec.msgpack.Decoder(_Leaf)


def encode(file: File) -> bytes:
    """The leaf of a file."""
    return codec.to_msgpack(_Leaf(file.name, file.size, file.sha256, file.other, file.modified))


def decode(leaf: bytes) -> File:
    """The file that a leaf lists. Raises ValueError if these are not the bytes of a leaf."""
    try:
        found = _DECODER.decode(leaf)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a file's leaf: {error}") from None
    return File(found.name, found.size, found.sha256, found.md5, modified=found.modified)


def settle(leaf: bytes, digests: Mapping[str, Digest], withheld: Collection[str]) -> bytes:
    """See Ecosystem.settle. Empty if the file is withheld."""
    file = decode(leaf)
    if file.name in withheld:
        return b""
    return encode(file.but(sha256=file.sha256 or digests.get(file.name)))
