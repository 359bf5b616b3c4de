"""The records of a leaf as a selection needs them; the rest of each record is not decoded."""

from collections.abc import Iterator
from typing import Any

import msgspec

from . import names
from .leaf import listed_at, texts
from .specs import Build, Stated


class _Facts(msgspec.Struct, gc=False):
    """Keys of a record (CEP 34, CEP 36). Upstream may have written anything: decoding them must not fail."""

    name: Any = None
    version: Any = None
    build: Any = None
    build_number: Any = None
    subdir: Any = None
    license: Any = None
    license_family: Any = None
    depends: Any = None
    constrains: Any = None
    extra_depends: Any = None
    timestamp: Any = None
    indexed_timestamp: Any = None
    size: Any = None
    sha256: Any = None
    md5: Any = None
    track_features: Any = None
    flags: Any = None
    fn: Any = None
    url: Any = None

    def get(self, key: str) -> object:
        """See specs.Stated."""
        return getattr(self, key)


class _Leaf(msgspec.Struct):
    packages: dict[str, _Facts] = {}
    conda: dict[str, _Facts] = msgspec.field(default_factory=dict, name="packages.conda")
    v3: dict[str, dict[str, _Facts]] = {}


_DECODER = msgspec.msgpack.Decoder(_Leaf)


class Listed:
    """One record."""

    __slots__ = ("_facts", "build", "file", "in_v3")

    def __init__(self, file: str, facts: _Facts, in_v3: bool) -> None:
        #: its file name
        self.file = file
        #: whether it stands in `v3` (CEP 48)
        self.in_v3 = in_v3
        self._facts = facts
        self.build = Build(facts.name, facts.version, facts.build, facts.build_number, facts.subdir, facts)

    @property
    def size(self) -> int:
        """Bytes, as stated; 0 if it is not."""
        return self._facts.size if isinstance(self._facts.size, int) else 0

    @property
    def timestamp(self) -> object:
        """`timestamp` as upstream has it, whatever it is."""
        return self._facts.timestamp

    @property
    def sha256(self) -> bytes | None:
        """None if it is not stated."""
        return self._facts.sha256 if isinstance(self._facts.sha256, bytes) else None

    @property
    def md5(self) -> bytes | None:
        """None if it is not stated."""
        return self._facts.md5 if isinstance(self._facts.md5, bytes) else None

    @property
    def time(self) -> float | None:
        """See leaf.listed_at."""
        return listed_at(self._facts.indexed_timestamp, self._facts.timestamp)

    @property
    def stated(self) -> Stated:
        """What it states, by key."""
        return self._facts

    @property
    def depends(self) -> list[str]:
        """The specs of what it needs without its extras."""
        return texts(self._facts.depends)

    @property
    def extras(self) -> dict[str, list[str]]:
        """The specs of what it needs besides for each of its extras (`extra_depends`, CEP 44)."""
        stated = self._facts.extra_depends
        if not isinstance(stated, dict):
            return {}
        return {extra: texts(specs) for extra, specs in stated.items() if isinstance(extra, str)}

    @property
    def constrains(self) -> list[str]:
        """The specs that limit what may be installed beside it."""
        return texts(self._facts.constrains)


def listed(leaf: bytes) -> Iterator[Listed]:
    """The records of a leaf. It is not checked: leaves are made by `leaf.draft`."""
    found = _DECODER.decode(leaf)
    for part in (found.packages, found.conda):
        yield from (Listed(file, facts, in_v3=False) for file, facts in part.items())
    for kind, records in found.v3.items():
        for key, facts in records.items():
            yield Listed(names.v3_file(kind, key, {"fn": facts.fn, "url": facts.url}), facts, in_v3=True)
