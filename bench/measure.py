"""What all measurements share: bars, results, taking turns, processes of their own."""

import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

ROOT = Path(__file__).resolve().parent.parent
#: seconds after which any single step is given up
TIMEOUT = 600


@dataclass(frozen=True)
class Bar:
    """One row of the table: what is measured and what it must reach."""

    what: str
    #: what it is compared with; of an absolute figure, nothing
    peer: str = ""
    #: times the peer's speed that it must have
    least: float | None = None
    #: absolute figure that it must not pass, in `unit`
    most: float | None = None
    unit: str = ""

    @property
    def text(self) -> str:
        """The bar as the table shows it."""
        if self.least is not None:
            return f">= {self.least:g}"
        return f"<= {self.most:g} {self.unit}" if self.most is not None else "-"


@dataclass(frozen=True)
class Result:
    """What came out for one bar."""

    bar: Bar
    ours: Sequence[float]
    peers: Sequence[float] = ()
    #: whether a larger figure is the better one (a rate), as opposed to seconds
    rate: bool = False

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as the peer we were, one figure a round."""
        pairs = zip(self.ours, self.peers, strict=True)
        return [ours / peer if self.rate else peer / ours for ours, peer in pairs]

    @property
    def met(self) -> bool | None:
        """Whether the bar is met, None if it is none."""
        if self.bar.least is not None:
            return statistics.median(self.ratios) >= self.bar.least
        return statistics.median(self.ours) <= self.bar.most if self.bar.most is not None else None


@dataclass(frozen=True)
class Work:
    """Where and how large to measure."""

    #: a folder of this run's own
    folder: Path
    #: sizes that take seconds, to see that everything works: their figures say nothing
    quick: bool
    #: rounds; the table shows medians
    runs: int
    #: configurations and versions to be printed with the table, by title
    notes: dict[str, str] = field(default_factory=dict)

    def note(self, title: str, text: str) -> None:
        """Print a configuration with the table, without the name of the folder of this run."""
        self.notes[title] = text.replace(str(self.folder), "WORK")

    def size(self, full: int, quick: int) -> int:
        """A size for the form that is run."""
        return quick if self.quick else full

    def fresh(self, name: str) -> Path:
        """An empty folder, after whatever bore its name is gone."""
        path = self.folder / name
        remove(path)
        path.mkdir(parents=True)
        return path


class Measurement(Protocol):
    """A module of this folder."""

    BARS: Sequence[Bar]

    def measure(self, work: Work) -> Iterator[Result]:
        """Results for the bars; raises Skip if something that it takes is not here."""
        ...


class Skip(Exception):
    """A measurement can't be made here; the text says why."""


def need(*programs: str) -> None:
    """Raise Skip unless these programs are installed."""
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def beside(program: str) -> str:
    """A program of the environment of this interpreter. Raises Skip unless it is installed there."""
    found = Path(sys.executable).parent / program
    if not found.is_file():
        raise Skip(f"{program} is not installed here (pip install '.[bench]')")
    return str(found)


def in_turn(rounds: int, *steps: Callable[[], float]) -> list[list[float]]:
    """Run the steps in turn so many times; a list of figures for each step."""
    found: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for figures, step in zip(found, steps, strict=True):
            figures.append(step())
    return found


def settle() -> None:
    """Let the disk finish what the step before left it to do, so that the next one does not pay for it."""
    os.sync()


def remove(path: Path) -> None:
    """Remove a folder, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def run(command: Sequence[str | Path], *, folder: Path | None = None, timeout: float = TIMEOUT) -> str:
    """Run a program to its end, at most so many seconds; its output. Raises RuntimeError with what it said if it fails."""
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


class Cost(NamedTuple):
    """What a program has taken from its start to its end."""

    #: by the clock
    seconds: float
    #: of processors, with those of its children
    cpu: float
    #: peak memory of the largest process, MB
    peak: float


def cost(command: Sequence[str | Path]) -> Cost:
    """Run a program to its end; what it took. Raises RuntimeError with what it said if it fails."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        started = subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(started.pid, 0)
        seconds = time.perf_counter() - began
        started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            said.seek(0)
            text = said.read().decode(errors="replace").strip()[-2000:]
            raise RuntimeError(f"{command[0]} ended with status {started.returncode}: {text}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6)


def child(module: str, *arguments: str | Path, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Run `main` of a module of ours in a fresh interpreter, at most so many seconds; the JSON object that it prints.

    Each figure of a process (its peak memory too) is then that of the step alone. What it takes to start an
    interpreter is not measured: the module takes the time inside.
    """
    found: dict[str, Any] = json.loads(run([sys.executable, "-m", module, *arguments], folder=ROOT, timeout=timeout))
    return found


def parse_json(file: Path, *, collect: bool = True) -> float:
    """Seconds that `json.load` takes. collect: with passes of the garbage collector, which are most of it where many
    objects stay
    """
    if not collect:
        gc.disable()
    began = time.perf_counter()
    with file.open("rb") as opened:
        content = json.load(opened)
    seconds = time.perf_counter() - began
    if not any(content.values()):
        raise RuntimeError("nothing was read")
    return seconds


def spread(figures: Iterable[float]) -> str:
    """Median with least and most."""
    ordered = sorted(figures)
    return f"{number(statistics.median(ordered))} [{number(ordered[0])}..{number(ordered[-1])}]"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
