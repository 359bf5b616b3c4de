"""What the server says of itself, below `/-/`."""

from functools import lru_cache
from typing import Any

from .. import codec
from ..errors import DamagedError
from ..store.catalog import Catalog
from ..store.records import DirectoryState, RepoState
from ..store.store import Store

PREFIX = "/-/"


class Snapshots:
    """Makes `snapshots.json`; what it has read of a directory it keeps, for directories never change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts = lru_cache(100_000)(self._read_counts)

    def document(self, catalog: Catalog) -> bytes:
        """All kept snapshots, newest first, and the pins."""
        snapshots = [
            {
                "id": record.id,
                "number": record.number,
                "partial": record.partial,
                "repos": {path: self._repo(repo) for path, repo in record.repos.items()},
            }
            for record in reversed(catalog.records)
        ]
        return codec.to_json({"snapshots": snapshots, "pins": {name: pin.snapshot for name, pin in catalog.pins.items()}})

    def _repo(self, repo: RepoState) -> dict[str, Any]:
        directories = {name: self._directory(state) for name, state in repo.directories.items()}
        return {"read": repo.read, "since": repo.since, "directories": directories}

    def _directory(self, state: DirectoryState) -> dict[str, Any]:
        try:
            counts = self._counts(state.blob)
        except DamagedError:
            counts = dict.fromkeys(("files", "bytes", "mode"))
        return {"digest": state.digest, "since": state.since, **counts}

    def _read_counts(self, digest: bytes) -> dict[str, Any]:
        document = self._store.metadata.directory(digest).document
        return {"files": document.files, "bytes": document.size, "mode": document.mode}
