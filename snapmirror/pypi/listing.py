"""The list of all projects of an index, JSON (PEP 691) or HTML (PEP 503). PyPI's has 700,000 names, and a serial for each.

A serial is a number that is the higher the later a project has changed; `_last-serial` is PyPI's, other indexes may lack it.
"""

import bisect
import re
import string
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any

import msgspec
from blake3 import blake3

from .. import addresses
from ..digests import Digest
from ..errors import BadIndexError
from ..readings import Answer
from . import leaf, names, page
from .version import check_version

#: bytes of a list; PyPI's was 40 MB in 2026
LIMIT = 1 << 30


class _Meta(msgspec.Struct, gc=False):
    version: str = msgspec.field(name="api-version", default="1.0")
    serial: Any = msgspec.field(name="_last-serial", default=None)


class _Project(msgspec.Struct, gc=False):
    name: str
    serial: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = msgspec.field(name="_last-serial", default=None)


class _List(msgspec.Struct, gc=False):
    projects: list[_Project]
    meta: _Meta = msgspec.field(default_factory=_Meta)


_LIST = msgspec.json.Decoder(_List)


class Listing:
    """What upstream lists."""

    def __init__(self, names_: list[str], numbers: list[int | None], serial: int | None, certain: bool) -> None:
        """names_: as upstream writes them; numbers: their serials, in the same order"""
        #: normalised names, and their serials in the same order, as upstream has it
        self.names, self.numbers = _possible(_normalised(names_), numbers)
        #: of the list itself, None if it has none
        self.serial = serial
        #: whether it is a list for certain: HTML that states no version, with links to folders, may be any page
        self.certain = certain

    @cached_property
    def serials(self) -> dict[str, int | None]:
        """{normalised name: its serial, None if the list has none of it}.

        To make it of 700,000 takes longer than to parse the list; `differences` does without.
        """
        return dict(zip(self.names, self.numbers, strict=True))


def read(answer: Answer) -> Listing:
    """The list in a document. Raises BadIndexError for what is none, or is of an API version that we can't know."""
    url = addresses.redact(answer.url)
    if not page.is_json(answer):
        return _from_html(answer)
    try:
        found = _LIST.decode(answer.body.removeprefix(page.BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _leniently(answer.body.removeprefix(page.BOM), url)
    check_version(found.meta.version, url)
    listed = [project.name for project in found.projects]
    numbers = [project.serial for project in found.projects]
    return Listing(listed, numbers, leaf.serial_of(found.meta.serial), certain=True)


def _from_html(answer: Answer) -> Listing:
    from . import html  # slow to load

    found, version = html.listing(answer)
    return Listing(found, [None] * len(found), None, certain=version is not None)


def _leniently(body: bytes, url: str) -> _List:
    """A list in which something has not the type that it should have. Items that are no projects are left out."""
    top = page.decode(body, url)
    if not isinstance(top.get("projects"), list):
        raise BadIndexError(url, "is no list of projects")
    projects = [
        _Project(one["name"], leaf.serial_of(one.get("_last-serial")))
        for one in top["projects"]
        if isinstance(one, dict) and isinstance(one.get("name"), str)
    ]
    return _List(projects, _Meta(top["meta"].get("api-version", "1.0"), top["meta"].get("_last-serial")))


def _normalised(listed: list[str]) -> list[str]:
    """`names.normalise` of all names, in one text: one by one, 700,000 took longer than to parse the list."""
    text = "\n".join(listed)
    if not text.isascii() or text.count("\n") != len(listed) - 1:
        return [names.normalise(name) for name in listed]
    found = text.encode().translate(_NORMAL)
    while b"--" in found:
        found = found.replace(b"--", b"-")
    return found.decode().split("\n")


#: what becomes of each byte when a name is normalised (PEP 503)
_NORMAL = bytes.maketrans(b"_." + string.ascii_uppercase.encode(), b"--" + string.ascii_lowercase.encode())


def _possible(listed: list[str], numbers: list[int | None]) -> tuple[list[str], list[int | None]]:
    """Without names that can't be a project's (with a slash, say). Nearly always there is none, which one search finds."""
    text = "\n".join(listed)
    if text.count("\n") == len(listed) - 1 and _POSSIBLE(text):
        return listed, numbers
    kept = [(name, number) for name, number in zip(listed, numbers, strict=True) if names.is_project(name)]
    return [name for name, _ in kept], [number for _, number in kept]


#: lines of nothing but names; a list that does not match is looked at name by name
_POSSIBLE = re.compile(r"(?:[a-z0-9][a-z0-9-]{0,199}(?<!-)\n)*+[a-z0-9][a-z0-9-]{0,199}(?<!-)").fullmatch

#: normalised names, and their serials in the same order
_Serials = tuple[list[str], list[int | None]]
#: names that are compared at once
_BLOCK = 512


def differences(before: _Serials, now: _Serials) -> tuple[dict[str, int | None], set[str]]:
    """{project that is new, or has another serial or none: its serial now}, and the projects that are listed no more.

    Two lists are nearly alike, and sorted: so most of them is compared in blocks, without a look at single names. To make
    maps of 700,000 each would take as long as to parse the list.
    """
    if any(names != sorted(names) for names, _ in (before, now)):
        return _differences(dict(zip(*before, strict=True)), dict(zip(*now, strict=True)))
    changed: dict[str, int | None] = {}
    gone: set[str] = set()
    (old, old_numbers), (new, numbers) = before, now
    there = at = 0
    while at < len(new) or there < len(old):
        block = new[at : at + _BLOCK]
        if block and block == old[there : there + _BLOCK]:
            if numbers[at : at + _BLOCK] != old_numbers[there : there + _BLOCK] or None in numbers[at : at + _BLOCK]:
                pairs = zip(block, numbers[at : at + _BLOCK], old_numbers[there : there + _BLOCK], strict=True)
                changed |= {name: number for name, number, other in pairs if number is None or number != other}
            at, there = at + len(block), there + len(block)
            continue
        end = block[-1] if block else None
        stop = there + _BLOCK if end is None else bisect.bisect_right(old, end, there)
        part = _differences(
            dict(zip(old[there:stop], old_numbers[there:stop], strict=True)),
            dict(zip(block, numbers[at : at + _BLOCK], strict=True)),
        )
        changed |= part[0]
        gone |= part[1]
        at, there = at + len(block), stop
    return changed, {name for name in gone if not _has(new, name)}  # one that was listed twice may end two blocks


def _has(listed: list[str], name: str) -> bool:
    at = bisect.bisect_left(listed, name)
    return at < len(listed) and listed[at] == name


def _differences(before: dict[str, int | None], now: dict[str, int | None]) -> tuple[dict[str, int | None], set[str]]:
    changed = {name: number for name, number in now.items() if number is None or before.get(name) != number}
    return changed, before.keys() - now.keys()


#: part of every source digest; raise its number when other bytes are made of the same page
_SALT = b"pypi page 1"


def source_of(salt: str, name: str, stated: bytes) -> Digest:
    """The source (see Reading.sources) of a leaf that is read from a page.

    salt: `ProjectPages.salt`; name: normalised; stated: what identifies the page: its serial, or address and digest
    """
    return blake3(b"\0".join((_SALT, salt.encode(), name.encode(), stated))).digest()


class Sources(Mapping[str, Digest]):
    """{name: what `source_of` makes of its serial}, each made when it is looked up: to make 700,000 takes longer than to
    parse the list.
    """

    def __init__(self, salt: str, listing: Listing, others: Mapping[str, Digest]) -> None:
        """salt: see `source_of`; others: the sources of names without a serial"""
        self._prefix = b"\0".join((_SALT, salt.encode(), b""))
        self._listing = listing
        self._others = others

    def __getitem__(self, name: str) -> Digest:
        serial = self._listing.serials[name]
        if serial is None:
            return self._others[name]
        return blake3(self._prefix + f"{name}\0{serial}".encode()).digest()

    def __iter__(self) -> Iterator[str]:
        return iter(self._listing.serials)

    def __len__(self) -> int:
        return len(self._listing.serials)

    def __contains__(self, name: object) -> bool:
        return name in self._listing.serials
