"""Leaves: one package name's part of a subdir, as a CEP 16 shard.

A leaf is canonical MessagePack of `{"packages": {file: record}, "packages.conda": {…}, "removed": [file]}` and, where
upstream has it, `"v3": {kind: {key: record}}` (CEP 48). A record is that of repodata.json (CEP 36), with `md5` and `sha256`
as raw bytes (CEP 16). Keys that we don't know are kept. What we change in a record is no more than this:

sha256              added once it is computed, if upstream states none
url                 becomes the name of the file, as a URL, wherever that is: clients fetch it from us
indexed_timestamp   added if the configuration says so and upstream states none (CEP 47)
legacy_bz2_md5      hexadecimal digits, as clients read it in shards too
numbers             integers beyond 64 bits become floats, for MessagePack has none
"""

import math
import reprlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from .. import addresses, codec
from ..digests import Digest
from ..readings import Draft, File
from . import names

Record = dict[str, Any]
Shard = dict[str, Any]

#: the maps of a shard and of repodata.json whose keys are file names
SECTIONS = ("packages", "packages.conda")
#: a reason to withhold a file
CONTRADICTION = "two records give it different hashes"
#: a timestamp below this is in seconds, as some builders write it; above, in milliseconds, as CEP 34 has it
_SECONDS_END = 100_000_000_000


class _Shape(msgspec.Struct):
    """What a shard must at least be; other keys may be anything, but keys are texts."""

    packages: dict[str, Any] | None = None
    conda: dict[str, Any] | None = msgspec.field(default=None, name="packages.conda")
    v3: dict[str, dict[str, Any]] | None = None
    removed: list[str] | None = None


_SHAPE = msgspec.msgpack.Decoder(_Shape)
_SHARD: msgspec.msgpack.Decoder[dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, Any])

#: where a record is: the map that holds it, its key there, and the name of its file
Place = tuple[dict[str, Any], str, str]


def texts(value: object) -> list[str]:
    """The texts of a list in a record; upstream may have written anything there."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def places(shard: Shard) -> Iterator[Place]:
    """Every record of a shard. It may be deleted from its map at once."""
    for section in SECTIONS:
        if holder := shard.get(section):
            yield from [(holder, file, file) for file in holder]
    for kind, holder in (shard.get("v3") or {}).items():
        for key in list(holder):
            record = holder[key] if isinstance(holder[key], dict) else {}
            yield holder, key, names.v3_file(kind, key, record)


def decode(leaf: bytes) -> Shard:
    """A shard from its uncompressed bytes. Raises ValueError for bytes that are none."""
    try:
        _SHAPE.decode(leaf)
        return _SHARD.decode(leaf)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a shard: {error}") from None


def withhold_unsayable(shard: Shard) -> dict[str, str]:
    """Take what JSON can't say out of a shard: repodata.json could not list it. Returns {file: reason to withhold it}."""
    withheld = {}
    for holder, key, file in places(shard):
        record = holder[key]
        if isinstance(record, dict):
            if isinstance(legacy := record.get("legacy_bz2_md5"), bytes):
                record["legacy_bz2_md5"] = legacy.hex()
            record = {**record, "md5": None, "sha256": None}
        if not sayable(record):
            withheld[file] = "its record holds what JSON can't say"
            del holder[key]
    for key in [key for key in shard if key not in (*SECTIONS, "v3", "removed")]:
        if not sayable(shard[key]):
            del shard[key]
    return withheld


def sayable(value: Any) -> bool:
    """Whether JSON can say a value. It can't say bytes, times and extensions of MessagePack, NaN, and keys that are no text."""
    try:
        return _sayable(value)
    except RecursionError:
        return False


def _sayable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _sayable(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_sayable, value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def draft(name: str, shard: Shard, base: str, source: Digest | None) -> Draft:
    """Make a leaf of a shard as upstream wrote it; the shard is changed in place. Records that are invalid are taken out.

    base: URL below which upstream keeps the files, ending in a slash
    source: digest of what the shard was read from, None if it was not read from that alone
    """
    invalid: dict[str, str] = {}
    files = []
    for holder, key, file in places(shard):
        try:
            files.append(_normalise(holder[key], file, base))
        except ValueError as problem:
            invalid[file] = str(problem)
    if sum(bool(shard.get(section)) for section in (*SECTIONS, "v3")) > 1:
        invalid |= dict.fromkeys(_contradictions(files), CONTRADICTION)
    _take_out(shard, invalid)
    try:
        content = _encode(shard)
    except OverflowError:
        invalid |= _fit_numbers(shard)
        _take_out(shard, invalid)
        content = _encode(shard)
    if invalid:
        files = [file for file in files if file.name not in invalid]
    return Draft(name, content, tuple(files), source, invalid)


def _take_out(shard: Shard, files: Collection[str]) -> None:
    for holder, key, file in places(shard) if files else ():
        if file in files:
            del holder[key]


def _contradictions(files: list[File]) -> set[str]:
    """Files that two records of a leaf describe differently: whichever record we published, it might be the wrong one."""
    if len({file.name for file in files}) == len(files):
        return set()
    seen: dict[str, tuple[object, ...]] = {}
    return {
        file.name
        for file in files
        if seen.setdefault(file.name, (file.sha256, file.other, file.size)) != (file.sha256, file.other, file.size)
    }


def _normalise(record: Any, file: str, base: str) -> File:
    """Check one record and bring it into our form. Raises ValueError with the reason to withhold it.

    Called 600,000 times by a first sync of conda-forge: `type(x) is` and a regular expression halved its time.
    """
    if not names.is_plain(file) and (problem := names.problem_with(file)):
        raise ValueError(problem)
    if type(record) is not dict:
        raise ValueError("its record is no object")
    name, size, sha256, md5 = record.get("name"), record.get("size"), record.get("sha256"), record.get("md5")
    if type(name) is not str or not name:
        raise ValueError("its record has no name")
    if size is not None and (type(size) is not int or not 0 <= size < 1 << 53):  # beyond, JSON's readers disagree
        raise ValueError(f"its size is {reprlib.repr(size)}")
    try:
        if sha256 is not None:
            sha256 = record["sha256"] = bytes.fromhex(sha256) if type(sha256) is str else sha256
        if md5 is not None:
            md5 = record["md5"] = bytes.fromhex(md5) if type(md5) is str else md5
    except ValueError:
        raise ValueError("its sha256 or md5 is no hexadecimal number") from None
    if (sha256 is not None and (type(sha256) is not bytes or len(sha256) != 32)) or (
        md5 is not None and (type(md5) is not bytes or len(md5) != 16)
    ):
        raise ValueError("its sha256 has not 32 bytes, or its md5 not 16")
    if sha256 is None and md5 is None and size is None:
        raise ValueError("its record has neither a hash nor a size")
    return File(file, size, sha256, md5, _elsewhere(record, file, base) if "url" in record else None)


def _elsewhere(record: Record, file: str, base: str) -> str | None:
    """The address in a record's `url` (a draft of a CEP, ceps#151), if it is not base + name. In the record it becomes ours."""
    if not isinstance(record["url"], str):
        return None
    stated = addresses.redact(addresses.join(base, record["url"]))
    record["url"] = addresses.file_url("", file)
    return stated if stated != addresses.redact(addresses.file_url(base, file)) else None


def _encode(shard: Shard) -> bytes:
    """Canonical bytes; empty if nothing is left to say. Raises OverflowError for integers beyond 64 bits."""
    if shard.get("v3"):
        shard["v3"] = {kind: records for kind, records in shard["v3"].items() if records}
    if not shard.get("v3"):
        shard.pop("v3", None)
    shard["removed"] = sorted(set(map(str, shard.get("removed") or ())))
    for section in SECTIONS:
        shard[section] = shard.get(section) or {}
    return codec.to_msgpack(shard) if any(shard.values()) else b""


def _fit_numbers(shard: Shard) -> dict[str, str]:
    """Make the numbers of all records fit; {file: reason to withhold it} of those that can't."""
    invalid = {}
    for holder, key, file in places(shard):
        try:
            fit_numbers(holder[key])
        except ValueError as problem:
            invalid[file] = f"its record {problem}"
    return invalid


def fit_numbers(value: dict[str, Any]) -> None:
    """Turn integers beyond 64 bits into floats, in place. MessagePack has no such integers; most JSON readers make floats of
    them anyway. Raises ValueError for a number that no float can hold.
    """
    waiting: list[dict[str, Any] | list[Any]] = [value]
    while waiting:  # no recursion: from Python 3.12 on, JSON may be nested deeper than functions
        holder: Any = waiting.pop()
        for key, item in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(item, dict | list):
                waiting.append(item)
            elif isinstance(item, int) and not -(2**63) <= item < 2**64:
                try:
                    holder[key] = float(item)
                except OverflowError:
                    raise ValueError("holds a number that is too large for JSON's readers") from None


def settle(leaf: bytes, digests: Mapping[str, Digest], withheld: Collection[str]) -> bytes:
    """A leaf without the withheld files, and with the computed SHA-256 of those that had none; empty if nothing is left.

    digests: {file: SHA-256}
    """
    shard = decode(leaf)
    for holder, key, file in places(shard):
        if file in withheld:
            del holder[key]
        elif file in digests and holder[key].get("sha256") is None:
            holder[key]["sha256"] = digests[file]
    return _encode(shard)


def dates(leaf: bytes) -> dict[str, int]:
    """The `indexed_timestamp` (CEP 47) of those files that have one: {file: milliseconds since 1970}."""
    return {
        file: stamp
        for holder, key, file in places(decode(leaf))
        if isinstance(holder[key], dict) and type(stamp := holder[key].get("indexed_timestamp")) is int
    }


def date(leaf: bytes, seen: Mapping[str, int]) -> bytes:
    """A leaf with this `indexed_timestamp` (CEP 47) in the records of files: {file: milliseconds since 1970}."""
    shard = decode(leaf)
    for holder, key, file in places(shard):
        if file in seen:
            holder[key]["indexed_timestamp"] = seen[file]
    return _encode(shard)


def as_of(leaf: bytes, instant: int) -> bytes:
    """A leaf with only the records that were listed, or else built, by an instant (seconds since 1970); empty if none is.

    A record that does not say when is left out: it may have come later.
    """
    shard = decode(leaf)
    for holder, key, _ in places(shard):
        at = listed_at(holder[key].get("indexed_timestamp"), holder[key].get("timestamp"))
        if at is None or at > instant:
            del holder[key]
    shard["removed"] = []
    return _encode(shard)


def listed_at(indexed: object, built: object) -> float | None:
    """When upstream first listed a file, else when the file was built; seconds since 1970, None if its record does not say.

    indexed, built: `indexed_timestamp` (CEP 47) and `timestamp` (CEP 34) of the record, whatever these are
    """
    stamp = next((stamp for stamp in (indexed, built) if isinstance(stamp, int | float) and stamp > 0), None)
    return stamp / 1000 if stamp and stamp >= _SECONDS_END else stamp


class _Sums(msgspec.Struct, gc=False):
    """The part of a record that a `File` is made of; the rest is not decoded."""

    sha256: bytes | None = None
    md5: bytes | None = None
    size: int | None = None
    fn: Any = None
    url: Any = None


class _Files(msgspec.Struct):
    packages: dict[str, _Sums] = {}
    conda: dict[str, _Sums] = msgspec.field(default_factory=dict, name="packages.conda")
    v3: dict[str, dict[str, _Sums]] = {}


_DECODER = msgspec.msgpack.Decoder(_Files)


def files(leaf: bytes) -> tuple[File, ...]:
    """The files that a leaf lists. Raises ValueError for bytes that are no shard."""
    try:
        found = _DECODER.decode(leaf)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
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
    """Every name under which a directory might list a leaf: those in its files' names, and those that its records state.

    Raises ValueError if it is no shard.
    """
    shard = decode(leaf)
    found = {names.leaf_of(file) for file in shard.get("removed") or ()}
    for holder, key, file in places(shard):
        found.add(names.leaf_of(file))
        record = holder[key]
        if isinstance(record, dict) and isinstance(record.get("name"), str):
            found.add(record["name"])
    return found
