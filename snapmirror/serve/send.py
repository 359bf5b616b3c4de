"""How an answer goes out: in the form and coding that a request asks for."""

import asyncio
import logging
import urllib.parse
from typing import NamedTuple

from aiohttp import web

from .. import clock
from ..store.store import Store
from . import negotiate
from .answers import (
    Answer,
    BlobAnswer,
    DocumentAnswer,
    ElsewhereAnswer,
    FolderAnswer,
    PageAnswer,
    Place,
    Refused,
    SlashAnswer,
    UnlistedAnswer,
)
from .blobs import BlobSender, Ready
from .bodies import Bodies, Body, in_memory
from .documents import GZIP, DocumentBodies, Wanted
from .parts import Missing
from .resolve import Resolver
from .respond import IMMUTABLE, SHORT, Head, Reply, head, problem, respond

_log = logging.getLogger(__name__)
_HTML = "text/html; charset=utf-8"
JSON = "application/json"
#: answers kept ready for one view
_MAX_READY = 65_536
#: what may stand in a query as it is
_QUERY = "!$%&'()*+,/:;=?@"
_ENDINGS = {"": "", "gzip": GZIP, "zstd": ".zst"}


class Present(NamedTuple):
    """A view, and all that was worked out for it. A request keeps to the one with which it began, whatever it waits for."""

    resolver: Resolver
    #: by raw path
    ready: dict[str, Ready]
    #: by raw path and coding
    heads: dict[tuple[str, str], Head]


class Sender:
    """Sends what a path has come to."""

    def __init__(self, store: Store, blobs: BlobSender, bodies: Bodies) -> None:
        self._store = store
        self._blobs = blobs
        self._bodies = bodies
        self._documents = DocumentBodies(store, bodies)

    async def send(self, request: web.BaseRequest, path: str, answer: Answer, present: Present) -> Reply:
        """Raises Refused, DamagedError."""
        if isinstance(answer, UnlistedAnswer):
            found = await asyncio.to_thread(present.resolver.search, answer)
            if found is None:
                raise Refused(404, f"{answer.inner}: is not in {answer.repo} of snapshot {answer.place.snapshot}", answer.place)
            answer = found
        match answer:
            case BlobAnswer():
                return await self._send_file(request, path, answer, present)
            case DocumentAnswer():
                return await self._send_document(request, path, answer, present)
            case FolderAnswer(place, key, page):
                body = await self._bodies.get(("page", key), lambda: in_memory(page()))
                return await self.send_text(request, path, body, _HTML, place, present)
            case PageAnswer():
                return await self._send_page(request, path, answer, present)
            case ElsewhereAnswer(place, url):
                return problem(request, 307, f"this mirror keeps no copy: {url}", place, f"Location: {url}")
            case SlashAnswer(place, location):
                location += _query(request.raw_path)
                return problem(request, 301, f"a folder: {location}", place, f"Location: {location}")
            case _:
                raise AssertionError(f"no way to answer {answer!r}")

    async def _send_file(self, request: web.BaseRequest, path: str, answer: BlobAnswer, present: Present) -> Reply:
        if answer.source and not self._blobs.held(answer):
            return await self._blobs.send_coming(request, answer, answer.source)
        ready = self._blobs.prepare(answer)
        if len(present.ready) < _MAX_READY:
            present.ready[path] = ready
        try:
            return self._blobs.send(request, ready)
        except Missing as error:
            present.ready.pop(path, None)
            _log.error("%s: blob %s: %s", path, ready.head.etag, error)
            raise Refused(503, f"blob {ready.head.etag}: {error} (run `snapmirror check`)", ready.place) from None

    async def _send_document(self, request: web.BaseRequest, path: str, answer: DocumentAnswer, present: Present) -> Reply:
        """A document; the bytes of its `.zst` form are also its zstd coding."""
        codable = negotiate.is_codable(answer.media)
        coding = _coding(request) if codable else ""
        suffix = answer.suffix or _ENDINGS[coding]
        wanted = Wanted(answer.ecosystem, answer.directory, answer.name, answer.derived)
        for attempt in (1, 2):
            body = await self._documents.get(wanted, suffix)
            head_ = present.heads.get((path, coding))
            if head_ is None or head_.etag != body.etag:
                since = clock.from_id(answer.since)
                modified = clock.http_date(since) if since else ""
                cache = IMMUTABLE if answer.immutable else SHORT
                head_ = head(
                    body,
                    answer.place,
                    answer.media,
                    cache,
                    modified=modified,
                    coding=coding,
                    vary="Accept-Encoding" if codable else "",
                )
                _remember(present, path, coding, head_)
            try:
                return respond(request, head_, body, answer.place)
            except Missing:  # the next sync has tidied up between two requests
                self._documents.forget(answer.derived, suffix)
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    async def _send_page(self, request: web.BaseRequest, path: str, answer: PageAnswer, present: Present) -> Reply:
        """A page in the form that the client asks for."""
        pages, page = answer.ecosystem.pages, answer.page
        assert pages is not None
        accept = ", ".join(request.headers.getall("Accept", ()))
        form = pages.form(page, accept, request.query.get("format"))

        def make() -> Body:
            made = pages.make(self._store.metadata.directory(answer.directory), page, form, answer.site)
            return in_memory(made.body)._replace(further=made.headers)

        key = ("made", page.path, page.leaf, form, answer.site) if page.leaf else ("made", page.path, answer.directory, form)
        body = await self._bodies.get(key, make)
        return await self.send_text(
            request, f"{path} {form}", body, form, answer.place, present, vary="Accept, Accept-Encoding"
        )

    async def send_text(
        self,
        request: web.BaseRequest,
        path: str,
        body: Body,
        media: str,
        place: Place | None,
        present: Present,
        cache: str = SHORT,
        vary: str = "Accept-Encoding",
    ) -> Reply:
        coding = _coding(request)
        if coding:
            body = await self._bodies.coded(body, coding)
        head_ = present.heads.get((path, coding))
        if head_ is None or head_.etag != body.etag:
            head_ = head(body, place, media, cache, coding=coding, vary=vary)
            _remember(present, path, coding, head_)
        return respond(request, head_, body, place)


def _remember(present: Present, path: str, coding: str, head_: Head) -> None:
    if len(present.heads) < _MAX_READY:
        present.heads[path, coding] = head_


def _query(target: str) -> str:
    """The query of a request target, with its question mark, as a header can have it; empty if there is none."""
    return urllib.parse.quote("".join(target.partition("?")[1:]), safe=_QUERY, errors="replace")


def _coding(request: web.BaseRequest) -> str:
    """A part is a part of the plain form, so a request for one gets that."""
    if "Range" in request.headers and request.method == "GET":
        return ""
    return negotiate.coding(request.headers.get("Accept-Encoding"))
