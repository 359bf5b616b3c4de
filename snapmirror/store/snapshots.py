"""The files in `snapshots/` and `pins/`: reading them into a catalog, and writing them one at a time."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from .. import clock
from ..errors import DamagedError
from . import fs
from .catalog import Catalog
from .layout import Layout
from .records import Entry, Pages, Pin, decode_entry, decode_pages, decode_pin, encode

T = TypeVar("T")
#: inode, mtime in nanoseconds, size: what changes when a file is replaced
_State = tuple[int, int, int]
#: a folder changed less than this ago (nanoseconds) may change again within the same tick of its mtime
_UNSETTLED = 1_000_000_000


class _Read(NamedTuple):
    """What was read last. Replaced as a whole: several threads ask."""

    entries: dict[Path, tuple[_State, Entry]]
    pins: dict[Path, tuple[_State, Pin]]
    catalog: Catalog
    #: of both folders
    settled: tuple[int | None, int | None]


class Snapshots:
    """Reads are cached by (inode, mtime, size), and not repeated while nothing in the folders changes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._read = _Read({}, {}, Catalog(), (None, None))
        self._pages: tuple[int | None, dict[Path, tuple[_State, Pages]]] = None, {}

    def catalog(self) -> Catalog:
        """All records, tombstones and pins as they are now. Raises DamagedError."""
        before = self._read
        settled = settled_at(self._layout.snapshots), settled_at(self._layout.pins)
        if None in settled or settled != before.settled:
            entries = refresh_files(self._layout.snapshots, before.entries, self._entry)
            pins = refresh_files(self._layout.pins, before.pins, self._pin)
            catalog = before.catalog
            if entries != before.entries or pins != before.pins:
                by_id = sorted((entry for _, entry in entries.values()), key=lambda entry: entry.id)
                catalog = Catalog(tuple(by_id), {pin.name: pin for _, pin in pins.values()})
            self._read = _Read(entries, pins, catalog, settled)
            return catalog
        return before.catalog

    def pages(self) -> dict[str, Pages]:
        """{snapshot: what was told of its time later}. Raises DamagedError."""

        def load(path: Path) -> Pages:
            return decode_pages(path.read_bytes(), f"snapshots/{path.name}")

        (before, files), settled = self._pages, settled_at(self._layout.snapshots)
        if settled is None or settled != before:
            files = refresh_files(self._layout.snapshots, files, load, ".pages")
            self._pages = settled, files
        return {path.stem: pages for path, (_, pages) in files.items()}

    def write_pages(self, snapshot: str, pages: Pages) -> None:
        """Tell more of a snapshot's time. The caller holds the store's lock; nothing that was told before is missing."""
        fs.replace(self._layout.pages(snapshot), msgspec.json.encode(pages, order="sorted") + b"\n")

    def remove_pages(self, snapshot: str) -> None:
        """The snapshot is forgotten."""
        fs.unlink(self._layout.pages(snapshot))

    def _entry(self, path: Path) -> Entry:
        entry = decode_entry(path.read_bytes(), f"snapshots/{path.name}")
        if entry.id != path.stem or clock.from_id(entry.id) is None:
            raise DamagedError(f"snapshots/{path.name}", f"holds the record of {entry.id}")
        return entry

    def _pin(self, path: Path) -> Pin:
        pin = decode_pin(path.read_bytes(), f"pins/{path.name}")
        if pin.name != path.stem:
            raise DamagedError(f"pins/{path.name}", f"holds the pin {pin.name}")
        return pin

    def write(self, entry: Entry) -> None:
        """Publish a record, or put a tombstone in its place: the rename in here is the commit."""
        fs.replace(self._layout.record(entry.id), encode(entry))

    def write_pin(self, pin: Pin) -> None:
        """Make or move a pin."""
        fs.replace(self._layout.pin(pin.name), encode(pin))

    def remove_pin(self, name: str) -> None:
        """Take a pin away."""
        fs.unlink(self._layout.pin(name))
        fs.sync_folder(self._layout.pins)


def settled_at(folder: Path) -> int | None:
    """When names in a folder were last changed, nanoseconds since 1970, 0 if it is not there; None if they may change again
    without that being seen. To be asked before the folder is read.
    """
    try:
        changed = folder.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return changed if changed < time.time_ns() - _UNSETTLED else None


def refresh_files(
    folder: Path, known: dict[Path, tuple[_State, T]], load: Callable[[Path], T], ending: str = ".json"
) -> dict[Path, tuple[_State, T]]:
    """What the files of a folder hold now, of those that have not changed since `known` without loading them again."""
    found: dict[Path, tuple[_State, T]] = {}
    with os.scandir(folder) as scan:
        names = sorted(entry.name for entry in scan if entry.name.endswith(ending) and not entry.name.startswith("."))
    for name in names:
        path = folder / name
        status = os.stat(path)
        state = (status.st_ino, status.st_mtime_ns, status.st_size)
        held = known.get(path)
        found[path] = held if held and held[0] == state else (state, load(path))
    return found
