"""What a server asks of a store whose blobs are not files of this machine."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from ..digests import Digest


class NotHere(Exception):
    """A blob has to come from afar, and whoever asks can't wait: see `Far.hurried`."""


class Far(Protocol):
    """Blobs that are elsewhere, and a cache of them here. Methods raise ObjectError where the service can't be used."""

    def hurried(self) -> AbstractContextManager[None]:
        """In the block, reading a blob that is not here raises NotHere, in this thread."""
        ...

    def cached(self, digest: Digest) -> Path | None:
        """The file that a blob has here, None if there is none; without waiting."""
        ...

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob, None if it is not there."""
        ...

    def fetch(self, digest: Digest, *, hot: bool) -> Path:
        """Bring a blob here, verified. hot: into the part of the cache that is bounded. Raises DamagedError."""
        ...

    def stream(self, digest: Digest, start: int, count: int, size: int) -> AsyncIterator[bytes]:
        """Bytes of a blob, as they come, not verified. size: of the whole. Raises FileNotFoundError."""
        ...

    def begin(self, digest: Digest, size: int) -> "Filling":
        """Begin to keep a blob that is streamed, if one of so many bytes can be kept."""
        ...

    def url(self, digest: Digest, lifetime: timedelta) -> str:
        """A URL that gives a blob to whoever has it, for so long."""
        ...

    def refresh(self) -> None:
        """Learn of what other machines have published. To be called every few seconds."""
        ...


class Filling(Protocol):
    """A blob on its way into the cache."""

    def write(self, data: bytes) -> None:
        """So many bytes more."""
        ...

    def end(self, *, whole: bool) -> None:
        """Keep it if it is whole and right, else drop it."""
        ...
