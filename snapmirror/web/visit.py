"""One request for a page: what it asks, in which language, and how its links are written."""

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .. import clock
from ..ecosystem import Ecosystem
from ..errors import UsageError
from ..store.catalog import Catalog
from ..store.store import Store
from . import words

#: below the address of the server; a page's own path has no further slash
PREFIX = "-/page/"


@dataclass(frozen=True)
class Visit:
    """A request."""

    store: Store
    ecosystems: Mapping[str, Ecosystem]
    catalog: Catalog
    #: of the page below PREFIX; empty for the one at `/`
    page: str
    query: Sequence[tuple[str, str]]
    #: a key of `words.LANGUAGES`
    language: str
    #: URL of the server as clients use it, without a slash at the end
    base: str
    #: asks the API: (path below `/-/api/v1/`, query) -> value, None if there is no such question
    question: Callable[[str, Mapping[str, str]], msgspec.Struct | None]

    def many(self, name: str) -> list[str]:
        """The values of a parameter, without those that are empty."""
        return [value for key, value in self.query if key == name and value]

    def one(self, name: str, otherwise: str = "") -> str:
        """The last value of a parameter: a button that is pressed comes after the field that it overrules."""
        return next(reversed(self.many(name)), otherwise)

    def number(self, name: str) -> int:
        """A parameter that is a number; 0 if there is none. Raises UsageError."""
        text = self.one(name, "0")
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise UsageError(f"{name}={text[:40]}: no number")
        return int(text)

    def ask(self, path: str, **query: str) -> Any:
        """An answer of the API. Raises SelectorError, UsageError, DamagedError."""
        return self.question(path, {name: value for name, value in query.items() if value})

    @property
    def root(self) -> str:
        """What leads from the page to the address of the server: relative, as a proxy may have put us below any path."""
        return "../" * (PREFIX + self.page).count("/") if self.page else "./"

    def link(self, page: str, **query: str | Sequence[str]) -> str:
        """A relative URL of another page, in the same language if that was chosen. Empty parameters are left out."""
        chosen = self.one("lang")
        given = {**query, "lang": query.get("lang", chosen)}
        text = urllib.parse.urlencode({name: value for name, value in given.items() if value}, doseq=True)
        return self.root + (PREFIX + page if page else "") + (f"?{text}" if text else "")

    def in_language(self, code: str) -> str:
        """A relative URL of this page in another language."""
        query = [(name, value) for name, value in self.query if name != "lang"]
        return self.root + (PREFIX + self.page if self.page else "") + "?" + urllib.parse.urlencode([*query, ("lang", code)])

    def api(self, path: str, **query: str) -> str:
        """A relative URL of the same as JSON."""
        text = urllib.parse.urlencode({name: value for name, value in query.items() if value})
        return f"{self.root}-/api/v1/{path}" + (f"?{text}" if text else "")

    def t(self, text: str, **values: object) -> str:
        """A text of the pages in the language of the visitor. values: what `{name}` in it stands for"""
        return words.translate(self.language, text).format(**values)

    def day(self, id_: str) -> str:
        """An id as people write a time: 2026-11-20 01:00:00."""
        instant = clock.from_id(id_)
        return f"{instant:%Y-%m-%d %H:%M:%S}" if instant else id_

    def seconds(self, instant: float) -> str:
        """A time in seconds since 1970, as people write it."""
        return f"{clock.from_seconds(int(instant)):%Y-%m-%d %H:%M:%S}"

    def iso(self, id_: str) -> str:
        """An id as HTML writes a time."""
        instant = clock.from_id(id_)
        return f"{instant:%Y-%m-%dT%H:%M:%SZ}" if instant else ""


def quoted(path: str, *, whole: bool = False) -> str:
    """A path as a URL has it. whole: as one segment, whatever slashes it has"""
    return urllib.parse.quote(path, safe="" if whole else "/")
