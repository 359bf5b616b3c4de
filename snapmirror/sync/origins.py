"""Where copies of snapshots come from: another store, or a snapmirror that serves one (see `copying.Origin`)."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from .. import addresses
from ..digests import Digest
from ..errors import AbsentError, SnapmirrorError
from ..readings import File
from ..store.listing import Listed, Listing, listing_of
from ..store.records import Copied
from ..store.store import Store
from ..transfer.download import Source
from ..transfer.http import Http
from .bringing import CopyError, Wanted, choose, decode_listing
from .copying import Sizes
from .fetch import Progress, fetch

#: bytes: of a list of snapshots, of a record
_LISTING_LIMIT = 1 << 30
_RECORD_LIMIT = 64 << 20
#: of the URL of an object, the longest that there is: it has to last until its turn comes
_LIFETIME = timedelta(days=7)


class _Fetching:
    """What both do alike: blobs are fetched like files of an upstream, resumed and verified."""

    def __init__(self, name: str, http: Http, present: Store, address: Callable[[Digest], str]) -> None:
        """present: the store whose clock says what is now; address: the URL of a blob"""
        self.name = name
        self._address = address
        self._http = http
        self._now = present.now

    def wanted(self, listing: Listing, selectors: Sequence[str]) -> Wanted:
        return choose(listing, selectors, self._now())

    def bring(self, store: Store, blobs: Sizes, progress: Progress) -> dict[Digest, SnapmirrorError]:
        sources = {
            digest: Source(File(digest.hex(), size, digest, None), (self._address(digest),)) for digest, size in blobs.items()
        }
        found = fetch(store, self._http, sources.values(), progress)
        results = ((digest, found[source.key]) for digest, source in sources.items())
        return {digest: result for digest, result in results if isinstance(result, SnapmirrorError)}

    def finish(self, brought: set[Digest]) -> None:
        pass  # nothing is there but what was asked for


class Opened(_Fetching):
    """Another store that this process has opened: in a folder of this machine, or of objects."""

    def __init__(self, name: str, origin: Store, http: Http, present: Store) -> None:
        super().__init__(name, http, present, self._url)
        self._origin = origin

    def _url(self, digest: Digest) -> str:
        far = self._origin.far
        return far.url(digest, _LIFETIME) if far else self._origin.layout.blob(digest).absolute().as_uri()

    def listing(self) -> Listing:
        return listing_of(self._origin)

    def snapshot(self, listed: Listed) -> Copied:
        found = self._origin.snapshots.files(listed.id)
        if found is None:
            raise CopyError(self.name, f"snapshot {listed.id} has just been taken away; run it again")
        return found


class Server(_Fetching):
    """A snapmirror that answers over HTTP."""

    def __init__(self, url: str, http: Http, present: Store) -> None:
        self._base = f"{addresses.as_folder(url)}-/"
        super().__init__(addresses.redact(url), http, present, lambda digest: f"{self._base}blobs/{digest.hex()}")

    def listing(self) -> Listing:
        content = self._get("copies.json", _LISTING_LIMIT)
        return decode_listing(self.name, content)

    def snapshot(self, listed: Listed) -> Copied:
        name = f"snapshots/{listed.id}"
        return Copied(
            self._get(f"{name}.json", _RECORD_LIMIT),
            self._get(f"{name}.sig", _RECORD_LIMIT) if listed.signature else None,
            self._get(f"{name}.pages", _RECORD_LIMIT) if listed.pages else None,
        )

    def _get(self, name: str, limit: int) -> bytes:
        try:
            answer = self._http.get(self._base + name, limit=limit)
        except AbsentError as error:
            hint = "; is it a snapmirror, of this version or a later one?" if name == "copies.json" else ""
            if error.status == 403:
                hint = "; if it wants a token, a token has to be one for all repos"
            raise CopyError(self.name, f"{error}{hint}") from None
        assert answer  # nothing is known of it before, so it can't be unchanged
        return answer.body
