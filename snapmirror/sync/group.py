"""What is synced, read and planned together: repos that bear on each other, and directories whose selections do."""

import contextlib
import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from .. import addresses, clock
from ..ecosystem import Ecosystem, Repo
from ..errors import AbsentError, DamagedError, SelectionError, SnapmirrorError, UpstreamError
from ..readings import Draft, Reading, Selection
from ..transfer.http import Http
from .directory import DirectorySync

_Directory = TypeVar("_Directory", bound=DirectorySync)


def together(repos: Sequence[Repo], configured: Sequence[Repo], ecosystems: Mapping[str, Ecosystem]) -> list[list[Repo]]:
    """Repos that must be synced together, with those that nobody named: what is kept of one depends on the other.

    repos: those that are to be synced; configured: all that there are; ecosystems: by kind
    """
    links = {
        (repo.path, other)
        for repo in configured
        for other in (*_selected_with(ecosystems[repo.kind], repo, configured), *ecosystems[repo.kind].merged(repo))
    }
    found: list[list[Repo]] = []
    for repo in repos:
        if any(repo in bound for bound in found):
            continue
        paths = {repo.path}
        while more := {path for link in links if paths & set(link) for path in link} - paths:
            paths |= more
        found.append([other for other in configured if other.path in paths] or [repo])
    return found


def parts(
    ecosystem: Ecosystem, repos: Sequence[Repo], directories: Mapping[str, list[DirectorySync]]
) -> list[list[DirectorySync]]:
    """Directories of repos that are synced together, by what is read and planned together.

    All of them if one repo keeps something for another's sake, else those of each repo that selects; the rest alone.
    directories: by path of their repo
    """
    if any(_selected_with(ecosystem, repo, repos) for repo in repos):
        return [[one for own in directories.values() for one in own]]
    selecting = {repo.path for repo in repos if ecosystem.selects(repo)}
    whole = [own for path, own in directories.items() if path in selecting]
    return whole + [[one] for path, own in directories.items() if path not in selecting for one in own]


def _selected_with(ecosystem: Ecosystem, repo: Repo, configured: Sequence[Repo]) -> Collection[str]:
    return ecosystem.selected_with(repo, [other for other in configured if other.kind == repo.kind and other is not repo])


class Group:
    """Directories that are read and planned together: `read` in a thread, `plan` in the main one."""

    def __init__(self, ecosystem: Ecosystem, directories: Sequence[DirectorySync], present: datetime) -> None:
        """directories: of one ecosystem; present: from which a selection counts ages, unless the past is meant"""
        self.directories = directories
        self._ecosystem = ecosystem
        self._repos: Mapping[str, Repo] = {directory.repo.path: directory.repo for directory in directories}
        #: their paths
        self.repos = list(self._repos)
        #: see Selection.tied
        self._tied = False
        self._selects = any(ecosystem.selects(repo) for repo in self._repos.values())
        self._ages = any(ecosystem.ages(repo) for repo in self._repos.values())
        settings = " ".join(ecosystem.settings(repo) for repo in self._repos.values())
        past = directories[0].options.past
        self._present = (clock.from_id(past) if past else None) or present
        for directory in directories:
            directory.settings = settings

    def expected(self, unknown: int) -> int:
        """How many files its directories may list, by what they listed before. unknown: for one of which that is not known"""
        return sum(unknown if (files := directory.files_before) is None else files for directory in self.directories)

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
                    directory.keep(unusable.error)
                    continue
                http.warn(f"{directory.path}: {unusable.error}; reading another form of the index")
                directory.avoided = (unusable.document,)
                self.read(http)  # the others too: what is planned of them already is selected with it once more
                if directory.problem:  # there is no other form
                    directory.keep(unusable.error)

    def _plan(self) -> None:
        if self._selects and not self._can_select():
            return
        readings: dict[tuple[str, str], Reading] = {
            (directory.repo.path, directory.name): _watched(directory, directory.reading)
            for directory in self.directories
            if directory.reading
        }
        selections: Mapping[tuple[str, str], Selection] = {place: Selection(one, {}) for place, one in readings.items()}
        if self._selects and readings:
            try:
                selections = self._ecosystem.select(self._repos, readings, self._present)
            except (SelectionError, UpstreamError, DamagedError) as error:
                self._fail(error)
                return
        self._tied = any(selection.tied for selection in selections.values())
        for directory in self.directories:
            if selection := selections.get((directory.repo.path, directory.name)):
                directory.make_plan(selection)
        self.agree()
        del selections
        for directory in self.directories:
            if directory.reading is None and (reading := readings.pop((directory.repo.path, directory.name), None)):
                vars(reading).pop("drafts", None)  # it leads to itself: all texts would stay while no garbage is collected

    def _can_select(self) -> bool:
        """Whether all of it could be read: what is kept of one directory may depend on the others."""
        problem = next((directory.problem for directory in self.directories if directory.problem), None)
        if problem:
            self._fail(problem)
        return problem is None

    def agree(self) -> None:
        """Have all directories keep their old state if one does, where what is kept of one does depend on the others."""
        if self._tied:
            self._can_select()

    def _fail(self, problem: SnapmirrorError) -> None:
        for directory in self.directories:
            directory.keep(directory.problem or problem)


def _watched(directory: DirectorySync, reading: Reading) -> Reading:
    """A reading that says whose it is when it fails: a selection reads several at once."""
    drafts = reading.drafts

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


def each(directories: Iterable[_Directory], step: Callable[[_Directory], object]) -> None:
    """Take a step with each of them. One for which the store can't be read keeps its old state, and the others go on."""
    for directory in directories:
        try:
            step(directory)
        except DamagedError as error:
            directory.keep(error)


def refuse_nothing(repo: Repo, directories: Sequence[DirectorySync]) -> None:
    """Raise AbsentError for a repo that upstream does not have at all: a typing error, not an empty channel."""
    if all(one.absent and one.previous is None for one in directories):
        raise AbsentError(addresses.redact(repo.upstreams[0]), 404)


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
