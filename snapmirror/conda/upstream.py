"""Which document of an upstream is read: the first usable form of its index, and only that one.

So everything that we publish of a subdir is of one moment (repodata.json and its compressed forms: CEP 36; shards: CEP 16).
"""

from collections.abc import Collection, Sequence

import msgspec

from .. import addresses, codec
from ..errors import AbsentError, BadIndexError, TransportError, UpstreamError
from ..readings import Answer, Known, Upstream
from . import sharded
from .flat import FlatReading
from .settings import CondaRepo

#: bytes that a document may have, and may expand to; conda-forge's largest repodata.json had 363 MB in 2026
REPODATA_LIMIT = 2 << 30

_SHARDS = "repodata_shards.msgpack.zst"
#: statuses that mean that a server does not have a form; S3 says 403
_USUAL = {403, 404, 410, 501}
#: forms of an index, in order of preference: fewest bytes first
_FORMS = (_SHARDS, "repodata.json.zst", "repodata.json", "repodata.json.bz2")
#: the same for a folder of this machine: what tools write themselves comes before what they may have kept from earlier days
LOCAL_FORMS = ("repodata.json", "repodata.json.zst", "repodata.json.bz2", _SHARDS)

Reading = FlatReading | sharded.ShardedReading


def read(
    repo: CondaRepo,
    subdir: str,
    upstream: Upstream,
    known: Known,
    avoid: Collection[str],
    forms: Sequence[str] = _FORMS,
) -> Reading | None:
    """See Ecosystem.read. The index comes from the first upstream that has a usable one, files come from the others too.

    forms: of the index, in order of preference
    Raises AbsentError if every upstream says that there is no such subdir, else the first other UpstreamError.
    """
    problems: list[UpstreamError] = []
    for address in repo.upstreams:
        try:
            found = _read_one(folder_of(address, subdir), upstream, known, avoid, forms)
        except UpstreamError as error:
            problems.append(error)
            if len(repo.upstreams) > 1:
                upstream.warn(f"{error}; trying the next upstream")
            continue
        if found is not None:
            found.bases += tuple(folder_of(other, subdir) for other in repo.upstreams if other != address)
        return found
    raise next((error for error in problems if not isinstance(error, AbsentError)), problems[-1])


def folder_of(address: str, subdir: str) -> str:
    """The URL of a subdir of the channel at an address, ending in a slash."""
    return addresses.as_folder(addresses.as_folder(address) + subdir)


def _read_one(base: str, upstream: Upstream, known: Known, avoid: Collection[str], forms: Sequence[str]) -> Reading | None:
    #: answers that don't say for certain that there is no such subdir
    refused: list[UpstreamError] = []
    #: what the operator is to know of, if another form can be read
    odd: list[UpstreamError] = []
    for form in forms:
        url = base + form
        if url in avoid:
            continue
        try:
            answer = upstream.get(url, limit=REPODATA_LIMIT, known=known(url))
            found = None if answer is None else _parse(base, form, answer, upstream)
        except AbsentError as error:
            if error.status not in (404, 410):
                refused.append(TransportError(error.url, error.problem))
            if error.status not in _USUAL:
                odd.append(error)
            continue
        except BadIndexError as error:
            if form != _SHARDS:
                raise
            refused.append(error)  # most likely a page that says "not found" with the status 200: there never were shards
            odd.append(error)
            continue
        for problem in odd:
            upstream.warn(f"{problem}; reading another form of the index")
        return found
    raise refused[0] if refused else AbsentError(addresses.redact(base + "repodata.json"), 404)


def _parse(base: str, form: str, answer: Answer, upstream: Upstream) -> Reading:
    url = base + form
    if form == _SHARDS:
        return sharded.ShardedReading(url, answer.body, upstream, answer.validators)
    try:
        if form.endswith(".zst"):
            body = codec.decompress(answer.body, REPODATA_LIMIT)
        elif form.endswith(".bz2"):
            body = codec.decompress_bz2(answer.body, REPODATA_LIMIT)
        else:
            body = answer.body
    except ValueError as error:
        raise BadIndexError(addresses.redact(url), str(error)) from None
    return FlatReading(base + "repodata.json", body or b"{}", url, answer.validators)  # CEP 36: an empty file is an empty {}


def empty(repo: CondaRepo, subdir: str) -> FlatReading:
    """See Ecosystem.empty."""
    body = msgspec.json.encode({"info": {"subdir": subdir}})
    return FlatReading(folder_of(repo.upstreams[0], subdir) + "repodata.json", body, "", None)
