"""PyPI as an ecosystem: the methods that `sync` and `serve` call."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec
from blake3 import blake3

from .. import codec, units
from ..digests import Digest
from ..ecosystem import About, Ecosystem, FileAt, LeafAt, Naming, Needed, Pages, Want, Wishes
from ..ecosystem.clients import Client
from ..ecosystem.environments import Environment, Mirrored
from ..readings import File, Known, Reading, Selection, Upstream
from ..store.directories import DirectoryReader
from . import about, leaf, names, naming, upstream
from .clients import CLIENTS
from .merge import MergedReading
from .settings import PypiRepo, Select
from .simple import Simple


class Pypi(Ecosystem):
    """Fulfils `ecosystem.Ecosystem`; stateless. A repo is one directory, a leaf the page of one project."""

    kind = "pypi"
    form = 1
    supplements = True
    yank = "yanked"
    unknowable = "projects and files deleted since, and what was yanked or quarantined then"
    read_by_leaf = True
    addressed = True
    pages: Pages | None = Simple()
    clients: Sequence[Client] = CLIENTS

    def read(self, repo: PypiRepo, directory: str, upstream_: Upstream, known: Known, avoid: Collection[str]) -> Reading | None:
        """See Ecosystem.read."""
        if repo.packages:
            from . import packages  # imported late, as others below: slow to load, and few runs of the command line need it

            return packages.FolderReading(Path(repo.packages), upstream_.notes)
        if repo.projects == "all":
            return upstream.read_all(repo, upstream_, known)
        from . import requirements

        wanted = requirements.read(repo)
        return upstream.read_named(repo, [*dict.fromkeys([*repo.named, *wanted.projects])], upstream_)

    def read_name(self, repo: PypiRepo, name: str, upstream_: Upstream) -> Reading | None:
        """See Ecosystem.read_name."""
        return upstream.read_one(repo, name, upstream_)

    def other_urls(self, file: File, directory: str, upstreams: Sequence[str], asked: Upstream) -> Iterator[str]:
        """See Ecosystem.other_urls."""
        return upstream.other_urls(file, upstreams, asked)

    def wanted_by(self, path: str) -> Want:
        """See Ecosystem.wanted_by."""
        match path.split("/"):
            case ["simple" | "pypi", project, *_] if project:
                return _want(names.normalise(project), itself=True)
            case ["packages", *_, file] if file:
                return _want(names.leaf_of(file), itself=False)
        return Want("", itself=False)

    def with_names(self, repo: PypiRepo, names_: Collection[str]) -> PypiRepo:
        """See Ecosystem.with_names."""
        return repo if repo.projects else msgspec.structs.replace(repo, projects=sorted(names_))

    def empty(self, repo: PypiRepo, directory: str) -> Reading:
        """See Ecosystem.empty."""
        return upstream.empty(repo)

    def settings(self, repo: PypiRepo) -> str:
        """See Ecosystem.settings. The files of `requirements` count by what is in them."""
        sums = []
        if repo.requirements:
            from . import requirements

            sums = [blake3(path.read_bytes()).hexdigest() for path in requirements.files_of(repo)]
        projects = "on request" if repo.metadata == "on-request" else repo.projects
        return f"{self.form} {repo.download} {projects} {repo.provenance} {repo.select} {repo.merge} {sums}"

    def ages(self, repo: PypiRepo) -> bool:
        """See Ecosystem.ages."""
        return bool(repo.select.min_age)

    def selects(self, repo: PypiRepo) -> bool:
        """See Ecosystem.selects."""
        return repo.select != Select() or bool(repo.requirements)

    def merged(self, repo: PypiRepo) -> Sequence[str]:
        """See Ecosystem.merged."""
        return repo.merge

    def merge(
        self,
        repo: PypiRepo,
        readers: Mapping[str, DirectoryReader],
        denied: Mapping[str, Collection[str]],
        known: Mapping[str, Collection[str]],
    ) -> Reading:
        """See Ecosystem.merge."""
        return MergedReading([(path, readers[path]) for path in repo.merge], denied, known)

    def select(
        self, repos: Mapping[str, PypiRepo], readings: Mapping[tuple[str, str], Reading], present: datetime
    ) -> Mapping[tuple[str, str], Selection]:
        """See Ecosystem.select."""
        from . import select

        return select.select(repos, readings, present)

    def needed(self, repo: PypiRepo, readings: Mapping[str, Reading], wishes: Wishes, present: datetime) -> Needed:
        """See Ecosystem.needed."""
        from . import needed

        return needed.needed(repo, readings[""], wishes, present)

    def environment(self, path: Path, mirrored: Mirrored) -> Environment | None:
        """See Ecosystem.environment: requirements.txt, pylock.toml, uv.lock."""
        if path.suffix not in (".txt", ".in", ".toml", ".lock"):
            return None
        from . import environment

        reads = environment.reads(path)
        return environment.Requirements(path, mirrored, lambda content: dict(self.records(content))) if reads else None

    def settle(self, leaf_: bytes, digests: Mapping[str, Digest], withheld: Collection[str], sizes: Mapping[str, int]) -> bytes:
        """See Ecosystem.settle."""
        return leaf.settle(leaf_, digests, withheld, sizes)

    def files(self, leaf_: bytes) -> tuple[File, ...]:
        """See Ecosystem.files."""
        return leaf.files(leaf_)

    def records(self, leaf_: bytes) -> Iterator[tuple[str, bytes]]:
        """See Ecosystem.records."""
        for record in leaf.decode(leaf_)["files"]:
            yield record["filename"], codec.to_msgpack(record)

    def label(self, leaf_: bytes) -> str:
        """See Ecosystem.label."""
        return leaf.label(leaf_)

    def leaf_of(self, file: str) -> str:
        """See Ecosystem.leaf_of."""
        return names.leaf_of(file)

    def about(self, file: str, record: bytes, metadata: Callable[[], bytes]) -> About:
        """See Ecosystem.about."""
        return about.about(file, record, metadata)

    def naming(self, spec: str) -> Naming:
        """See Ecosystem.naming."""
        return naming.naming(spec)

    def leaf_at(self, reader: DirectoryReader, path: str) -> str:
        """See Ecosystem.leaf_at."""
        file = path.rpartition("/")[2]
        return reader.name_of(file) or names.leaf_of(file)

    def locate(self, reader: DirectoryReader, path: str) -> LeafAt | FileAt | None:
        """See Ecosystem.locate. Only files: pages are in `Ecosystem.pages`."""
        found = leaf.PATH.fullmatch(path)
        if not found:
            return None
        # two projects may have a file of that name, of which the directory notes the exception
        for project in dict.fromkeys((self.leaf_at(reader, path), names.leaf_of(found[1]))):
            content = reader.read_leaf(project)
            if content and (file := leaf.paths(_speaking_of(found[1], content)).get(path)):
                # what lies beside a file has the file's hash in its path, not its own
                return FileAt(file, immutable=not path.endswith(names.SIDECARS))
        return None

    def supplement(self, leaf_: bytes, read: Callable[[File], IO[bytes] | None]) -> Mapping[str, bytes]:
        """See Ecosystem.supplement: the metadata files (PEP 658) of wheels, where upstream states no hash of one."""
        from . import wheels

        found = {}
        for file in leaf.without_metadata(leaf_):
            if wheel := read(file):
                with wheel, contextlib.suppress(ValueError):  # no wheel inside: it can't be installed either
                    found[file.name + names.METADATA] = wheels.metadata_in(wheel, file.name)
        return found

    def as_of(self, leaf_: bytes, instant: int) -> bytes:
        """See Ecosystem.as_of."""
        return leaf.as_of(leaf_, instant)

    def reconstruct(self, repo: PypiRepo, leaf_: bytes, instant: int) -> bytes:
        """See Ecosystem.reconstruct."""
        name = names.normalise(leaf.decode(leaf_)["name"])
        if repo.select.min_age and name not in map(names.normalise, repo.select.min_age_except):
            instant -= int(units.parse_duration(repo.select.min_age).total_seconds())
        found = leaf.as_of(leaf_, instant)
        return leaf.encode({**leaf.decode(found), leaf.RECONSTRUCTED: True}) if found else b""

    def paths(self, leaf_: bytes) -> Mapping[str, File]:
        """See Ecosystem.paths: what a tree links, and what `locate` finds."""
        return leaf.paths(leaf_)

    def media_type(self, path: str) -> str:
        """Content-Type of a file; that of attestations is PEP 740's. None of these is sent with a Content-Encoding."""
        if path.endswith(names.METADATA):
            return "text/plain; charset=utf-8"
        if path.endswith(names.PROVENANCE):
            return "application/vnd.pypi.integrity.v1+json"
        return "application/octet-stream"


class _Records(msgspec.Struct):
    files: list[msgspec.Raw]


_RECORDS = msgspec.msgpack.Decoder(_Records)


def _speaking_of(file: str, content: bytes) -> bytes:
    """A leaf with only the records that may be of a file: of thousands of records, decoding them is most of the work."""
    name = file.removesuffix(names.METADATA).removesuffix(names.PROVENANCE).encode()
    return msgspec.msgpack.encode({"files": [record for record in _RECORDS.decode(content).files if name in bytes(record)]})


def _want(project: str, *, itself: bool) -> Want:
    return Want(project, itself, f"simple/{project}/")
