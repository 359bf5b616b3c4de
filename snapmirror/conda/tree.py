"""A mirror tree on this machine, as other tools leave it: `adopt` takes it as it is."""

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from .. import addresses
from ..readings import Known, Reading, Upstream
from . import upstream
from .conda import Conda
from .settings import CondaRepo


class CondaTree(Conda):
    """Reads a channel from a folder: its files lie beside their index, whatever that says, and all of it is kept.

    Fulfils `ecosystem.TreeReader`.
    """

    def holds(self, repo: CondaRepo, folder: Path) -> bool:
        """See TreeReader.holds."""
        return any((folder / subdir).is_dir() for subdir in _subdirs(repo))

    def looks_for(self, repo: CondaRepo) -> str:
        """See TreeReader.looks_for."""
        return f"subdirs that {repo.path} is configured with ({', '.join(_subdirs(repo))})"

    def at(self, repo: CondaRepo, folder: Path) -> CondaRepo:
        """See TreeReader.at."""
        return msgspec.structs.replace(repo, upstream=folder.as_uri(), packages="")

    def read(
        self, repo: CondaRepo, directory: str, upstream_: Upstream, known: Known, avoid: Collection[str]
    ) -> Reading | None:
        """See Ecosystem.read. The `base_url` of a copied index leads to where the tree was copied from."""
        found = upstream.read(repo, directory, upstream_, known, avoid, upstream.LOCAL_FORMS)
        if found is not None:
            found.bases = (addresses.as_folder(addresses.as_folder(repo.upstreams[0]) + directory),)
        return found

    def selects(self, repo: CondaRepo) -> bool:
        """See Ecosystem.selects. What is in the tree was selected when it was made."""
        return False

    def ages(self, repo: CondaRepo) -> bool:
        """See Ecosystem.ages."""
        return False

    def bound(self, repo: CondaRepo) -> Sequence[str]:
        """See Ecosystem.bound."""
        return ()


def _subdirs(repo: CondaRepo) -> list[str]:
    return sorted({*repo.subdirs, "noarch"})
