"""A cache of derived documents: `documents/<sha256 of the uncompressed form><suffix>`.

The bytes are functions of directories and leaves and may be removed at any time. Sync leaves here what the newest
snapshot needs, so that no server has to make it; gc and the next sync take out the rest.
"""

import os
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path

from .. import codec
from ..digests import Digest, sha256
from . import fs
from .layout import Layout

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
            fs.write_new(temporary, data)
            os.chmod(temporary, 0o444)
            fs.rename(temporary, path)
        return path

    def put_all(self, documents: Iterable[tuple[str, bytes]]) -> dict[str, Digest]:
        """Keep many documents in their plain form; {what each is called here: digest}. Durable, all at once."""
        found: dict[str, Digest] = {}
        new: dict[Path, Path] = {}
        for name, data in documents:
            found[name] = sha256(data)
            path = self.path(found[name], "")
            if path not in new and not path.exists():
                new[path] = self._folder / f".{secrets.token_hex(8)}"
                fs.write_new(new[path], data, sync=False)
        fs.sync_files(new.values(), self._folder)
        for path, temporary in new.items():
            os.chmod(temporary, 0o444)
            fs.rename(temporary, path)
        return found

    def is_whole(self, path: Path) -> bool:
        """Whether a file of the cache holds what its name says."""
        data = path.read_bytes()
        try:
            if path.name.endswith(".zst"):
                data = codec.decompress(data, _LIMIT)
            elif path.name.endswith(".bz2"):
                data = codec.expand_bz2(data, _LIMIT)
        except ValueError:
            return False
        return path.name.startswith(sha256(data).hex())

    def drop(self, digests: Iterable[Digest]) -> None:
        """Remove some documents."""
        for digest in digests:
            for suffix in _SUFFIXES:
                fs.unlink(self.path(digest, suffix))

    def prune(self, keep: Collection[Digest]) -> int:
        """Remove the documents of all digests but these; the bytes freed (a tree may still link some)."""
        freed = 0
        kept = {digest.hex() for digest in keep}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name[:64] not in kept:
                    freed += entry.stat().st_size
                    fs.unlink(Path(entry.path))
        return freed
