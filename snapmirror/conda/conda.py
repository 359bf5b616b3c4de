"""conda as an ecosystem: the methods that `sync` and `serve` call."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from blake3 import blake3

from .. import codec
from ..digests import Digest
from ..ecosystem import About, DocumentPlan, Ecosystem, FileAt, Follower, LeafAt, Naming, Needed, TreeReader, Want, Wishes
from ..ecosystem.clients import Client
from ..ecosystem.environments import Environment, Mirrored
from ..errors import DamagedError
from ..readings import File, Known, Reading, Selection, Upstream
from ..store.directories import DirectoryReader
from . import about, derive, leaf, names, naming, upstream
from .clients import CLIENTS
from .settings import CondaRepo, Select
from .sidecars import Sidecars

_SHARD = re.compile(r"shards/([0-9a-f]{64})\.msgpack\.zst")
_DOCUMENTS = {
    "repodata.json": derive.repodata,
    "repodata_shards.msgpack": derive.shard_index,
    "current_repodata.json": derive.current_repodata,
}


class Conda(Ecosystem):
    """Fulfils `ecosystem.Ecosystem`; stateless. A directory is a subdir of a channel (CEP 26), a leaf a CEP 16 shard."""

    kind = "conda"
    form = 1
    unknowable = "packages deleted since, and what records said before they were patched"
    linked = True
    clients: Sequence[Client] = CLIENTS

    def tree_reader(self) -> TreeReader:
        """See Ecosystem.tree_reader."""
        from .tree import CondaTree  # which is this class and more

        return CondaTree()

    def directories(self, repo: CondaRepo) -> Sequence[str]:
        """See Ecosystem.directories."""
        return repo.directories

    def documents(self, repo: CondaRepo, info: Mapping[str, Any]) -> Sequence[DocumentPlan]:
        """repodata.json and variants (CEP 36), shard index (CEP 16). Clients ask for shards first since 2026, before for `.zst`
        since conda 23, and before that for the plain form.
        """
        plain = ("", ".zst", ".bz2") if repo.bz2 else ("", ".zst")
        planned = [DocumentPlan("repodata.json", plain), DocumentPlan("repodata_shards.msgpack", (".zst",))]
        if repo.current_repodata:
            planned.append(DocumentPlan("current_repodata.json", ("", ".zst")))
        return planned

    def follower(self, repo: CondaRepo) -> Follower | None:
        """See Ecosystem.follower."""
        return Sidecars() if repo.sidecars else None

    def read(
        self, repo: CondaRepo, directory: str, upstream_: Upstream, known: Known, avoid: Collection[str]
    ) -> Reading | None:
        """See Ecosystem.read."""
        if repo.packages:
            from . import packages  # py-rattler is slow to load

            return packages.read(repo, directory, upstream_)
        return upstream.read(repo, directory, upstream_, known, avoid)

    def wanted_by(self, path: str) -> Want:
        """See Ecosystem.wanted_by. What a shard says, as what a package holds, does not change."""
        return Want("", itself=not (path.endswith((".conda", ".tar.bz2", ".whl")) or _SHARD.search(path)))

    def empty(self, repo: CondaRepo, directory: str) -> Reading:
        """See Ecosystem.empty."""
        return upstream.empty(repo, directory)

    def settings(self, repo: CondaRepo) -> str:
        """See Ecosystem.settings."""
        sums = [blake3(path.read_bytes()).hexdigest() for name in repo.select.include_from if (path := Path(name)).is_file()]
        return f"{self.form} {repo.download} {self.documents(repo, {})} {repo.select} {sums} {repo.indexed_timestamp}"

    def ages(self, repo: CondaRepo) -> bool:
        """See Ecosystem.ages."""
        return bool(repo.select.min_age)

    def selects(self, repo: CondaRepo) -> bool:
        """See Ecosystem.selects."""
        return repo.select != Select()

    def dated(self, repo: CondaRepo) -> bool:
        """See Ecosystem.dated."""
        return repo.indexed_timestamp == "first-seen"

    def dates(self, leaf_: bytes) -> Mapping[str, int]:
        """See Ecosystem.dates."""
        return leaf.dates(leaf_)

    def date(self, leaf_: bytes, seen: Mapping[str, int]) -> bytes:
        """See Ecosystem.date."""
        return leaf.date(leaf_, seen)

    def selected_with(self, repo: CondaRepo, others: Collection[CondaRepo]) -> Sequence[str]:
        """See Ecosystem.selected_with. A file that a lock names may be in any of the channels that include from it."""
        return [*repo.select.dependencies_from, *(other.path for other in others if repo.includes_with(other))]

    def select(
        self, repos: Mapping[str, CondaRepo], readings: Mapping[tuple[str, str], Reading], present: datetime
    ) -> Mapping[tuple[str, str], Selection]:
        """See Ecosystem.select."""
        from . import select  # py-rattler is slow to load and only wanted here

        return select.select(repos, readings, present)

    def needed(self, repo: CondaRepo, readings: Mapping[str, Reading], wishes: Wishes, present: datetime) -> Needed:
        """See Ecosystem.needed."""
        from . import needed

        return needed.needed(repo, readings, wishes, present)

    def environment(self, path: Path, mirrored: Mirrored) -> Environment | None:
        """See Ecosystem.environment: pixi.lock, conda-lock.yml, explicit lists; environment.yml is solved."""
        if path.suffix not in (".txt", ".yml", ".yaml", ".lock"):
            return None
        from . import environment

        reads = environment.reads(path)
        return environment.environment(path, mirrored, lambda content: dict(self.records(content))) if reads else None

    def settle(self, leaf_: bytes, digests: Mapping[str, Digest], withheld: Collection[str], sizes: Mapping[str, int]) -> bytes:
        """See Ecosystem.settle."""
        return leaf.settle(leaf_, digests, withheld)

    def files(self, leaf_: bytes) -> tuple[File, ...]:
        """See Ecosystem.files."""
        return leaf.files(leaf_)

    def as_of(self, leaf_: bytes, instant: int) -> bytes:
        """See Ecosystem.as_of."""
        return leaf.as_of(leaf_, instant)

    def records(self, leaf_: bytes) -> Iterator[tuple[str, bytes]]:
        """See Ecosystem.records."""
        for holder, key, file in leaf.places(leaf.decode(leaf_)):
            yield file, codec.to_msgpack(holder[key])

    def leaf_of(self, file: str) -> str:
        """See Ecosystem.leaf_of."""
        return names.leaf_of(file)

    def about(self, file: str, record: bytes, metadata: Callable[[], bytes]) -> About:
        """See Ecosystem.about."""
        return about.about(file, record)

    def naming(self, spec: str) -> Naming:
        """See Ecosystem.naming."""
        return naming.naming(spec)

    def leaf_path(self, digest: Digest) -> str | None:
        """See Ecosystem.leaf_path. Our shard index has `shards/` for `shards_base_url` (CEP 16)."""
        return f"shards/{digest.hex()}.msgpack.zst"

    def locate(self, reader: DirectoryReader, path: str) -> LeafAt | FileAt | None:
        """See Ecosystem.locate."""
        if shard := _SHARD.fullmatch(path):
            return _find_shard(reader, bytes.fromhex(shard[1]))
        return super().locate(reader, path)

    def derive(self, reader: DirectoryReader, document: str) -> bytes:
        """See Ecosystem.derive."""
        return _DOCUMENTS[document](reader)

    def media_type(self, path: str) -> str:
        """See Ecosystem.media_type. Compressed forms are files of their own, not codings of the plain form."""
        if path.endswith(".json"):
            return "application/json"
        if path.endswith(".zst"):
            return "application/zstd"
        return "application/x-bzip2" if path.endswith(".json.bz2") else "application/octet-stream"


def _find_shard(reader: DirectoryReader, digest: Digest) -> LeafAt | None:
    """A shard, if this directory lists it: under a name that the shard itself tells, so that no other leaf need be read."""
    try:
        listed = any(reader.leaf(name) == digest for name in leaf.names_in(reader.read(digest)))
    except (DamagedError, ValueError):
        return None  # there is no such blob, or it is no shard
    return LeafAt(digest) if listed else None
