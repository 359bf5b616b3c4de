"""Digests: what names every byte string, and the hashing done while bytes stream past.

A `Digest` is 32 raw bytes of SHA-256. Files and JSON write it as 64 lower-case hexadecimal digits.
"""

import hashlib
import re
from pathlib import Path
from typing import Protocol

from blake3 import blake3

Digest = bytes

#: hashes other than SHA-256 by which a file may be verified: {length in bytes: hashlib's name}, the strongest first
OTHERS = {64: "sha512", 48: "sha384", 20: "sha1", 16: "md5"}
_HEX64 = re.compile(r"[0-9a-f]{64}")


class Hash(Protocol):
    """What hashlib's and blake3's objects share."""

    def update(self, data: bytes | memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


def sha256(data: bytes) -> Digest:
    """The name of a byte string."""
    return hashlib.sha256(data).digest()


def is_hex_digest(text: str) -> bool:
    """Whether a text is a digest as files and URLs write it."""
    return _HEX64.fullmatch(text) is not None


def algorithm(other: bytes) -> str:
    """Which of `OTHERS` a hash is, as hashlib calls it: its length tells."""
    return OTHERS[len(other)]


def blake3_of(path: Path) -> bytes:
    """The BLAKE3 of a file, 32 bytes."""
    return blake3().update_mmap(path).digest()


class Sums:
    """Running sums of one byte string: size and SHA-256 always, BLAKE3 unless it is taken later, one other hash on request.

    MD5 runs at 0.69 GB/s on one core against SHA-256's 1.8 (with SHA-NI), so it is computed only where it is what verifies,
    and of files that `adopt` finds without a stated SHA-256: a listing that has only their MD5s transfers none of them again.
    """

    def __init__(self, other: str = "", *, with_blake3: bool = True) -> None:
        """other: name of a further hash, as `algorithm` gives it."""
        self.size = 0
        self._hashes: dict[str, Hash] = {"sha256": hashlib.sha256()}
        if with_blake3:
            self._hashes["blake3"] = blake3()
        if other:
            self._hashes["other"] = hashlib.new(other, usedforsecurity=False)

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self.size += len(data)
        for running in self._hashes.values():
            running.update(data)

    @property
    def sha256(self) -> Digest:
        """The SHA-256 so far."""
        return self._hashes["sha256"].digest()

    @property
    def blake3(self) -> bytes:
        """The BLAKE3 so far, empty if it is not taken."""
        return self._hashes["blake3"].digest() if "blake3" in self._hashes else b""

    @property
    def other(self) -> bytes | None:
        """The other hash so far, None if there is none."""
        return self._hashes["other"].digest() if "other" in self._hashes else None
