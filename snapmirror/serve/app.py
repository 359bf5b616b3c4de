"""The server of one process: takes a request, finds what it names, sends it."""

import asyncio
import logging
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from .. import clock, codec
from ..ecosystem import Ecosystem, Want
from ..errors import DamagedError, Forgotten, UsageError
from ..store.catalog import CURRENT
from ..store.store import Store
from . import internal, negotiate
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
from .fresh import Fresh, Freshness, Live
from .parts import Missing
from .pull import Puller
from .resolve import Origins, Resolver, split
from .respond import IMMUTABLE, NO_STORE, SHORT, Head, Reply, head, problem, respond
from .settings import Serve
from .view import View, Watch

_log = logging.getLogger(__name__)
_HTML = "text/html; charset=utf-8"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
#: answers kept ready for one view
_MAX_READY = 65_536
#: what may stand in a query as it is
_QUERY = "!$%&'()*+,/:;=?@"
_ENDINGS = {"": "", "gzip": GZIP, "zstd": ".zst"}


class _Present(NamedTuple):
    """A view, and all that was worked out for it. A request keeps to the one with which it began, whatever it waits for."""

    resolver: Resolver
    #: by raw path
    ready: dict[str, Ready]
    #: by raw path and coding
    heads: dict[tuple[str, str], Head]


class _Asked(NamedTuple):
    """What somebody asks for of a repo whose metadata is on request."""

    selector: str
    #: path of the repo
    repo: str
    #: path below it
    inner: str
    want: Want


class Server:
    """Answers requests from a store that it only reads. `handle` is what aiohttp calls."""

    def __init__(
        self,
        store: Store,
        ecosystems: Mapping[str, Ecosystem],
        settings: Serve,
        origins: Origins,
        puller: Puller | None,
        live: Live | None = None,
    ) -> None:
        """origins: of the configured repos
        puller: fetches what is asked for; None if nothing is configured so
        live: the same for metadata
        """
        self._store = store
        self._origins = origins
        self._live_repos = {
            path: ecosystems[origin.kind] for path, origin in origins.items() if origin.metadata_age is not None
        }
        self._blobs = BlobSender(store, settings.accel, puller)
        self._ecosystems = ecosystems
        self._public_url = settings.public_url
        self._fresh = Fresh(store, live, origins) if live else None
        self._watch = Watch(store, live.states) if live else Watch(store)
        self._present = self._begin(self._watch.view())
        self._bodies = Bodies()
        self._documents = DocumentBodies(store, self._bodies)
        self._snapshots = internal.Snapshots(store)
        self._draining = False

    def _begin(self, view: View) -> _Present:
        return _Present(Resolver(self._store, self._ecosystems, view, self._public_url, self._origins), {}, {})

    def drain(self) -> None:
        """From now on every answer is the last of its connection, and says so."""
        self._draining = True

    def close(self) -> None:
        """Wait for threads."""
        self._bodies.close()
        self._blobs.close()
        if self._fresh:
            self._fresh.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request. Raises nothing but what ends the connection."""
        try:
            reply = await self._handle(request)
        except Refused as refused:
            reply = problem(request, refused.status, refused.problem, refused.place)
            reply.cache = refused.cache
        except DamagedError as error:
            _log.error("%s", error)
            reply = problem(request, 503, str(error))
        except Exception:
            _log.exception("%s %s", request.method, request.raw_path)
            reply = problem(request, 500, "internal error; the server's log says more")
        if self._draining:
            reply.force_close()
        return reply

    async def _handle(self, request: web.BaseRequest) -> Reply:
        if request.method not in ("GET", "HEAD"):
            return problem(request, 405, f"{request.method}: this server can only be read", None, "Allow: GET, HEAD")
        path = _path(request.raw_path)
        present = self._look(path)
        if ready := present.ready.get(path):
            try:
                return self._blobs.send(request, ready)
            except Missing:  # a file that gc has dropped to make room is fetched again
                present.ready.pop(path, None)
        if path.startswith(internal.PREFIX):
            return await self._internal(request, path, present)
        if self._watch.problem and not present.resolver.view.catalog.entries:
            raise Refused(503, self._watch.problem)
        if self._fresh and (asked := self._asked(path)):
            answer = self._answer_live if asked.selector == CURRENT else self._answer_past
            return await answer(request, path, self._fresh, asked)
        return await self._answer(request, path, present.resolver.resolve(path), present)

    def _look(self, path: str) -> _Present:
        """What there is now to answer a request for a path."""
        view, before = self._watch.view(path[1:].partition("/")[0]), self._present.resolver.view
        if view is not before:
            self._present = self._begin(view)
            if view.catalog is not before.catalog:
                self._blobs.forgive()
                if self._fresh:
                    self._fresh.forgive()
        return self._present

    def _asked(self, path: str) -> _Asked | None:
        """What a path asks for of a repo whose metadata is read because somebody does; None if it is of no such repo."""
        segments, folder = split(path)
        selector = CURRENT
        if segments and self._present.resolver.view.catalog.is_selector(segments[0]):
            selector, *segments = segments
        for length in range(len(segments), 0, -1):
            if ecosystem := self._live_repos.get("/".join(segments[:length])):
                inner = "/".join([*segments[length:], *([""] if folder else [])])
                return _Asked(selector, "/".join(segments[:length]), inner, ecosystem.wanted_by(inner))
        return None

    def _refuse_blocked(self, asked: _Asked) -> None:
        """Raise Refused for what upstream is not to be asked for."""
        if not self._origins[asked.repo].may_fetch(asked.inner):
            raise Refused(403, f"/{asked.inner}: this mirror is set up not to ask for it (allow, block)")

    async def _answer_live(self, request: web.BaseRequest, path: str, fresh: Fresh, asked: _Asked) -> Reply:
        """What is asked for itself is made fresh before, if it may be; for a file only if nothing lists it."""
        repo, want = asked.repo, asked.want
        may_ask = self._origins[repo].may_fetch(asked.inner)
        known = await self._freshen(fresh, repo, want) if want.itself and may_ask else None
        stale = known.stale if known else None
        try:
            reply = await self._answer_anew(request, path)
        except Refused as refused:
            if refused.status == 404:
                self._refuse_blocked(asked)
            if stale and refused.status == 404 and (want.name or refused.place is None):
                raise Refused(stale.status, f"{want.name or repo}: nothing is held, and {stale.problem}") from None
            if want.itself or refused.status != 404:
                raise
            stale = (await self._freshen(fresh, repo, want)).stale
            reply = await self._answer_anew(request, path)
        if stale:
            reply.add('Warning: 110 - "Response is Stale"', *([] if stale.age is None else [f"Age: {stale.age}"]))
        reply.cache = known or reply.cache
        return reply

    async def _answer_past(self, request: web.BaseRequest, path: str, fresh: Fresh, asked: _Asked) -> Reply:
        """A name that nobody had asked for when a snapshot was sealed is told of later, once and for all."""
        try:
            return await self._answer(request, path, self._present.resolver.resolve(path), self._present)
        except Refused as refused:
            repo, want = asked.repo, asked.want
            if refused.status != 404 or not want.itself or (want.name and refused.place is None):
                raise
            if not want.name:
                problem = f"{refused.problem}; what an index was can't be told from today's, which does not have "
                raise Refused(404, problem + self._live_repos[repo].unknowable, refused.place) from None
            self._refuse_blocked(asked)
            record = self._present.resolver.view.catalog.resolve(asked.selector, repo, self._store.now())
            stale = await fresh.reconstruct(repo, record.id, want.name)
            self._watch.renew()
            try:
                return await self._answer_anew(request, path)
            except Refused as again:
                if stale and again.status == 404:
                    raise Refused(stale.status, f"{want.name}: nothing is held, and {stale.problem}") from None
                raise

    async def _answer_anew(self, request: web.BaseRequest, path: str) -> Reply:
        present = self._look(path)
        return await self._answer(request, path, present.resolver.resolve(path), present)

    async def _freshen(self, fresh: Fresh, repo: str, want: Want) -> Freshness:
        known = await fresh.freshen(repo, want)
        self._watch.renew()
        return known

    async def _answer(self, request: web.BaseRequest, path: str, answer: Answer, present: _Present) -> Reply:
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
                return await self._send_text(request, path, body, _HTML, place, present)
            case PageAnswer():
                return await self._send_page(request, path, answer, present)
            case ElsewhereAnswer(place, url):
                return problem(request, 307, f"this mirror keeps no copy: {url}", place, f"Location: {url}")
            case SlashAnswer(place, location):
                location += _query(request.raw_path)
                return problem(request, 301, f"a folder: {location}", place, f"Location: {location}")
            case _:
                raise AssertionError(f"no way to answer {answer!r}")

    async def _send_file(self, request: web.BaseRequest, path: str, answer: BlobAnswer, present: _Present) -> Reply:
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

    async def _send_document(self, request: web.BaseRequest, path: str, answer: DocumentAnswer, present: _Present) -> Reply:
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

    async def _send_page(self, request: web.BaseRequest, path: str, answer: PageAnswer, present: _Present) -> Reply:
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
        return await self._send_text(
            request, f"{path} {form}", body, form, answer.place, present, vary="Accept, Accept-Encoding"
        )

    async def _send_text(
        self,
        request: web.BaseRequest,
        path: str,
        body: Body,
        media: str,
        place: Place | None,
        present: _Present,
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

    async def _internal(self, request: web.BaseRequest, path: str, present: _Present) -> Reply:
        view = present.resolver.view
        cache = NO_STORE
        match path.removeprefix(internal.PREFIX):
            case "healthz":
                body = in_memory(codec.to_json({"status": "ok"}))
            case "readyz":
                if self._watch.problem or not view.catalog.records:
                    raise Refused(503, self._watch.problem or "there is no snapshot yet")
                body = in_memory(codec.to_json({"status": "ready", "newest": view.catalog.records[-1].id}))
            case "snapshots.json":
                key = ("snapshots", view.number)
                body = await self._bodies.get(key, lambda: in_memory(self._snapshots.document(view.catalog)))
                cache = SHORT
            case name if name.startswith(internal.CONFIG):
                return await self._client_settings(request, path, present)
            case _:
                raise Refused(404, f"{path}: there is no such page")
        return await self._send_text(request, path, body, _JSON, None, present, cache)

    async def _client_settings(self, request: web.BaseRequest, path: str, present: _Present) -> Reply:
        """`/-/config/<selector>/condarc` and the like; where we are is what the client calls us, unless we are told."""
        view = present.resolver.view
        try:
            base = self._public_url.rstrip("/") or internal.address(request.scheme, request.host)
            body = await self._bodies.get(
                ("config", view.number, base, path),
                lambda: in_memory(internal.client_settings(self._store, view.catalog, base, path)),
            )
        except Forgotten as error:
            raise Refused(410, str(error)) from None
        except UsageError as error:
            raise Refused(404, str(error)) from None
        return await self._send_text(request, path, body, _TEXT, None, present)


def _remember(present: _Present, path: str, coding: str, head_: Head) -> None:
    if len(present.heads) < _MAX_READY:
        present.heads[path, coding] = head_


def _path(target: str) -> str:
    """The raw path of a request target, which may be an absolute URL (RFC 9112 section 3.2.2)."""
    path = target.partition("?")[0]
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path


def _query(target: str) -> str:
    """The query of a request target, with its question mark, as a header can have it; empty if there is none."""
    return urllib.parse.quote("".join(target.partition("?")[1:]), safe=_QUERY, errors="replace")


def _coding(request: web.BaseRequest) -> str:
    """A part is a part of the plain form, so a request for one gets that."""
    if "Range" in request.headers and request.method == "GET":
        return ""
    return negotiate.coding(request.headers.get("Accept-Encoding"))
