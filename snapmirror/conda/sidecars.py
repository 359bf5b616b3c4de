"""What a channel has beside its repodata, as an ecosystem: the methods that `sync` and `serve` call."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from .. import codec
from ..digests import Digest
from ..ecosystem import DocumentPlan, Follower, Naming
from ..readings import File, Known, Reading, Upstream
from ..store.directories import DirectoryReader
from . import leaf, names, naming, parts
from .beside import Beside, Followed, read
from .settings import CondaRepo


class Sidecars(Follower):
    """Fulfils `ecosystem.Follower`; stateless. It has one directory, named "" (see beside)."""

    kind = "conda-sidecars"
    form = 1
    unknowable = "what documents said then"
    linked = True

    def documents(self, repo: CondaRepo, info: Mapping[str, Any]) -> Sequence[DocumentPlan]:
        """See Ecosystem.documents: those that are stored as parts. `info` has what is in no part, by path."""
        return [DocumentPlan(path) for path in info]

    def read(self, repo: CondaRepo, directory: str, upstream: Upstream, known: Known, avoid: Collection[str]) -> Reading | None:
        """See Ecosystem.read."""
        return read(repo, repo.directories, upstream, known)

    def empty(self, repo: CondaRepo, directory: str) -> Reading:
        """See Ecosystem.empty."""
        return Beside(repo, {})

    def follow(
        self,
        repo: CondaRepo,
        reading: Reading,
        others: Mapping[str, DirectoryReader],
        previous: DirectoryReader | None,
        upstream: Upstream,
    ) -> Reading:
        """See Follower.follow."""
        assert isinstance(reading, Beside)
        return Followed(repo, reading, others, previous, upstream)

    def settings(self, repo: CondaRepo) -> str:
        """See Ecosystem.settings."""
        return f"{self.form} {repo.subdirs} {repo.sidecars}"

    def settle(self, leaf_: bytes, digests: Mapping[str, Digest], withheld: Collection[str], sizes: Mapping[str, int]) -> bytes:
        """See Ecosystem.settle. All digests are known: the bytes come with the leaf."""
        if not withheld:
            return leaf_
        made = leaf.decode(leaf_)
        made["packages"] = {path: entry for path, entry in made["packages"].items() if path not in withheld}
        return codec.to_msgpack(made) if made["packages"] or made["documents"] else b""

    def files(self, leaf_: bytes) -> tuple[File, ...]:
        """See Ecosystem.files."""
        return leaf.files(leaf_)

    def as_of(self, leaf_: bytes, instant: int) -> bytes:
        """See Ecosystem.as_of. The documents do not say since when they are as they are, so all of it stays."""
        return leaf_

    def records(self, leaf_: bytes) -> Iterator[tuple[str, bytes]]:
        """See Ecosystem.records."""
        for path, entry in leaf.decode(leaf_)["packages"].items():
            yield path, codec.to_msgpack(entry)

    def leaf_of(self, file: str) -> str:
        """See Ecosystem.leaf_of."""
        return names.leaf_of(file)

    def naming(self, spec: str) -> Naming:
        """See Ecosystem.naming."""
        return naming.of_path(spec)

    def derive(self, reader: DirectoryReader, document: str) -> bytes:
        """See Ecosystem.derive."""
        folder = document.rpartition("/")[0]
        found = (
            leaf.decode(reader.read(part))["documents"].get(document)
            for name, part in reader.leaves.items()
            if name.rpartition("/")[0] == folder
        )
        return parts.whole(reader.document.info[document], (part for part in found if part))

    def media_type(self, path: str) -> str:
        """See Ecosystem.media_type."""
        if path.endswith(".json"):
            return "application/json"
        return "application/zstd" if path.endswith(".zst") else "application/octet-stream"
