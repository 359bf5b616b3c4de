"""The few encodings that bytes on disk depend on: canonical MessagePack and JSON; zstd and bz2, expanded up to a ceiling.

Canonical means: keys of every map sorted, no white space, so that equal values are equal bytes on any machine.
"""

import bz2
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: zstd levels: leaves are many and small, documents are compressed once and sent often (level 19 runs at 2 MB/s)
LEAF_LEVEL = 3
DOCUMENT_LEVEL = 6

#: bytes that any body may expand to, however small it is
HARMLESS = 64 << 20
#: frames of a body; pzstd makes one of each few MiB
_MOST_FRAMES = 32_768

T = TypeVar("T")
_MSGPACK = msgspec.msgpack.Encoder(order="sorted")
_JSON = msgspec.json.Encoder(order="sorted")


class TooLarge(ValueError):
    """A compressed body expands past its ceiling."""

    def __init__(self, limit: int) -> None:
        #: the ceiling, bytes
        self.limit = limit
        super().__init__(f"it expands past {limit} bytes")


def deeper(call: Callable[[], T], calls: int = 200) -> T:
    """What a function returns that is called from so many calls deeper.

    msgspec counts the nesting of a document and the calls around it against one limit, Python's. What is decoded deeper than
    need be, can also be encoded, and decoded again, by way of more calls.
    """
    return deeper(call, calls - 1) if calls else call()


def to_msgpack(value: Any) -> bytes:
    """Canonical MessagePack."""
    return _MSGPACK.encode(value)


def from_msgpack(data: bytes) -> Any:
    """The value of what `to_msgpack` made."""
    return msgspec.msgpack.decode(data)


def to_json(value: Any) -> bytes:
    """Canonical JSON."""
    return _JSON.encode(value)


def compress(data: bytes, level: int) -> bytes:
    """One zstd frame that states its content size."""
    return zstd.compress(data, level)


def compressor(level: int) -> Callable[[bytes], bytes]:
    """A function that does what `compress` does, to the byte, for many small values: a new context for each would take a
    quarter of the time of a leaf. For one thread at a time.
    """
    context = zstd.ZstdCompressor(level)
    return lambda data: context.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def _ceiling(data: bytes, limit: int) -> int:
    """Bytes that a body may expand to. One that grows 200-fold is a bomb long before it reaches the limit: real repodata
    grows 5 to 60 times.
    """
    return min(limit, max(HARMLESS, 200 * len(data)))


def decompress(data: bytes, limit: int) -> bytes:
    """The content of zstd frames. Raises TooLarge, or ValueError for bytes that are no zstd.

    limit: bytes that it may expand to; a small body less. Upstreams write streaming frames that state no size, so that this
    must be watched while expanding.
    """
    return b"".join(expanded(data, limit))


def expanded(data: bytes, limit: int) -> Iterator[bytes]:
    """The same in pieces, for who needs no more than one at a time."""
    return _expand(data, limit, zstd.ZstdDecompressor, "zstd")


def decompress_bz2(data: bytes, limit: int) -> bytes:
    """The content of a bz2 body. Raises TooLarge, or ValueError for bytes that are no bz2. limit: as of `decompress`."""
    return b"".join(expanded_bz2(data, limit))


def expanded_bz2(data: bytes, limit: int) -> Iterator[bytes]:
    """The same in pieces."""
    return _expand(data, limit, bz2.BZ2Decompressor, "bz2")


def _expand(
    data: bytes, limit: int, new: Callable[[], zstd.ZstdDecompressor | bz2.BZ2Decompressor], name: str
) -> Iterator[bytes]:
    """Frame after frame, in pieces of 16 MiB; ends at the first byte past the ceiling.

    A frame is fed twice as much each time, for what it leaves is copied: a body of empty frames took hours.
    """
    ceiling = _ceiling(data, limit)
    left, at = ceiling, 0
    view = memoryview(data)
    try:
        for _ in range(_MOST_FRAMES):
            if at and at == len(data):  # of nothing at all there is no frame
                return
            frame, step = new(), 1 << 10
            while not frame.eof:
                fed = view[at : at + step] if frame.needs_input else b""
                at, step = at + len(fed), min(2 * step, 64 << 20)
                piece = frame.decompress(fed, max_length=min(left + 1, 16 << 20))
                left -= len(piece)
                if left < 0:
                    raise TooLarge(ceiling)
                if not piece and frame.needs_input and not frame.eof and at == len(data):
                    raise ValueError(f"the {name} data ends early")
                yield piece
            at -= len(frame.unused_data)
    except (zstd.ZstdError, OSError, EOFError) as error:
        raise ValueError(f"no valid {name} data: {error}") from None
    raise ValueError(f"the {name} data has more than {_MOST_FRAMES} frames")
