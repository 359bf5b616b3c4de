"""Reading `repodata_shards.msgpack.zst` (CEP 16): only shards whose hash is new are fetched.

Each of them is verified here. conda and rattler do not check the hash of a shard, so nobody else would notice what a broken
cache has made of it.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from .. import addresses, codec
from ..digests import Digest, sha256
from ..errors import BadIndexError, MismatchError
from ..readings import Draft, Reading, Upstream
from ..store.directories import LEAF_LIMIT
from ..validators import Validators
from .flat import KNOWN, base_of
from .leaf import decode, draft, sayable, withhold_unsayable

#: bytes that a shard index may expand to
_INDEX_LIMIT = 512 << 20
#: part of every source digest; raise its number when `leaf.draft` makes other bytes of the same shard
_SALT = b"conda shard 1\0"
#: keys of the top level that are not kept: they are read, or would be taken for ours in repodata.json. Indexes of conda-index
#: 0.6 to 0.9 say `repodata_version: 2` (CEP 15), which conda before 24.5 refuses
_KNOWN = {"shards", "version", *KNOWN}
#: addresses, and when upstream made its index: they describe upstream's document, not what is in it
_NOT_OURS = ("base_url", "shards_base_url", "created_at")


class _Index(msgspec.Struct):
    info: dict[str, Any]
    shards: dict[str, bytes]


class ShardedReading(Reading):
    """One shard index. Fulfils `readings.Reading`."""

    def __init__(self, url: str, body: bytes, upstream: Upstream, validators: Validators | None) -> None:
        """url: of the index, may hold credentials; body: as fetched. Raises BadIndexError."""
        self.document = url
        self.validators: Mapping[str, Validators] = {url: validators} if validators else {}
        self._upstream = upstream
        try:
            content = codec.decompress(body, _INDEX_LIMIT)
            found = codec.deeper(lambda: msgspec.msgpack.decode(content, type=_Index))
            top = msgspec.msgpack.decode(content, type=dict[str, msgspec.Raw])
            extra = {key: codec.deeper(partial(msgspec.msgpack.decode, raw)) for key, raw in top.items() if key not in _KNOWN}
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise BadIndexError(addresses.redact(url), f"can't be parsed: {error}") from None
        if any(len(digest) != 32 for digest in found.shards.values()):
            raise BadIndexError(addresses.redact(url), "a shard's hash has not 32 bytes")
        self.extra = {key: value for key, value in extra.items() if sayable(value)}
        self.bases: tuple[str, ...] = (base_of(url, found.info.get("base_url")),)
        self._shards_base = base_of(url, found.info.get("shards_base_url"))
        self.info = {key: value for key, value in found.info.items() if key not in _NOT_OURS and sayable(value)}
        self._shards = found.shards
        self.invalid: Mapping[str, str] = {}
        salt = _SALT + addresses.redact(self.bases[0]).encode()
        self.sources: Mapping[str, Digest] = {name: sha256(salt + digest) for name, digest in found.shards.items()}

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts: fetches, verifies and reads the shards of these names."""
        by_url: dict[str, list[str]] = {}
        for name in names:
            by_url.setdefault(f"{self._shards_base}{self._shards[name].hex()}.msgpack.zst", []).append(name)
        for url, answer in self._upstream.get_many(by_url, limit=LEAF_LIMIT):
            if isinstance(answer, Exception):
                raise answer
            for name in by_url[url]:
                yield self._draft(name, url, answer.body)

    def _draft(self, name: str, url: str, body: bytes) -> Draft:
        expected, actual = self._shards[name], sha256(body)
        if actual != expected:
            raise MismatchError(addresses.redact(url), "sha256", expected.hex(), actual.hex())
        try:
            content = codec.decompress(body, LEAF_LIMIT)
            shard = codec.deeper(lambda: decode(content))
            unsayable = withhold_unsayable(shard)
        except ValueError as error:
            raise BadIndexError(addresses.redact(url), str(error)) from None
        made = draft(name, shard, self.bases[0], self.sources[name])
        return made._replace(invalid={**made.invalid, **unsayable})
