"""A channel in a folder of this machine, as another tool has mirrored it: `adopt` takes it as it is."""

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from ..readings import Known, Reading, Upstream
from . import upstream
from .conda import Conda
from .settings import CondaRepo


class CondaTree(Conda):
    """Fulfils `ecosystem.TreeReader`. Files are taken from beside their index, wherever that says they are; all are kept."""

    def holds(self, repo: CondaRepo, folder: Path) -> bool:
        """See TreeReader.holds."""
        return any((folder / subdir).is_dir() for subdir in repo.directories)

    def looks_for(self, repo: CondaRepo) -> str:
        """See TreeReader.looks_for."""
        return f"subdirs that {repo.path} is configured with ({', '.join(repo.directories)})"

    def at(self, repo: CondaRepo, folder: Path) -> CondaRepo:
        """See TreeReader.at."""
        return msgspec.structs.replace(repo, upstream=folder.as_uri(), packages="")

    def read(
        self, repo: CondaRepo, directory: str, upstream_: Upstream, known: Known, avoid: Collection[str]
    ) -> Reading | None:
        """See Ecosystem.read. The `base_url` (CEP 15) of a copied index leads to where the tree was copied from."""
        found = upstream.read(repo, directory, upstream_, known, avoid, upstream.LOCAL_FORMS)
        if found is not None:
            found.bases = (upstream.folder_of(repo.upstreams[0], directory),)
        return found

    def selects(self, repo: CondaRepo) -> bool:
        """See Ecosystem.selects. What is in the tree was selected when it was made."""
        return False

    def ages(self, repo: CondaRepo) -> bool:
        """See Ecosystem.ages."""
        return False

    def selected_with(self, repo: CondaRepo, others: Collection[CondaRepo]) -> Sequence[str]:
        """See Ecosystem.selected_with."""
        return ()
