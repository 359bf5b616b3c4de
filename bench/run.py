"""Run measurements and print one table. See the package's docstring for what is measured and how."""

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from . import machine
from .measure import ROOT, Bar, Measurement, Result, Skip, Work, remove, spread

NAMES = (
    "repodata",
    "selection",
    "index",
    "download",
    "trees",
    "adopt",
    "serving",
    "pages",
    "pull",
    "history",
    "scrub",
    "years",
    "first",
    "fleet",
    "face",
)
_HEADINGS = ("what", "ours", "peer", "ratio", "bar", "")


def main() -> None:
    """Exit status 0 whether bars are met or not; 1 if a measurement failed."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that servers and folders go
    base = Path(os.environ.get("TMPDIR") or ROOT / "build")
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    rows: list[tuple[str, ...]] = []
    notes: dict[str, str] = {}
    failures: list[str] = []
    try:
        for name in arguments.names or NAMES:
            rows += _measure(name, Work(folder / name, arguments.quick, arguments.runs, notes), failures)
        text = _report(rows, notes, machine.describe(folder), arguments)
    finally:
        remove(folder)
    print(text)
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the bars; takes about half an hour.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, its figures mean nothing")
    parser.add_argument("--runs", type=int, help="rounds, of which the median is taken (5; with --quick 1)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))} (there are: {', '.join(NAMES)})")
    arguments.runs = arguments.runs or (1 if arguments.quick else 5)
    return arguments


def _measure(name: str, work: Work, failures: list[str]) -> list[tuple[str, ...]]:
    """The rows of one measurement: one for each of its bars, whatever happens."""
    module = cast(Measurement, importlib.import_module(f".{name}", __package__))
    work.folder.mkdir()
    began = time.monotonic()
    found: dict[Bar, Result] = {}
    reason = ""
    try:
        for result in module.measure(work):
            found[result.bar] = result
            print(f"{name}: {' | '.join(_row(result, work))}", file=sys.stderr, flush=True)
    except Skip as skip:
        reason = f"skipped: {skip}"
    except Exception as error:
        reason = f"failed: {type(error).__name__}: {error}"
        failures.append(f"{name}: {reason}")
    finally:
        remove(work.folder)
    print(f"{name}: {time.monotonic() - began:.0f} s {reason}", file=sys.stderr, flush=True)
    first_line = reason.splitlines()[0][:100] if reason else ""
    return [
        _row(found[bar], work) if bar in found else (bar.what, "", bar.peer, "", bar.text, first_line) for bar in module.BARS
    ]


def _row(result: Result, work: Work) -> tuple[str, ...]:
    bar = result.bar
    unit = bar.unit or ("/s" if result.rate else "s")
    peer = f"{spread(result.peers)} {unit} {bar.peer}".rstrip() if result.peers else bar.peer
    verdict = {None: "", True: "met", False: "MISSED"}[None if work.quick else result.met]
    compared = bar.peer and result.peers
    return (bar.what, f"{spread(result.ours)} {unit}", peer, spread(result.ratios) if compared else "", bar.text, verdict)


def _report(rows: Sequence[tuple[str, ...]], notes: dict[str, str], about: str, arguments: argparse.Namespace) -> str:
    parts = [about]
    parts += [f"{title}:\n{_indent(text)}" for title, text in notes.items()]
    parts.append(
        f"Medians of {arguments.runs} alternating rounds, with least and most. ratio: how many times as fast as the peer."
        + (" QUICK: small sizes, the figures mean nothing." if arguments.quick else "")
    )
    parts.append(_table(rows))
    return "\n\n".join(parts)


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [_HEADINGS, tuple("-" * len(heading) for heading in _HEADINGS), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
