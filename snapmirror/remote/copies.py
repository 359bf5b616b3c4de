"""The store's small files as objects, and their copies in the cache, where everything else reads them.

object                          copy
snapshots/<number>.json         snapshots/<id>.json     records and tombstones; a number is created by one writer only
signatures/<sha256>.sig         snapshots/<id>.sig      of the record with these bytes
pages/<id>.json                 snapshots/<id>.pages
pins/ denied/ syncing/          the same names
swept/<number>.json             -                       what a gc has removed: see `Copies.pull`
changed                         -                       other bytes after each change: one request tells that nothing has
"""

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from .. import clock
from ..digests import Digest, sha256
from ..errors import DamagedError
from ..store import fs, locks
from ..store.layout import Layout
from ..store.records import Entry, Hex, Record, decode
from .objects import Info, Objects

CHANGED = "changed"
#: lists of what was removed that a process keeps in memory
_LISTS = 4
#: `syncing` first: an entry goes only after the record that it stood for is there
_FOLDERS = ("syncing", "snapshots", "pages", "pins", "denied")


class Swept(msgspec.Struct):
    """What `swept/<number>.json` holds."""

    digests: list[Hex]


class _State(msgspec.Struct):
    """What the cache's `pulled.json` holds."""

    #: bytes of `changed` when it was read, hexadecimal
    changed: str = ""
    #: {key: (its ETag, the copy below the cache)}
    copies: dict[str, tuple[str, str]] = {}
    #: {index: number of the last list of what was removed that was applied to it}: several may share the copies
    swept: dict[str, int] = {}


def record_key(number: int) -> str:
    """The key of a record or tombstone."""
    return f"snapshots/{number:08d}.json"


def signature_key(record: bytes) -> str:
    """The key of the signature of a record with these bytes."""
    return f"signatures/{sha256(record).hex()}.sig"


def swept_key(number: int) -> str:
    """The key of a list of what was removed."""
    return f"swept/{number:08d}.json"


class Copies:
    """Brings the cache's copies up to date, for all processes that use the cache."""

    def __init__(
        self,
        layout: Layout,
        objects: Objects,
        now: clock.Clock,
        forget: Callable[[Iterable[Digest]], None],
        start_over: Callable[[], None],
    ) -> None:
        """forget: takes what was removed out of the cache and its index
        start_over: does so with all that the cache says of blobs
        """
        self._layout = layout
        self._objects = objects
        self._now = now
        self._forget = forget
        self._start_over = start_over
        self._path = layout.root / "pulled.json"
        #: {number: what that list names}
        self._lists: dict[int, set[Digest]] = {}

    def changed(self) -> bool:
        """Whether anybody has told of a change since the copies were made; one small request."""
        return (self._objects.get(CHANGED) or b"").hex() != self._state().changed

    def tell(self) -> None:
        """Let others know that something has changed."""
        self._objects.put(CHANGED, secrets.token_bytes(16))

    def _again(self, before: _State, copies: Mapping[str, tuple[str, str]]) -> None:
        """Begin anew, with what has been brought."""
        fs.replace(self._path, msgspec.json.encode(_State(before.changed, {**before.copies, **copies}, before.swept)))
        raise _Begun

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """While it is held, no other process changes copies, or takes out what was removed."""
        with locks.hold(self._layout.locks / ".pull", "the cache", waiting=lambda _: None):
            yield

    @contextlib.contextmanager
    def changing(self, key: str, path: Path) -> Iterator[None]:
        """While an object and its copy are changed: nobody puts an older copy in its place, and that it is one is known."""
        with self.still():
            state = self._state()
            state.copies[key] = ("", str(path.relative_to(self._layout.root)))
            fs.replace(self._path, msgspec.json.encode(state))
            yield

    def in_doubt(self, swept: int) -> set[Digest]:
        """Blobs that may have gone since list `swept` was the last that had been applied, or may yet go: what that one names,
        for it is written before they are removed, and what those name that were applied since. The caller holds `still`.
        """
        return {digest for number in range(max(swept, 1), self.swept + 1) for digest in self._named(number)}

    def _named(self, number: int) -> set[Digest]:
        """What a list of what was removed names. A list never changes."""
        if number not in self._lists:
            if len(self._lists) >= _LISTS:
                self._lists.clear()
            key = swept_key(number)
            data = self._objects.get(key)
            self._lists[number] = set(map(bytes.fromhex, _swept(data, key).digests)) if data is not None else set()
        return self._lists[number]

    @property
    def swept(self) -> int:
        """Number of the last list of what was removed that was applied."""
        return self._applied(self._state())

    def _applied(self, state: _State) -> int:
        return state.swept.get(str(self._layout.index), 0)

    def rewind(self, swept: int) -> None:
        """Apply the lists from that one on again, for the index is made of an older listing.

        Of the last list itself blobs may have been listed that were about to go: it is written before they are removed.
        """
        with self.still():
            state = self._state()
            state.swept[str(self._layout.index)] = min(self._applied(state), max(swept - 1, 0))
            fs.replace(self._path, msgspec.json.encode(state))

    def pull(self) -> None:
        """Make the copies what the objects are now. Raises ObjectError, DamagedError."""
        while True:
            with contextlib.suppress(_Begun):
                return self._pull()

    def _pull(self) -> None:
        with self.still():
            before = self._state()
            changed = (self._objects.get(CHANGED) or b"").hex()  # first: what changes from now on changes it again
            listed = {one.key: one for folder in _FOLDERS for one in self._objects.list(folder) if one.key.count("/") == 1}
            swept = self._pull_swept(self._applied(before))
            known = {key: copy for key, copy in before.copies.items() if key in listed and self._is_copy(listed[key], copy)}
            new = [key for key in listed if key not in known]
            self._announce(new, before)
            copies = known | self._bring(new, listed)
            if any(key.startswith("syncing/") and key not in copies for key in listed):  # sealed, since the records were listed
                self._again(before, copies)
            kept = {copy for _, copy in copies.values()}
            gone = {key: copy for key, (_, copy) in before.copies.items() if copy not in kept}  # not listed, or removed since
            if any(key.startswith("snapshots/") and (self._layout.root / copy).exists() for key, copy in gone.items()):
                self._start_over()  # no record goes: the store is one that came back from a backup, and has less than was known
            for key, copy in gone.items():
                self._remove(key, copy)
            self._date_syncing(copies, listed)
            after = _State(changed, copies, {**before.swept, str(self._layout.index): swept})
            if after != before:
                fs.replace(self._path, msgspec.json.encode(after))

    def _state(self) -> _State:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_State)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            if self._layout.index.exists():  # of which nobody knows how old it is
                self._start_over()
            return _State()

    def _announce(self, keys: Iterable[str], before: _State) -> None:
        """Note which copies are about to be made, or one that is made by a pull that then dies would be taken for none when its
        object goes. Records stay, or become tombstones.
        """
        coming = {key: ("", self._place(key)) for key in keys if not key.startswith("snapshots/")}
        if coming:
            fs.replace(self._path, msgspec.json.encode(_State(before.changed, before.copies | coming, before.swept)))

    def _place(self, key: str) -> str:
        """Where the copy of an object is that is no record."""
        folder, _, name = key.partition("/")
        path = self._layout.pages(name.removesuffix(".json")) if folder == "pages" else self._layout.root / folder / name
        return str(path.relative_to(self._layout.root))

    def _is_copy(self, listed: Info, copy: tuple[str, str]) -> bool:
        return listed.etag == copy[0] and (self._layout.root / copy[1]).exists()

    def _bring(self, keys: list[str], listed: Mapping[str, Info]) -> dict[str, tuple[str, str]]:
        """Write copies, records before pins that name them."""
        found = {}
        for key, data in self._objects.get_many(sorted(keys, key=lambda key: not key.startswith("snapshots/"))):
            if data is not None:  # else it was removed since it was listed
                found[key] = (listed[key].etag, str(self._write(key, data).relative_to(self._layout.root)))
        return found

    def _write(self, key: str, data: bytes) -> Path:
        if key.startswith("snapshots/"):
            return self._write_entry(key, data)
        path = self._layout.root / self._place(key)
        if not key.startswith("syncing/") or not locks.is_held(path):  # ours is locked, and so newer than what was listed
            fs.replace(path, data)
        return path

    def _write_entry(self, key: str, data: bytes) -> Path:
        entry: Entry = decode(data, Entry, key)
        if record_key(entry.number) != key or clock.from_id(entry.id) is None:
            raise DamagedError(key, f"holds the record of {entry.id}, number {entry.number}")
        signature = self._objects.get(signature_key(data)) if isinstance(entry, Record) and entry.signed else None
        if signature is not None:
            fs.replace(self._layout.signature(entry.id), signature)
        path = self._layout.record(entry.id)
        fs.replace(path, data)
        if signature is None:
            fs.unlink(self._layout.signature(entry.id))
        return path

    def _remove(self, key: str, copy: str) -> None:
        path = self._layout.root / copy
        if not (key.startswith("syncing/") and locks.is_held(path)):
            fs.unlink(path)

    def _date_syncing(self, copies: Mapping[str, tuple[str, str]], listed: Mapping[str, Info]) -> None:
        """Give copies of others' entries the age that these have by the service's clock."""
        ahead: timedelta | None = None
        for key, (_, copy) in copies.items():
            path = self._layout.root / copy
            if key.startswith("syncing/") and not locks.is_held(path):
                if ahead is None:
                    there = self._objects.now()
                    ahead = self._now() - there
                with contextlib.suppress(FileNotFoundError):
                    fs.touch(path, (listed[key].modified + ahead).timestamp(), create=False)

    def _pull_swept(self, applied: int) -> int:
        """Take out what was removed since; the number of the last list that has been applied then."""
        listed = {number_of(one.key): one.key for one in self._objects.list("swept")}
        if applied > (newest := max(listed, default=0)):
            self._start_over()  # as where a record is gone
            applied = newest
        lists = {number: key for number, key in listed.items() if number > applied}
        if lists and min(lists) > applied + 1:
            self._start_over()  # lists that we never saw are gone
        for number in sorted(lists):
            if (data := self._objects.get(lists[number])) is not None:
                self._forget(map(bytes.fromhex, _swept(data, lists[number]).digests))
            applied = number
        return applied


class _Begun(Exception):
    """A pull has to begin anew."""


def _swept(data: bytes, key: str) -> Swept:
    found: Swept = decode(data, Swept, key)
    return found


def number_of(key: str) -> int:
    """The number in a key, 0 if it has none."""
    name = key.rpartition("/")[2].removesuffix(".json")
    return int(name) if name.isdecimal() else 0
