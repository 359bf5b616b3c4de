"""The documents that clients ask for, as functions of a directory and its leaves. Golden digests in the tests freeze their
bytes.

No document holds an address: files and shards are beside it. repodata.json has no `base_url` (CEP 15). The shard index has
an empty one, for rattler requires the key, and a relative URL breaks conda 26.7.
"""

from collections.abc import Iterable, Iterator

from .. import codec
from ..store.directories import DirectoryReader
from . import leaf as leaves
from .leaf import SECTIONS, Record, Shard
from .revisions import counted, has_counts, times

_HASHES = ("md5", "sha256")


def repodata(reader: DirectoryReader) -> bytes:
    """`repodata.json` (CEP 36, `v3`: CEP 48): records by name of the leaf, then file name; their keys are sorted."""
    return _write(reader, (leaves.decode(leaf) for _, leaf in reader.contents()))


def _write(reader: DirectoryReader, shards: Iterable[Shard]) -> bytes:
    """A repodata.json of these shards, written record by record: as one object, 600,000 records would take 2 GiB.

    It is put together once: each map made by itself first would be in memory twice more.
    """
    maps: dict[str, list[bytes]] = {section: [] for section in SECTIONS}
    v3: dict[str, list[bytes]] = {}
    removed: list[str] = []
    stamps: list[int | None] = []
    for shard in shards:
        for section in SECTIONS:
            maps[section] += _members(shard.get(section) or {})
        for kind, records in (shard.get("v3") or {}).items():
            v3.setdefault(kind, []).extend(_members(records))
        stamps += times(shard)
        removed += shard.get("removed") or ()
    top: dict[str, Iterable[bytes]] = {
        "info": [codec.to_json(counted(reader.document.info, stamps))],
        "repodata_version": [b"1"],
        **{key: [codec.to_json(value)] for key, value in reader.document.extra.items()},
        "removed": [codec.to_json(sorted(removed))],
        **{section: _object(map(_single, members)) for section, members in maps.items()},
    }
    if v3:
        top["v3"] = _object(_member(kind, _object(map(_single, members))) for kind, members in sorted(v3.items()))
    return b"".join(_object(_member(key, text) for key, text in top.items()))


def _single(text: bytes) -> tuple[bytes]:
    return (text,)


def _member(key: str, value: Iterable[bytes]) -> Iterator[bytes]:
    """A member of a JSON object, in pieces."""
    yield codec.to_json(key) + b":"
    yield from value


def _object(members: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """A JSON object of members, in pieces."""
    between = b"{"
    for member in members:
        yield between
        yield from member
        between = b","
    yield b"{}" if between == b"{" else b"}"


def _members(records: dict[str, Record]) -> Iterator[bytes]:
    """The records as members of a JSON object. Shards have raw hashes, repodata.json has hexadecimal digits."""
    for key in sorted(records):
        record = records[key]
        for kind in _HASHES:
            if isinstance(record.get(kind), bytes):
                record[kind] = record[kind].hex()
        yield codec.to_json(key) + b":" + codec.to_json(record)


def join(members: Iterable[bytes]) -> bytes:
    """A JSON object from the texts of its members."""
    return b"{" + b",".join(members) + b"}"


def shard_index(reader: DirectoryReader) -> bytes:
    """The MessagePack in `repodata_shards.msgpack.zst` (CEP 16)."""
    info = reader.document.info
    if has_counts(info):
        info = counted(info, [time for _, leaf in reader.contents() for time in times(leaves.decode(leaf))])
    return codec.to_msgpack(
        {
            **reader.document.extra,
            "version": 1,
            "info": {**info, "base_url": "", "shards_base_url": "./shards/"},
            "shards": reader.leaves,
        }
    )


def current_repodata(reader: DirectoryReader) -> bytes:
    """`current_repodata.json`, a variant of repodata.json (CEP 36): the newest version of every name, and what that needs."""
    from . import newest  # py-rattler is slow to load and only wanted here

    return _write(reader, newest.reduce(leaves.decode(leaf) for _, leaf in reader.contents()))
