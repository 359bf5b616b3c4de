"""Settings of clients, made from what a snapshot holds: for `/-/config/` and `snapmirror client`."""

from collections.abc import Mapping

from ..ecosystem import Ecosystem
from ..ecosystem.clients import Client, Mirror, Mirrored
from ..errors import UsageError
from ..store.catalog import Catalog
from ..store.records import Record
from ..store.store import Store


def known(ecosystems: Mapping[str, Ecosystem]) -> dict[str, Client]:
    """All clients that settings can be made for, by name."""
    return {client.name: client for ecosystem in ecosystems.values() for client in ecosystem.clients}


def settings(store: Store, ecosystems: Mapping[str, Ecosystem], client: Client, mirror: Mirror, catalog: Catalog) -> str:
    """The settings of a client, which name at their end what they lack because it was forgotten.

    Raises UsageError where this mirror has nothing for it, DamagedError, and as `Catalog.answers` does.
    """
    answers, gone = catalog.answers(mirror.selector, store.now()), catalog.forgotten(mirror.selector, store.now())
    kind = next(kind for kind, ecosystem in ecosystems.items() if client in ecosystem.clients)
    repos = [_mirrored(store, path, record) for path, record in answers.items() if record.repos[path].kind == kind]
    if not repos:
        raise UsageError(f"{mirror.selector} holds no repo of kind {kind}, so there is nothing to set for {client.name}")
    return client.settings(mirror, repos) + "".join(f"# without {path}: {error.problem}\n" for path, error in gone.items())


def _mirrored(store: Store, path: str, record: Record) -> Mirrored:
    states = record.repos[path].directories
    return Mirrored(path, {name: store.metadata.directory(state.blob).document for name, state in states.items()})
