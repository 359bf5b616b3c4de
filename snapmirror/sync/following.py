"""Directories that are made of others of the same sync, and so are planned once these are settled."""

from abc import abstractmethod
from collections.abc import Sequence

import msgspec

from .. import clock
from ..ecosystem import Ecosystem, Follower, Repo
from ..errors import HelperEnded, TransportError, UpstreamError
from ..readings import Reading
from ..store.records import DirectoryState
from ..store.store import Store
from ..transfer.http import Http
from .allowed import Allowed
from .directory import DirectorySync
from .plan import make_plan
from .settings import Options, Publish


class LaterSync(DirectorySync):
    """See DirectorySync. It is named "", and may be smaller than before as the others may."""

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
        self.settings = ecosystem.settings(repo) + self.rules.text
        self._others = others
        self._publish = publish
        self._followed = False

    @abstractmethod
    def _made(self, http: Http) -> Reading | None:
        """What comes of the others; None if that is what was there before. Raises UpstreamError."""

    def follow(self, http: Http) -> None:
        """Plan and finish it, once the others are finished. Sets `problem` if it keeps its old state."""
        self._followed, self.registered = True, False
        try:
            reading = None if self.problem else self._made(http)
            if reading and self.rules.text:
                self.cut(reading)
                reading = Allowed(self.ecosystem, reading, self.rules)
            if reading:
                self.plan = make_plan(self.store, self.ecosystem, self.repo, self.name, reading, self.reader)
        except (UpstreamError, HelperEnded) as error:
            self.problem = error
        self.reading = None
        if self.plan and not (self.previous or self.plan.leaves or self.plan.header.info):
            self.plan = None  # nothing is to be published, not even that
        self.finish(self._publish)

    def again(self, http: Http) -> None:
        """Begin anew: what it was planned on is gone."""
        self.read(http, conditionally=False)
        if self._followed:
            self.follow(http)

    @property
    def empty(self) -> bool:
        """Whether there is nothing of it and never was."""
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

    def _made(self, http: Http) -> Reading | None:
        if self.unchanged and any(other.changed for other in self._others):
            self.read(http, conditionally=False)
        if self.problem or self.reading is None:
            return None
        readers = {other.name: reader for other in self._others if (reader := other.published)}
        return self._follower.follow(self.repo, self.reading, readers, self.reader, http)


class MergingSync(LaterSync):
    """Several repos published as one. Nothing is read for it: all of it is in the others."""

    def read(self, http: Http, *, conditionally: bool = True) -> None:
        """See DirectorySync.read."""
        self.read_at = clock.to_id(self.store.now())

    def _made(self, http: Http) -> Reading | None:
        readers = {other.repo.path: reader for other in self._others if (reader := other.published)}
        for path in self.ecosystem.merged(self.repo):
            if path not in readers:  # its names would be those of the next one, and so anybody's
                raise TransportError(path, "has no state yet, and nothing is published without it")
        denied = {other.repo.path: other.rules.forbidden for other in self._others}
        return self.ecosystem.merge(self.repo, readers, denied)
