"""Where an ecosystem's notes are kept: in the store's index, or nowhere."""

from collections.abc import Collection, Mapping

from ..store.store import Store


class StoreNotes:
    """Fulfils `readings.Notes`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, keys: Collection[str]) -> Mapping[str, bytes]:
        return self._store.index.notes(keys) if keys else {}

    def put(self, rows: Mapping[str, bytes]) -> None:
        if rows:
            self._store.index.put_notes(rows)


class NoNotes:
    """Forgets everything. Fulfils `readings.Notes`."""

    def get(self, keys: Collection[str]) -> Mapping[str, bytes]:
        return {}

    def put(self, rows: Mapping[str, bytes]) -> None: ...
