"""Directories that are made of others of the same sync, and so are planned once these are finished."""

from abc import abstractmethod
from collections.abc import Sequence

import msgspec
from blake3 import blake3

from .. import clock
from ..ecosystem import Ecosystem, Follower, Repo
from ..errors import TransportError, UpstreamError
from ..readings import Reading, Selection
from ..store.records import DirectoryState
from ..store.store import Store
from ..transfer.http import Http
from .directory import DirectorySync
from .settings import Options, Publish

#: {`download` of a repo that is merged: those of states whose files it would lack}
_LESS = {"eager": ("redirect", "on-demand"), "on-demand": ("redirect",), "redirect": ()}


class LaterSync(DirectorySync):
    """The directory "" of a repo, made of others. It may shrink: whether these may is asked of each of them."""

    def __init__(
        self,
        store: Store,
        ecosystem: Ecosystem,
        repo: Repo,
        previous: DirectoryState | None,
        others: Sequence[DirectorySync],
        publish: Publish,
    ) -> None:
        """others: the directories that it is made of."""
        super().__init__(store, ecosystem, repo, "", previous, Options(allow_shrink=True))
        self.settings = ecosystem.settings(repo)
        self._others = others
        self._publish = publish
        self._followed = False

    @abstractmethod
    def _made(self, http: Http) -> Reading | None:
        """What comes of the others; None if that is what was there before. Raises UpstreamError."""

    def follow(self, http: Http) -> None:
        """Plan and finish it, once the others are finished. Sets `final`, or `problem`, or neither if nothing has changed."""
        self._followed = True
        try:
            reading = None if self.problem else self._made(http)
            if reading:
                self.cut(reading)
                self.make_plan(Selection(reading, {}))
        except UpstreamError as error:
            self.keep(error)
        self.reading = None
        if self.plan and not (self.previous or self.plan.leaves or self.plan.header.info):
            self.plan = None  # nothing is to be published, not even that
        self.finish(self._publish)

    def again(self, http: Http) -> None:
        """Read it again, and make it again if it was made: what it was compared with is gone."""
        self.read(http, conditionally=False)
        if self._followed:
            self.follow(http)

    @property
    def empty(self) -> bool:
        """Whether there is nothing of it to publish, and never was."""
        return not (self.previous or self.plan or self.problem)


class FollowingSync(LaterSync):
    """What upstream says beside the other directories of a repo; its files come with it, whatever the repo's `download` is."""

    def __init__(
        self,
        store: Store,
        follower: Follower,
        repo: Repo,
        previous: DirectoryState | None,
        others: Sequence[DirectorySync],
        publish: Publish,
    ) -> None:
        itself = msgspec.structs.replace(repo, download="eager", metadata="sync", allow=[], block=[])
        super().__init__(store, follower, itself, previous, others, publish)
        self._follower = follower

    def read(self, http: Http, *, conditionally: bool = True) -> None:
        """See DirectorySync.read. What is published was cut down to what the others listed then. If these were others before
        this sync, for it failed in the last one or their index was read on request, upstream's is read again, changed or not.
        """
        same = self.store.index.notes([self._note]).get(self._note) == self._beside
        super().read(http, conditionally=conditionally and same)

    def remember(self) -> None:
        """See DirectorySync.remember."""
        super().remember()
        if not self.problem:
            self.store.index.put_notes({self._note: self._beside})

    @property
    def _note(self) -> str:
        return f"beside {self.path}"

    @property
    def _beside(self) -> bytes:
        """A digest of the others, as far as is known what they are going to be."""
        return blake3(b"".join(other.digest or b"" for other in self._others)).digest()

    def _made(self, http: Http) -> Reading | None:
        if self.unchanged and any(other.changed for other in self._others):
            self.read(http, conditionally=False)
        if self.reading is None:
            return None
        readers = {other.name: reader for other in self._others if (reader := other.published)}
        return self._follower.follow(self.repo, self.reading, readers, self.reader, http)


class MergingSync(LaterSync):
    """Several repos published as one. Nothing is read for it: all of it is in the others."""

    def read(self, http: Http, *, conditionally: bool = True) -> None:
        """See DirectorySync.read."""
        self._drop()
        self.read_at = clock.to_id(self.store.now())

    def _made(self, http: Http) -> Reading | None:
        readers = {other.repo.path: reader for other in self._others if (reader := other.published)}
        for path in self.ecosystem.merged(self.repo):
            if path not in readers:  # its names would be those of the next one, and so anybody's
                raise TransportError(path, "has no state yet, and nothing is published without it")
            if (mode := readers[path].document.mode) in _LESS[self.repo.download]:
                raise TransportError(path, f"keeps a state with download = {mode!r}, whose files would be missing")
        denied = {other.repo.path: other.rules.forbidden for other in self._others}
        before = self.reader.leaves if self.reader else {}
        known = {other.repo.path: before for other in self._others if other.problem}
        return self.ecosystem.merge(self.repo, readers, denied, known)
