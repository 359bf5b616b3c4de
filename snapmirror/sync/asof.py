"""Readings cut down to what upstream had at an instant, as far as it can be told from what it says now (`--as-of`)."""

from collections.abc import Collection, Iterator, Mapping

from blake3 import blake3

from .. import clock
from ..digests import Digest
from ..ecosystem import Ecosystem
from ..readings import Draft, Reading


class AsOf(Reading):
    """A reading with only the files that were there by then. Fulfils `readings.Reading`."""

    def __init__(self, ecosystem: Ecosystem, reading: Reading, at: str) -> None:
        """at: the instant, as an id."""
        instant = clock.from_id(at)
        assert instant is not None
        self._ecosystem, self._reading, self._instant = ecosystem, reading, int(instant.timestamp())
        self.bases, self.info, self.extra = reading.bases, reading.info, reading.extra
        self.invalid, self.document, self.validators = {}, reading.document, {}
        salt = f"as of 1\0{at}\0".encode()
        self.sources: Mapping[str, Digest] = {name: blake3(salt + digest).digest() for name, digest in reading.sources.items()}

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts."""
        for draft in self._reading.drafts(names):
            content = self._ecosystem.as_of(draft.content, self._instant) if draft.content else b""
            there = {file.name for file in self._ecosystem.files(content)} if content else set()
            files = tuple(file for file in draft.files if file.name in there)
            source = self.sources.get(draft.name) if draft.source else None
            yield draft._replace(content=content, files=files, source=source, invalid={})

    @property
    def aside(self) -> Mapping[str, str]:
        """See Reading.aside."""
        return self._reading.aside
