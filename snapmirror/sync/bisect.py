"""Finding the first bad snapshot, as git bisect finds a commit: what to try next, and what the trials came to."""

from collections.abc import Mapping, Sequence
from math import ceil, log2
from typing import Literal

import msgspec

from ..ecosystem import Ecosystem
from ..errors import UsageError
from ..store.catalog import Catalog
from ..store.records import Record, Tombstone
from ..store.store import Store
from . import compare
from .compare import Differences

Outcome = Literal["good", "bad", "skip"]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What a command found of one snapshot."""

    snapshot: str
    outcome: Outcome
    #: its exit status
    status: int


class Bisected(msgspec.Struct, frozen=True, kw_only=True):
    """Where it became bad."""

    #: id of the last snapshot that was found good, and of the first that was found bad
    good: str
    bad: str
    #: ids between these that were skipped: each may be the first bad one as well
    skipped: list[str]
    #: ids between these that were forgotten, likewise
    forgotten: list[str]
    #: in the order in which they were made
    trials: list[Trial]
    #: what differs between good and bad
    changes: Differences


class Bisection:
    """A search among the snapshots from a good one to a bad one. Snapshots in a row that hold the same count as one."""

    def __init__(self, catalog: Catalog, good: Record, bad: Record) -> None:
        """Raises UsageError for ends between which nothing can be found."""
        if good.id > bad.id:
            raise UsageError(f"the good snapshot, {good.id}, is later than the bad one, {bad.id}: name an earlier good one")
        self._catalog = catalog
        self._states = _states(catalog, good, bad)
        if len(self._states) < 2:
            raise UsageError(f"{good.id} and {bad.id} hold the same, so nothing can have become bad between them")
        self._good, self._bad = 0, len(self._states) - 1
        self._skipped: set[int] = set()
        self.trials: list[Trial] = []

    @property
    def steps(self) -> int:
        """How many trials are still needed at most, if none is skipped."""
        return ceil(log2(self._bad - self._good))

    @property
    def ends(self) -> tuple[Record, Record]:
        """The good and the bad snapshot that it began with, to be tried before anything is believed of them."""
        return self._states[0], self._states[-1]

    def verify(self, end: Record, status: int) -> Outcome:
        """Take note of what the trial of an end came to. Raises UsageError if it is not what it was said to be."""
        self._note(end, status)
        expected: Outcome = "good" if end is self._states[0] else "bad"
        found = self.trials[-1].outcome
        if found != expected:
            told = "can't be skipped" if found == "skip" else f"is not {expected}"
            raise UsageError(f"{end.id} {told}: the command ended with status {status} there")
        return found

    def next(self) -> Record | None:
        """The snapshot to try: of those that are left the one in the middle, or the nearest to it; None if none is left."""
        left = [number for number in range(self._good + 1, self._bad) if number not in self._skipped]
        middle = (self._good + self._bad) / 2
        return self._states[min(left, key=lambda number: abs(number - middle))] if left else None

    def note(self, record: Record, status: int) -> Outcome:
        """Take note of what the trial of a snapshot came to: 0 is good, 125 that it can't be said, another status bad."""
        number = self._states.index(record)
        outcome = self._note(record, status)
        if outcome == "good":
            self._good = number
        elif outcome == "bad":
            self._bad = number
        else:
            self._skipped.add(number)
        return outcome

    def _note(self, record: Record, status: int) -> Outcome:
        outcome: Outcome = "good" if status == 0 else "skip" if status == 125 else "bad"
        self.trials.append(Trial(snapshot=record.id, outcome=outcome, status=status))
        return outcome

    def result(self, store: Store, ecosystems: Mapping[str, Ecosystem]) -> Bisected:
        """What has been found. Raises DamagedError."""
        good, bad = self._states[self._good], self._states[self._bad]
        return Bisected(
            good=good.id,
            bad=bad.id,
            skipped=[self._states[number].id for number in range(self._good + 1, self._bad)],
            forgotten=[
                entry.id for entry in self._catalog.entries if isinstance(entry, Tombstone) and good.id < entry.id < bad.id
            ],
            trials=self.trials,
            changes=compare.records(store, ecosystems, good, bad, {*good.repos, *bad.repos}),
        )


def _states(catalog: Catalog, good: Record, bad: Record) -> Sequence[Record]:
    """The first of each snapshots in a row that hold the same. One that was sealed for the past and lacks a repo that both ends
    hold is passed over: it can't be tried as they can.
    """
    needed = good.repos.keys() & bad.repos.keys()
    states = [good]
    for record in catalog.records:
        whole = not record.partial or needed <= record.repos.keys()
        if good.id < record.id <= bad.id and whole and _held(record) != _held(states[-1]):
            states.append(record)
    return states


def _held(record: Record) -> Mapping[str, Mapping[str, str]]:
    return {path: {name: state.digest for name, state in repo.directories.items()} for path, repo in record.repos.items()}
