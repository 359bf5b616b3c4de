"""What the server says of itself, below `/-/`."""

import re
from collections.abc import Mapping
from typing import Any

from .. import codec
from ..ecosystem import Ecosystem
from ..ecosystem.clients import Mirror
from ..errors import DamagedError, UsageError
from ..store.catalog import Catalog
from ..store.records import DirectoryState, RepoState
from ..store.store import Store
from . import clients

PREFIX = "/-/"
#: below PREFIX: `config/<selector>/<file>`
CONFIG = "config/"
_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")


def address(scheme: str, host: str) -> str:
    """The URL that a client has used, without a path. Raises UsageError for a Host that is none: it goes into settings."""
    if not _HOST.fullmatch(host):
        raise UsageError("the header Host names no host")
    return f"{scheme}://{host}"


def client_settings(store: Store, ecosystems: Mapping[str, Ecosystem], catalog: Catalog, base: str, path: str) -> bytes:
    """What is at `/-/config/<selector>/<file>`. Raises UsageError if there is nothing, Forgotten, DamagedError."""
    selector, _, file = path.removeprefix(PREFIX + CONFIG).partition("/")
    files = {client.file: client for client in clients.known(ecosystems).values()}
    if file not in files:
        raise UsageError(f"{path}: the settings that there are: {', '.join(files)}, below a selector")
    return clients.settings(store, ecosystems, files[file], Mirror(base, selector), catalog).encode()


class Snapshots:
    """Makes `snapshots.json`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def document(self, catalog: Catalog) -> bytes:
        """All kept snapshots, newest first, and the pins."""
        self._store.metadata.expect(catalog.directories)
        snapshots = [
            {
                "id": record.id,
                "number": record.number,
                "partial": record.partial,
                "reconstructed": record.reconstructed,
                "repos": {path: self._repo(repo) for path, repo in record.repos.items()},
            }
            for record in reversed(catalog.records)
        ]
        return codec.to_json({"snapshots": snapshots, "pins": {name: pin.snapshot for name, pin in catalog.pins.items()}})

    def referenced(self, catalog: Catalog) -> int:
        """Bytes of the files of all kept snapshots, as if each had its own. Raises DamagedError."""
        self._store.metadata.expect(catalog.directories)
        blobs = (
            state.blob for record in catalog.records for repo in record.repos.values() for state in repo.directories.values()
        )
        return sum(self._store.metadata.counts(blob).size for blob in blobs)

    def _repo(self, repo: RepoState) -> dict[str, Any]:
        directories = {name: self._directory(state) for name, state in repo.directories.items()}
        return {"read": repo.read, "since": repo.since, "directories": directories}

    def _directory(self, state: DirectoryState) -> dict[str, Any]:
        told: dict[str, Any] = {"digest": state.digest, "since": state.since}
        try:
            counts = self._store.metadata.counts(state.blob)
        except DamagedError:
            return {**told, **dict.fromkeys(("files", "bytes", "mode"))}
        return {**told, "files": counts.files, "bytes": counts.size, "mode": counts.mode}
