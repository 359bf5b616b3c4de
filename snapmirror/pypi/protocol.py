"""What reading an index needs of `sync`: `ecosystem.Upstream`, and the form of a document that is asked for."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from ..ecosystem import Known, Notes
from ..validators import Validators


class Answer(NamedTuple):
    """A metadata document from upstream."""

    body: bytes
    validators: Validators | None
    #: where it was in the end, after redirects: relative links count from there; may hold credentials
    url: str
    #: with names in lower case
    headers: Mapping[str, str]


class Upstream(Protocol):
    """How upstream is reached."""

    notes: Notes

    def get(self, url: str, *, limit: int, known: Validators | None = None, accept: str = "") -> Answer | None:
        """A document of at most `limit` bytes; None if `known` still describes it. Raises UpstreamError.

        accept: the Accept field that is sent
        """
        ...

    def get_many(
        self, urls: Iterable[str], *, limit: int, known: Known | None = None, accept: str = ""
    ) -> Iterator[tuple[str, Answer | Exception]]:
        """Many documents side by side, in any order, each with its answer or its UpstreamError; none that `known` still
        describes.
        """
        ...

    def warn(self, message: str) -> None:
        """Tell the operator something that does not fail the sync."""
        ...

    def now(self) -> datetime:
        """The present instant."""
        ...
