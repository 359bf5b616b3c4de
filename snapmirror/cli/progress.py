"""How far the work on files has come: a bar on a terminal, plain lines in a log."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import units
from .context import printable, say

if TYPE_CHECKING:
    from rich.progress import Progress

#: seconds between two lines in a log
_EVERY = 30.0


@contextlib.contextmanager
def progress(verb: str = "fetch") -> Iterator["Bars | Lines"]:
    """What shows it, for the time of the block; both fulfil sync.fetch.Progress. verb: what is done with the files"""
    if not sys.stderr.isatty():
        yield Lines(verb)
        return
    from rich.console import Console  # only a terminal waits for what draws on it
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        yield Bars(drawn)


class Bars:
    """For people: bytes, rate and time left."""

    def __init__(self, drawn: "Progress") -> None:
        self._drawn = drawn
        self._task = drawn.add_task("fetch", total=None, visible=False)

    def message(self, text: str) -> None:
        """Above the bar."""
        self._drawn.console.print(printable(text), markup=False, highlight=False)

    def begin(self, files: int, size: int) -> None:
        """Draw the bar."""
        self._drawn.reset(self._task, description=units.plural(files, "file"), total=size or None, visible=True)

    def arrived(self, size: int) -> None:
        """Move the bar."""
        self._drawn.advance(self._task, size)

    def end(self) -> None:
        """Take the bar away."""
        self._drawn.update(self._task, visible=False)


class Lines:
    """For logs: a line at the start, one every half minute, one at the end."""

    def __init__(self, verb: str = "fetch") -> None:
        self._verb = verb
        self._total = self._done = 0
        self._started = self._said = 0.0

    def message(self, text: str) -> None:
        """A line."""
        say(text)

    def begin(self, files: int, size: int) -> None:
        """See fetch.Progress."""
        self._total, self._done, self._started = size, 0, time.monotonic()
        self._said = self._started
        say(f"{self._verb}ing {units.files(files, size)}")

    def arrived(self, size: int) -> None:
        """Count; threads may lose a few bytes of the count to each other, which only a display sees."""
        self._done += size
        now = time.monotonic()
        if now - self._said >= _EVERY:
            self._said = now
            rate = self._done / (now - self._started)
            left = f", {(self._total - self._done) / rate / 60:.0f} min left" if rate and self._total > self._done else ""
            of = f" of {units.size(self._total)}" if self._total else ""
            say(f"{self._verb}ed {units.size(self._done)}{of}, {units.size(int(rate))}/s{left}")

    def end(self) -> None:
        """See fetch.Progress."""
        took = max(time.monotonic() - self._started, 0.001)
        say(f"{self._verb}ed {units.size(self._done)} in {took:.1f} s")
