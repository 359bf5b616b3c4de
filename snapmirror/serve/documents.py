"""Derived documents: their bytes from the store's cache if they are there, else made again; checked either way."""

import bz2
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .. import codec
from ..digests import Digest, sha256
from ..ecosystem import Ecosystem
from ..errors import DamagedError
from ..store.directories import Derived
from ..store.store import Store
from .bodies import Bodies, Body, encode, in_memory

_log = logging.getLogger(__name__)
#: the ending under which the gzip coding of a document is known here; it is not published
GZIP = ".gz"
#: larger ones are sent from their file, so that memory is left to what has none
_IN_MEMORY = 4 << 20
#: bytes of the plain form; of larger documents one is made at a time: it takes several times as much memory
_LARGE = 32 << 20


class Wanted(NamedTuple):
    """A document of a directory."""

    ecosystem: Ecosystem
    #: digest of the directory
    directory: Digest
    name: str
    derived: Derived


class DocumentBodies:
    """Makes and finds the forms of documents: each is known by the digest of the plain form, and by its ending."""

    def __init__(self, store: Store, bodies: Bodies) -> None:
        self._documents = store.documents
        self._metadata = store.metadata
        self._bodies = bodies

    async def get(self, wanted: Wanted, suffix: str) -> Body:
        """One form of a document. suffix: a published ending, or GZIP. Raises DamagedError if it can't be made as recorded."""
        alone = self._takes_memory(wanted.derived, suffix)
        return await self._bodies.get((wanted.derived.sha256, suffix), lambda: self._make(wanted, suffix), alone=alone)

    def _takes_memory(self, derived: Derived, suffix: str) -> bool:
        """Whether a form is made of all of a large document; else it is kept ready, or small."""
        return derived.size > _LARGE and (suffix == GZIP or not os.path.exists(self._documents.path(derived.sha256, suffix)))

    def forget(self, derived: Derived, suffix: str) -> None:
        """Make a form anew when it is next asked for: its file is gone."""
        self._bodies.forget((derived.sha256, suffix))

    def _make(self, wanted: Wanted, suffix: str) -> Body:
        if suffix != GZIP:
            path = self._documents.path(wanted.derived.sha256, suffix)
            data = self._cached(path, wanted.derived, suffix)
            if data is not None:
                body = in_memory(data)
                return body if body.size <= _IN_MEMORY else body._replace(data=None, path=path)
        return in_memory(_encode(self._plain(wanted), suffix))

    def _plain(self, wanted: Wanted) -> bytes:
        derived = wanted.derived
        kept = self._bodies.peek((derived.sha256, ""))
        if kept and kept.data is not None:
            return kept.data
        for suffix in ("", ".zst"):
            data = self._cached(self._documents.path(derived.sha256, suffix), derived, suffix)
            if data is not None:
                return b"".join(_decoded(data, suffix, derived.size))
        return self._derive(wanted)

    def _cached(self, path: Path, derived: Derived, suffix: str) -> bytes | None:
        """The bytes of a file of the store's cache, None if it is not there or not what it should be."""
        try:
            data = path.read_bytes()
        except OSError:
            return None
        try:
            found = hashlib.sha256()
            for piece in _decoded(data, suffix, derived.size):
                found.update(piece)
            good = found.digest() == derived.sha256
        except (ValueError, OSError):
            good = False
        if not good:
            _log.error("documents/%s is damaged; it is made again for every process (remove the file)", path.name)
        return data if good else None

    def _derive(self, wanted: Wanted) -> bytes:
        plain = wanted.ecosystem.derive(self._metadata.directory(wanted.directory), wanted.name)
        if sha256(plain) != wanted.derived.sha256:
            what = f"{wanted.name} of directory {wanted.directory.hex()}"
            raise DamagedError(what, "is damaged: it does not come out as recorded")
        return plain


def _encode(plain: bytes, suffix: str) -> bytes:
    match suffix:
        case "":
            return plain
        case ".zst":
            return encode(plain, "zstd")
        case ".bz2":
            return bz2.compress(plain)
        case _:
            return encode(plain, "gzip")


def _decoded(data: bytes, suffix: str, size: int) -> Iterator[bytes]:
    """The plain form, in pieces. Raises ValueError for what is no such thing or too large."""
    match suffix:
        case "":
            return iter([data])
        case ".zst":
            return codec.expanded(data, size)
        case ".bz2":
            return codec.expanded_bz2(data, size)
        case _:
            raise ValueError(f"no document is published with the ending {suffix}")
