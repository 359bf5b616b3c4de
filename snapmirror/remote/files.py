"""The store's small files: changed as objects first, then in the cache (see `copies` for their keys)."""

from collections.abc import Callable
from pathlib import Path

from ..errors import Overtaken
from ..store import fs
from ..store.files import Files
from ..store.layout import Layout
from ..store.records import Entry, Tombstone, decode
from ..store.snapshots import read
from .copies import record_key, signature_key
from .lease import Lease
from .objects import Objects


class RemoteFiles(Files):
    """Fulfils store.files.Files. Whoever calls holds the store's lock."""

    def __init__(self, layout: Layout, objects: Objects, lease: Lease, tell: Callable[[], None]) -> None:
        """tell: lets others know that something has changed"""
        self._layout = layout
        self._objects = objects
        self._lease = lease
        self._tell = tell
        #: signatures of records that are about to be written, by id
        self._signatures: dict[str, bytes] = {}

    def replace(self, path: Path, data: bytes) -> None:
        """Raises Overtaken if another process has published under a record's number."""
        if path.suffix == ".sig":  # its key is made of the record, which comes next
            self._signatures[path.stem] = data
        elif path.parent == self._layout.snapshots and path.suffix == ".json":
            self._replace_entry(path, data)
        else:
            self._lease.put(self._key(path), data)
        fs.replace(path, data)
        self._tell()

    def _replace_entry(self, path: Path, data: bytes) -> None:
        entry: Entry = decode(data, Entry, f"snapshots/{path.name}")
        if isinstance(entry, Tombstone):
            forgotten = read(path)
            self._lease.put(record_key(entry.number), data)
            if forgotten is not None:
                self._lease.delete(signature_key(forgotten))
            return
        if signature := self._signatures.pop(entry.id, None):
            self._objects.put(signature_key(data), signature)
        if not self._objects.create(record_key(entry.number), data):  # the commit
            raise Overtaken(f"the store {self._objects.address}")

    def remove(self, path: Path) -> bool:
        if path.suffix == ".sig":
            self._signatures.pop(path.stem, None)
        else:
            self._lease.delete(self._key(path))
        removed = fs.unlink(path)
        self._tell()
        return removed

    def _key(self, path: Path) -> str:
        """The key of a file that has the same name as an object, or of what was told later of a snapshot."""
        folder = "pages" if path.suffix == ".pages" else path.parent.name
        return f"{folder}/{path.stem}.json"
