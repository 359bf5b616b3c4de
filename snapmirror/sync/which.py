"""Which snapshots have all of something: of the files of a lock, of what an environment needs, or a single file."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from pathlib import Path

import msgspec

from ..digests import is_hex_digest
from ..ecosystem import Ecosystem, Repo
from ..ecosystem.environments import At, Environment, Found, Mirrored, Place
from ..errors import UsageError
from ..store.catalog import Catalog
from ..store.denied import reasons
from ..store.directories import DirectoryReader
from ..store.records import Record, Tombstone, place_of
from ..store.store import Store
from .onefile import OneFile, sha256_of

#: endings of files that describe environments: who names one that is nowhere most likely meant one on this machine
_DESCRIBING = (".yml", ".yaml", ".lock", ".toml", ".txt", ".in")


class Lack(msgspec.Struct, frozen=True):
    """Something that is asked for and is not there, or that does not count."""

    #: a file, a requirement, or the environment itself
    what: str
    why: str


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshots in a row that lack the same."""

    #: ids
    first: str
    last: str
    #: how many are kept, and how many between them were forgotten
    snapshots: int = 1
    forgotten: int = 0
    #: empty: they have all of it
    missing: list[Lack]


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    #: as it was asked
    asked: str
    #: oldest first
    ranges: list[Range]
    #: what is asked for and does not count, because nothing that is mirrored is for it
    aside: list[Lack]
    #: if a single file was asked for: its paths below a snapshot
    files: list[str]

    @property
    def holds(self) -> bool:
        """Whether any snapshot has all of it."""
        return any(not one.missing for one in self.ranges)


class Questions:
    """What is asked of the kept snapshots of one store."""

    def __init__(
        self, store: Store, ecosystems: Mapping[str, Ecosystem], catalog: Catalog, configured: Sequence[Repo], platform: str
    ) -> None:
        """platform: see ecosystem.environments.Mirrored"""
        self._store = store
        self._ecosystems = ecosystems
        self._catalog = catalog
        self._configured = configured
        self._platform = platform

    def environment(self, path: Path) -> Environment | None:
        """What a lock, requirements or an environment file asks for; None for a file that is none of these.

        Raises UsageError for one that can't be read, or not be used.
        """
        for kind, ecosystem in self._ecosystems.items():
            mirrored = Mirrored([repo for repo in self._configured if repo.kind == kind], self._places(kind), self._platform)
            try:
                if found := ecosystem.environment(path, mirrored):
                    return found
            except OSError as error:
                raise UsageError(f"{error.filename or path}: it can't be read: {error.strerror}") from None
            except ValueError as problem:  # also for what is no UTF-8
                raise UsageError(f"{path}: {problem}") from None
        return None

    def _places(self, kind: str) -> Collection[Place]:
        return {
            (path, directory)
            for record in self._catalog.records
            for path, repo in record.repos.items()
            if repo.kind == kind
            for directory in repo.directories
        }

    def which(self, text: str) -> Which:
        """Which snapshots have all of what a text names: a lock or an environment file, any other file on this machine, the
        name of a file in the mirror, or a SHA-256 in hexadecimal. Raises UsageError, DamagedError.

        It opens whatever file of this machine the text names: it is for whoever may read that anyway.
        """
        path = Path(text)
        if path.is_file():
            return self._here(text, path)
        if is_hex_digest(text.lower()):
            return self.answer(text, OneFile(self._ecosystems, "", bytes.fromhex(text)))
        if not (name := text.removeprefix("/")):
            raise UsageError("which file? Write its name, or its SHA-256")
        found = self.answer(text, OneFile(self._ecosystems, name, None))
        if not found.files and (path.name != text or text.endswith(_DESCRIBING)):
            hint = "write a file of the mirror without a folder, or its SHA-256"
            raise UsageError(f"{text}: there is no such file here, and no kept snapshot lists one; {hint}")
        return found

    def _here(self, text: str, path: Path) -> Which:
        """Which snapshots have all of what a file on this machine asks for, or the file itself."""
        problem: UsageError | None = None
        try:
            if environment := self.environment(path):
                return self.answer(text, environment)
        except UsageError as error:  # a repo of files may list what only has the name of a lock
            problem = error
        try:
            sha256 = sha256_of(path)
        except OSError as error:
            raise UsageError(f"{path}: it can't be read: {error.strerror}") from None
        by_name = self.answer(text, OneFile(self._ecosystems, path.name, sha256))
        if by_name.files:
            return by_name
        if problem:
            raise problem  # at once: to look for its bytes under any name, all leaves are read
        anywhere = self.answer(text, OneFile(self._ecosystems, "", sha256))
        return anywhere if anywhere.files else by_name  # which says if other bytes have that name

    def answer(self, text: str, environment: Environment) -> Which:
        """Which snapshots have all of what an environment, or `OneFile`, asks for. text: what to call it

        A snapshot counts with what it holds itself; one of those that were sealed for the past is passed over if it holds no
        repo that has any of it. What is denied counts as missing. Raises DamagedError.
        """
        denied = reasons(self._store.denied.rules())
        missing: dict[str, Mapping[str, str]] = {}
        before: tuple[object, Found] | None = None
        at: set[At] = set()
        for record in self._catalog.records:
            directories = directories_of(self._store, record, environment.kind)
            digests = {place: reader.digest for place, reader in directories.items()}
            if before is None or before[0] != digests:
                before = digests, environment.find(directories)
                at.update(one for files in before[1].files.values() for one in files)
            missing[record.id] = _missing(before[1], denied)
        files = () if environment.kind else {f"{place_of(repo, directory)}/{path}" for repo, directory, path in at}
        return Which(
            asked=text,
            ranges=list(_ranges(self._catalog, missing, {repo for repo, _, _ in at})),
            aside=lacks(environment.aside),
            files=sorted(files),
        )


def directories_of(store: Store, record: Record, kind: str) -> dict[Place, DirectoryReader]:
    """The directories of a kind that a snapshot has; of any kind, if that is empty. Raises DamagedError."""
    readers = {
        (path, name): store.metadata.directory(state.blob)
        for path, repo in record.repos.items()
        for name, state in repo.directories.items()
    }
    return {place: reader for place, reader in readers.items() if kind in ("", reader.document.kind)}


def _missing(found: Found, denied: Mapping[str, str]) -> dict[str, str]:
    """What a snapshot lacks, and why. denied: {SHA-256 in hexadecimal: reason}"""
    missing = dict(found.missing)
    for what, files in found.files.items():
        sums = {held.sha256.hex() if held.sha256 else "" for held in files.values()}
        if sums <= denied.keys():
            missing[what] = f"it is denied: {denied[min(sums)] or 'no reason stated'}"
    return missing


def _ranges(catalog: Catalog, missing: Mapping[str, Mapping[str, str]], repos: Set[str]) -> Iterator[Range]:
    """Snapshots that lack the same, in a row. missing: by id; repos: those that have any of it in any snapshot"""
    current: Range | None = None
    forgotten = 0
    for entry in catalog.entries:
        concerned = not repos or not repos.isdisjoint(entry.repos)
        if isinstance(entry, Tombstone):
            forgotten += concerned
        elif concerned or not entry.partial:
            lacking = lacks(missing[entry.id])
            if current and current.missing == lacking:
                grown = {"snapshots": current.snapshots + 1, "forgotten": current.forgotten + forgotten}
                current = msgspec.structs.replace(current, last=entry.id, **grown)
            else:
                if current:
                    yield current
                current = Range(first=entry.id, last=entry.id, missing=lacking)
            forgotten = 0
    if current:
        yield current


def lacks(reasons_: Mapping[str, str]) -> list[Lack]:
    """Reasons as they are told. reasons_: {what: why}"""
    return [Lack(what, why) for what, why in sorted(reasons_.items())]
