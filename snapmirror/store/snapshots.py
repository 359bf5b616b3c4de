"""The files in `snapshots/` and `pins/`: reading them into a catalog, and writing them one at a time."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import msgspec

from .. import clock
from ..errors import DamagedError
from . import fs
from .catalog import Catalog
from .files import Files
from .layout import Layout
from .records import Copied, Entry, Pages, Pin, Record, Tombstone, decode, encode

if TYPE_CHECKING:
    from .signatures import PrivateKey  # its library takes 0.1 s to load, and most verbs sign nothing

T = TypeVar("T")
#: inode, mtime in nanoseconds, size: what changes when a file is replaced
_State = tuple[int, int, int]
#: a folder changed less than this ago (nanoseconds) may change again within the same tick of its mtime
_UNSETTLED = 1_000_000_000


class _Read(NamedTuple, Generic[T]):
    """What a folder held when it was read last."""

    #: what `settled_at` said before
    settled: int | None
    files: dict[str, tuple[_State, T]]
    values: dict[str, T]


class Folder(Generic[T]):
    """A folder of small files that are only ever replaced as a whole. A file is decoded again when it was replaced, and the
    folder is looked through again when a name in it was changed. Files are known by their names: ten years have thousands of
    records, and to make a Path of each would take most of the time of a look.
    """

    def __init__(self, path: Path, load: Callable[[Path], T], ending: str = ".json") -> None:
        """load: reads one file; ending: of the names that count."""
        self._path = path
        self._load = load
        self._ending = ending
        self._read = _Read[T](None, {}, {})  # replaced as a whole: several threads ask

    def read(self) -> dict[str, T]:
        """{name: what the file holds now}; the same object as the last time if nothing has changed.

        Raises what `load` raises, and DamagedError for a link to nothing.
        """
        settled = settled_at(self._path)
        before = self._read
        if settled is None or settled != before.settled:
            files = self._files(before.files)
            values = before.values if files == before.files else {name: value for name, (_, value) in files.items()}
            self._read = before = _Read(settled, files, values)
        return before.values

    def readable(self) -> tuple[dict[str, T], list[DamagedError]]:
        """What those files hold that can be read, and what is wrong with the others."""
        found: dict[str, T] = {}
        problems: list[DamagedError] = []
        for name in self._names():
            try:
                if one := self._file(name, {}):
                    found[name] = one[1]
            except DamagedError as error:
                problems.append(error)
        return found, problems

    def _names(self) -> list[str]:
        with os.scandir(self._path) as scan:
            return sorted(entry.name for entry in scan if entry.name.endswith(self._ending) and not entry.name.startswith("."))

    def _files(self, known: Mapping[str, tuple[_State, T]]) -> dict[str, tuple[_State, T]]:
        return {name: one for name in self._names() if (one := self._file(name, known))}

    def _file(self, name: str, known: Mapping[str, tuple[_State, T]]) -> tuple[_State, T] | None:
        """What a file holds, None if it was taken away since the names were read, as a pin may be."""
        path = f"{self._path}/{name}"
        try:
            status = os.stat(path)
            state = (status.st_ino, status.st_mtime_ns, status.st_size)
            held = known.get(name)
            return held if held and held[0] == state else (state, self._load(self._path / name))
        except FileNotFoundError:
            if os.path.lexists(path):  # else gc would take what only this record holds for what nobody needs
                raise DamagedError(f"{self._path.name}/{name}", "is a link to nothing") from None
            return None
        except OSError as error:
            if error.errno not in fs.LOST:
                raise
            raise DamagedError(f"{self._path.name}/{name}", f"can't be read: {error.strerror}") from None


def settled_at(folder: Path) -> int | None:
    """When names in a folder were last changed, nanoseconds since 1970, 0 if it is not there; None if they may change again
    without that being seen. To be asked before the folder is read.
    """
    try:
        changed = folder.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return changed if changed < time.time_ns() - _UNSETTLED else None


class _Known(NamedTuple):
    """The last catalog, and what it was made of."""

    entries: dict[str, Entry]
    pins: dict[str, Pin]
    catalog: Catalog


class Snapshots:
    """Records, tombstones and pins of one store. Whoever writes or removes one holds the store's lock."""

    def __init__(self, layout: Layout, key: "PrivateKey | None" = None, files: Files | None = None) -> None:
        """key: signs every record that is written; None: none is signed. files: changes the files"""
        self._layout = layout
        self._key = key
        self._changes = files or Files()
        self._entries = Folder(layout.snapshots, _entry)
        self._pins = Folder(layout.pins, _pin)
        self._pages = Folder(layout.snapshots, _pages, ".pages")
        self._known = _Known({}, {}, Catalog())  # replaced as a whole: several threads ask

    def catalog(self) -> Catalog:
        """All records, tombstones and pins as they are now; the same object as the last time if nothing has changed.

        Raises DamagedError if one of them can't be read.
        """
        entries, pins = self._entries.read(), self._pins.read()
        while any(self._layout.record(pin.snapshot).name not in entries for pin in pins.values()):
            again = self._entries.read()  # in between, a snapshot may have been sealed and a pin moved to it
            if again is entries:
                break
            entries, pins = again, self._pins.read()
        known = self._known
        if entries is not known.entries or pins is not known.pins:
            known = _Known(entries, pins, _catalog(entries, pins))
            self._known = known
        return known.catalog

    def readable(self) -> tuple[Catalog, list[DamagedError]]:
        """The catalog of what can be read, and what is wrong with the other files: for `check`, not for answers."""
        entries, problems = self._entries.readable()
        pins, more = self._pins.readable()
        return _catalog(entries, pins), problems + more

    def pages(self) -> dict[str, Pages]:
        """{snapshot: what was told of its time later}. Raises DamagedError."""
        return {name.removesuffix(".pages"): pages for name, pages in self._pages.read().items()}

    def files(self, snapshot: str) -> Copied | None:
        """The very bytes of a record, which are what is signed, and of what lies beside it; None if there is none, or a
        tombstone. Raises DamagedError.
        """
        path = self._layout.record(snapshot)
        data = read(path)
        if data is None or not isinstance(decode(data, Entry, f"snapshots/{path.name}"), Record):
            return None
        return Copied(data, read(self._layout.signature(snapshot)), read(self._layout.pages(snapshot)))

    def write(self, entry: Entry) -> None:
        """Publish a record, or put a tombstone in its place: the rename in here is the commit.

        A record's signature is there before it, so that no reader sees one without the other; a tombstone's goes after it.
        """
        if isinstance(entry, Record) and self._key:
            entry = msgspec.structs.replace(entry, signed=self._key.public.id)
        data = encode(entry)
        if isinstance(entry, Record):
            self._sign(entry.id, self._key.sign(data) if self._key else None)
        self._changes.replace(self._layout.record(entry.id), data)
        if isinstance(entry, Tombstone):
            self.remove_signature(entry.id)

    def _sign(self, snapshot: str, signature: bytes | None) -> None:
        """Make a signature that of a record that is going to be written, or see that there is none; durable."""
        path = self._layout.signature(snapshot)
        if signature is not None:
            self._changes.replace(path, signature)
        elif self._changes.remove(path):  # what a process left that died before the commit
            fs.sync_folder(path.parent)

    def signed(self) -> list[str]:
        """The ids that have a signature, whether there is a record or not."""
        return sorted(path.stem for path in self._layout.snapshots.glob("[!.]*.sig"))

    def remove_signature(self, snapshot: str) -> None:
        """Remove a signature whose record is not there, or is forgotten; nothing if there is none."""
        self._changes.remove(self._layout.signature(snapshot))

    def write_copy(self, snapshot: str, copied: Copied) -> None:
        """Publish a record of another store, byte for byte, with what belongs to it: that is durable before the record is."""
        self._sign(snapshot, copied.signature)
        if copied.pages is not None:
            self._changes.replace(self._layout.pages(snapshot), copied.pages)
        self._changes.replace(self._layout.record(snapshot), copied.record)

    def write_pages(self, snapshot: str, pages: Pages) -> None:
        """Tell more of a snapshot's time; nothing that was told before may be missing."""
        self._changes.replace(self._layout.pages(snapshot), msgspec.json.encode(pages, order="sorted") + b"\n")

    def remove_pages(self, snapshot: str) -> None:
        """Remove what was told of a snapshot's time, because it is forgotten; nothing if there is none."""
        self._changes.remove(self._layout.pages(snapshot))

    def write_pin(self, pin: Pin) -> None:
        """Make or move a pin."""
        self._changes.replace(self._layout.pin(pin.name), encode(pin))

    def remove_pin(self, name: str) -> None:
        """Take a pin away, durably."""
        self._changes.remove(self._layout.pin(name))
        fs.sync_folder(self._layout.pins)


def _catalog(entries: Mapping[str, Entry], pins: Mapping[str, Pin]) -> Catalog:
    by_id = sorted(entries.values(), key=lambda entry: entry.id)
    return Catalog(tuple(by_id), {pin.name: pin for pin in pins.values()})


def read(path: Path) -> bytes | None:
    """The bytes of a file, None if it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _entry(path: Path) -> Entry:
    entry: Entry = decode(path.read_bytes(), Entry, f"snapshots/{path.name}")
    if entry.id != path.stem or clock.from_id(entry.id) is None:
        raise DamagedError(f"snapshots/{path.name}", f"holds the record of {entry.id}")
    return entry


def _pin(path: Path) -> Pin:
    pin: Pin = decode(path.read_bytes(), Pin, f"pins/{path.name}")
    if pin.name != path.stem:
        raise DamagedError(f"pins/{path.name}", f"holds the pin {pin.name}")
    return pin


def _pages(path: Path) -> Pages:
    pages: Pages = decode(path.read_bytes(), Pages, f"snapshots/{path.name}")
    return pages
