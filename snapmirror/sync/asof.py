"""Readings cut down to what upstream had at an instant, as far as it can be told from what it says now (`--as-of`)."""

from collections.abc import Collection, Iterator, Mapping

from blake3 import blake3

from .. import clock
from ..digests import Digest
from ..ecosystem import Ecosystem
from ..readings import Draft, Reading


def cut(ecosystem: Ecosystem, draft: Draft, at: str) -> Draft:
    """A leaf with only the files that were there by then. Nothing is known of it by its source, which is that of the whole."""
    instant = clock.from_id(at)
    assert instant is not None
    content = ecosystem.as_of(draft.content, int(instant.timestamp())) if draft.content else b""
    there = {file.name for file in ecosystem.files(content)} if content else set()
    files = tuple(file for file in draft.files if file.name in there)
    return draft._replace(content=content, files=files, source=None, invalid={})


class AsOf(Reading):
    """A reading of leaves that were cut: all of them are read. Fulfils `readings.Reading`."""

    def __init__(self, reading: Reading, at: str) -> None:
        """at: the instant, as an id."""
        self._reading = reading
        self.bases, self.info, self.extra = reading.bases, reading.info, reading.extra
        self.invalid, self.document, self.validators, self.young = {}, reading.document, {}, reading.young
        salt = f"as of 1\0{at}\0".encode()
        self.sources: Mapping[str, Digest] = {name: blake3(salt + digest).digest() for name, digest in reading.sources.items()}

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts. They were cut by `cut` before anything was selected of them."""
        return self._reading.drafts(names)

    @property
    def aside(self) -> Mapping[str, str]:
        """See Reading.aside."""
        return self._reading.aside
