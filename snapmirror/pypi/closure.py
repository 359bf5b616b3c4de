"""What the kept files depend on (`with_dependencies`): their Requires-Dist, and what that depends on in turn.

For every kept file and every requirement in its metadata that holds on one of the configured machines: the versions of
that project that fulfil it, and of these the newest so many if the selection says so.
"""

import io
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
from blake3 import blake3
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from .. import addresses
from ..digests import Digest, sha256
from ..errors import UpstreamError
from ..readings import Draft, File, Upstream
from . import names, wheels
from .platforms import Machines, pythons
from .reading import ProjectsReading
from .requirements import Need
from .rules import FOREVER, Asked, Rules, listed
from .settings import PypiRepo

#: bytes of a wheel that is fetched for the metadata in it
_WHEEL_LIMIT = 1 << 30
_REQUIRES = msgspec.msgpack.Decoder(list[str])


class _Wheel(NamedTuple):
    """A kept file, as far as its metadata goes."""

    file: File
    metadata: File | None


class _Memo(msgspec.Struct, array_like=True, frozen=True):
    """What a closure came to. It stands as long as the pages that it was made of do, and no file gets old enough."""

    #: what was asked at its beginning, by which rules
    wishes: bytes
    #: project -> source of its page
    sources: dict[str, Digest]
    #: project -> what is needed of it in the end: specifier, extras, hashes
    needs: dict[str, list[tuple[str, list[str], list[str]]]]
    #: seconds since 1970
    until: int


_MEMO = msgspec.msgpack.Decoder(_Memo)


class Closure:
    """Grows what is asked of projects until nothing kept lacks what it needs."""

    def __init__(self, repo: PypiRepo, reading: ProjectsReading, rules: Rules) -> None:
        select = repo.select
        self._repo = repo
        self._reading = reading
        self._rules = rules
        self._machines = Machines(pythons(select.python), select.platforms)
        self._asked: dict[str, Asked] = {}
        self._drafts: dict[str, Draft] = {}
        self._requires: dict[str, list[str]] = {}
        self._until = FOREVER

    @property
    def names(self) -> Collection[str]:
        """All projects that are wanted."""
        return self._asked.keys()

    def asked(self, name: str) -> Asked:
        """What is wanted of a project in the end."""
        return self._asked.get(name, Asked())

    def run(self, asked: Mapping[str, Asked]) -> None:
        """Ask for the pages of what is needed. asked: what is wanted in itself. Raises UpstreamError."""
        text = "\0".join(f"{name} {asked[name].text}" for name in sorted(asked))
        wishes = blake3(f"{self._repo.select}\0{text}".encode()).digest()
        if not self._recall(asked, wishes):
            self._asked = dict(asked)
            self._grow()
            self._remember(wishes)

    def _grow(self) -> None:
        """In rounds, until a round adds nothing."""
        changed = set(self._asked)
        while changed:
            self._read_pages(changed)
            kept = {name: self._kept(name) for name in sorted(changed) if name in self._drafts}
            self._read_metadata([wheel for found in kept.values() for wheel in found])
            changed = {
                name
                for project, found in kept.items()
                for requirement in self._needed(project, found)
                if self._add(name := names.normalise(requirement.name), requirement)
            }

    # What was found out before

    @property
    def _key(self) -> str:
        return f"pypi closure {self._repo.path} {addresses.redact(self._reading.bases[0])}"

    def _recall(self, asked: Mapping[str, Asked], wishes: bytes) -> bool:
        """Whether the closure of the last time still stands: then no page is read for it, only asked if it has changed."""
        row = self._reading.notes.get([self._key]).get(self._key) if self._reading.notes else None
        try:
            memo = _MEMO.decode(row or b"")
        except msgspec.DecodeError:
            return False
        if memo.wishes != wishes or self._rules.present >= memo.until:
            return False
        self._reading.ask_for([name for name in memo.sources if name not in self._reading.sources])
        if self._reading.aside or any(self._reading.sources.get(name) != source for name, source in memo.sources.items()):
            return False
        for name, needs in memo.needs.items():
            known = tuple(Need(SpecifierSet(text), frozenset(extras), frozenset(sums)) for text, extras, sums in needs)
            self._asked[name] = asked.get(name, Asked())._replace(needs=known)
        return True

    def _remember(self, wishes: bytes) -> None:
        if self._reading.notes is None or self._reading.aside:
            return
        needs = {
            name: [(str(need.specifier), sorted(need.extras), sorted(need.hashes)) for need in asked.needs]
            for name, asked in self._asked.items()
        }
        sources = {name: self._reading.sources[name] for name in self._asked if name in self._reading.sources}
        self._reading.notes.put({self._key: msgspec.msgpack.encode(_Memo(wishes, sources, needs, self._until))})

    # Pages

    def _read_pages(self, wanted: Iterable[str]) -> None:
        missing = [name for name in sorted(wanted) if name not in self._drafts]
        self._reading.ask_for([name for name in missing if name not in self._reading.sources])
        there = [name for name in missing if name in self._reading.sources]
        self._drafts.update({draft.name: draft for draft in self._reading.drafts(there)})

    def _kept(self, name: str) -> list[_Wheel]:
        """The files that are kept of a project, by what is asked of it so far."""
        draft = self._drafts[name]
        choice = self._rules.choose(name, listed(draft.content), self._asked[name])
        self._until = min(self._until, choice.until)
        by_name = {file.name: file for file in draft.files}
        return [_Wheel(by_name[file], by_name.get(file + names.METADATA)) for file in sorted(choice.files)]

    def _add(self, name: str, requirement: Requirement) -> bool:
        """Ask for what a requirement means; whether that is new."""
        need = Need(requirement.specifier, frozenset(map(names.normalise, requirement.extras)))
        before = self._asked.get(name, Asked())
        if any(need.text == known.text for known in before.needs) or (before.whole and not need.extras):
            return False
        self._asked[name] = before._replace(needs=(*before.needs, need))
        return True

    def _needed(self, project: str, kept: Iterable[_Wheel]) -> Iterator[Requirement]:
        extras = frozenset(extra for need in self._asked[project].needs for extra in need.extras)
        for text in sorted({text for wheel in kept for text in self._requires.get(_sum_of(wheel), ())}):
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue  # of a time before PEP 508; no installer fulfils it either
            if requirement.url is None and self._machines.need(requirement.marker, extras):
                yield requirement

    # Metadata

    def _read_metadata(self, kept: Iterable[_Wheel]) -> None:
        """Of files whose metadata was not read yet; the same metadata, which most wheels of a release have, once."""
        unread = {_sum_of(wheel): wheel for wheel in kept if _sum_of(wheel) not in self._requires}
        upstream = self._reading.upstream
        if not unread or upstream is None:
            return
        noted = upstream.notes.get([f"pypi requires {key}" for key in unread])
        for key in list(unread):
            if row := noted.get(f"pypi requires {key}"):
                self._requires[key] = _REQUIRES.decode(row)
                del unread[key]
        self._fetch(unread, upstream)
        for key, wheel in unread.items():
            if key not in self._requires and wheel.file.name.endswith(".whl"):
                self._requires[key] = self._unpack(wheel.file, upstream)
            elif key not in self._requires:
                self._requires[key] = []  # an sdist says what it needs only when it is built
        rows = {f"pypi requires {key}": msgspec.msgpack.encode(self._requires[key]) for key in unread if _is_sum(key)}
        upstream.notes.put(rows)

    def _fetch(self, unread: Mapping[str, _Wheel], upstream: Upstream) -> None:
        """The metadata files that upstream has (PEP 658)."""
        urls: dict[str, str] = {}
        for key, wheel in unread.items():
            if wheel.metadata:
                urls.setdefault(self._address(wheel.metadata), key)
        for url, answer in upstream.get_many(urls, limit=wheels.METADATA_LIMIT):
            metadata = unread[urls[url]].metadata
            if isinstance(answer, Exception):
                upstream.warn(f"{answer}; reading the wheel instead")
            elif metadata and metadata.sha256 not in (None, sha256(answer.body)):
                upstream.warn(f"{addresses.redact(url)}: is not what its index promises; reading the wheel instead")
            else:
                self._requires[urls[url]] = wheels.requires_of(answer.body)

    def _unpack(self, file: File, upstream: Upstream) -> list[str]:
        """What a wheel needs, from the metadata in it."""
        try:
            answer = upstream.get(self._address(file), limit=_WHEEL_LIMIT)
            assert answer is not None  # nothing was said to be known
            return wheels.requires_of(wheels.metadata_in(io.BytesIO(answer.body), file.name))
        except (UpstreamError, ValueError) as error:
            upstream.warn(f"{file.name}: what it depends on can't be told: {error}")
            return []

    def _address(self, file: File) -> str:
        return addresses.with_credentials(file.url or "", self._reading.bases[0])


def _sum_of(wheel: _Wheel) -> str:
    """What says the same needs: the metadata's sum, or the file's."""
    digest = (wheel.metadata.sha256 if wheel.metadata else None) or wheel.file.sha256
    return digest.hex() if digest else wheel.file.url or wheel.file.name


def _is_sum(key: str) -> bool:
    """Whether a key is a sum, which means the same for ever, rather than an address."""
    return len(key) == 64 and "/" not in key
