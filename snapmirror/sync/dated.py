"""Readings whose leaves say when this mirror first saw each file: a fact of its own, which it finds in its history."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping

from blake3 import blake3

from .. import clock
from ..digests import Digest
from ..ecosystem import Ecosystem, Repo
from ..errors import DamagedError
from ..readings import Draft, File, Reading
from ..store.glimpse import glimpse
from ..store.store import Store

#: what an older leaf lists, and the times that it states
_Old = tuple[tuple[File, ...], Mapping[str, int]]


class Dated(Reading):
    """A reading with these times. Fulfils `readings.Reading`."""

    def __init__(
        self, store: Store, ecosystem: Ecosystem, repo: Repo, name: str, reading: Reading, read_at: str, before: str | None
    ) -> None:
        """name: of the directory; read_at: when new files count as seen, as an id; before: only snapshots with an earlier
        id count as history, None for all.
        """
        self._store, self._ecosystem, self._repo, self._name, self._reading = store, ecosystem, repo, name, reading
        self._present, self._before = _milliseconds(read_at), before
        self.bases, self.info, self.extra = reading.bases, reading.info, reading.extra
        self.invalid, self.document, self.validators = reading.invalid, reading.document, reading.validators
        # a leaf is no function of what upstream says alone, but of what this directory listed before too
        self._salt = f"dated 1\0{repo.path}\0{name}\0".encode()
        self.sources: Mapping[str, Digest] = {leaf: self._source(digest) for leaf, digest in reading.sources.items()}

    def _source(self, digest: Digest) -> Digest:
        return blake3(self._salt + digest).digest()

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts."""
        for draft in self._reading.drafts(names):
            content = self._ecosystem.date(draft.content, self._first_seen(draft)) if draft.content else b""
            yield draft._replace(content=content, source=self._source(draft.source) if draft.source else None)

    def _first_seen(self, draft: Draft) -> dict[str, int]:
        """When each file of a leaf was first listed with these bytes: as older leaves state it, else upstream, else as
        the snapshots tell.
        """
        upstream = self._ecosystem.dates(draft.content) if draft.content else {}
        found = dict(upstream)
        left = {file.name: file for file in draft.files}
        for read, (files, stated) in self._older(draft.name) if self._may_be_old(left.values()) else ():
            for old in files:
                if old.name not in left or not left[old.name].is_as(old):
                    continue
                if old.name in stated:
                    found[old.name] = stated[old.name]
                    del left[old.name]
                elif old.name not in upstream:
                    found[old.name] = min(read, found.get(old.name, read))
            if not self._may_be_old(left.values()):
                break
        return {file.name: found.get(file.name, self._present) for file in draft.files}

    def _may_be_old(self, files: Iterable[File]) -> bool:
        """Whether one of these may have been listed before. Of an eager repo the bytes would still be here."""
        eager = self._repo.download == "eager"
        return any(not eager or file.sha256 is None or self._store.blobs.size(file.sha256) is not None for file in files)

    def _older(self, name: str) -> Iterator[tuple[int, _Old]]:
        """When upstream was read, and what was listed under a name then; newest first."""
        known: dict[Digest, _Old] = {}
        leaf, buckets = None, tuple[Digest, ...]()
        for record in self._store.catalog().history(self._repo.path):
            state = record.repos[self._repo.path].directories.get(self._name)
            if state is None or (self._before and record.id >= self._before):
                continue
            with contextlib.suppress(DamagedError):  # then other snapshots tell, or it is as though it were new
                if not buckets or glimpse(self._store.blobs, state.blob, [name]) != buckets:
                    buckets = ()
                    reader = self._store.metadata.directory(state.blob)
                    leaf, buckets = reader.leaf(name), reader.buckets_of([name])
                if leaf is None:
                    continue
                if leaf not in known:
                    content = self._store.metadata.leaf(leaf)
                    known[leaf] = (self._ecosystem.files(content), self._ecosystem.dates(content))
                yield _milliseconds(state.read), known[leaf]


def _milliseconds(id_: str) -> int:
    instant = clock.from_id(id_)
    assert instant is not None
    return int(instant.timestamp() * 1000)
