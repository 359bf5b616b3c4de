"""Files behind a listing as an ecosystem: the methods that `sync` and `serve` call."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from .. import addresses
from ..digests import Digest
from ..ecosystem import Ecosystem, Naming, TreeReader
from ..errors import SelectionError
from ..readings import File, Known, Reading, Selection, Upstream
from . import leaf, names, naming, upstream
from .reading import FilesReading, SelectedReading
from .settings import FilesRepo

#: endings of files that browsers may show as text
_TEXTS = (".txt", ".md", ".asc", ".sig", ".sha256", ".md5", "sums")


class Files(Ecosystem):
    """Fulfils `ecosystem.Ecosystem`; stateless. A repo is one directory, and a leaf one file."""

    kind = "files"
    form = 1
    unknowable = "files deleted or replaced since"
    linked = True
    nested = True

    def tree_reader(self) -> TreeReader:
        """See Ecosystem.tree_reader."""
        from .tree import FilesTree  # which is this class and more

        return FilesTree()

    def read(
        self, repo: FilesRepo, directory: str, upstream_: Upstream, known: Known, avoid: Collection[str]
    ) -> Reading | None:
        """See Ecosystem.read."""
        listing, bases = upstream.read(repo, upstream_)
        return FilesReading(listing, bases, upstream_)

    def other_urls(self, file: File, directory: str, upstreams: Sequence[str], asked: Upstream) -> Iterator[str]:
        """See Ecosystem.other_urls."""
        return (addresses.file_url(upstream.folder_of(one), file.name) for one in upstreams)

    def empty(self, repo: FilesRepo, directory: str) -> Reading:
        """See Ecosystem.empty."""
        base = upstream.folder_of(repo.upstreams[0])
        return FilesReading(upstream.Listing(base, "", {}, {}), (base,), None)

    def settings(self, repo: FilesRepo) -> str:
        """See Ecosystem.settings."""
        return f"{self.form} {repo.download} {repo.include} {repo.exclude} {repo.newest} {repo.depth}"

    def selects(self, repo: FilesRepo) -> bool:
        """See Ecosystem.selects. `depth` selects too: with another depth, less may be listed."""
        return bool(repo.include or repo.exclude or repo.newest or repo.depth)

    def select(
        self, repos: Mapping[str, FilesRepo], readings: Mapping[tuple[str, str], Reading], present: datetime
    ) -> Mapping[tuple[str, str], Selection]:
        """See Ecosystem.select."""
        found = {}
        for place, reading in readings.items():
            repo = repos[place[0]]
            kept, dropped = names.choose(reading.sources, repo.include, repo.exclude, repo.newest)
            if reading.sources and not kept:
                raise SelectionError(repo.path, "keeps nothing of what upstream lists; change include, exclude or newest")
            others = {**reading.invalid, **reading.aside}
            meant, _ = names.choose(others, repo.include, repo.exclude, 0)
            found[place] = Selection(SelectedReading(reading, kept, meant), dropped)
        return found

    def settle(self, leaf_: bytes, digests: Mapping[str, Digest], withheld: Collection[str], sizes: Mapping[str, int]) -> bytes:
        """See Ecosystem.settle."""
        return leaf.settle(leaf_, digests, withheld)

    def files(self, leaf_: bytes) -> tuple[File, ...]:
        """See Ecosystem.files."""
        return (leaf.decode(leaf_),)

    def as_of(self, leaf_: bytes, instant: int) -> bytes:
        """See Ecosystem.as_of."""
        modified = leaf.decode(leaf_).modified
        return leaf_ if modified and modified <= instant else b""

    def records(self, leaf_: bytes) -> Iterator[tuple[str, bytes]]:
        """See Ecosystem.records."""
        yield leaf.decode(leaf_).name, leaf_

    def leaf_of(self, file: str) -> str:
        """See Ecosystem.leaf_of."""
        return file

    def naming(self, spec: str) -> Naming:
        """See Ecosystem.naming."""
        return naming.naming(spec)

    def media_type(self, path: str) -> str:
        """Content-Type by ending. Upstream's HTML is not sent as HTML: its scripts would run as ours."""
        if path.endswith(".json"):
            return "application/json"
        return "text/plain; charset=utf-8" if path.lower().endswith(_TEXTS) else "application/octet-stream"
