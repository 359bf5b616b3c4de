"""Leaves on their way into the store: named by their canonical bytes, and compressed if the store has not got them."""

import multiprocessing
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import NamedTuple

import msgspec

from .. import codec
from ..digests import Digest, sha256
from ..errors import HelperEnded
from ..readings import FileList
from ..store.store import Store

#: leaves that are looked up, and handed to another process, at a time
_BATCH = 64
#: from so many leaves on, a process beside this one is worth the third of a second that it takes to start
_MANY = 4096


class Content(NamedTuple):
    """A leaf before it is named."""

    name: str
    content: bytes
    files: FileList
    source: Digest | None
    label: str = ""


@dataclass(slots=True)
class PlannedLeaf:
    """One leaf that is not as it was in the previous snapshot."""

    name: str
    #: name of its blob; empty if nothing is left of it
    blob: Digest
    #: digest of its canonical bytes
    canonical: Digest
    files: FileList
    #: what it was read from, if it is a function of that alone and nothing of it is withheld
    source: Digest | None
    #: what a list of all names says of this one
    label: str = ""


class _Pressed(msgspec.Struct, array_like=True, gc=False):
    """What the other process makes of a leaf."""

    canonical: Digest
    blob: Digest
    compressed: bytes


_DECODER = msgspec.msgpack.Decoder(list[_Pressed])

#: a leaf, and its bytes if the store has not got them
Named = tuple[PlannedLeaf, bytes | None]


def press(store: Store, contents: Iterable[Content], expected: int) -> Iterator[Named]:
    """The blobs of leaves, in order: stored ones where the store has these canonical bytes, else compressed now.

    Never a stored one compressed again: another version of zstd makes other bytes of the same leaf, and every date
    would differ. expected: about how many leaves come. Raises what `contents` raises.
    """
    press_batches = _press_beside if expected >= _MANY else _press_here
    yield from press_batches(store, _batches(contents))


def _batches(contents: Iterable[Content]) -> Iterator[list[Content]]:
    left = iter(contents)
    while batch := list(islice(left, _BATCH)):
        yield batch


def _press_here(store: Store, batches: Iterable[list[Content]]) -> Iterator[Named]:
    compress = codec.compressor(codec.LEAF_LEVEL)
    for batch in batches:
        canonicals = [_canonical(one.content) for one in batch]
        for one, canonical, blob in zip(batch, canonicals, _stored(store, canonicals), strict=True):
            compressed = compress(one.content) if canonical and not blob else None
            yield _planned(one, canonical, sha256(compressed) if compressed else blob), compressed


def _press_beside(store: Store, batches: Iterable[list[Content]]) -> Iterator[Named]:
    """With a second process: hashing and compressing are a third of the time of a first sync.

    Not with a thread: it needs the interpreter's lock again after each 20 us of zstd, and waits longer for it than that.
    """
    with _Beside() as beside:
        sent = []
        for batch in batches:
            beside.send([one.content for one in batch])
            sent.append([one._replace(content=b"") for one in batch])
        for batch, made in zip(sent, beside.results(), strict=True):
            for one, new, blob in zip(batch, made, _stored(store, [new.canonical for new in made]), strict=True):
                yield _planned(one, new.canonical, blob or new.blob), None if blob else new.compressed or None


def _canonical(content: bytes) -> Digest:
    return sha256(content) if content else b""


def _stored(store: Store, canonicals: Sequence[Digest]) -> list[Digest]:
    """The blob of each; empty if the store has none."""
    known = store.leaves({place: digest for place, digest in enumerate(canonicals) if digest})
    return [known.get(place, b"") for place in range(len(canonicals))]


def _planned(one: Content, canonical: Digest, blob: Digest) -> PlannedLeaf:
    return PlannedLeaf(one.name, blob, canonical, one.files, one.source, one.label)


class _Beside:
    """A process that hashes and compresses what it is sent. It gives its results only when all is sent, so that neither
    side ever waits for the other to read.
    """

    def __enter__(self) -> "_Beside":
        context = multiprocessing.get_context("spawn")  # not fork: LMDB and threads are open
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        resource_tracker.ensure_running()  # before: as it starts, Python 3.11 lets SIGINT through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for us; it inherits the mask
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()  # which ends it, as our own end would
        self._process.join()

    def send(self, contents: list[bytes]) -> None:
        """A batch of leaves."""
        try:
            self._pipe.send_bytes(msgspec.msgpack.encode(contents))
        except OSError:
            raise self._ended() from None

    def results(self) -> Iterator[list[_Pressed]]:
        """Each batch, once all are sent."""
        try:
            self._pipe.send_bytes(b"")
            while answer := self._pipe.recv_bytes():
                yield _DECODER.decode(answer)
        except (OSError, EOFError):
            raise self._ended() from None

    def _ended(self) -> HelperEnded:
        self._process.join()
        return HelperEnded("compresses metadata", self._process.exitcode or 0)


def _serve(pipe: Connection) -> None:
    """The other process. It reads in a thread, for reading must never wait for zstd."""
    batches: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, batches), daemon=True).start()
    compress = codec.compressor(codec.LEAF_LEVEL)
    made = []
    while batch := batches.get():
        pressed = []
        for content in msgspec.msgpack.decode(batch, type=list[bytes]):
            compressed = compress(content) if content else b""
            pressed.append(_Pressed(_canonical(content), sha256(compressed) if content else b"", compressed))
        made.append(msgspec.msgpack.encode(pressed))
    try:
        for answer in (*made, b""):
            pipe.send_bytes(answer)
    except OSError:  # nobody wants it any more
        return


def _receive(pipe: Connection, batches: "SimpleQueue[bytes]") -> None:
    batch = b"begin"
    while batch:
        try:
            batch = pipe.recv_bytes()
        except (OSError, EOFError):
            batch = b""
        batches.put(batch)
