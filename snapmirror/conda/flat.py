"""Reading `repodata.json` and its compressed forms (CEP 36), without decoding what has not changed.

A repodata.json of 600,000 records is 340 MiB of text, and 2 GiB as Python objects. Here it stays text: msgspec cuts it
into one slice a record, slices are grouped by package name, and a group whose bytes were seen before is known by its
digest. Only the others are decoded, group by group.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from .. import addresses
from ..digests import Digest
from ..ecosystem import Draft
from ..errors import BadIndexError
from ..validators import Validators
from . import names
from .leaf import SECTIONS, Shard, draft

#: part of every source digest; raise it when `leaf.draft` makes other bytes of the same text
_SALT = b"conda repodata record 1\0"
_KNOWN = {"info", "packages", "packages.conda", "removed", "v3", "repodata_version"}

#: (map that holds it, key, text of the record)
_Slice = tuple[str, str, msgspec.Raw]


class FlatReading:
    """One repodata.json. Fulfils `ecosystem.Reading`."""

    def __init__(self, url: str, body: bytes, document: str, validators: Validators | None) -> None:
        """url: of repodata.json itself, for relative addresses; body: its plain text. Raises BadIndexError."""
        self._url = url
        self.document = document
        self.validators = validators
        top = _decode(url, body, dict[str, msgspec.Raw])
        self.info: dict[str, Any] = dict(_decode(url, top.get("info", b"{}"), dict[str, Any] | None) or {})
        stated = self.info.pop("base_url", None)
        self.bases: tuple[str, ...] = (addresses.as_folder(addresses.join(url, stated if isinstance(stated, str) else "./")),)
        self.extra = {key: _decode(url, raw, Any) for key, raw in top.items() if key not in _KNOWN}
        if "repodata_version" in top and not stated:  # version 2 only says that there is a base_url (CEP 15)
            self.extra["repodata_version"] = _decode(url, top["repodata_version"], Any)
        self._groups = self._group(top)
        self._removed = self._group_removed(top)
        self.invalid: Mapping[str, str] = {}
        self.sources: Mapping[str, Digest] = {name: self._source(name) for name in {**self._groups, **self._removed}}

    def _group(self, top: dict[str, msgspec.Raw]) -> dict[str, list[_Slice]]:
        groups: dict[str, list[_Slice]] = {}
        sections = {section: top[section] for section in SECTIONS if section in top}
        if "v3" in top:
            v3 = _decode(self._url, top["v3"], dict[str, msgspec.Raw])
            sections |= {f"v3 {kind}": raw for kind, raw in v3.items()}
        for section, raw in sections.items():
            for key, record in (_decode(self._url, raw, dict[str, msgspec.Raw] | None) or {}).items():
                slice_ = (section, key, record)
                name = key.rsplit("-", 2)[0]
                if name in groups:
                    groups[name].append(slice_)
                else:
                    groups[name] = [slice_]
        return groups

    def _group_removed(self, top: dict[str, msgspec.Raw]) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for file in _decode(self._url, top.get("removed", b"[]"), list[str] | None) or ():
            groups.setdefault(names.leaf_of(file), []).append(file)
        return groups

    def _source(self, name: str) -> Digest:
        running = hashlib.sha256(_SALT + addresses.redact(self.bases[0]).encode())
        for section, key, raw in self._groups.get(name, ()):
            running.update(f"{section}\0{key}\0".encode())
            running.update(raw)
        if removed := self._removed.get(name):
            running.update("\0".join(removed).encode())
        return running.digest()

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """Decode the groups of these names. A record whose `name` is not that in its file name joins the leaf of its own."""
        strays: dict[str, list[tuple[str, str, Any]]] = {}
        mixed = set()
        for name in names:
            shard, others = self._decode_group(name)
            for owner, section, key, record in others:
                strays.setdefault(owner, []).append((section, key, record))
                mixed.add(name)
            if name not in mixed:
                yield draft(name, shard, self.bases[0], self.sources[name])
        for name in mixed | strays.keys():
            shard, _ = self._decode_group(name)
            for section, key, record in strays.get(name, ()):
                _place(shard, section, key, record)
            yield draft(name, shard, self.bases[0], None)

    def _decode_group(self, name: str) -> tuple[Shard, list[tuple[str, str, str, Any]]]:
        """A group's own records as a shard, and those that belong to another name."""
        shard: Shard = {"removed": self._removed.get(name, [])}
        others = []
        for section, key, raw in self._groups.get(name, ()):
            try:
                record = msgspec.json.decode(raw)
            except msgspec.DecodeError:
                record = None  # a string that is no Unicode; `draft` withholds it
            owner = record.get("name") if isinstance(record, dict) else None
            if isinstance(owner, str) and owner and owner != name:
                others.append((owner, section, key, record))
            else:
                _place(shard, section, key, record)
        return shard, others


def _place(shard: Shard, section: str, key: str, record: Any) -> None:
    if section.startswith("v3 "):
        shard.setdefault("v3", {}).setdefault(section[3:], {})[key] = record
    else:
        shard.setdefault(section, {})[key] = record


def _decode(url: str, text: bytes | msgspec.Raw, type_: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        begin = bytes(memoryview(text)[:40])
        raise BadIndexError(addresses.redact(url), f"can't be parsed: {error}; it begins with {begin!r}") from None
