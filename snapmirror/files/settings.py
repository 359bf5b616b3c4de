"""The keys of a `[[repo]]` with `kind = "files"`."""

import msgspec

from ..ecosystem import Repo
from . import names

#: folders below folders; beyond, no URL of ours would be answered
DEEPEST = 50


class FilesRepo(Repo, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="files"):
    """A folder of files, and of folders, behind a listing."""

    #: globs; none: everything
    include: list[str] = msgspec.field(default_factory=list)
    #: globs; wins over include
    exclude: list[str] = msgspec.field(default_factory=list)
    #: so many versions of files whose names differ only in that, 0 for all
    newest: int = 0
    #: folders below folders that are read too, 0 for only the one
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
