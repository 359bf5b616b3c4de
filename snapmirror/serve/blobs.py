"""Blobs on their way to clients: those that are held, and those that are fetched because somebody asks."""

from typing import NamedTuple

from aiohttp import web

from .. import clock
from ..digests import Digest
from ..store.store import Store
from ..transfer.download import Source
from .answers import HIT, BlobAnswer, Place, Refused
from .bodies import Body
from .coming import Coming
from .pull import Puller
from .respond import IMMUTABLE, SHORT, Head, Reply, head, respond, respond_unsized


class Ready(NamedTuple):
    """A blob whose answer was worked out before."""

    head: Head
    body: Body
    place: Place
    #: of a file that can be fetched again: what it holds
    fetched: Digest | None


class BlobSender:
    """Answers of one process that are blobs."""

    def __init__(self, store: Store, accel: str, puller: Puller | None) -> None:
        """See settings.Serve.accel and Server."""
        self._store = store
        self._accel = accel
        self._puller = puller

    def drain(self) -> None:
        """The server is about to end."""
        if self._puller:
            self._puller.drain()

    async def close(self) -> None:
        """End what is under way."""
        if self._puller:
            await self._puller.close()

    def forgive(self) -> None:
        """The store has changed: what could not be had before is worth trying."""
        if self._puller:
            self._puller.forgive()

    def held(self, answer: BlobAnswer) -> bool:
        """Whether the store has it."""
        return self._store.blobs.size(answer.digest) is not None

    def prepare(self, answer: BlobAnswer) -> Ready:
        """Work out the answer for a blob that should be held. Raises Refused."""
        size = self._store.blobs.size(answer.digest)
        name = f"blob {answer.digest.hex()}"
        if size is None:
            raise Refused(503, f"{name} is missing (run `snapmirror check`)", answer.place)
        if answer.size not in (None, size):
            raise Refused(503, f"{name} has {size} bytes instead of {answer.size} (run `snapmirror check`)", answer.place)
        body = Body(_etag(answer), size, None, self._store.blobs.path(answer.digest))
        return Ready(_head(body, answer), body, answer.place, answer.digest if answer.source else None)

    def send(self, request: web.BaseRequest, ready: Ready) -> Reply:
        """Raises Missing."""
        if ready.fetched and self._puller:
            self._store.fetched.use(ready.fetched)
        reply = respond(request, ready.head, ready.body, ready.place, self._accel)
        reply.cache = HIT
        return reply

    async def send_coming(self, request: web.BaseRequest, answer: BlobAnswer, source: Source) -> Reply:
        """A file that is not held, while it arrives. Raises Refused."""
        puller, origin, size = self._puller, answer.origin, source.file.size
        if puller is None or origin is None:
            problem = f"{source.file.name}: is not held, and its repo is not configured here, so it can't be fetched"
            raise Refused(503, problem, answer.place)
        if origin.offline:
            raise Refused(404, f"{source.file.name}: is not held, and its repo is offline", answer.place)
        if not origin.may_fetch(answer.path):
            raise Refused(403, f"/{answer.path}: this mirror is set up not to fetch it (allow, block)", answer.place)

        def coming(start: int, count: int | None) -> Coming:
            return Coming(puller.follow(source, origin), start, count)

        if request.method == "HEAD":
            puller.check(source, origin)
        elif size is None and request.version < (1, 1):  # it knows no chunks: where the connection ends, the file would end
            whole = coming(0, None)
            await whole.end()
            reply = self.send(request, self.prepare(answer))
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
