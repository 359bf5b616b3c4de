"""The store's small files: changed as objects first, then in the cache (see `copies` for their keys)."""

from pathlib import Path

from ..errors import Overtaken
from ..store import fs
from ..store.files import Files
from ..store.layout import Layout
from ..store.records import Entry, Tombstone, decode
from ..store.snapshots import read
from .copies import Copies, record_key, signature_key
from .lease import Lease
from .objects import Objects


class RemoteFiles(Files):
    """Fulfils store.files.Files. Whoever calls holds the store's lock."""

    def __init__(self, layout: Layout, objects: Objects, lease: Lease, copies: Copies) -> None:
        self._layout = layout
        self._objects = objects
        self._lease = lease
        self._copies = copies
        #: signatures of records that are about to be written, by id
        self._signatures: dict[str, bytes] = {}

    def replace(self, path: Path, data: bytes) -> None:
        """Raises Overtaken if another process has published under a record's number."""
        if path.suffix == ".sig":  # its key is made of the record, which comes next
            self._signatures[path.stem] = data
            fs.replace(path, data)
            return
        entry: Entry | None = None
        if path.parent == self._layout.snapshots and path.suffix == ".json":
            entry = decode(data, Entry, f"snapshots/{path.name}")
        key = record_key(entry.number) if entry else self._key(path)
        with self._copies.changing(key, path):
            if entry:
                self._replace_entry(path, data, entry)
            else:
                self._lease.put(key, data)
            fs.replace(path, data)
        self._copies.tell()

    def _replace_entry(self, path: Path, data: bytes, entry: Entry) -> None:
        if isinstance(entry, Tombstone):
            forgotten = read(path)
            self._lease.put(record_key(entry.number), data)
            if forgotten is not None:
                self._lease.delete(signature_key(forgotten))
            return
        if signature := self._signatures.pop(entry.id, None):
            self._objects.put(signature_key(data), signature)
        before = read(path)
        if before is not None and isinstance(decode(before, Entry, f"snapshots/{path.name}"), Tombstone):
            self._lease.put(record_key(entry.number), data)  # it was forgotten, and comes back from a replica
        elif not self._lease.create(record_key(entry.number), data):  # the commit
            raise Overtaken(f"the store {self._objects.address}")

    def remove(self, path: Path) -> bool:
        if path.suffix == ".sig":
            self._signatures.pop(path.stem, None)
            return fs.unlink(path)
        key = self._key(path)
        with self._copies.changing(key, path):
            self._lease.delete(key)
            removed = fs.unlink(path)
        self._copies.tell()
        return removed

    def _key(self, path: Path) -> str:
        """The key of a file that has the same name as an object, or of what was told later of a snapshot."""
        folder = "pages" if path.suffix == ".pages" else path.parent.name
        return f"{folder}/{path.stem}.json"
