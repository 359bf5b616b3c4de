"""What the kept files depend on (`with_dependencies`): their Requires-Dist (PEP 345, 508), and what that depends on in turn.

For every kept file, and every requirement in its metadata that holds on one of the configured machines, the versions of that
project are kept that fulfil it, of these only the newest if the selection says how many. Files of locks are not followed: a
lock itself names what they need. Of a project that is aside the kept files are those that it had, for they stay.
"""

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
from blake3 import blake3
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from .. import addresses
from ..digests import Digest, sha256
from ..errors import MismatchError, TransportError, UpstreamError
from ..readings import Draft, File, Upstream
from . import leaf, names, wheels
from .names import Named
from .platforms import Machines, pythons
from .reading import ProjectsReading
from .requirements import Asked, Need
from .rules import FOREVER, Rules, listed
from .settings import PypiRepo

#: bytes of a file that is fetched for the metadata in it
_FILE_LIMIT = 1 << 30
_REQUIRES = msgspec.msgpack.Decoder(list[str])


class _Kept(NamedTuple):
    """A kept file."""

    file: File
    #: its metadata file (PEP 658), if upstream has one
    metadata: File | None


class _Memo(msgspec.Struct, array_like=True, frozen=True):
    """What a closure came to, as it is noted. It stands while the pages that it was made of do, and no file gets old enough."""

    #: digest of the rules, and of what was asked directly of the projects in `needs`
    direct: bytes
    #: {project: source of its page}
    sources: dict[str, Digest]
    #: {project: what is needed of it in the end, as (specifier, extras, hashes)}
    needs: dict[str, list[tuple[str, list[str], list[str]]]]
    #: seconds since 1970 until which it stands
    until: int


_MEMO = msgspec.msgpack.Decoder(_Memo)


class Closure:
    """Grows what is asked of projects until nothing kept lacks what it needs."""

    def __init__(self, repo: PypiRepo, reading: ProjectsReading, rules: Rules, direct: Callable[[str], Asked]) -> None:
        """direct: what is asked of a project other than by dependencies"""
        select = repo.select
        self._repo = repo
        self._reading = reading
        self._rules = rules
        self._direct = direct
        self._machines = Machines(pythons(select.python), select.platforms)
        self._asked: dict[str, Asked] = {}
        self._drafts: dict[str, Draft] = {}
        #: {see `_sum_of`: Requires-Dist}
        self._requires: dict[str, list[str]] = {}
        #: {see `_sum_of`: how it failed in transport}
        self._failed: dict[str, TransportError] = {}
        #: as `_requires`, by the SHA-256 of metadata, not noted yet
        self._told: dict[str, list[str]] = {}
        #: seconds since 1970 until which no further file is old enough
        self._until = FOREVER
        #: whether the metadata of some file could not be had, and may be had the next time
        self._incomplete = False

    @property
    def names(self) -> Collection[str]:
        """All projects of which something is asked."""
        return self._asked.keys()

    def asked(self, name: str) -> Asked:
        """What is asked of a project in the end: directly and by dependencies."""
        return self._asked.get(name, Asked())

    def run(self) -> None:
        """Find out what is needed, and ask for the pages of that. Raises UpstreamError."""
        if not self._recall():
            self._asked = {name: self._direct(name) for name in (*self._reading.sources, *self._reading.aside)}
            self._grow()
            self._remember()

    def _digest_of_direct(self, names_: Iterable[str]) -> bytes:
        text = "\0".join(f"{name} {self._direct(name).text}" for name in sorted(names_))
        return blake3(f"{self._repo.select}\0{self._reading.left_out}\0{text}".encode()).digest()

    def _grow(self) -> None:
        """In rounds, until a round adds nothing."""
        changed = set(self._asked)
        while changed:
            self._read_pages(changed)
            changed = {
                name
                for project, found in self._known(changed).items()
                for requirement in self._needed(project, found)
                if self._add(name := names.normalise(requirement.name), requirement)
            }

    # What was found out before

    @property
    def _key(self) -> str:
        return f"pypi closure 2 {self._repo.path} {addresses.redact(self._reading.bases[0])}"

    def _recall(self) -> bool:
        """Take over the closure of the last time, if it still stands: pages are then only asked for conditionally.

        Returns whether it does.
        """
        row = self._reading.notes.get([self._key]).get(self._key) if self._reading.notes else None
        try:
            memo = _MEMO.decode(row or b"")
        except (msgspec.DecodeError, RecursionError):
            return False
        if not self._reading.sources.keys() <= memo.needs.keys() or self._rules.present >= memo.until:
            return False
        if memo.direct != self._digest_of_direct(memo.needs):
            return False
        self._reading.ask_for([name for name in memo.sources if name not in self._reading.sources])
        if self._reading.aside or any(self._reading.sources.get(name) != source for name, source in memo.sources.items()):
            return False
        for name, needs in memo.needs.items():
            known = tuple(Need(SpecifierSet(text), frozenset(extras), frozenset(sums)) for text, extras, sums in needs)
            self._asked[name] = self._direct(name)._replace(needs=known)
        return True

    def _remember(self) -> None:
        if self._reading.notes is None or self._reading.aside or self._incomplete:
            return
        needs = {
            name: [(str(need.specifier), sorted(need.extras), sorted(need.hashes)) for need in asked.needs]
            for name, asked in self._asked.items()
        }
        sources = {name: self._reading.sources[name] for name in self._asked if name in self._reading.sources}
        memo = _Memo(self._digest_of_direct(needs), sources, needs, self._until)
        self._reading.notes.put({self._key: msgspec.msgpack.encode(memo)})

    # Pages

    def _read_pages(self, wanted: Iterable[str]) -> None:
        missing = [name for name in sorted(wanted) if name not in self._drafts]
        self._reading.ask_for([name for name in missing if name not in self._reading.sources])
        there = [name for name in missing if name in self._reading.sources]
        self._drafts.update({draft.name: draft for draft in self._reading.drafts(there)})
        for name in missing:
            if name in self._reading.aside:
                self._take_old(name)

    def _take_old(self, name: str) -> bool:
        """Follow the old leaf of a project. Returns whether it has one."""
        old = self._reading.before(name)
        if old:
            self._drafts[name] = Draft(name, old, leaf.files(old), None, {})
        return bool(old)

    def _known(self, projects: Iterable[str]) -> dict[str, list[_Kept]]:
        """The files that are kept of projects, by what is asked of these so far; their metadata is read.

        A project of which that fails in transport is set aside, if it has an old leaf. Raises TransportError if that fails too.
        """
        kept = {name: self._kept(name) for name in sorted(projects) if name in self._drafts}
        self._read_metadata([file for found in kept.values() for file in found])
        failed = {name: error for name, found in kept.items() for one in found if (error := self._failed.get(_sum_of(one)))}
        if unknown := next((error for name, error in failed.items() if name in self._reading.aside), None):
            raise unknown
        stay = {name: f"what it depends on can't be told: {error}" for name, error in failed.items() if self._take_old(name)}
        if not stay:
            return kept
        self._reading.set_aside(stay)
        return kept | self._known(stay)

    def _kept(self, name: str) -> list[_Kept]:
        """The files that are kept of a project, by what is asked of it so far, and whose dependencies are followed.

        Not those of an sdist if a wheel of the same version is kept: they are certain only once it is built.
        """
        draft, asked = self._drafts[name], self._asked[name]
        if name not in self._reading.aside:
            choice = self._rules.choose(name, listed(draft.content), asked._replace(files={}))
            self._until = min(self._until, choice.until)
            files: Collection[str] = choice.files
        elif asked.whole or asked.needs:
            files = [one.filename for one in listed(draft.content)]
        else:
            return []
        by_name = {file.name: file for file in draft.files}
        named = {file: names.parse(file, name) for file in sorted(files)}
        told = {names.version_key(found.version) for found in named.values() if found.kind == "wheel"}
        kept = [_Kept(by_name[file], by_name.get(file + names.METADATA)) for file in named]
        return [one for one in kept if one.metadata or _says(named[one.file.name], told)]

    def _add(self, name: str, requirement: Requirement) -> bool:
        """Ask for what a requirement means. Returns whether that is new."""
        need = Need(requirement.specifier, frozenset(map(names.normalise, requirement.extras)))
        before = self._asked.get(name) or self._direct(name)
        whole = before.whole and not self._repo.select.newest  # else what is kept of the whole may not fulfil it
        if any(need.text == known.text for known in before.needs) or (whole and not need.extras):
            return False
        self._asked[name] = before._replace(needs=(*before.needs, need))
        return True

    def _needed(self, project: str, kept: Iterable[_Kept]) -> Iterator[Requirement]:
        """The requirements of these files that hold on some machine, for the extras that are asked of the project."""
        extras = frozenset(extra for need in self._asked[project].needs for extra in need.extras)
        for text in sorted({text for one in kept for text in self._requires.get(_sum_of(one), ())}):
            try:
                requirement = Requirement(text)
            except (InvalidRequirement, RecursionError):
                continue  # from before PEP 508; no installer can fulfil it either
            if requirement.url is None and self._machines.need(requirement.marker, extras):
                yield requirement

    # Metadata

    def _read_metadata(self, kept: Iterable[_Kept]) -> None:
        """Read the metadata that was not read yet; the same metadata, which most wheels of a release have, only once."""
        unread = {_sum_of(one): one for one in kept if _sum_of(one) not in self._requires}
        upstream = self._reading.upstream
        if not unread or upstream is None:
            return
        noted = upstream.notes.get([_note_of(key) for key in unread])
        for key in list(unread):
            if row := noted.get(_note_of(key)):
                self._requires[key] = _REQUIRES.decode(row)
                del unread[key]
        self._fetch(unread, upstream)
        found = {
            key: self._requires[key] if key in self._requires else self._unpack(key, one.file, upstream)
            for key, one in unread.items()
        }
        self._requires |= {key: requires or [] for key, requires in found.items()}
        self._incomplete = self._incomplete or None in found.values()
        told = self._told | {key: requires for key, requires in found.items() if requires is not None and _is_sum(key)}
        upstream.notes.put({_note_of(key): msgspec.msgpack.encode(requires) for key, requires in told.items()})
        self._told = {}

    def _fetch(self, unread: Mapping[str, _Kept], upstream: Upstream) -> None:
        """Read the metadata files that upstream has (PEP 658). What can't be used is left out, with a warning."""
        urls: dict[str, str] = {}
        for key, one in unread.items():
            if one.metadata:
                urls.setdefault(self._address(one.metadata), key)
        for url, answer in upstream.get_many(urls, limit=wheels.METADATA_LIMIT):
            metadata = unread[urls[url]].metadata
            if isinstance(answer, Exception):
                upstream.warn(f"{answer}; reading the file that it is of instead")
            elif metadata and metadata.sha256 not in (None, sha256(answer.body)):
                upstream.warn(
                    f"{addresses.redact(url)}: is not what its index promises; reading the file that it is of instead"
                )
            else:
                self._requires[urls[url]] = self._tell(answer.body)

    def _unpack(self, key: str, file: File, upstream: Upstream) -> list[str] | None:
        """What a file needs, by the metadata in it; None if the file could not be had."""
        try:
            answer = upstream.get(self._address(file), limit=_FILE_LIMIT)
            assert answer is not None  # nothing was said to be known
            if file.sha256 not in (None, found := sha256(answer.body)):
                raise MismatchError(addresses.redact(file.url or ""), "sha256", (file.sha256 or b"").hex(), found.hex())
            if file.name.endswith(".whl"):
                return self._tell(wheels.metadata_in(io.BytesIO(answer.body), file.name))
            metadata = wheels.pkg_info_in(io.BytesIO(answer.body), file.name)
        except UpstreamError as error:
            upstream.warn(f"{file.name}: what it depends on can't be told: {error}")
            if isinstance(error, TransportError):
                self._failed[key] = error
            return None
        except ValueError as error:
            upstream.warn(f"{file.name}: what it depends on can't be told: {error}")
            return []
        if not wheels.is_static(metadata):
            upstream.warn(f"{file.name}: an sdist that may need more when it is built than it says; that is not followed")
        return wheels.requires_of(metadata)

    def _tell(self, metadata: bytes) -> list[str]:
        """What metadata says. It is noted by its own SHA-256 too, which the leaf states in the end though upstream may not."""
        requires = self._told[sha256(metadata).hex()] = wheels.requires_of(metadata)
        return requires

    def _address(self, file: File) -> str:
        return addresses.with_credentials(file.url or "", self._reading.bases[0])


def _says(named: Named, told: Collection[object]) -> bool:
    """Whether the metadata in a file is to be read. told: versions of which wheels are kept"""
    return named.kind == "wheel" or (named.kind == "sdist" and names.version_key(named.version) not in told)


def _sum_of(kept: _Kept) -> str:
    """A key that is equal for files with the same metadata: the SHA-256 of that, or of the file, else the file's address."""
    digest = (kept.metadata.sha256 if kept.metadata else None) or kept.file.sha256
    return digest.hex() if digest else kept.file.url or kept.file.name


def _note_of(key: str) -> str:
    return f"pypi requires 2 {key}"


def _is_sum(key: str) -> bool:
    """Whether a key is a SHA-256, which names the same bytes for ever, rather than an address."""
    return len(key) == 64 and "/" not in key
