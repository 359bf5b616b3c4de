"""What a sync builds on and what it has made so far: roots of gc until it is sealed."""

from collections.abc import Mapping, Sequence

from ..digests import Digest
from ..ecosystem import Repo
from ..store.directories import Directory
from ..store.records import DirectoryState
from ..store.store import Store
from . import live
from .directory import DirectorySync
from .group import each
from .plan import DirectoryPlan
from .settings import Options


class Ground:
    """Of one sync."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._registration = store.registration()
        #: what was planned of each directory when it was made a root
        self._registered: dict[DirectorySync, DirectoryPlan | None] = {}
        #: live states that it began with: whoever asks replaces them at any time
        self._live: set[Digest] = set()
        #: what was made a root last: directories as they are going to be published, and those that are not finished
        self._done: set[Digest] = set()
        self._planned: list[Directory] = []

    def states(self, repo: Repo) -> Mapping[str, DirectoryState]:
        """What a repo had just before the snapshot that is going to be made."""
        if repo.metadata == "sync" or self._options.dry_run:
            return live.states(self._store, self._store.catalog(), repo, self._options.seal_as)
        with self._store.lock(self._options.waiting) as catalog:
            found = live.states(self._store, catalog, repo, self._options.seal_as)
            self._live.update(state.blob for state in found.values())
            self._write()
        return found

    def register(self, directories: Sequence[DirectorySync]) -> list[DirectorySync]:
        """Store what is planned so far, and make it a root of gc.

        Returns the directories whose ground a gc has taken away: if there are any, nothing has become a root.
        """
        staged = list[dict[Digest, bytes]]()
        each(directories, lambda directory: staged.append(directory.stage()))
        while True:
            with self._store.lock(self._options.waiting) as catalog:
                referred = catalog.directories | self._live
                if lost := [one for one in directories if not self._is_root(one) and one.lost_ground(referred)]:
                    return lost
                gone = [data for one in staged for digest, data in one.items() if self._store.blobs.size(digest) is None]
                if not gone:
                    self._done = {one.digest for one in directories if one.digest and one.unfinished is None}
                    self._planned = [one.unfinished.directory for one in directories if one.unfinished]
                    self._write()
                    for one in directories:
                        self._registered[one] = one.plan
                        if one.plan:
                            one.plan.blobs.clear()  # they stay: up to a quarter of a gigabyte of conda-forge
                    return []
            self._store.put(gone)  # a gc without grace took them between our writing and our lock

    def _write(self) -> None:
        self._registration.write(self._live | self._done, self._planned)

    def _is_root(self, directory: DirectorySync) -> bool:
        return directory in self._registered and self._registered[directory] is directory.plan

    def verify(self) -> None:
        """See that what was registered still counts. The caller holds the store's lock. Raises ObjectError."""
        self._registration.verify()

    def remove(self) -> None:
        """All is sealed, or nothing is going to be."""
        self._registration.remove()

    def abandon(self) -> None:
        """What was fetched stays for the next sync."""
        self._registration.abandon()
