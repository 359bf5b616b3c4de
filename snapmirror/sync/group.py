"""Directories that are read and planned together: one, or all of the repos whose selections bear on each other."""

import contextlib
import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .. import clock
from ..ecosystem import Ecosystem, Repo
from ..errors import SelectionError, UpstreamError
from ..readings import Draft, Reading, Selection
from ..transfer.http import Http
from .directory import DirectorySync


class Group:
    """Reads in a thread, plans in the main one."""

    def __init__(self, ecosystem: Ecosystem, directories: Sequence[DirectorySync], present: datetime) -> None:
        """directories: of one ecosystem; present: from which a selection counts ages, unless the past is meant"""
        self.directories = directories
        self._ecosystem = ecosystem
        self._repos: Mapping[str, Repo] = {directory.repo.path: directory.repo for directory in directories}
        self._selects = any(ecosystem.selects(repo) for repo in self._repos.values())
        self._ages = any(ecosystem.ages(repo) for repo in self._repos.values())
        self._present = _instant(directories[0]) or present
        settings = " ".join(ecosystem.settings(repo) for repo in self._repos.values())
        if directories[0].options.as_of:
            settings += f" as of {directories[0].options.seal_as}"
        for directory in directories:
            directory.settings = settings + directory.rules.text

    def read(self, http: Http) -> None:
        """Ask upstream for all of it. If anything has changed, a selection needs the rest too, changed or not."""
        for directory in self.directories:
            directory.read(http, conditionally=not self._ages)
        if self._selects and not all(directory.unchanged for directory in self.directories):
            for directory in self.directories:
                if directory.unchanged:
                    directory.read(http, conditionally=False)

    def plan(self, http: Http) -> None:
        """Plan what was read. An index that promises what is not there is read in another form, once."""
        while True:
            try:
                self._plan()
                return
            except _UnusableError as unusable:
                directory = unusable.directory
                if directory.avoided:
                    directory.problem, directory.reading = unusable.error, None
                    continue
                http.warn(f"{directory.path}: {unusable.error}; reading another form of the index")
                directory.avoided = (unusable.document,)
                directory.read(http)
                if directory.problem:  # there is no other form
                    directory.problem = unusable.error

    def _plan(self) -> None:
        if self._selects and not self._can_select():
            return
        readings: dict[tuple[str, str], Reading] = {
            (directory.repo.path, directory.name): _watched(directory, directory.reading)
            for directory in self.directories
            if directory.reading and not directory.plan
        }
        selections: Mapping[tuple[str, str], Selection] = {place: Selection(one, {}) for place, one in readings.items()}
        if self._selects and readings:
            try:
                selections = self._ecosystem.select(self._repos, readings, self._present)
            except SelectionError as error:
                self._fail(error)
                return
        for directory in self.directories:
            if selection := selections.get((directory.repo.path, directory.name)):
                directory.make_plan(selection)

    def _can_select(self) -> bool:
        """Whether all of it could be read: what is kept of one directory depends on the others."""
        problem = next((directory.problem for directory in self.directories if directory.problem), None)
        if problem:
            self._fail(problem)
        return problem is None

    def _fail(self, problem: Any) -> None:
        for directory in self.directories:
            directory.problem, directory.reading, directory.plan = directory.problem or problem, None, None


def _instant(directory: DirectorySync) -> datetime | None:
    """When all that is made is to be as it was, None for the present."""
    options = directory.options
    return clock.from_id(options.seal_as) if options.as_of and options.seal_as else None


def _watched(directory: DirectorySync, reading: Reading) -> Reading:
    """A reading that says whose it is when it fails: a selection reads several at once."""
    drafts = reading.drafts
    reading.left_out = f"{_instant(directory)}{directory.rules.text}"

    def watched(names: Collection[str]) -> Iterator[Draft]:
        try:
            yield from drafts(names)
        except UpstreamError as error:
            raise _UnusableError(directory, reading.document, error) from None

    reading.drafts = watched  # type: ignore[method-assign]
    return reading


class _UnusableError(Exception):
    """An index that promises what is not there: its shards are missing or wrong."""

    def __init__(self, directory: DirectorySync, document: str, error: UpstreamError) -> None:
        self.directory = directory
        self.document = document
        self.error = error


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Reading makes millions of short-lived objects and no cycles; looking for cycles took a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
