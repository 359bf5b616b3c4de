"""Blobs on their way to clients: those that are held, and those that are fetched because somebody asks."""

from typing import NamedTuple

from aiohttp import web

from .. import clock
from ..digests import Digest
from ..store.store import Store
from .answers import HIT, BlobAnswer, Place, Refused
from .bodies import Body
from .coming import Coming
from .far import FarPart, FarSender
from .parts import Missing
from .pull import Puller
from .respond import IMMUTABLE, SHORT, Head, Reply, head, respond, respond_unsized
from .settings import Serve


class Ready(NamedTuple):
    """The answer for a blob that is held, but for what depends on the request."""

    head: Head
    body: Body
    place: Place
    #: the blob, if it is a file that can be fetched again: that it is wanted is noted, so that gc drops others first
    fetched: Digest | None


class BlobSender:
    """Answers of one process that are blobs."""

    def __init__(self, store: Store, settings: Serve, puller: Puller | None) -> None:
        """puller: see Server"""
        self._store = store
        self._accel = settings.accel
        self._puller = puller
        self._far = FarSender(store.far, settings.redirect) if store.far else None

    async def answer(self, request: web.BaseRequest, answer: BlobAnswer) -> tuple[Reply, Ready | None]:
        """The answer for a blob, and what can be sent again if it is asked for again. Raises Missing, Refused."""
        if self._far:
            return await self._answer_far(request, answer, self._far)
        ready = self._prepare(answer)
        if ready is None:
            return await self._send_coming(request, answer), None
        return self.send(request, ready), ready

    async def _answer_far(self, request: web.BaseRequest, answer: BlobAnswer, far: FarSender) -> tuple[Reply, Ready | None]:
        if reply := far.redirect(request, answer):
            return reply, None
        body = await far.body(answer.digest, answer.size)
        if answer.size not in (None, body.size):
            raise Missing(f"has {body.size} bytes instead of {answer.size}")
        ready = Ready(_head(body, answer), body, answer.place, None)
        reply = self.send(request, ready)
        if isinstance(reply.content, FarPart):
            reply.cache = reply.content
        return reply, ready if body.path and not far.redirects else None

    def _prepare(self, answer: BlobAnswer) -> Ready | None:
        """Work out the answer for a blob; None for one that is not held and can be fetched. Raises Missing."""
        size = self._store.blobs.size(answer.digest)
        if size is None:
            if answer.fetchable:
                return None
            aside = (self._store.layout.quarantine / answer.digest.hex()).exists()
            raise Missing("was found to hold wrong bytes, and is in quarantine" if aside else "is missing")
        if answer.size not in (None, size):
            raise Missing(f"has {size} bytes instead of {answer.size}")
        body = Body(_etag(answer), size, None, self._store.blobs.path(answer.digest))
        return Ready(_head(body, answer), body, answer.place, answer.digest if answer.fetchable else None)

    def send(self, request: web.BaseRequest, ready: Ready) -> Reply:
        """The answer for a blob that is held. Raises Missing if it no longer is."""
        if ready.fetched and self._puller:
            self._store.fetched.use(ready.fetched)
        reply = respond(request, ready.head, ready.body, ready.place, self._accel)
        reply.cache = HIT
        return reply

    async def _send_coming(self, request: web.BaseRequest, answer: BlobAnswer) -> Reply:
        """The answer for a file that is not held and can be fetched: it goes out while it arrives. Raises Refused, Missing."""
        assert answer.fetchable is not None
        source, origin, path = answer.fetchable
        puller, size = self._puller, source.file.size
        if puller is None or origin is None:
            problem = f"{source.file.name}: is not held, and its repo is not configured here, so it can't be fetched"
            raise Refused(503, problem, answer.place)
        if origin.offline:
            raise Refused(404, f"{source.file.name}: is not held, and its repo is offline", answer.place)
        if not origin.may_fetch(path):
            raise Refused(403, f"/{path}: this mirror is set up not to fetch it (allow, block)", answer.place)

        def coming(start: int, count: int | None) -> Coming:
            return Coming(puller.follow(source, origin), start, count)

        if request.method == "HEAD":
            puller.check(source, origin)
        elif size is None and request.version < (1, 1):  # it knows no chunks: where the connection ends, the file would end
            whole = coming(0, None)
            await whole.end()
            if (ready := self._prepare(answer)) is None:
                raise Missing("was fetched and is gone again")
            reply = self.send(request, ready)
            reply.cache = whole
            return reply
        body = Body(_etag(answer), size or 0, None, coming=coming)
        if size is None:
            reply = respond_unsized(request, _head(body, answer), lambda: coming(0, None), answer.place)
        else:
            reply = respond(request, _head(body, answer), body, answer.place)
        if isinstance(reply.content, Coming):
            reply.cache = reply.content
            await reply.content.begin()
        return reply


def _etag(answer: BlobAnswer) -> str:
    return f'"{answer.digest.hex()}"'


def _head(body: Body, answer: BlobAnswer) -> Head:
    cache = IMMUTABLE if answer.immutable else SHORT
    modified = "" if answer.modified is None else clock.http_date(clock.from_seconds(answer.modified))
    return head(body, answer.place, answer.media, cache, modified=modified)
