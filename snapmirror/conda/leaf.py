"""Leaves: one package name's part of a subdir, as a CEP 16 shard.

A leaf is canonical MessagePack of `{"packages": {file: record}, "packages.conda": {…}, "removed": [file]}` and, where
upstream has it, `"v3": {kind: {key: record}}` (CEP 48). `md5` and `sha256` of a record are raw bytes, as clients of
shards expect; everything else is as upstream wrote it, known to us or not. We change two things: the computed sha256 is
added to a record that has none, and `url` is made to point at us.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from .. import addresses, codec
from ..digests import Digest
from ..ecosystem import Draft, File
from . import names

Record = dict[str, Any]
Shard = dict[str, Any]

SECTIONS = ("packages", "packages.conda")
_DIGEST_BYTES = {"md5": 16, "sha256": 32}


class Place(NamedTuple):
    """Where a record stands in a shard."""

    #: the map that holds it, and its key there
    holder: dict[str, Any]
    key: str
    file: str


def places(shard: Shard) -> Iterator[Place]:
    """Every record of a shard."""
    for section in SECTIONS:
        holder = shard.get(section) or {}
        for file in list(holder):
            yield Place(holder, file, file)
    for kind, holder in (shard.get("v3") or {}).items():
        if isinstance(holder, dict):
            for key in list(holder):
                record = holder[key] if isinstance(holder[key], dict) else {}
                yield Place(holder, key, names.v3_file(kind, key, record))


def decode(leaf: bytes) -> Shard:
    """A shard from its bytes. Raises ValueError if they are none."""
    try:
        shard = msgspec.msgpack.decode(leaf)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a shard: {error}") from None
    if not isinstance(shard, dict) or any(not isinstance(shard.get(key) or {}, dict) for key in (*SECTIONS, "v3")):
        raise ValueError("not a shard: its sections are no maps")
    return shard


def draft(name: str, shard: Shard, base: str, source: Digest | None) -> Draft:
    """Check and normalise a shard as upstream wrote it (it is changed in place).

    base: URL below which upstream keeps the files, ending in a slash
    source: digest of what the shard was read from, None if it was not read from that alone
    """
    invalid: dict[str, str] = {}
    files = []
    for place in places(shard):
        try:
            files.append(_normalise(place, base))
        except ValueError as problem:
            invalid[place.file] = str(problem)
            del place.holder[place.key]
    return Draft(name, _encode(shard), tuple(files), source, invalid)


def _normalise(place: Place, base: str) -> File:
    """Check one record and bring it into our form. Raises ValueError with the reason to withhold it."""
    record, file = place.holder[place.key], place.file
    if problem := names.problem_with(file):
        raise ValueError(problem)
    if not isinstance(record, dict):
        raise ValueError("its record is no object")
    if not isinstance(record.get("name"), str) or not record["name"]:
        raise ValueError("its record has no name")
    size = record.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise ValueError(f"its size is {size!r}")
    for kind, length in _DIGEST_BYTES.items():
        if record.get(kind) is not None:
            record[kind] = _digest(kind, length, record[kind])
    sha256, md5 = record.get("sha256"), record.get("md5")
    if sha256 is None and md5 is None and size is None:
        raise ValueError("its record has neither a hash nor a size")
    url = record.get("url")
    where = None
    if isinstance(url, str):
        absolute = addresses.redact(addresses.join(base, url))
        where = absolute if absolute != addresses.redact(addresses.file_url(base, file)) else None
        record["url"] = file
    return File(file, size, sha256, md5, where)


def _digest(kind: str, length: int, value: object) -> bytes:
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value)
        except ValueError:
            raise ValueError(f"its {kind} is no hexadecimal number") from None
    if not isinstance(value, bytes) or len(value) != length:
        raise ValueError(f"its {kind} has not {length} bytes")
    return value


def _encode(shard: Shard) -> bytes:
    """Canonical bytes; empty if nothing is left to say."""
    if shard.get("v3"):
        shard["v3"] = {kind: records for kind, records in shard["v3"].items() if records}
    if not shard.get("v3"):
        shard.pop("v3", None)
    shard["removed"] = sorted(set(map(str, shard.get("removed") or ())))
    for section in SECTIONS:
        shard[section] = shard.get(section) or {}
    if not any(shard[key] for key in shard):
        return b""
    try:
        return codec.to_msgpack(shard)
    except OverflowError:
        _drop_huge_numbers(shard)
        return codec.to_msgpack(shard)


def _drop_huge_numbers(value: Any) -> None:
    """MessagePack has no integers beyond 64 bits; as a float the number is the same to every JSON reader but Python's."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        if isinstance(item, int) and not -(2**63) <= item < 2**64:
            value[key] = float(item)
        else:
            _drop_huge_numbers(item)


def settle(leaf: bytes, digests: Mapping[str, Digest], withheld: Collection[str]) -> bytes:
    """A leaf with computed digests added {file: SHA-256} and withheld files taken out; empty if nothing is left."""
    shard = decode(leaf)
    for place in places(shard):
        if place.file in withheld:
            del place.holder[place.key]
        elif place.file in digests and place.holder[place.key].get("sha256") is None:
            place.holder[place.key]["sha256"] = digests[place.file]
    return _encode(shard)


class _Sums(msgspec.Struct):
    """The part of a record that finds its bytes; decoding the rest is skipped."""

    sha256: bytes | None = None
    md5: bytes | None = None
    size: int | None = None
    fn: str | None = None
    url: str | None = None


class _Files(msgspec.Struct):
    packages: dict[str, _Sums] = {}
    conda: dict[str, _Sums] = msgspec.field(default_factory=dict, name="packages.conda")
    v3: dict[str, dict[str, _Sums]] = {}


_DECODER = msgspec.msgpack.Decoder(_Files)


def files(leaf: bytes) -> tuple[File, ...]:
    """The files that a leaf lists. Raises ValueError if it is no shard."""
    try:
        found = _DECODER.decode(leaf)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a shard: {error}") from None
    listed = [
        File(file, sums.size, sums.sha256, sums.md5) for part in (found.packages, found.conda) for file, sums in part.items()
    ]
    for kind, part in found.v3.items():
        for key, sums in part.items():
            file = names.v3_file(kind, key, {"fn": sums.fn, "url": sums.url})
            listed.append(File(file, sums.size, sums.sha256, sums.md5))
    return tuple(listed)


def names_in(leaf: bytes) -> set[str]:
    """Every name under which a directory might list a leaf."""
    shard = decode(leaf)
    found = {names.leaf_of(file) for file in shard.get("removed") or ()}
    for place in places(shard):
        found.add(names.leaf_of(place.file))
        record = place.holder[place.key]
        if isinstance(record, dict) and isinstance(record.get("name"), str):
            found.add(record["name"])
    return found
