"""The server of one process: takes a request, sees to it that what it is about is fresh, and has `send` answer it."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from .. import codec
from ..ecosystem import Ecosystem, Want
from ..errors import DamagedError, Forgotten, SelectorError, SnapmirrorError, UsageError
from ..store.catalog import CURRENT
from ..store.store import Store
from . import internal
from .answers import UNCACHED, NotReading, Refused
from .api import PREFIX as API
from .api import ApiSender
from .auth import Guard
from .blobs import BlobSender
from .bodies import Bodies, in_memory
from .cells import Regions
from .counts import Counts, Places
from .fresh import Fresh, Freshness, Live
from .metrics import Metrics
from .pull import Puller
from .resolve import Resolver, split
from .respond import NO_STORE, SHORT, Reply, head, problem, redact, respond
from .send import JSON, Present, Sender
from .settings import Origins, Serve
from .stored import FOLDERS, Stored
from .view import View, Watch
from .web import PREFIX as PAGE
from .web import Faces, WebSender

_log = logging.getLogger(__name__)
_PAGES = internal.PREFIX + PAGE
_TEXT = "text/plain; charset=utf-8"
#: seconds between two looks at what other machines have published
_FOLLOW = 2.0


class _Asked(NamedTuple):
    """What a path asks for of a repo whose metadata is on request."""

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
        regions: Regions | None = None,
        counts: Counts | None = None,
        *,
        faces: Faces,
    ) -> None:
        """origins: of the configured repos
        puller: fetches the files that are asked for; None if no repo is configured so
        live: the same for metadata
        regions, counts: where all processes of the server count, and what counts in this one; None if it is alone
        faces: what is shown beside the files
        """
        self._store = store
        self._origins = origins
        self._live_repos = {
            path: ecosystems[origin.kind] for path, origin in origins.items() if origin.metadata_age is not None
        }
        self._ecosystems = ecosystems
        self._public_url = settings.public_url
        self._watch = Watch(store, live.states) if live else Watch(store)
        self._puller = puller
        regions = regions or Regions()
        #: of this process
        self.counts = counts or Counts(regions.free())
        self._fresh = Fresh(store, live, origins, self.counts.refreshed) if live else None
        self._bodies = Bodies()
        self._api = ApiSender(faces.api)
        self._pages = WebSender(faces.pages)
        self._present = self._begin(self._watch.view())
        self._sender = Sender(store, BlobSender(store, settings, puller), self._bodies)
        self._snapshots = internal.Snapshots(store)
        self._metrics = Metrics(store, regions, origins, self._snapshots)
        self._guard = Guard(settings.auth) if settings.auth else None
        self._stored = Stored(store, settings)
        self._draining = False

    def _begin(self, view: View) -> Present:
        resolver = Resolver(self._store, self._ecosystems, view, self._public_url, self._origins)
        self._places = Places(view.answering, self._origins)
        return Present(resolver, {}, {}, self._bodies.beside(), self._api.beside())

    async def follow(self) -> None:
        """Learn of what other machines publish, again and again: a store of objects is not watched by looking at its files."""
        failed = False
        while far := self._store.far:
            await asyncio.sleep(_FOLLOW)
            try:
                await asyncio.to_thread(far.refresh)
                failed = False
            except Exception as error:  # whatever it is: the next look may go well, and nothing else brings news
                if not failed:
                    _log.error("serving what was last read: %s", error)
                failed = True

    def drain(self) -> None:
        """From now on every answer is the last of its connection, and says so; nobody waits for upstreams for long."""
        self._draining = True
        if self._puller:
            self._puller.drain()
        if self._fresh:
            self._fresh.drain()

    async def close(self) -> None:
        """Wait for threads, but not for upstreams."""
        self._bodies.close()
        self._api.close()
        self._pages.close()
        if self._puller:
            await self._puller.close()
        if self._fresh:
            self._fresh.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request. Raises nothing but what ends the connection."""
        path, began = "", time.monotonic()
        try:
            path = self._admit(request)
            reply = await self._handle(request, path)
        except Refused as refused:
            reply = problem(request, refused.status, refused.problem, refused.place, *refused.fields)
            reply.cache = refused.cache
        except (SnapmirrorError, OSError) as error:
            said = str(error) if isinstance(error, SnapmirrorError) else f"the store can't be read: {error.strerror or error}"
            _log.error("%s", said)
            reply = problem(request, 503, said)
        except Exception:
            _log.exception("%s %s", request.method, redact(request.raw_path))
            reply = problem(request, 500, "internal error; the server's log says more")
        reply.about, reply.began, reply.over = self._places.of(path), began, self.counts.answered
        if self._guard:
            reply.keep_private()
        if self._draining or "Expect" in request.headers:  # the body may never come: the client has its answer
            reply.force_close()
        return reply

    def _admit(self, request: web.BaseRequest) -> str:
        """The raw path of a request that may be answered, without a token. Raises Refused."""
        if request.method not in ("GET", "HEAD"):
            raise NotReading(request.method)
        path = _path(request.raw_path)
        return self._guard.admit(request, path, self._watch.view().answering.is_selector) if self._guard else path

    async def _handle(self, request: web.BaseRequest, path: str) -> Reply:
        present = self._look(path)
        if (reply := self._sender.send_ready(request, path, present)) is not None:
            return reply
        try:
            return await self._answer(request, path, present)
        except (Refused, DamagedError) as error:
            if self._watch.problem:
                raise
            if not isinstance(error, Refused) or error.status == 503:
                self._watch.renew()  # what is missing may be of a snapshot that was forgotten a moment ago
            elif error.status == 404 and error.cache is UNCACHED:  # else it was upstream that said so
                self._watch.hurry()  # another process may have seen, and told clients of, what was published a moment ago
            else:
                raise
            anew = self._look(path)
            if anew is present:
                raise
            return await self._answer(request, path, anew)

    async def _answer(self, request: web.BaseRequest, path: str, present: Present) -> Reply:
        """Answer from a view. Raises Refused, DamagedError."""
        if path == "/" or (path.startswith(_PAGES) and path != _PAGES):
            return await self._page(request, path.removeprefix(_PAGES) if path != "/" else "", present)
        if path.startswith(internal.PREFIX):
            return await self._internal(request, path, present)
        if self._watch.problem and not present.resolver.view.catalog.entries:
            raise Refused(503, self._watch.problem)
        if self._fresh and (asked := self._asked(path)):
            answer = self._answer_live if asked.selector == CURRENT else self._answer_past
            return await answer(request, path, self._fresh, asked)
        return await self._sender.send(request, path, present)

    def _look(self, path: str) -> Present:
        """What there is now to answer a request for a path with."""
        view, before = self._watch.view(path[1:].partition("/")[0]), self._present.resolver.view
        if view is not before:
            self._present = self._begin(view)
            if view.catalog is not before.catalog:
                if self._puller:
                    self._puller.forgive()
                if self._fresh:
                    self._fresh.forgive()
        return self._present

    def _asked(self, path: str) -> _Asked | None:
        """What a path asks for of a repo whose metadata is on request; None if it is of no such repo. Raises Refused."""
        segments, folder = split(path)
        selector = CURRENT
        if segments and self._present.resolver.view.catalog.is_selector(segments[0]):
            selector, *segments = segments
        for length in range(len(segments), 0, -1):
            repo = "/".join(segments[:length])
            if repo in self._origins:  # the longest: one below a repo with metadata on request may have its own otherwise
                inner = "/".join([*segments[length:], *([""] if folder else [])])
                ecosystem = self._live_repos.get(repo)
                return _Asked(selector, repo, inner, ecosystem.wanted_by(inner)) if ecosystem else None
        return None

    def _may_ask(self, asked: _Asked) -> bool:
        """Whether upstream may learn what is asked for."""
        return all(map(self._origins[asked.repo].may_fetch, (asked.inner, asked.want.path or asked.inner)))

    def _refuse_blocked(self, asked: _Asked) -> None:
        """Raise Refused for what upstream is not to be asked for."""
        if not self._may_ask(asked):
            raise Refused(403, f"/{asked.inner}: this mirror is set up not to ask for it (allow, block)")

    async def _answer_live(self, request: web.BaseRequest, path: str, fresh: Fresh, asked: _Asked) -> Reply:
        """Answer under `current`: metadata that is asked for is freshened first, that which lists a file only if none does."""
        repo, want = asked.repo, asked.want
        known = await fresh.freshen(repo, want) if want.itself and self._may_ask(asked) else None
        try:
            reply = await self._answer_anew(request, path, asked, known)
        except Refused as refused:
            if refused.status != 404:
                raise
            self._refuse_blocked(asked)
            if want.itself:
                raise
            known = await fresh.freshen(repo, want)
            reply = await self._answer_anew(request, path, asked, known)
        if known and (stale := known.stale):
            reply.add('Warning: 110 - "Response is Stale"', *([] if stale.age is None else [f"Age: {stale.age}"]))
        if want.itself:
            reply.cache = known or reply.cache
        return reply

    async def _answer_past(self, request: web.BaseRequest, path: str, fresh: Fresh, asked: _Asked) -> Reply:
        """Answer from a snapshot. A name that nobody had asked for when it was sealed is told of now, once and for all."""
        try:
            return await self._sender.send(request, path, self._present)
        except Refused as refused:
            repo, want = asked.repo, asked.want
            if refused.status != 404 or not want.itself or (want.name and refused.place is None):
                raise
            if not want.name:
                problem = f"{refused.problem}; what an index was can't be told from today's, which does not have "
                raise Refused(404, problem + self._live_repos[repo].unknowable, refused.place) from None
            self._refuse_blocked(asked)
            try:
                record = self._present.resolver.view.catalog.resolve(asked.selector, repo, self._store.now())
            except SelectorError:  # there are snapshots, but none has the repo
                raise refused from None
            known = await fresh.reconstruct(repo, record.id, want.name)
            return await self._answer_anew(request, path, asked, known)

    async def _answer_anew(self, request: web.BaseRequest, path: str, asked: _Asked, known: Freshness | None) -> Reply:
        """Answer with what is known by now. Where upstream could not be asked, it is not said that there is no such thing."""
        if known:
            self._watch.renew()  # this process, or another one, may have read something
        present = self._look(path)
        try:
            return await self._sender.send(request, path, present)
        except Refused as refused:
            stale, name = known.stale if known else None, asked.want.name
            held = refused.place and asked.repo in present.resolver.view.answering.repos  # or it is a repo above that lacks it
            if not known or not stale or refused.status != 404 or (held and not name):
                refused.cache = known or refused.cache
                raise
            unknown = Refused(stale.status, f"{name or asked.repo}: nothing is held, and {stale.problem}")
            unknown.cache = known
            raise unknown from None

    async def _internal(self, request: web.BaseRequest, path: str, present: Present) -> Reply:
        view, bodies = present.resolver.view, present.bodies
        cache = NO_STORE
        match path.removeprefix(internal.PREFIX):
            case "healthz":
                body = in_memory(codec.to_json({"status": "ok"}))
            case "readyz":
                if self._watch.problem or not view.catalog.records:
                    raise Refused(503, self._watch.problem or "there is no snapshot yet")
                body = in_memory(codec.to_json({"status": "ready", "newest": view.catalog.records[-1].id}))
            case "snapshots.json":
                body = await bodies.get("snapshots", lambda: in_memory(self._snapshots.document(view.catalog)))
                cache = SHORT
            case "copies.json":
                changed = self._store.layout.snapshots.stat().st_mtime_ns
                body = await bodies.get(("copies", changed), lambda: in_memory(self._stored.listing()))
                cache = NO_STORE
            case "metrics":
                accept, what = ", ".join(request.headers.getall("Accept", ())), self._watch.problem
                data, media = await asyncio.to_thread(self._metrics.document, accept, view, what)
                return respond(request, head(made := in_memory(data), None, media, NO_STORE, vary="Accept"), made, None)
            case name if name.startswith(FOLDERS):
                return await self._stored.answer(request, name, view)
            case name if name.startswith(API):
                return await self._api.answer(request, name.removeprefix(API), view.catalog, present.asked)
            case name if name.startswith(internal.CONFIG):
                return await self._client_settings(request, path, present)
            case _:
                raise Refused(404, f"{path}: there is no such page")
        return await self._sender.send_text(request, path, body, JSON, None, present, bodies, cache)

    async def _client_settings(self, request: web.BaseRequest, path: str, present: Present) -> Reply:
        """`/-/config/<selector>/condarc` and the like."""
        view = present.resolver.view
        try:
            base = self._base(request)
            body = await present.bodies.get(
                ("config", base, path),
                lambda: in_memory(internal.client_settings(self._store, self._ecosystems, view.catalog, base, path)),
            )
        except Forgotten as error:
            raise Refused(410, str(error)) from None
        except UsageError as error:
            raise Refused(404, str(error)) from None
        return await self._sender.send_text(request, path, body, _TEXT, None, present, present.bodies)

    async def _page(self, request: web.BaseRequest, name: str, present: Present) -> Reply:
        """A page for people: `/`, and what is below `/-/page/`."""
        if self._watch.problem and not present.resolver.view.catalog.entries:
            raise Refused(503, self._watch.problem)
        try:
            base = self._base(request)
        except UsageError as error:
            raise Refused(400, str(error)) from None
        return await self._pages.answer(request, name, base, present.resolver.view.catalog)

    def _base(self, request: web.BaseRequest) -> str:
        """Where we are: what the client calls us, unless we are told. Raises UsageError."""
        return self._public_url.rstrip("/") or internal.address(request.scheme, request.host)


def _path(target: str) -> str:
    """The raw path of a request target, which may be an absolute URL (RFC 9112 section 3.2.2)."""
    path = target.partition("?")[0]
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path
