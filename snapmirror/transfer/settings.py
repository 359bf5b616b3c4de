"""The `[download]` table of the configuration."""

import re
from typing import NamedTuple

import msgspec

from .. import units


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
    def for_clients(self) -> "Download":
        """The same for when somebody waits: at most three tries."""
        return msgspec.structs.replace(self, retries=min(self.retries, 2))

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
