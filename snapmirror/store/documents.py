"""A cache of derived documents: `documents/<sha256 of the uncompressed form><suffix>`.

The bytes are functions of directories and leaves and may be removed at any time. Sync leaves here what `current` needs,
so that no server has to make it; gc and the next sync take out the rest.
"""

import contextlib
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from .. import codec
from ..digests import Digest, is_hex_digest, sha256
from ..errors import DamagedError
from . import fs
from .catalog import Catalog
from .directories import Metadata
from .layout import Layout
from .live import Live
from .records import DirectoryState

#: bytes that a compressed document may expand to: a damaged one must not fill the memory
_LIMIT = 4 << 30
_SUFFIXES = ("", ".zst", ".bz2")


class Documents:
    """The files in `documents/`."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.documents

    def path(self, digest: Digest, suffix: str) -> Path:
        """Where a form of a document lies, or would."""
        return self._folder / f"{digest.hex()}{suffix}"

    def put(self, digest: Digest, suffix: str, data: bytes) -> Path:
        """Keep a form of a document, unless it is there. Durable: a torn one would be served."""
        path = self.path(digest, suffix)
        if not path.exists():
            temporary = self._folder / f".{secrets.token_hex(8)}"
            fs.write_new(temporary, data, sync=False)
            os.chmod(temporary, 0o444)
            fs.sync_file(temporary)
            fs.rename(temporary, path)
        return path

    def put_all(self, documents: Iterable[tuple[str, bytes]]) -> dict[str, Digest]:
        """Keep many documents in their plain form; {what each is called here: digest}. Durable, all at once."""
        found: dict[str, Digest] = {}
        new: dict[Path, Path] = {}
        try:
            for name, data in documents:
                found[name] = sha256(data)
                path = self.path(found[name], "")
                if path not in new and not path.exists():
                    new[path] = self._folder / f".{secrets.token_hex(8)}"
                    fs.write_new(new[path], data, sync=False)
        except BaseException:  # on a full disk others need the room
            for temporary in new.values():
                fs.unlink(temporary)
            raise
        for temporary in new.values():
            os.chmod(temporary, 0o444)
        fs.sync_files(new.values(), self._folder)
        for path, temporary in new.items():
            fs.rename(temporary, path)
        return found

    def is_whole(self, path: Path) -> bool:
        """Whether a file of the cache holds what its name says."""
        name = path.name[:64]
        return is_hex_digest(name) and self.holds(path, bytes.fromhex(name))

    def holds(self, path: Path, digest: Digest) -> bool:
        """Whether a file holds a document in the form that its ending says. digest: of the plain form"""
        try:
            data = path.read_bytes()
        except OSError as error:
            if error.errno in fs.LOST:
                return False
            raise
        try:
            if path.name.endswith(".zst"):
                data = codec.decompress(data, _LIMIT)
            elif path.name.endswith(".bz2"):
                data = codec.decompress_bz2(data, _LIMIT)
        except ValueError:
            return False
        return sha256(data) == digest

    def drop(self, digests: Iterable[Digest]) -> None:
        """Remove some documents, in every form."""
        for digest in digests:
            for suffix in _SUFFIXES:
                fs.unlink(self.path(digest, suffix))

    def prune(self, keep: Collection[Digest]) -> int:
        """Remove the documents of all digests but these; the bytes freed, which those are not that a tree still links."""
        freed = 0
        kept = {digest.hex() for digest in keep}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name[:64] not in kept:
                    with contextlib.suppress(FileNotFoundError):  # a scrub has found it bad meanwhile
                        status = entry.stat()
                        fs.unlink(entry.path)
                        freed += status.st_size if status.st_nlink == 1 else 0
        return freed


class _Parts(Protocol):
    """What is asked here of a store, which is made of this module among others."""

    metadata: Metadata
    live: Live


def documents_of(store: _Parts, states: Iterable[DirectoryState]) -> Iterator[Digest]:
    """Digests of the documents of directories. Raises DamagedError if one can't be read."""
    for state in states:
        for derived in store.metadata.directory(state.blob).document.documents.values():
            yield derived.sha256


def current_documents(store: _Parts, catalog: Catalog) -> Iterator[Digest]:
    """Digests of the documents that `current` needs: of every repo as it was sealed last, and of every live state.

    Raises DamagedError if a sealed directory can't be read; a live state that can't be read is made again when it is asked for.
    """
    for repo in catalog.repos:
        if record := catalog.newest(repo):
            yield from documents_of(store, record.repos[repo].directories.values())
    for live in store.live.states().values():
        with contextlib.suppress(DamagedError):
            yield from documents_of(store, live.directories.values())
