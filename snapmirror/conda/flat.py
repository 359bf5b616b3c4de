"""Reading `repodata.json` and its compressed forms (CEP 36), without decoding what has not changed.

A repodata.json of 600,000 records is 340 MiB of text, and 2 GiB as Python objects. Here it stays text: msgspec cuts it
into one slice a record, and slices are grouped by package name. The digest of a group tells whether its bytes were seen
before; only the other groups are decoded, one by one.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec
from blake3 import blake3

from .. import addresses, codec
from ..digests import Digest
from ..errors import BadIndexError
from ..readings import Draft, Reading
from ..validators import Validators
from . import names
from .leaf import CONTRADICTION, SECTIONS, Shard, draft, fit_numbers

#: part of every source digest; raise its number when `leaf.draft` makes other bytes of the same text
_SALT = b"conda repodata record 1\0"
#: keys of the top level that are read, or made anew for what we publish; all others are kept (CEP 36, CEP 48)
KNOWN = {"info", *SECTIONS, "removed", "v3", "repodata_version"}

_RECORD: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
#: keys and texts of the records of one name in one section
_Slices = list[tuple[str, msgspec.Raw]]


class FlatReading(Reading):
    """One repodata.json. Fulfils `readings.Reading`."""

    def __init__(self, url: str, body: bytes, document: str, validators: Validators | None) -> None:
        """url: of repodata.json itself, for relative addresses; may hold credentials
        body: its plain text
        document, validators: URL of the form that was read, and what upstream said of it; "" and None if nothing was

        Raises BadIndexError.
        """
        self._url = url
        self.document = document
        self.validators: Mapping[str, Validators] = {document: validators} if validators else {}
        top = _decode_top(url, body)
        self.info: dict[str, Any] = dict(_decode_kept(url, top.get("info", b"{}"), dict[str, Any] | None) or {})
        if not isinstance(self.info.get("subdir"), str):  # CEP 36 does not require it; rattler does, in a shard index
            self.info["subdir"] = url.rsplit("/", 2)[-2]
        stated = self.info.pop("base_url", None)
        self.bases: tuple[str, ...] = (base_of(url, stated),)
        self.extra = {key: _decode_kept(url, raw, Any) for key, raw in top.items() if key not in KNOWN}
        if "repodata_version" in top and not stated:  # version 2 only says that there is a base_url (CEP 15)
            self.extra["repodata_version"] = _decode(url, top["repodata_version"], Any)
        for kept in (self.info, self.extra):
            try:
                fit_numbers(kept)
            except ValueError as problem:
                raise BadIndexError(addresses.redact(url), str(problem)) from None
        self._sections = self._group(top)
        self._removed = self._group_removed(top)
        self.invalid: Mapping[str, str] = {}
        self._salt = _SALT + addresses.redact(self.bases[0]).encode()
        found = dict.fromkeys(name for groups in self._sections.values() for name in groups) | dict.fromkeys(self._removed)
        self.sources: Mapping[str, Digest] = {name: self._source(name) for name in found}

    def _group(self, top: dict[str, Any]) -> dict[str, dict[str, _Slices]]:
        """{section: {package name in the files' names: slices}}. The records of `v3` are in a section `v3 <kind>` each."""
        texts = {section: top[section] for section in SECTIONS if section in top}
        if "v3" in top:
            texts |= {
                f"v3 {kind}": raw for kind, raw in (_decode(self._url, top["v3"], dict[str, msgspec.Raw] | None) or {}).items()
            }
        sections: dict[str, dict[str, _Slices]] = {}
        for section, text in texts.items():
            groups = sections[section] = {}
            cut = text if isinstance(text, dict) else _decode(self._url, text, dict[str, msgspec.Raw] | None)
            for item in (cut or {}).items():
                name = item[0].rsplit("-", 2)[0]
                if name in groups:
                    groups[name].append(item)
                else:
                    groups[name] = [item]
        return sections

    def _group_removed(self, top: dict[str, msgspec.Raw]) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for file in _decode(self._url, top.get("removed", b"[]"), list[str] | None) or ():
            groups.setdefault(names.leaf_of(file), []).append(file)
        return groups

    def _source(self, name: str) -> Digest:
        """A digest of all that the document says of a name.

        BLAKE3: nobody else sees it, and SHA-256 takes twice as long. In one call: one for each of 600,000 records took a
        third of the time of grouping.
        """
        parts: list[bytes | msgspec.Raw] = [self._salt]
        for section, groups in self._sections.items():
            if slices := groups.get(name):
                keys = "\0".join([key for key, _ in slices])
                parts.append(f"{section}\0{keys}\0".encode())
                parts += [raw for _, raw in slices]
        if removed := self._removed.get(name):
            parts.append("\0".join(removed).encode())
        return blake3(b"".join(parts)).digest()

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts. A record whose `name` is not the one in its file's name is moved to the leaf of its `name`."""
        strays: dict[str, list[tuple[str, str, Any]]] = {}
        mixed = set()
        for name in names:
            shard, twice = self._read_group(name)
            for owner, section, key, record in _take_strays(name, shard):
                strays.setdefault(owner, []).append((section, key, record))
                mixed.add(name)
            if name not in mixed:
                yield self._draft(name, shard, twice, self.sources[name])
        for name in mixed | strays.keys():
            shard, twice = self._read_group(name)
            _take_strays(name, shard)
            for section, key, record in strays.get(name, ()):
                shard.setdefault(section, {})[key] = record
            yield self._draft(name, shard, twice, None)

    def _draft(self, name: str, shard: dict[str, dict[str, Any]], twice: dict[str, str], source: Digest | None) -> Draft:
        made = draft(name, _as_shard(shard, self._removed.get(name)), self.bases[0], source)
        return made._replace(invalid={**made.invalid, **twice}) if twice else made

    def _read_group(self, name: str) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """The records of a group {section: {key: record}}, without files that two sections describe differently.

        Also these files {file: reason}. They are found here because their `name` may put them into two leaves, where nobody
        would see that at most one is right.
        """
        shard = codec.deeper(lambda: self._decode_group(name))
        one, other = (shard.get(section, {}) for section in SECTIONS)
        twice = [file for file in one.keys() & other.keys() if _promise(one[file]) != _promise(other[file])]
        for file in twice:
            del one[file], other[file]
        return shard, dict.fromkeys(twice, CONTRADICTION)

    def _decode_group(self, name: str) -> dict[str, dict[str, Any]]:
        """{section: {key: record}}."""
        try:
            return {
                section: {key: _RECORD.decode(raw) for key, raw in groups[name]}
                for section, groups in self._sections.items()
                if name in groups
            }
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {
                section: {key: _decode_one(raw) for key, raw in groups[name]}
                for section, groups in self._sections.items()
                if name in groups
            }


def base_of(url: str, stated: object) -> str:
    """The folder that an index states: its `base_url` (CEP 15, CEP 16) or `shards_base_url` (CEP 16).

    url: of the index; the result has its credentials if it is on the same server
    stated: absolute, or relative to the index; anything else means the folder of the index

    Raises BadIndexError.
    """
    try:
        joined = addresses.join(url, stated if isinstance(stated, str) and stated else "./")
        return addresses.as_folder(addresses.with_credentials(joined, url))
    except ValueError as error:
        raise BadIndexError(addresses.redact(url), f"an address in it can't be used: {error}") from None


def _promise(record: Any) -> object:
    """What a record says of the bytes of its file: two records with other promises are of other files."""
    if type(record) is not dict:
        return None
    return [str(record.get(key)).lower() for key in ("sha256", "md5", "size")]


def _decode_one(raw: msgspec.Raw) -> Any:
    """A record; None if it can't be decoded, because of a number like 1e400 for example. `draft` withholds what is None."""
    try:
        return _RECORD.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _take_strays(name: str, sections: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Take out the records that belong to another name: [(that name, section, key, record)]."""
    others = [
        (section, key, record)
        for section, records in sections.items()
        for key, record in records.items()
        if type(record) is dict and record.get("name") != name
    ]
    found = [
        (owner, section, key, record) for section, key, record in others if type(owner := record.get("name")) is str and owner
    ]
    for _, section, key, _ in found:
        del sections[section][key]
    return found


def _as_shard(sections: dict[str, dict[str, Any]], removed: list[str] | None) -> Shard:
    shard: Shard = {section: records for section, records in sections.items() if not section.startswith("v3 ")}
    v3 = {section[3:]: records for section, records in sections.items() if section.startswith("v3 ")}
    return {**shard, "removed": removed or [], **({"v3": v3} if v3 else {})}


class _Usual(msgspec.Struct, forbid_unknown_fields=True):
    """The keys that repodata.json usually has. If it has no other, one pass cuts it: of 340 MiB, 0.2 s faster than two."""

    packages: dict[str, msgspec.Raw] = {}
    conda: dict[str, msgspec.Raw] = msgspec.field(name="packages.conda", default_factory=dict)
    info: msgspec.Raw = msgspec.Raw(b"null")
    removed: msgspec.Raw = msgspec.Raw(b"null")
    repodata_version: msgspec.Raw = msgspec.Raw(b"")


def _decode_top(url: str, body: bytes) -> dict[str, Any]:
    """The top level {key: text}; `packages` and `packages.conda` may be cut into records already. Raises BadIndexError."""
    try:
        found = msgspec.json.decode(body, type=_Usual)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        unusual: dict[str, Any] = _decode(url, body, dict[str, msgspec.Raw])
        return unusual
    top = {"packages": found.packages, "packages.conda": found.conda, "info": found.info, "removed": found.removed}
    return top | ({"repodata_version": found.repodata_version} if bytes(found.repodata_version) else {})


def _decode(url: str, text: bytes | msgspec.Raw, type_: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        begin = bytes(memoryview(text)[:40])
        raise BadIndexError(addresses.redact(url), f"can't be parsed: {error}; it begins with {begin!r}") from None


def _decode_kept(url: str, text: bytes | msgspec.Raw, type_: Any) -> Any:
    """The same of what is published again."""
    return codec.deeper(lambda: _decode(url, text, type_))
