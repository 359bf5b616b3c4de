"""The keys of a `[[repo]]` with `kind = "files"`."""

import msgspec

from ..ecosystem import Repo
from . import names

#: levels of folders; the server answers paths of at most 64 segments, with the selector and the path of the repo
DEEPEST = 50


class FilesRepo(Repo, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="files"):
    """A folder of files, and of folders, behind a listing."""

    #: globs; none: everything
    include: list[str] = msgspec.field(default_factory=list)
    #: globs; wins over include
    exclude: list[str] = msgspec.field(default_factory=list)
    #: how many versions are kept of files whose paths differ only in their version, 0 for all
    newest: int = 0
    #: levels of folders below the first that are read too, 0 for none
    depth: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.upstreams):
            raise ValueError("upstream names no URL")
        if self.newest < 0:
            raise ValueError("newest can't be negative")
        if not 0 <= self.depth <= DEEPEST:
            raise ValueError(f"depth must be between 0 and {DEEPEST}")
        for pattern in self.include + self.exclude:
            names.glob(pattern)
