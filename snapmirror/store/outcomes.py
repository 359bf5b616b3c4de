"""How the verbs that run now and then have ended, in `live/outcomes/` (man snapmirror-store, section LAYOUT).

They are processes of their own; the server tells of them in its metrics. No answer depends on it, and all of it may be removed
at any time: then the counts begin anew.
"""

import contextlib
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from .. import clock
from ..errors import DiskFull, LockedError
from . import fs
from .layout import Layout

#: days of which it is kept how much was held
_DAYS = 4000
#: how a run ended that did all that it should: of sync, gc and check
SUCCESSES = frozenset({"complete", "done", "clean"})


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one verb went for one repo, or for the store."""

    verb: str
    #: path of the repo; empty for the whole store
    repo: str
    #: when the last run ended, and the last one that was a success, in the form of an id; empty if there was none
    ended: str = ""
    succeeded: str = ""
    #: of the last run
    seconds: float = 0.0
    #: {how runs ended: how many}
    runs: dict[str, int] = {}
    #: what the last run has counted
    numbers: dict[str, int] = {}
    #: the same of all runs together
    totals: dict[str, int] = {}


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What the store held when that was last counted."""

    #: in the form of an id
    counted: str
    blobs: int
    bytes: int
    #: {day: the bytes when they were last counted on it}
    days: dict[str, int] = {}


@dataclass
class Ending:
    """What a run has to tell in the end."""

    #: {path of a repo, or "" for the store: how it ended}
    outcomes: dict[str, str] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)


_Note = TypeVar("_Note", Outcome, Held)


class Outcomes:
    """Reads and writes these notes. Of two processes that write at once the last one counts."""

    def __init__(self, layout: Layout, now: clock.Clock) -> None:
        self._folder = layout.live / "outcomes"
        self._now = now

    @contextlib.contextmanager
    def noting(self, verb: str, repos: Iterable[str] = ("",)) -> Iterator[Ending]:
        """Note how the block ends. It gives what the block fills in; if it raises, all repos have failed.

        repos: paths, or "" for the whole store
        """
        ending, began = Ending(), time.monotonic()
        try:
            yield ending
        except Exception as error:
            how = "locked" if isinstance(error, LockedError) else "failed"
            ending.outcomes = dict.fromkeys(repos, how)
            raise
        finally:
            seconds = round(time.monotonic() - began, 3)
            with contextlib.suppress(OSError, DiskFull):  # that it can't be noted is no reason to fail
                for repo, how in ending.outcomes.items():
                    self._note(verb, repo, how, seconds, ending.numbers)

    def _note(self, verb: str, repo: str, how: str, seconds: float, numbers: Mapping[str, int]) -> None:
        path = self._folder / f"{urllib.parse.quote(f'{verb} {repo}'.strip(), safe='')}.json"
        before = _decode(path, Outcome) or Outcome(verb=verb, repo=repo)
        now = clock.to_id(self._now())
        after = Outcome(
            verb=verb,
            repo=repo,
            ended=now,
            succeeded=now if how in SUCCESSES else before.succeeded,
            seconds=seconds,
            runs={**before.runs, how: before.runs.get(how, 0) + 1},
            numbers=dict(numbers),
            totals={name: before.totals.get(name, 0) + numbers.get(name, 0) for name in {**before.totals, **numbers}},
        )
        _write(path, after)

    def note_held(self, blobs: int, size: int) -> None:
        """Note what the store holds now. size: bytes"""
        before, now = self.held(), self._now()
        days = {**(before.days if before else {}), f"{now:%Y-%m-%d}": size}
        with contextlib.suppress(OSError, DiskFull):
            note = Held(counted=clock.to_id(now), blobs=blobs, bytes=size, days=dict(sorted(days.items())[-_DAYS:]))
            _write(self._folder / "held.json", note)

    def held(self) -> Held | None:
        """What the store held when that was last counted; None if it never was."""
        return _decode(self._folder / "held.json", Held)

    def all(self) -> list[Outcome]:
        """All that are noted and can be read, by verb and repo."""
        found = (_decode(path, Outcome) for path in self._folder.glob("[!.]*.json"))
        return sorted((one for one in found if one), key=lambda one: (one.verb, one.repo))


def _write(path: Path, note: Outcome | Held) -> None:
    fs.make_folder(path.parent)
    fs.replace(path, msgspec.json.encode(note) + b"\n")


def _decode(path: Path, kind: type[_Note]) -> _Note | None:
    """None for what is not there, is damaged, or of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
