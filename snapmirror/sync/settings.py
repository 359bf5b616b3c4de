"""The `[publish]` table of the configuration, and what the command line asks of one sync."""

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from .. import units
from ..store.locks import Waiting


class Publish(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What is exported as folders of hard links."""

    #: trees of older snapshots go; `current` and pins keep theirs
    keep_trees: str = "30d"
    #: also the uncompressed repodata.json, which clients before 2022 and plain web servers need
    plain: bool = True
    #: paths of the repos that get trees; absent: every eager one of conda and files
    trees: list[str] | None = None

    def __post_init__(self) -> None:
        units.parse_duration(self.keep_trees)
        for path in self.trees or ():
            if "" in path.split("/"):
                raise ValueError(f"trees has {path!r}: write paths of repos, without a slash at the ends")

    @property
    def tree_age(self) -> timedelta:
        """How long trees are kept."""
        return units.parse_duration(self.keep_trees)

    def wants_tree(self, path: str, mode: str, *, usual: bool) -> bool:
        """Whether a repo gets trees: only eager repos have all files. usual: whether it does if nothing is said"""
        return mode == "eager" and (usual if self.trees is None else path in self.trees)


@dataclass(frozen=True)
class Options:
    """What the command line asks of one sync."""

    dry_run: bool = False
    #: id in the past that the snapshot gets
    seal_as: str | None = None
    allow_shrink: bool = False
    #: whether only what upstream had at that time, as far as it can be told, goes into it
    as_of: bool = False
    #: told what is waited for; None: do not wait for the store's lock
    waiting: Waiting | None = None

    @property
    def past(self) -> str | None:
        """Id of the time as of which upstream is meant; None: as it is now."""
        return self.seal_as if self.as_of else None
