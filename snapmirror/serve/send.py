"""How the answer for a path goes out: in the form and coding that the request asks for."""

import asyncio
import logging
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from .. import clock
from ..store.far import NotHere
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
    damaged,
    not_listed,
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
#: how often a document is looked for whose file goes away meanwhile
_TRIES = 3
_ENDINGS = {"": "", "gzip": GZIP, "zstd": ".zst"}


class Present(NamedTuple):
    """A view, and all that was worked out for it. A request keeps to the one with which it began, whatever it waits for."""

    resolver: Resolver
    #: raw path -> answer, of blobs that were sent before
    ready: dict[str, Ready]
    #: (raw path, and form of a page; coding) -> headers, of everything else that was
    heads: dict[tuple[str, str], Head]
    #: what is made of the whole view
    bodies: Bodies
    #: answers of the API
    asked: Bodies


class Sender:
    """Answers requests for what a path names."""

    def __init__(self, store: Store, blobs: BlobSender, bodies: Bodies) -> None:
        self._store = store
        self._blobs = blobs
        self._bodies = bodies
        self._documents = DocumentBodies(store, bodies)

    def send_ready(self, request: web.BaseRequest, path: str, present: Present) -> Reply | None:
        """The answer for a blob whose path was asked for before; None for any other path."""
        if ready := present.ready.get(path):
            try:
                return self._blobs.send(request, ready)
            except Missing:  # a file that gc has dropped to make room is fetched again
                del present.ready[path]
        return None

    async def send(self, request: web.BaseRequest, path: str, present: Present) -> Reply:
        """The answer for a raw path. Raises Refused, DamagedError."""
        answer = await self._resolve(path, present.resolver)
        if isinstance(answer, UnlistedAnswer):
            found = await asyncio.to_thread(present.resolver.search, answer)
            if found is None:
                raise not_listed(answer.place, answer.repo, answer.inner)
            answer = found
        match answer:
            case BlobAnswer():
                return await self._send_blob(request, path, answer, present)
            case DocumentAnswer():
                return await self._send_document(request, path, answer, present)
            case FolderAnswer(place, key, page, large):
                bodies = present.bodies if key is None else self._bodies
                body = await bodies.get(("page", key), lambda: in_memory(page()), alone=large)
                return await self.send_text(request, path, body, _HTML, place, present, bodies)
            case PageAnswer():
                return await self._send_page(request, path, answer, present)
            case ElsewhereAnswer(place, url):
                return problem(request, 307, f"this mirror keeps no copy: {url}", place, f"Location: {url}")
            case SlashAnswer(place, location):
                location += _query(request.raw_path)
                return problem(request, 301, f"a folder: {location}", place, f"Location: {location}")
            case _:
                raise AssertionError(f"no way to answer {answer!r}")

    async def _resolve(self, path: str, resolver: Resolver) -> Answer:
        """What a path names; in a thread if what tells that has to come from afar."""
        if self._store.far is None:
            return resolver.resolve(path)
        try:
            with self._store.far.hurried():
                return resolver.resolve(path)
        except NotHere:
            return await asyncio.to_thread(resolver.resolve, path)

    async def _send_blob(self, request: web.BaseRequest, path: str, answer: BlobAnswer, present: Present) -> Reply:
        try:
            reply, ready = await self._blobs.answer(request, answer)
        except Missing as error:
            name = f"blob {answer.digest.hex()}"
            _log.error("%s: %s: %s", path, name, error)
            raise damaged(answer.place, name, str(error)) from None
        except Refused as refused:  # of a transfer, which does not know for which snapshot it is
            refused.place = answer.place
            raise
        if ready and len(present.ready) < _MAX_READY:
            present.ready[path] = ready
        return reply

    async def _send_document(self, request: web.BaseRequest, path: str, answer: DocumentAnswer, present: Present) -> Reply:
        """A document. Its zstd coding are the bytes of its `.zst` form."""
        vary = "Accept-Encoding" if negotiate.is_codable(answer.media) else ""
        coding = _coding(request) if vary else ""
        suffix = answer.suffix or _ENDINGS[coding]
        wanted = Wanted(answer.ecosystem, answer.directory, answer.name, answer.derived)

        def make_head(body: Body) -> Head:
            since = clock.from_id(answer.since)
            modified = clock.http_date(since) if since else ""
            cache = IMMUTABLE if answer.immutable else SHORT
            return head(body, answer.place, answer.media, cache, modified=modified, coding=coding, vary=vary)

        for _ in range(_TRIES):
            body = await self._documents.get(wanted, suffix)
            try:
                return respond(request, _head(present, (path, coding), body, make_head), body, answer.place)
            except Missing as error:  # a sync has tidied up since it was found; it is made again
                self._documents.forget(answer.derived, suffix)
                gone = str(error)
        raise damaged(answer.place, f"{answer.name}{suffix}", gone)

    async def _send_page(self, request: web.BaseRequest, path: str, answer: PageAnswer, present: Present) -> Reply:
        """A page in the form that the client asks for."""
        pages, page = answer.ecosystem.pages, answer.page
        assert pages is not None
        accept = ", ".join(request.headers.getall("Accept", ()))
        form = pages.form(page, accept, request.query.get("format"))

        def make() -> Body:
            made = pages.make(self._store.metadata.directory(answer.directory), page, form, answer.site)
            return in_memory(made.body, made.headers)

        key = ("made", page.path, page.leaf, form, answer.site) if page.leaf else ("made", page.path, answer.directory, form)
        body = await self._bodies.get(key, make)
        return await self.send_text(
            request, f"{path} {form}", body, form, answer.place, present, self._bodies, vary="Accept, Accept-Encoding"
        )

    async def send_text(
        self,
        request: web.BaseRequest,
        path: str,
        body: Body,
        media: str,
        place: Place | None,
        present: Present,
        bodies: Bodies,
        cache: str = SHORT,
        vary: str = "Accept-Encoding",
    ) -> Reply:
        """The answer for a text in memory, under the coding that the request asks for.

        bodies: keeps the coded form; cache, vary: those header fields
        """
        coding = _coding(request)
        if coding:
            body = await bodies.coded(body, coding)
        head_ = _head(present, (path, coding), body, lambda body: head(body, place, media, cache, coding=coding, vary=vary))
        return respond(request, head_, body, place)


def _head(present: Present, key: tuple[str, str], body: Body, make: Callable[[Body], Head]) -> Head:
    """The headers of a body, made when it is first sent for this view."""
    found = present.heads.get(key)
    if found is None or found.etag != body.etag:
        found = make(body)
        if len(present.heads) < _MAX_READY:
            present.heads[key] = found
    return found


def _query(target: str) -> str:
    """The query of a request target, with its question mark, as a header can have it; empty if there is none."""
    return urllib.parse.quote("".join(target.partition("?")[1:]), safe=_QUERY, errors="replace")


def _coding(request: web.BaseRequest) -> str:
    """The content coding to answer with: none for a part, which is one of the plain form."""
    if "Range" in request.headers and request.method == "GET":
        return ""
    return negotiate.coding(request.headers.get("Accept-Encoding"))
