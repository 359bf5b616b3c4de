"""Documents that say something of every package of a channel, cut into a part for each package name.

A part is shaped as its document, with only what is said of one name: stored so, a day's change of run_exports.json (a
tenth of repodata.json) or of repodata_from_packages.json (all of it) costs what has changed.
"""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from blake3 import blake3

from .. import codec
from . import names
from .derive import join
from .leaf import SECTIONS

#: CEP 38, at the root of a channel; its `packages` are names
CHANNELDATA = "channeldata.json"
#: in each subdir, of its files: CEP 12, and what repodata.json is made of where records are patched
BY_FILE = ("run_exports.json", "patch_instructions.json", "repodata_from_packages.json")
#: keys of lists of files
_LISTS = ("removed", "remove", "revoke")

Part = dict[str, Any]
_Group = list[tuple[str, msgspec.Raw]]


class _Keys(msgspec.Struct):
    """The files of a leaf; what is said of them is left undecoded."""

    packages: dict[str, msgspec.Raw] = {}
    conda: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict, name="packages.conda")
    v3: dict[str, dict[str, msgspec.Raw]] = {}


_KEYS = msgspec.msgpack.Decoder(_Keys)


def keys_of(leaf: bytes) -> set[str]:
    """What a shard lists, as the parts of other documents name it: files, and `kind/key` of records of `v3`."""
    found = _KEYS.decode(leaf)
    return {*found.packages, *found.conda, *(f"{kind}/{key}" for kind, records in found.v3.items() for key in records)}


class Cut:
    """One document, cut. Its values stay text until a part is asked for."""

    def __init__(self, body: bytes, *, by_name: bool) -> None:
        """by_name: whether `packages` has names for keys, not files. Raises ValueError for what is no such document."""
        try:
            top = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            maps = {section: _slices(top[section]) for section in SECTIONS if section in top}
            v3 = msgspec.json.decode(top.get("v3", b"{}"), type=dict[str, dict[str, msgspec.Raw]])
            lists = {key: msgspec.json.decode(top[key], type=list[str]) for key in _LISTS if key in top}
            cut = {*maps, *lists, "v3"}
            #: the document without its parts
            self.skeleton: dict[str, Any] = {key: msgspec.json.decode(raw) for key, raw in top.items() if key not in cut}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"can't be parsed: {error}") from None
        if not maps:
            raise ValueError("has no packages")
        self.skeleton |= {section: {} for section in maps} | {key: [] for key in lists}
        if v3:
            self.skeleton["v3"] = {kind: {} for kind in v3}
        #: {section: {name: [(key, text)]}}; a section of v3 is `v3 kind`, that of a list has no texts
        self._sections = {section: _group(slices.items(), by_name) for section, slices in maps.items()}
        self._sections |= {f"v3 {kind}": _group(slices.items(), by_name, kind) for kind, slices in v3.items()}
        self._sections |= {key: _group(((file, msgspec.Raw(b"")) for file in files), by_name) for key, files in lists.items()}

    @property
    def names(self) -> set[str]:
        """Every name of which it says something."""
        return {name for groups in self._sections.values() for name in groups}

    def digest(self, name: str) -> bytes:
        """Of all that it says of a name: equal digests, equal parts."""
        running = blake3()
        for section, groups in self._sections.items():
            for key, text in groups.get(name, ()):
                running.update(f"{section}\0{key}\0".encode())
                running.update(text)
        return running.digest()

    def part(self, name: str, listed: Collection[str]) -> Part:
        """What it says of those files of a name that are listed (see keys_of), or of the name itself; {} if nothing.

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
        return {key: msgspec.json.decode(text) for key, text in slices}
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"can't be parsed: {error}") from None


def whole(skeleton: dict[str, Any], parts: Iterable[Part]) -> bytes:
    """The document again, as canonical JSON: maps in the order of parts and then of keys."""
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
