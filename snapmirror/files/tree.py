"""A folder of files on this machine, as other tools have mirrored it: `adopt` takes from it what the repo's rules keep."""

import urllib.parse
from collections.abc import Collection
from pathlib import Path

import msgspec

from .. import addresses, clock
from ..readings import Known, Reading, Upstream
from . import upstream
from .files import Files
from .reading import FilesReading
from .settings import DEEPEST, FilesRepo

#: how addresses of JSON listings end; their files lie in folders, whatever the `depth` of the repo
_LISTS = (".json", "/releases")


class FilesTree(Files):
    """Reads a folder. Fulfils `ecosystem.TreeReader`.

    Hidden files are left out: servers do not list them, and tools give such names to what they have not finished.
    """

    def holds(self, repo: FilesRepo, folder: Path) -> bool:
        """See TreeReader.holds. A folder with nothing but folders named by dates has a tree for each date, and is none."""
        if not folder.is_dir():
            return False
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        depth = self._depth(repo)
        return any(path.is_file() or (depth and path.is_dir() and not clock.parse_day(path.name)) for path in entries)

    def looks_for(self, repo: FilesRepo) -> str:
        """See TreeReader.looks_for."""
        return f"files that {repo.path} could have"

    def at(self, repo: FilesRepo, folder: Path) -> FilesRepo:
        """See TreeReader.at."""
        return msgspec.structs.replace(repo, upstream=addresses.as_folder(folder.as_uri()), depth=self._depth(repo))

    def _depth(self, repo: FilesRepo) -> int:
        listed = any(urllib.parse.urlsplit(address).path.endswith(_LISTS) for address in repo.upstreams)
        return DEEPEST if listed else repo.depth

    def read(
        self, repo: FilesRepo, directory: str, upstream_: Upstream, known: Known, avoid: Collection[str]
    ) -> Reading | None:
        """See Ecosystem.read."""
        listing, bases = upstream.read(msgspec.structs.replace(repo, exclude=[*repo.exclude, ".*/"]), upstream_)
        files = {name: entry for name, entry in listing.files.items() if not name.rpartition("/")[2].startswith(".")}
        if hidden := len(listing.files) - len(files):
            upstream_.warn(f"{listing.base}: {hidden:,} hidden, as what is not finished is: not taken")
        return FilesReading(listing._replace(files=files), bases, upstream_)
