"""Documents that say something of every package of a channel, cut into a part for each package name.

A part has the form of its document, and only what that says of one name. Stored as parts, a new version of a document costs
what is new in it: run_exports.json is a tenth of repodata.json, and repodata_from_packages.json is as large.
"""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from blake3 import blake3

from .. import codec
from . import names
from .derive import join
from .leaf import SECTIONS, fit_numbers

#: CEP 38, at the root of a channel; the keys of its `packages` are package names
CHANNELDATA = "channeldata.json"
#: CEP 6, at the root of a channel; not cut, for it says nothing of packages
NOTICES = "notices.json"
#: in each subdir; their keys are file names: CEP 12; CEP 21 (see patches); repodata.json (CEP 36) before these patches
BY_FILE = ("run_exports.json", "patch_instructions.json", "repodata_from_packages.json")
#: keys of lists of files
_LISTS = ("removed", "remove", "revoke")

Part = dict[str, Any]
#: keys and texts that a section has of one name
_Group = list[tuple[str, msgspec.Raw]]


class _Keys(msgspec.Struct):
    """The keys of a shard's maps; the records are not decoded."""

    packages: dict[str, msgspec.Raw] = {}
    conda: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict, name="packages.conda")
    v3: dict[str, dict[str, msgspec.Raw]] = {}


_KEYS = msgspec.msgpack.Decoder(_Keys)


def keys_of(leaf: bytes) -> set[str]:
    """What a leaf lists, by the keys that other documents have for it: file names, and also `<kind>/<key>` for records of `v3`.

    A document that knows no `v3` (CEP 12) names its packages as all others.
    """
    found = _KEYS.decode(leaf)
    v3 = [(kind, key) for kind, records in found.v3.items() for key in records]
    return {*found.packages, *found.conda, *(f"{kind}/{key}" for kind, key in v3), *(f"{key}.{kind}" for kind, key in v3)}


class Cut:
    """One document, cut. What it says of packages stays text until a part is asked for."""

    def __init__(self, body: bytes, *, by_name: bool) -> None:
        """body: plain JSON; by_name: whether the keys of `packages` are package names, not file names

        Raises ValueError for what is no such document.
        """
        try:
            top = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            maps = {section: _slices(top[section]) for section in SECTIONS if section in top}
            v3 = msgspec.json.decode(top.get("v3", b"{}"), type=dict[str, dict[str, msgspec.Raw]])
            lists = {key: msgspec.json.decode(top[key], type=list[str]) for key in _LISTS if key in top}
            cut = {*maps, *lists, "v3"}
            #: the document without what its parts hold; numbers fit into MessagePack
            rest = {key: raw for key, raw in top.items() if key not in cut}
            self.skeleton: dict[str, Any] = codec.deeper(lambda: {key: msgspec.json.decode(raw) for key, raw in rest.items()})
            fit_numbers(self.skeleton)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"can't be parsed: {error}") from None
        if not (maps or lists or "patch_instructions_version" in top):  # nothing may be left to patch
            raise ValueError("has no packages")
        self.skeleton |= {section: {} for section in maps} | {key: [] for key in lists}
        if v3:
            self.skeleton["v3"] = {kind: {} for kind in v3}
        #: {section: {name: [(key, text)]}}; `v3` has a section `v3 <kind>` for each kind, a list of files has empty texts
        self._sections = {section: _group(slices.items(), by_name) for section, slices in maps.items()}
        self._sections |= {f"v3 {kind}": _group(slices.items(), by_name, kind) for kind, slices in v3.items()}
        self._sections |= {key: _group(((file, msgspec.Raw(b"")) for file in files), by_name) for key, files in lists.items()}

    @property
    def names(self) -> set[str]:
        """Every package name of which it says something."""
        return {name for groups in self._sections.values() for name in groups}

    def digest(self, name: str) -> bytes:
        """A digest of all that it says of a name: equal digests give equal parts. BLAKE3, 32 bytes."""
        running = blake3()
        for section, groups in self._sections.items():
            for key, text in groups.get(name, ()):
                running.update(f"{section}\0{key}\0".encode())
                running.update(text)
        return running.digest()

    def part(self, name: str, listed: Collection[str]) -> Part:
        """What it says of a name; {} if nothing.

        listed: the keys of which the part may speak: see keys_of; of a document by name, the name itself

        Raises ValueError for what can't be parsed.
        """
        part: Part = {}
        for section, groups in self._sections.items():
            kind = section[3:] if section.startswith("v3 ") else ""
            kept = [(key, text) for key, text in groups.get(name, ()) if (f"{kind}/{key}" if kind else key) in listed]
            if not kept:
                continue
            if section in _LISTS:
                part[section] = sorted(key for key, _ in kept)
            elif kind:
                part.setdefault("v3", {})[kind] = _decode(kept)
            else:
                part[section] = _decode(kept)
        return part


def _slices(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])


def _group(slices: Iterable[tuple[str, msgspec.Raw]], by_name: bool, kind: str = "") -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for item in slices:
        key = item[0]
        name = key if by_name else names.leaf_of(f"{key}.{kind}" if kind else key)
        groups.setdefault(name, []).append(item)
    return groups


def _decode(slices: _Group) -> dict[str, Any]:
    try:
        return codec.deeper(lambda: {key: msgspec.json.decode(text) for key, text in slices})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"can't be parsed: {error}") from None


def whole(skeleton: dict[str, Any], parts: Iterable[Part]) -> bytes:
    """The document made of its skeleton and parts: JSON with sorted keys, but for maps of files, in the order of the parts."""
    maps: dict[str, list[bytes]] = {section: [] for section in SECTIONS if section in skeleton}
    v3: dict[str, list[bytes]] = {kind: [] for kind in skeleton.get("v3", ())}
    lists: dict[str, list[str]] = {key: [] for key in _LISTS if key in skeleton}
    for part in parts:
        for section in maps:
            maps[section] += _members(part.get(section, {}))
        for kind in v3:
            v3[kind] += _members(part.get("v3", {}).get(kind, {}))
        for key in lists:
            lists[key] += part.get(key, ())
    texts = {key: codec.to_json(value) for key, value in skeleton.items()}
    texts |= {section: join(members) for section, members in maps.items()}
    texts |= {key: codec.to_json(sorted(files)) for key, files in lists.items()}
    if v3:
        texts["v3"] = join(codec.to_json(kind) + b":" + join(members) for kind, members in sorted(v3.items()))
    return join(codec.to_json(key) + b":" + text for key, text in sorted(texts.items()))


def _members(records: dict[str, Any]) -> list[bytes]:
    return [codec.to_json(key) + b":" + codec.to_json(records[key]) for key in sorted(records)]
