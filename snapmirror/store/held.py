"""All blobs of a store in little memory: their sizes, and what was noted of them while they were gone through.

Ten years of a large channel are over ten million blobs. As Python's objects, in a dict and in sets of what was seen, these
take gigabytes; here some 50 bytes each.
"""

from collections.abc import Iterable

from ..digests import Digest
from .blobs import BlobInfo

#: a row is a digest, the size of the blob, and its flags
_SIZE, _FLAGS, _ROW = 32, 40, 41
#: groups of rows: of ten million, 150 in each, which are searched in less than 1 us. In which one a digest is nobody can
#: foresee: what an upstream states of files need not be true, and 20,000 digests in one group took ten seconds.
_GROUPS = 1 << 16
#: of which it is known by each flag that they have it, before that is looked up: a look among ten million blobs takes 3 us, and
#: ten years of a large channel list some 300 million (estimated: 90,000 a day), most of them many days in turn
_LATELY = 1 << 19
#: as the size of a blob of which something was noted, and which is not there
_ABSENT = b"\xff" * (_FLAGS - _SIZE)


class Held:
    """The sizes of blobs, and flags of these blobs and of any others."""

    def __init__(self, blobs: Iterable[BlobInfo]) -> None:
        """blobs: in any order, each once"""
        #: by group
        self._rows: dict[int, bytearray] = {}
        #: {flag: some of those that have it}
        self._lately: dict[int, set[Digest]] = {}
        for blob in blobs:
            self._add(blob.digest, blob.size.to_bytes(_FLAGS - _SIZE, "big"), 0)

    def _add(self, digest: Digest, size: bytes, flags: int) -> None:
        self._rows.setdefault(hash(digest) % _GROUPS, bytearray()).extend(digest + size + flags.to_bytes(1, "big"))

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob, None if it is not there."""
        rows, row = self._find(digest)
        size = rows[row + _SIZE : row + _FLAGS] if row >= 0 else _ABSENT
        return None if size == _ABSENT else int.from_bytes(size, "big")

    def has(self, digest: Digest, flag: int) -> bool:
        """Whether one of these flags was noted of a blob, there or not."""
        if digest in self._lately.get(flag, ()):
            return True
        rows, row = self._find(digest)
        found = row >= 0 and bool(rows[row + _FLAGS] & flag)
        if found:
            self._remember(digest, flag)
        return found

    def note(self, digest: Digest, flag: int) -> None:
        """Note flags of a blob, there or not. flag: of eight bits"""
        rows, row = self._find(digest)
        if row < 0:
            self._add(digest, _ABSENT, flag)
        else:
            rows[row + _FLAGS] |= flag
        self._remember(digest, flag)

    def _remember(self, digest: Digest, flag: int) -> None:
        lately = self._lately.setdefault(flag, set())
        if len(lately) >= _LATELY:
            lately.clear()
        lately.add(digest)

    def _find(self, digest: Digest) -> tuple[bytearray, int]:
        """Where the row of a blob is, and where it begins there; less than 0 if it has none."""
        rows = self._rows.get(hash(digest) % _GROUPS)
        if rows is None:
            return bytearray(), -1
        row = rows.find(digest)
        while row > 0 and row % _ROW:  # by chance, across two rows
            row = rows.find(digest, row + 1)
        return rows, row
