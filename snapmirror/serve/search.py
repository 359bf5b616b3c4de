"""What a path names that the directory it leads to does not list, or does not seem to: one request in thousands."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from ..digests import Digest
from ..ecosystem import Ecosystem
from ..errors import DamagedError
from ..store.directories import DirectoryReader
from ..store.glimpse import WatchedReader, glimpse
from ..store.records import DirectoryState
from ..store.store import Store
from .answers import Answer, BlobAnswer, Place, Refused, UnlistedAnswer, refuse_denied
from .view import View, snapshot_of

_log = logging.getLogger(__name__)
#: what a directory lists at a path, found by the name that the file or the leaf there tells
Listed = Callable[[Place, str, str, DirectoryReader, str], Answer | None]
_DIGEST = re.compile(r"[0-9a-f]{64}")


class _Directory(NamedTuple):
    """A directory to search."""

    #: with a snapshot that has it
    place: Place
    name: str
    state: DirectoryState
    #: the path that is left below it
    rest: str
    #: of its repo
    kind: str


class _Passed:
    """The directories of one name in which nothing was found, by the buckets that said so: ten years have thousands that differ
    in others.
    """

    def __init__(self, store: Store) -> None:
        self._blobs = store.blobs
        #: the names and files for which the last one was asked
        self._keys: list[str] | None = None
        #: the buckets of these in each of them that was asked for the same
        self._buckets: set[tuple[bytes, ...]] = set()

    def tells_of(self, digest: Digest) -> bool:
        """Whether a directory says the same as one of them, by what can be seen of it without reading it."""
        return self._keys is not None and glimpse(self._blobs, digest, self._keys) in self._buckets

    def add(self, reader: WatchedReader) -> None:
        """Note one more. reader: with which it was looked into"""
        if reader.asked != self._keys:
            self._keys = reader.asked
            self._buckets.clear()
        self._buckets.add(reader.buckets_of(reader.asked))


class Search:
    """Looks in one view of the store. It may take a while, so not in the event loop."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem], view: View) -> None:
        self._store = store
        self._ecosystems = ecosystems
        self._view = view

    def answer(self, unlisted: UnlistedAnswer, listed: Listed) -> Answer | None:
        """A file, or a leaf, None if there is no such thing. Raises Refused, DamagedError."""
        directories = list(self._directories(unlisted))
        found = self._by_name(unlisted, directories, listed) if unlisted.current else None
        return found or (self._by_digest(unlisted, directories) if _DIGEST.search(unlisted.inner) else None)

    def _by_name(self, unlisted: UnlistedAnswer, directories: Iterable[_Directory], listed: Listed) -> Answer | None:
        """Look in the kept snapshots, newest first: clients fetch an index and its files in separate requests, and lock
        files name files long gone.
        """
        seen: set[Digest | None] = {None}
        passed: dict[tuple[str, str], _Passed] = {}
        for place, name, state, rest, kind in directories:
            before = passed.setdefault((kind, name), _Passed(self._store))
            if before.tells_of(state.blob):
                continue
            try:
                reader = WatchedReader(self._store.metadata.directory(state.blob))
                ecosystem = self._ecosystems[reader.document.kind]
                # nearly all snapshots share the one leaf that may list it
                leaf = reader.leaf(ecosystem.leaf_at(reader, rest)) if _leaf_at(ecosystem, rest) is None else b""
                if leaf not in seen and (answer := listed(place, unlisted.repo, name, reader, rest)):
                    return answer
                seen |= {leaf} - {b""}
                before.add(reader)
            except (DamagedError, KeyError) as error:
                _log_passed_over(unlisted, place, error)
        return None

    def _by_digest(self, unlisted: UnlistedAnswer, directories: Iterable[_Directory]) -> Answer | None:
        """A leaf that the path names by its digest, looked for in all that the directories list.

        That finds those which tell no name, or another than they are listed under, and tells those which are damaged or
        gone from those that never were. Raises DamagedError if the snapshot asked for can't tell.
        """
        damage: DamagedError | None = None
        seen: set[Digest] = set()
        for place, _, state, rest, _ in directories:
            try:
                reader = self._store.metadata.directory(state.blob)
                ecosystem = self._ecosystems[reader.document.kind]
                leaf = _leaf_at(ecosystem, rest)
                if leaf is None:
                    continue
                if self._lists(leaf, [digest for digest in reader.document.buckets if digest not in seen]):
                    return self._leaf(place, ecosystem, leaf, rest)
                seen.update(reader.document.buckets)
                if not self._store.blobs.sizes([leaf]):
                    break  # nearly always there never was such a leaf: not worth going through all of history
            except (DamagedError, KeyError) as error:
                _log_passed_over(unlisted, place, error)
                if isinstance(error, DamagedError) and place.snapshot == unlisted.place.snapshot:
                    damage = error
        if damage:
            raise damage
        return None

    def _lists(self, leaf: Digest, buckets: Iterable[Digest]) -> bool:
        """Whether one of these buckets lists a leaf. Raises DamagedError if there is no way to tell."""
        damage: DamagedError | None = None
        for digest in buckets:
            try:
                if leaf in self._store.metadata.bucket(digest).leaves.values():
                    return True
            except DamagedError as error:
                damage = error
        if damage:
            raise damage
        return False

    def _leaf(self, place: Place, ecosystem: Ecosystem, leaf: Digest, rest: str) -> Answer:
        """A leaf that is listed, its blob read: that may be why it was not found by name. Raises Refused."""
        refuse_denied(self._view, leaf, rest, place)
        try:
            self._store.metadata.leaf(leaf)
        except DamagedError as error:
            _log.error("%s: %s", rest, error)
            raise Refused(503, f"{rest}: {error}", place) from None
        return BlobAnswer(place, leaf, ecosystem.media_type(rest), None, immutable=True)

    def _directories(self, unlisted: UnlistedAnswer) -> Iterator[_Directory]:
        """The distinct directories to search, newest first."""
        records = self._view.answering.history(unlisted.repo)
        seen = set()
        segments = unlisted.inner.split("/")
        parted = [("/".join(segments[:length]), "/".join(segments[length:])) for length in range(len(segments), -1, -1)]
        for record in records:
            if not unlisted.current and snapshot_of(record) != unlisted.place.snapshot:
                continue
            states = record.repos[unlisted.repo].directories
            for name, rest in parted:
                state = states.get(name)
                if state is not None and state.digest not in seen:
                    seen.add(state.digest)
                    place = unlisted.place._replace(snapshot=snapshot_of(record))
                    yield _Directory(place, name, state, rest, record.repos[unlisted.repo].kind)


def _log_passed_over(unlisted: UnlistedAnswer, place: Place, error: Exception) -> None:
    _log.error("%s of snapshot %s was passed over: %s", unlisted.repo, place.snapshot, error)


def _leaf_at(ecosystem: Ecosystem, rest: str) -> Digest | None:
    """The digest in a path that has the form of a leaf's own."""
    found = _DIGEST.search(rest)
    digest = bytes.fromhex(found[0]) if found else None
    return digest if digest is not None and ecosystem.leaf_path(digest) == rest else None
