"""What a server finds out while it fetches what is asked for, in `live/` (man snapmirror-store, section LAYOUT).

Nothing that an answer depends on: it is kept for `snapmirror status`, and may be removed at any time.
"""

import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from ..digests import Digest
from . import fs
from .layout import Layout


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a snapshot lists, that nobody had asked for before, and that upstream has no more."""

    name: str
    #: when that was noticed first, in the form of an id
    since: str
    problem: str


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A host that is left alone for a while because it failed again and again."""

    host: str
    #: in the form of an id
    until: str
    problem: str


_Note = TypeVar("_Note", Lost, Blocked)


class Live:
    """Reads and writes single files; processes need not agree."""

    def __init__(self, layout: Layout) -> None:
        self._lost = layout.live / "lost"
        self._hosts = layout.live / "hosts"

    def lose(self, digest: Digest, lost: Lost) -> None:
        """Note that upstream has a file no more; the first note stands."""
        path = self._lost / f"{digest.hex()}.json"
        if not path.exists():
            _write(path, lost)

    def find(self, digest: Digest) -> None:
        """It was there after all."""
        fs.unlink(self._lost / f"{digest.hex()}.json")

    def lost(self) -> list[Lost]:
        """All that are lost, by name."""
        return sorted(_read(self._lost, Lost), key=lambda one: one.name)

    def block(self, blocked: Blocked) -> None:
        """Note that a host is left alone."""
        _write(self._host(blocked.host), blocked)

    def unblock(self, host: str) -> None:
        """It answers again."""
        fs.unlink(self._host(host))

    def blocked(self) -> list[Blocked]:
        """Hosts that are or were left alone, by name."""
        return sorted(_read(self._hosts, Blocked), key=lambda one: one.host)

    def _host(self, host: str) -> Path:
        return self._hosts / f"{urllib.parse.quote(host, safe='')}.json"


def _write(path: Path, note: Lost | Blocked) -> None:
    fs.make_folder(path.parent)
    fs.replace(path, msgspec.json.encode(note) + b"\n")


def _read(folder: Path, kind: type[_Note]) -> Iterator[_Note]:
    for path in folder.glob("*.json"):
        try:
            yield msgspec.json.decode(path.read_bytes(), type=kind)
        except (FileNotFoundError, msgspec.DecodeError):
            continue  # removed meanwhile; of another version
