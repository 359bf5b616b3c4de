"""The `[download]` and `[publish]` tables of the configuration, and what the command line asks of one sync."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import msgspec

from .. import units
from ..store.locks import Waiting


class Stall(NamedTuple):
    """Fewer than `bytes` in `seconds` is a stalled connection."""

    bytes: int
    seconds: float


class Download(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How upstreams are asked. Durations and sizes are kept as written; the properties read them."""

    #: transfers at once, and of these to one host
    connections: int = 8
    per_host: int = 4
    #: tries after the first, of a request and of a broken body
    retries: int = 5
    connect_timeout: str = "20s"
    stall: str = "5000B/15s"
    #: bytes a second over all connections; "" for no limit
    bandwidth: str = ""
    proxy: str = ""
    ca_bundle: str = ""
    #: what every sync leaves free on the disk: a size, or a part of the whole
    min_free: str = "3%"

    def __post_init__(self) -> None:
        if self.connections < 1 or self.per_host < 1:
            raise ValueError("connections and per_host must be at least 1")
        if self.retries < 0:
            raise ValueError("retries can't be negative")
        _ = self.connect_seconds, self.stalled, self.bytes_per_second, self.free_of(0)  # each raises what is wrong

    @property
    def connect_seconds(self) -> float:
        """Seconds to wait for a connection."""
        return units.parse_duration(self.connect_timeout).total_seconds()

    @property
    def stalled(self) -> Stall:
        """What counts as stalled."""
        count, _, duration = self.stall.partition("/")
        return Stall(units.parse_size(count), units.parse_duration(duration).total_seconds())

    @property
    def bytes_per_second(self) -> int | None:
        """The limit on all transfers together."""
        return units.parse_size(self.bandwidth.removesuffix("/s")) if self.bandwidth else None

    def free_of(self, disk: int) -> int:
        """Bytes to leave free on a disk of so many bytes."""
        if part := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", self.min_free):
            return int(disk * float(part[1]) / 100)
        try:
            return units.parse_size(self.min_free)
        except ValueError:
            raise ValueError(f"min_free is {self.min_free!r}; write for example 3% or 50GB") from None


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
