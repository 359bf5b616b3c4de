"""What the store holds, byte for byte, below `/-/`: records, their signatures, blobs. For copies, and for who checks one."""

from aiohttp import web

from .. import codec
from ..digests import Digest, is_hex_digest
from ..errors import Forgotten
from ..store.listing import listing_of
from ..store.store import Store
from .answers import HIT, Refused, refuse_denied
from .bodies import Body, in_memory
from .far import FarSender
from .parts import Missing
from .respond import IMMUTABLE, SHORT, Reply, head, respond
from .settings import Serve
from .view import View

#: below `/-/`
FOLDERS = ("blobs/", "snapshots/")
_BYTES = "application/octet-stream"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


class Stored:
    """Answers of one process with what lies in the store, as it is."""

    def __init__(self, store: Store, settings: Serve) -> None:
        self._store = store
        self._accel = settings.accel
        self._far = FarSender(store.far, None) if store.far else None

    def listing(self) -> bytes:
        """What a copy begins with: all snapshots, pins and denials, see `store.listing`. Raises DamagedError."""
        return codec.to_json(listing_of(self._store))

    async def answer(self, request: web.BaseRequest, name: str, view: View) -> Reply:
        """The answer for a path below `/-/`. Raises Refused.

        Who knows a digest has it from a record, a directory or a leaf. A blob that is held is given to whoever names it, of a
        forgotten snapshot too until gc takes it; what is denied is not.
        """
        folder, _, rest = name.partition("/")
        if folder == "blobs" and is_hex_digest(rest):
            return await self._blob(request, rest, view)
        id_, _, ending = rest.rpartition(".")
        if folder == "snapshots" and ending in ("json", "sig", "pages"):
            return self._snapshot(request, id_, ending, view)
        raise Refused(404, f"/-/{name}: there is no such page")

    async def _blob(self, request: web.BaseRequest, name: str, view: View) -> Reply:
        digest = bytes.fromhex(name)
        refuse_denied(view, digest, f"blob {name}", None)
        try:
            body = await self._body(digest)
            reply = respond(request, head(body, None, _BYTES, IMMUTABLE), body, None, self._accel)
        except Missing as error:  # gc, or somebody who damages the store, came in between
            raise Refused(404, f"blob {name}: {error}") from None
        reply.cache = HIT
        return reply

    async def _body(self, digest: Digest) -> Body:
        """Raises Missing, Refused."""
        if self._far:
            return await self._far.body(digest, 0)  # whether it is a file or metadata it does not say
        size = self._store.blobs.size(digest)
        if size is None:
            raise Missing("is not held")
        return Body(f'"{digest.hex()}"', size, None, self._store.blobs.path(digest))

    def _snapshot(self, request: web.BaseRequest, id_: str, ending: str, view: View) -> Reply:
        if id_ not in view.catalog.by_id:
            raise Refused(404, f"{id_}: there is no snapshot of that id")
        try:
            view.catalog.resolve(id_, None, self._store.now())
        except Forgotten as error:
            raise Refused(410, str(error)) from None
        files = self._store.snapshots.files(id_)
        if files is None:  # a moment ago
            raise Refused(410, f"{id_}: this snapshot was forgotten")
        data = {"json": files.record, "sig": files.signature, "pages": files.pages}[ending]
        if data is None:
            lacks = "is not signed" if ending == "sig" else "has nothing that was told later"
            raise Refused(404, f"{id_}: this snapshot {lacks}")
        body = in_memory(data)
        return respond(request, head(body, None, _TEXT if ending == "sig" else _JSON, SHORT), body, None)
