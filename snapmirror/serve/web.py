"""The pages for people: requests in, HTML out. What is on them is not known here."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from aiohttp import web

from ..store.catalog import Catalog
from . import negotiate
from .answers import Refused
from .api import Api
from .bodies import encode, in_memory
from .respond import IMMUTABLE, REVALIDATE, Reply, head, respond

#: below `/-/`
PREFIX = "page/"
_HTML = "text/html; charset=utf-8"
#: a page needs nothing but our own style and script, which are files of their own
_FURTHER = (
    "Content-Security-Policy: default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy: same-origin",
)
#: a page may take a second, and files must not wait for it
_THREADS = 2


class Web(Protocol):
    """What makes the pages."""

    def language(self, accept: str, query: Sequence[tuple[str, str]]) -> str:
        """The language of a page. accept: the request's Accept-Language field"""
        ...

    def page(
        self, page: str, query: Sequence[tuple[str, str]], language: str, base: str, catalog: Catalog
    ) -> tuple[int, bytes] | None:
        """Status and HTML of a page; None if there is none of that path. Raises DamagedError, OSError.

        page: path below PREFIX, empty for the one at `/`; base: URL of the server, without a slash at the end
        """
        ...

    def file(self, name: str) -> tuple[str, bytes] | None:
        """Media type and bytes of a file that pages use; None if there is none of that name. It never changes."""
        ...


class Faces(NamedTuple):
    """What a server shows beside the files: of one store, made by whoever knows the layers above."""

    #: answers questions of programs
    api: Api
    #: makes the pages for people
    pages: Web


class WebSender:
    """Answers of one process. Nothing is kept of a page: it may show what changes with every second."""

    def __init__(self, pages: Web) -> None:
        self._pages = pages
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pages")

    def close(self) -> None:
        """Wait for what is being made."""
        self._threads.shutdown()

    async def answer(self, request: web.BaseRequest, name: str, base: str, catalog: Catalog) -> Reply:
        """The answer for a path below PREFIX, empty for `/`. Raises Refused, DamagedError, OSError."""
        if found := self._pages.file(name):
            return _sent(request, 200, found[1], found[0], IMMUTABLE, "Accept-Encoding", ())
        query = list(request.query.items())
        language = self._pages.language(request.headers.get("Accept-Language", ""), query)
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._threads, self._pages.page, name, query, language, base, catalog)
        if made is None:
            raise Refused(404, f"/-/{PREFIX}{name}: there is no such page")
        vary = "Accept-Encoding, Accept-Language"
        return _sent(request, *made, _HTML, REVALIDATE, vary, (*_FURTHER, f"Content-Language: {language}"))


def _sent(
    request: web.BaseRequest, status: int, data: bytes, media: str, cache: str, vary: str, further: tuple[str, ...]
) -> Reply:
    coding = negotiate.coding(request.headers.get("Accept-Encoding"))
    body = in_memory(encode(data, coding) if coding else data, further)
    made = head(body, None, media, cache, coding=coding, vary=vary)
    return respond(request, made, body, None) if status == 200 else Reply.whole(request, status, made, body.data or b"")
