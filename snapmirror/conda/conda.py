"""conda as an ecosystem: the methods that `sync` and `serve` call."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from .. import codec
from ..digests import Digest
from ..ecosystem import DocumentPlan, File, FileAt, Known, LeafAt, Reading, Upstream
from ..errors import DamagedError
from ..store.directories import DirectoryReader
from . import derive, leaf, names, upstream
from .settings import CondaRepo

_SHARD = re.compile(r"shards/([0-9a-f]{64})\.msgpack\.zst")
_DOCUMENTS = {
    "repodata.json": derive.repodata,
    "repodata_shards.msgpack": derive.shard_index,
    "current_repodata.json": derive.current_repodata,
}


class Conda:
    """Fulfils `ecosystem.Ecosystem`; stateless."""

    kind = "conda"
    form = 1

    def directories(self, repo: CondaRepo) -> Sequence[str]:
        """The subdirs; every channel must have noarch."""
        return sorted({*repo.subdirs, "noarch"})

    def documents(self, repo: CondaRepo) -> Sequence[DocumentPlan]:
        """What clients ask for: shards first since 2026, `.zst` since conda 23, the plain form before."""
        plain = ("", ".zst", ".bz2") if repo.bz2 else ("", ".zst")
        planned = [DocumentPlan("repodata.json", plain), DocumentPlan("repodata_shards.msgpack", (".zst",))]
        if repo.current_repodata:
            planned.append(DocumentPlan("current_repodata.json", ("", ".zst")))
        return planned

    def read(
        self, repo: CondaRepo, directory: str, upstream_: Upstream, known: Known, avoid: Collection[str]
    ) -> Reading | None:
        """See Ecosystem.read."""
        return upstream.read(repo, directory, upstream_, known, avoid)

    def empty(self, repo: CondaRepo, directory: str) -> Reading:
        """See Ecosystem.empty."""
        return upstream.nothing(repo, directory)

    def settle(self, leaf_: bytes, digests: Mapping[str, Digest], withheld: Collection[str]) -> bytes:
        """See Ecosystem.settle."""
        return leaf.settle(leaf_, digests, withheld)

    def files(self, leaf_: bytes) -> tuple[File, ...]:
        """See Ecosystem.files."""
        return leaf.files(leaf_)

    def records(self, leaf_: bytes) -> Iterator[tuple[str, bytes]]:
        """See Ecosystem.records."""
        for holder, key, file in leaf.places(leaf.decode(leaf_)):
            yield file, codec.to_msgpack(holder[key])

    def leaf_of(self, file: str) -> str:
        """See Ecosystem.leaf_of."""
        return names.leaf_of(file)

    def leaf_path(self, digest: Digest) -> str | None:
        """Shards lie where the index of CEP 16 says: below `shards/`."""
        return f"shards/{digest.hex()}.msgpack.zst"

    def locate(self, reader: DirectoryReader, path: str) -> LeafAt | FileAt | None:
        """See Ecosystem.locate."""
        if shard := _SHARD.fullmatch(path):
            return _find_shard(reader, bytes.fromhex(shard[1]))
        name = reader.name_of(path) or names.leaf_of(path)
        found = reader.read_leaf(name)
        file = next((file for file in leaf.files(found) if file.name == path), None) if found else None
        return FileAt(file.but(url=reader.elsewhere(name, path))) if file else None

    def derive(self, reader: DirectoryReader, document: str) -> bytes:
        """See Ecosystem.derive."""
        return _DOCUMENTS[document](reader)

    def media_type(self, path: str) -> str:
        """Content-Type by ending; what is compressed is sent as it is."""
        if path.endswith(".json"):
            return "application/json"
        if path.endswith(".zst"):
            return "application/zstd"
        return "application/x-bzip2" if path.endswith(".json.bz2") else "application/octet-stream"


def _find_shard(reader: DirectoryReader, digest: Digest) -> LeafAt | None:
    """A shard that this directory lists. The shard itself says under which name, so no other is read."""
    try:
        listed = any(reader.leaf(name) == digest for name in leaf.names_in(reader.read(digest)))
    except (DamagedError, ValueError):
        return None  # no such blob, or one that is no shard
    return LeafAt(digest) if listed else None
