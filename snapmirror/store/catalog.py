"""What every selector means: pure functions of records, tombstones, pins and the time. No I/O.

A selector is `current`, a day, a time, an exact id or a pin. `current`, days and times resolve for each repo to the
newest snapshot at or before them; a record marked partial that does not list the repo is passed over, a complete one
that does not list it is the answer "not there". A tombstone is never passed over.
"""

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import msgspec

from .. import clock
from ..digests import Digest
from ..errors import DamagedError, Forgotten, SelectorError
from .records import Entry, Pin, Record, Tombstone, is_below

CURRENT = "current"
#: first path segments that can be neither a repo's nor a pin's
RESERVED = frozenset({CURRENT, "-", ".trees", ".views", "CACHEDIR.TAG"})
#: later than every id; `current` has no limit, for two syncs in one second seal an id that is a second ahead
_ALWAYS = "99999999T999999Z"
_PIN = re.compile(r"[a-z][a-z0-9._-]{0,62}")


def is_pin_name(text: str) -> bool:
    """Whether a text has the form of a pin's name and is not reserved."""
    return _PIN.fullmatch(text) is not None and text not in RESERVED


@dataclass(frozen=True)
class Catalog:
    """All snapshots of a store at one moment."""

    #: records and tombstones, by id
    entries: tuple[Entry, ...] = ()
    pins: dict[str, Pin] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> dict[str, Entry]:
        """Records and tombstones by id."""
        return {entry.id: entry for entry in self.entries}

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The kept snapshots, by id."""
        return tuple(entry for entry in self.entries if isinstance(entry, Record))

    @property
    def next_number(self) -> int:
        """The number that the next publication gets."""
        return max((entry.number for entry in self.entries), default=0) + 1

    @cached_property
    def directories(self) -> frozenset[Digest]:
        """Every directory that a kept snapshot refers to."""
        return frozenset(
            state.blob for record in self.records for repo in record.repos.values() for state in repo.directories.values()
        )

    @cached_property
    def repos(self) -> frozenset[str]:
        """Paths of all repos that any snapshot holds or held."""
        return frozenset(path for entry in self.entries for path in entry.repos)

    def forgetting(self, records: Collection[Record], present: datetime) -> "Catalog":
        """The same with a tombstone in the place of each of these records."""
        forgotten = {record.id: _tombstone(record, present) for record in records}
        return Catalog(tuple(forgotten.get(entry.id, entry) for entry in self.entries), self.pins)

    def followed_by(self, record: Record) -> "Catalog":
        """The same with one record more, whose id is after all others."""
        made = Catalog((*self.entries, record), self.pins)
        made.__dict__["repos"] = self.repos | record.repos.keys()  # or each look would go through thousands of snapshots
        return made

    def verify(self) -> None:
        """Raise DamagedError if a snapshot has been lost: what it held would look like what nothing refers to.

        Every publication has the next number, and a forgotten one keeps its own; so only the newest can be lost
        unseen, which `Published.lost` looks for.
        """
        for problem in self.losses():
            raise problem

    def losses(self) -> Iterator[DamagedError]:
        """What is wrong, each as the error that `verify` raises for it: gc stops at the first, `check` lists them all."""
        numbers = {entry.number: entry.id for entry in self.entries}
        before = 0
        for number in sorted(numbers):
            if before + 1 < number:  # a damaged record may have any number: what is missing is not counted out
                after = f" after {numbers[before]}" if before > 0 else ""
                more = f" (and all others up to {number - 1})" if before + 2 < number else ""
                yield DamagedError(
                    f"snapshots/: the record number {before + 1}{more}",
                    f"(published{after}) is missing; restore it from a backup",
                )
            before = max(number, 0)
        for pin in self.pins.values():
            if not isinstance(self.by_id.get(pin.snapshot), Record):
                yield DamagedError(f"pins/{pin.name}.json", f"names {pin.snapshot}, which is not kept")

    def is_selector(self, text: str) -> bool:
        """Whether the first segment of a URL's path is a selector, as opposed to the beginning of a repo's path."""
        return text == CURRENT or text in self.pins or bool(clock.from_id(text) or clock.parse_day(text))

    def resolve(self, selector: str, repo: str | None, present: datetime) -> Record:
        """The snapshot that a selector means for a repo; for no repo, the newest at or before it.

        Raises SelectorError where it names none, Forgotten where that snapshot was forgotten.
        """
        if selector == CURRENT:
            return self.at(_ALWAYS, repo, selector)
        if pin := self.pins.get(selector):
            return self._exactly(pin.snapshot, repo, selector)
        if selector in self.by_id:
            return self._exactly(selector, repo, selector)
        if instant := clock.from_id(selector):
            if instant > present:
                raise SelectorError(selector, "that time has not come yet")
            return self.at(selector, repo, selector)
        if day := clock.parse_day(selector):
            if not clock.begun_somewhere(day, present):
                raise SelectorError(selector, "that day has not begun anywhere yet")
            return self.at(clock.to_id(clock.end_of(day)), repo, selector)
        raise SelectorError(selector, "is neither `current`, a date (2026-11-20), an id (20261120T010000Z) nor a pin")

    def at(self, limit: str, repo: str | None, selector: str) -> Record:
        """The newest snapshot with an id at or before `limit` that answers for a repo, or for none in particular.

        selector: what is asked for, for the message. Raises SelectorError if there is none, Forgotten if it was forgotten.
        """
        # What has come since a date long ago is not gone through.
        for place in reversed(range(bisect_right(self.entries, limit, key=lambda entry: entry.id))):
            entry = self.entries[place]
            if repo is None or repo in entry.repos:
                return self._kept(entry, selector, repo)
            if not entry.partial:
                raise SelectorError(selector, f"snapshot {entry.id} does not hold {repo}")
        what = "snapshot" if repo is None else f"snapshot of {repo}"
        raise SelectorError(selector, f"there is no {what} at or before it")

    def answers(self, selector: str, present: datetime) -> dict[str, Record]:
        """{repo: the snapshot that a selector means for it}, where there is one. Raises as `resolve` does if all lack one."""
        found, problems = self._ask(selector, present)
        if not found:
            gone = (error for error in problems.values() if isinstance(error, Forgotten))
            raise next(gone, None) or next(iter(problems.values()), SelectorError(selector, "there is no snapshot yet"))
        return found

    def forgotten(self, selector: str, present: datetime) -> dict[str, Forgotten]:
        """{repo: what tells it} of those that `answers` leaves out because what the selector means for them was forgotten."""
        _, problems = self._ask(selector, present)
        return {repo: error for repo, error in problems.items() if isinstance(error, Forgotten)}

    def _ask(self, selector: str, present: datetime) -> tuple[dict[str, Record], dict[str, SelectorError]]:
        """By repo, what a selector means for it, or why it means nothing."""
        found: dict[str, Record] = {}
        problems: dict[str, SelectorError] = {}
        for repo in sorted(self.repos):
            try:
                found[repo] = self.resolve(selector, repo, present)
            except SelectorError as error:
                problems[repo] = error
        return found, problems

    def view(self, selector: str, present: datetime) -> Record:
        """What a selector means for all repos, as one record: the newest of its answers, with each repo as it answers.

        Raises as `answers` does.
        """
        answers = self.answers(selector, present)
        newest = max(answers.values(), key=lambda record: record.id)
        if all(record is newest for record in answers.values()):
            return newest
        return msgspec.structs.replace(newest, repos={path: record.repos[path] for path, record in answers.items()})

    def pair(self, old: str, new: str, only: str, present: datetime) -> tuple[Record, Record]:
        """The views of two selectors, to compare what they have of the repos at or below a path.

        Raises as `view` does, and Forgotten if that was forgotten for such a repo: it would look as if it had not been there.
        """
        for selector in (old, new):
            for repo, error in self.forgotten(selector, present).items():
                if is_below(repo, only):
                    raise error
        return self.view(old, present), self.view(new, present)

    def single(self, selector: str, present: datetime) -> Record:
        """The one snapshot that a selector names. Raises as `answers` does, Forgotten if it means one for any repo that is gone
        (else `forget` would take another), and SelectorError where repos come from several.
        """
        if selector != CURRENT:
            for gone in self.forgotten(selector, present).values():
                raise gone
        ids = sorted({record.id for record in self.answers(selector, present).values()})
        if len(ids) > 1:
            raise SelectorError(selector, f"is answered from several snapshots ({', '.join(ids)}); name one of these")
        return self.resolve(ids[0], None, present)

    def _exactly(self, id_: str, repo: str | None, selector: str) -> Record:
        entry = self.by_id.get(id_)
        if entry is None:
            raise SelectorError(selector, f"snapshot {id_} does not exist")
        if repo is not None and repo not in entry.repos:
            raise SelectorError(selector, f"snapshot {id_} does not hold {repo}")
        return self._kept(entry, selector, repo)

    def _kept(self, entry: Entry, selector: str, repo: str | None) -> Record:
        if isinstance(entry, Tombstone):
            kept = [record.id for record in self.records if repo is None or repo in record.repos]
            before = max((id_ for id_ in kept if id_ < entry.id), default=None)
            after = min((id_ for id_ in kept if id_ > entry.id), default=None)
            raise Forgotten(selector, entry.id, before, after)
        return entry

    def newest(self, repo: str) -> Record | None:
        """The snapshot that `current` means for a repo, None if it has none: in a copy that may be one that is forgotten."""
        try:
            return self.at(_ALWAYS, repo, CURRENT)
        except SelectorError:
            return None

    def history(self, repo: str) -> list[Record]:
        """The kept snapshots that hold a repo, newest first."""
        return [record for record in reversed(self.records) if repo in record.repos]

    def protected(self) -> dict[str, str]:
        """Snapshots that must not be forgotten, each with the reason: what `current` or a pin means for any repo."""
        found: dict[str, str] = {}
        for repo in self.repos:
            for entry in reversed(self.entries):
                if repo in entry.repos:
                    found[entry.id] = f"it is current for {repo}"
                if repo in entry.repos or not entry.partial:
                    break
        found.update({pin.snapshot: f"the pin {name} names it" for name, pin in self.pins.items()})
        return found


def _tombstone(record: Record, present: datetime) -> Tombstone:
    return Tombstone(
        id=record.id,
        number=record.number,
        partial=record.partial,
        forgotten=clock.to_id(present),
        repos=sorted(record.repos),
    )
