"""Which document of an upstream is read: one, in order of preference, so that everything we publish is of one moment."""

from collections.abc import Collection, Sequence

import msgspec

from .. import addresses, codec
from ..errors import AbsentError, BadIndexError, TransportError, UpstreamError
from ..readings import Answer, Known, Upstream
from . import sharded
from .flat import FlatReading
from .settings import CondaRepo

#: bytes of a repodata.json; conda-forge's largest was 363 MB in 2026
REPODATA_LIMIT = 2 << 30

SHARDS = "repodata_shards.msgpack.zst"
#: what servers say of a form that they don't have; S3 says 403
_USUAL = {403, 404, 410, 501}
#: forms of an index, the one that says the same with the fewest bytes first
_FORMS = (SHARDS, "repodata.json.zst", "repodata.json", "repodata.json.bz2")
#: of a folder of this machine: what its tools write themselves comes before what they may have kept from earlier days
LOCAL_FORMS = ("repodata.json", "repodata.json.zst", "repodata.json.bz2", SHARDS)

Reading = FlatReading | sharded.ShardedReading


def read(
    repo: CondaRepo,
    subdir: str,
    upstream: Upstream,
    known: Known,
    avoid: Collection[str],
    forms: Sequence[str] = _FORMS,
) -> Reading | None:
    """The present state of a subdir, from the first upstream that has a usable document; None if unchanged.

    avoid: URLs of documents that proved unusable a moment ago
    Raises AbsentError if every upstream says that there is no such subdir, else the last UpstreamError.
    """
    problems: list[UpstreamError] = []
    for address in repo.upstreams:
        base = addresses.as_folder(addresses.as_folder(address) + subdir)
        try:
            found = _read_one(base, upstream, known, avoid, forms)
        except UpstreamError as error:
            problems.append(error)
            if len(repo.upstreams) > 1:
                upstream.warn(f"{error}; trying the next upstream")
            continue
        if found is not None:
            rest = (addresses.as_folder(addresses.as_folder(other) + subdir) for other in repo.upstreams if other != address)
            found.bases += tuple(rest)
        return found
    raise next((error for error in problems if not isinstance(error, AbsentError)), problems[-1])


def _read_one(base: str, upstream: Upstream, known: Known, avoid: Collection[str], forms: Sequence[str]) -> Reading | None:
    refused: list[UpstreamError] = []
    odd: list[UpstreamError] = []
    for variant in forms:
        url = base + variant
        if url in avoid:
            continue
        try:
            answer = upstream.get(url, limit=REPODATA_LIMIT, known=known(url))
            found = None if answer is None else _parse(base, variant, answer, upstream)
        except AbsentError as error:
            if error.status not in (404, 410):
                refused.append(TransportError(error.url, error.problem))
            if error.status not in _USUAL:
                odd.append(error)
            continue
        except BadIndexError as error:
            if variant != SHARDS:
                raise
            refused.append(error)  # a page that says "not found" with the status 200, where there never were shards
            odd.append(error)
            continue
        for problem in odd:
            upstream.warn(f"{problem}; reading another form of the index")
        return found
    raise refused[0] if refused else AbsentError(addresses.redact(base + "repodata.json"), 404)


def _parse(base: str, variant: str, answer: Answer, upstream: Upstream) -> Reading:
    url = base + variant
    if variant == SHARDS:
        return sharded.ShardedReading(url, answer.body, upstream, answer.validators)
    try:
        if variant.endswith(".zst"):
            body = codec.decompress(answer.body, REPODATA_LIMIT)
        elif variant.endswith(".bz2"):
            body = codec.expand_bz2(answer.body, REPODATA_LIMIT)
        else:
            body = answer.body
    except ValueError as error:
        raise BadIndexError(addresses.redact(url), str(error)) from None
    return FlatReading(base + "repodata.json", body or b"{}", url, answer.validators)


def nothing(repo: CondaRepo, subdir: str) -> FlatReading:
    """What is published for a subdir that upstream has never had."""
    base = addresses.as_folder(addresses.as_folder(repo.upstreams[0]) + subdir)
    body = msgspec.json.encode({"info": {"subdir": subdir}})
    return FlatReading(base + "repodata.json", body, "", None)
