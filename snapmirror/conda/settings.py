"""The keys of a `[[repo]]` with `kind = "conda"`."""

import re

import msgspec

from ..ecosystem import Repo

#: CEP 26; `noarch` is always published
_SUBDIR = re.compile(r"noarch|[a-z0-9]+-[a-z0-9_]+")


class CondaRepo(Repo, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="conda"):
    """A conda channel, or a label of one."""

    subdirs: list[str] = msgspec.field(default_factory=list)
    #: also publish `repodata.json.bz2`, which the common mirror script stops without
    bz2: bool = False
    #: also publish `current_repodata.json`, which conda before 26 asks for
    current_repodata: bool = False

    def __post_init__(self) -> None:
        for subdir in self.subdirs:
            if not _SUBDIR.fullmatch(subdir) or len(subdir) > 32:
                raise ValueError(f"{subdir!r} is no subdir; write for example linux-64 or noarch")
        if len(set(self.subdirs)) < len(self.subdirs):
            raise ValueError("a subdir is listed twice")
