"""The directory that follows the others of its repo: read with them, planned once it is settled what they list."""

from collections.abc import Sequence

import msgspec

from ..ecosystem import Follower, Repo
from ..errors import HelperEnded, UpstreamError
from ..store.records import DirectoryState
from ..store.store import Store
from .directory import DirectorySync
from .http import Http
from .plan import make_plan
from .settings import Options, Publish


class FollowingSync(DirectorySync):
    """See DirectorySync. Its files are kept whatever the repo's `download` is: they come with the metadata."""

    def __init__(
        self,
        store: Store,
        follower: Follower,
        repo: Repo,
        previous: DirectoryState | None,
        others: Sequence[DirectorySync],
        publish: Publish,
    ) -> None:
        """others: the other directories of the repo."""
        super().__init__(
            store, follower, msgspec.structs.replace(repo, download="eager"), "", previous, Options(allow_shrink=True)
        )
        self.settings = follower.settings(repo)
        self._follower = follower
        self._others = others
        self._publish = publish
        self._followed = False

    def follow(self, http: Http) -> None:
        """Plan and finish it, once the others are finished. Sets `problem` if it keeps its old state."""
        if self.unchanged and any(other.changed for other in self._others):
            self.read(http, conditionally=False)
        self._followed, self.registered = True, False
        if self.problem or self.reading is None:
            return
        readers = {other.name: reader for other in self._others if (reader := other.published)}
        try:
            reading = self._follower.follow(self.repo, self.reading, readers, self.reader, http)
            self.plan = make_plan(self.store, self._follower, self.repo, self.name, reading, self.reader)
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
        """Whether upstream has nothing of it and never had."""
        return not (self.previous or self.plan or self.problem)
