"""Numbers that several processes count and any of them can tell, in memory that they share.

Each process adds to a region of its own, so that none waits for another and no count is lost. A region outlives its process:
what one that died has counted stays, and the process that takes its place goes on counting there.
"""

import mmap
import struct
from collections.abc import Iterator

#: of a number: its name, and then the number itself at the end
_ENTRY = 256
_NUMBER = 8
#: numbers of a region. Memory is only taken up by those that are used
_MOST = 16_384
_SIZE = (_MOST + 1) * _ENTRY
_STRIDE = _ENTRY // _NUMBER
#: between the parts of a name
_BETWEEN = "\x1f"
#: how often something was counted that had no room
DROPPED = ("dropped",)

#: what is counted, and the values of its labels
Name = tuple[str, ...]


class Region:
    """The numbers of one process. They are added to by one thread."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)  # shared with all processes that are forked from now on
        #: `numbers[cell]` may be added to; in the place of the first name is how many numbers there are
        self.numbers = memoryview(self._memory).cast("d")
        #: where the number of each name is, in order, as far as this process has read them; by several threads at once, maybe
        self._cells: dict[Name, int] = {}
        if not self.numbers[0]:
            self.cell(DROPPED)

    def cell(self, name: Name) -> int:
        """Where the number of this name is, made if there is none; where what finds no room is counted, if it has none."""
        self._read_names()
        if name not in self._cells:
            text = _BETWEEN.join(name).encode("utf-8", "surrogateescape")
            count = len(self._cells)
            if count == _MOST or len(text) > _ENTRY - _NUMBER - 2:
                return self._cells[DROPPED]
            start = (count + 1) * _ENTRY
            self._memory[start : start + 2 + len(text)] = struct.pack(">H", len(text)) + text
            self.numbers[0] = count + 1  # last: who reads now finds a whole entry
            self._read_names()
        return self._cells[name]

    def _read_names(self) -> None:
        """Read the names that have come since."""
        for place in range(len(self._cells), int(self.numbers[0])):
            start = (place + 1) * _ENTRY
            (length,) = struct.unpack_from(">H", self._memory, start)
            text = self._memory[start + 2 : start + 2 + length].decode("utf-8", "surrogateescape")
            self._cells[tuple(text.split(_BETWEEN))] = (place + 2) * _STRIDE - 1

    def __iter__(self) -> Iterator[tuple[Name, float]]:
        """All numbers of the region, whichever process adds to them."""
        self._read_names()
        yield from ((name, self.numbers[cell]) for name, cell in self._cells.copy().items())


class Regions:
    """The regions of a server, made before its processes."""

    def __init__(self) -> None:
        self._all: list[Region] = []
        self._used: dict[int, Region] = {}

    def make(self, count: int) -> None:
        """Have at least so many regions that no process uses. Processes know only of those made before they began."""
        missing = count - (len(self._all) - len(self._used))
        self._all += [Region() for _ in range(missing)]

    def free(self) -> Region:
        """A region that no process uses."""
        self.make(1)
        return next(one for one in self._all if one not in self._used.values())

    def take(self, process: int, region: Region) -> None:
        """Note that a process uses a region."""
        self._used[process] = region

    def leave(self, process: int) -> None:
        """Note that a process has ended."""
        self._used.pop(process, None)

    def totals(self) -> dict[Name, float]:
        """The sums over all regions that were there when this process began."""
        found: dict[Name, float] = {}
        for region in self._all:
            for name, number in region:
                found[name] = found.get(name, 0.0) + number
        return found
