"""How far the work has come: on a terminal a table of repos and a bar, plain lines in a log."""

import contextlib
import sys
import time
from collections.abc import Iterator

from .. import units
from ..sync.fetch import Progress
from .context import say

#: seconds between two lines in a log
_EVERY = 30.0


@contextlib.contextmanager
def progress(verb: str = "fetch") -> Iterator[Progress]:
    """What shows it, for the time of the block. verb: what is done with the files"""
    if not sys.stderr.isatty():
        yield Lines(verb)
        return
    from .drawing import Bars, Drawing  # only a terminal waits for what draws on it

    with Drawing() as drawing:
        yield Bars(drawing)


class Lines:
    """For logs: a line at the start, one every half minute, one at the end."""

    def __init__(self, verb: str = "fetch") -> None:
        self._verb = verb
        self._total = self._done = 0
        self._started = self._said = 0.0

    def message(self, text: str) -> None:
        """A line."""
        say(text)

    def stage(self, repo: str, stage: str, detail: str) -> None:
        """A log says what came of each repo when all is over."""

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
