"""What a server finds out while it fetches what is asked for, in `live/` (man snapmirror-store, section LAYOUT).

The latest states of repos whose metadata is on request, which are roots of gc, and what `snapmirror status` tells of
upstreams. All of it may be removed at any time: it is asked for again.
"""

import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from ..digests import Digest, is_hex_digest
from . import fs
from .layout import Layout
from .records import DirectoryState, RepoState


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


class LiveState(RepoState, frozen=True, kw_only=True):
    """The latest state of a repo."""

    #: the last states before it, oldest first: clients fetch an index and what it lists in separate requests
    former: tuple[RepoState, ...] = ()

    @property
    def all(self) -> tuple[RepoState, ...]:
        """Itself, and those before it."""
        return (*self.former, self)


_Note = TypeVar("_Note", Lost, Blocked, LiveState)


class Live:
    """Reads and writes single files. Whoever changes a state holds the store's lock; of notes the last one written counts."""

    def __init__(self, layout: Layout) -> None:
        self._repos = layout.live / "repos"
        self._lost = layout.live / "lost"
        self._hosts = layout.live / "hosts"

    @property
    def folder(self) -> Path:
        """The folder of the states: its modification time changes with each of them."""
        return self._repos

    def keep(self, repo: str, state: RepoState) -> None:
        """Write the latest state of a repo; all that it refers to is in the store."""
        _write(self._state(repo), state)

    def drop(self, repo: str) -> bool:
        """Forget the latest state of a repo; whether there was one."""
        return fs.unlink(self._state(repo))

    def written(self, repo: str) -> float:
        """When the latest state of a repo was written, seconds since 1970; 0 if there is none."""
        try:
            return self._state(repo).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return 0.0

    def state(self, repo: str) -> LiveState | None:
        """The latest state of a repo, None if there is none that can be read."""
        return _decode(self._state(repo), LiveState)

    def states(self) -> dict[str, LiveState]:
        """The latest states that can be read, by path of the repo."""
        return {urllib.parse.unquote(name): state for name, state in _read(self._repos, LiveState) if state}

    def unreadable(self) -> list[str]:
        """The repos whose latest state can't be read."""
        return [urllib.parse.unquote(name) for name, state in _read(self._repos, LiveState) if state is None]

    @property
    def directories(self) -> frozenset[Digest]:
        """Digests of the directories of all latest states, and of those before them."""
        states = (state for latest_ in self.states().values() for state in latest_.all)
        return frozenset(one.blob for state in states for one in state.directories.values())

    def note_lost(self, digest: Digest, lost: Lost) -> None:
        """Note that upstream has a file no more; the first note stands."""
        path = self._lost / f"{digest.hex()}.json"
        if not path.exists():
            _write(path, lost)

    def drop_lost(self, digest: Digest) -> None:
        """Drop the note that upstream has a file no more, for it has been had."""
        fs.unlink(self._lost / f"{digest.hex()}.json")

    def lost(self) -> dict[Digest, Lost]:
        """All notes of lost files, in the order of the files' names. Who brings such a file in another way leaves its note."""
        found = [(bytes.fromhex(name), one) for name, one in _read(self._lost, Lost) if one and is_hex_digest(name)]
        return dict(sorted(found, key=lambda item: item[1].name))

    def note_blocked(self, blocked: Blocked) -> None:
        """Note that a host is left alone."""
        _write(self._host(blocked.host), blocked)

    def drop_blocked(self, host: str) -> None:
        """Drop the note that a host is left alone, for it answers again."""
        fs.unlink(self._host(host))

    def blocked(self) -> list[Blocked]:
        """Hosts that are or were left alone, by name."""
        return sorted((one for _, one in _read(self._hosts, Blocked) if one), key=lambda one: one.host)

    def _state(self, repo: str) -> Path:
        return self._repos / f"{urllib.parse.quote(repo, safe='')}.json"

    def _host(self, host: str) -> Path:
        return self._hosts / f"{urllib.parse.quote(host, safe='')}.json"


def latest(sealed: RepoState | None, live: RepoState | None) -> dict[str, DirectoryState]:
    """Of every directory of a repo the state that was read last; one that was not sealed, only if it was read after the
    sealed ones.
    """
    found = dict(sealed.directories) if sealed else {}
    for name, state in live.directories.items() if live else ():
        if state.read >= (found[name].read if name in found else sealed.read if sealed else ""):
            found[name] = state
    return found


def _write(path: Path, note: Lost | Blocked | RepoState) -> None:
    fs.make_folder(path.parent)
    fs.replace(path, msgspec.json.encode(note) + b"\n")


def _read(folder: Path, kind: type[_Note]) -> Iterator[tuple[str, _Note | None]]:
    for path in folder.glob("[!.]*.json"):
        yield path.stem, _decode(path, kind)


def _decode(path: Path, kind: type[_Note]) -> _Note | None:
    """None for a note that was removed meanwhile, is damaged, or of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
