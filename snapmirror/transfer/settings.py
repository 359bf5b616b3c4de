"""The `[download]` table of the configuration, and those below it."""

import re
import shutil
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from .. import units


class Stall(NamedTuple):
    """A connection on which fewer than `bytes` arrive in `seconds` is stalled."""

    bytes: int
    seconds: float


class Auth(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where the credentials for a host are; never what they are."""

    #: a variable of the environment that holds `user:password`, or a token
    env: str


class Credentials(Auth, frozen=True):
    """The same, with what the environment holds. `repr` does not show it."""

    #: None if the variable is not set
    secret: str | None
    #: whether they may go over http:, where anybody on the way can read them
    in_clear: bool = False

    def __repr__(self) -> str:
        return f"Credentials({self.env})"


class Host(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """`[download.hosts."NAME"]`: what is different for one host. What is None is as `[download]` says."""

    auth: Auth | None = None
    #: a certificate that says who we are, with its key in the same file
    client_cert: str = ""
    #: put after our own name in User-Agent
    user_agent: str = ""
    #: "" for no proxy, whatever `[download]` and the environment say
    proxy: str | None = None
    ca_bundle: str | None = None
    connect_timeout: str | None = None
    stall: str | None = None


class Download(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How upstreams are asked. Durations and sizes are kept as written; the properties read them."""

    #: transfers at once
    connections: int = 8
    #: of these, to one host
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
    #: by name, with the port if the URL has one
    hosts: dict[str, Host] = {}

    def __post_init__(self) -> None:
        if self.connections < 1 or self.per_host < 1:
            raise ValueError("connections and per_host must be at least 1")
        if self.retries < 0:
            raise ValueError("retries can't be negative")
        _ = self.free_of(0)  # raises what is wrong
        if self.bytes_per_second == 0:
            raise ValueError(f"bandwidth is {self.bandwidth!r}, with which nothing would come; leave it empty for no limit")
        if self.connect_seconds <= 0 or self.stalled.seconds <= 0:
            raise ValueError("connect_timeout and stall must be of some time")
        for name in self.hosts:
            if name != host_name(f"//{name}") or "@" in name:
                raise ValueError(f"hosts has {name!r}: write a host's name in lower case, with its port if URLs have one")
            try:
                self.for_host(f"//{name}")
            except ValueError as error:
                raise ValueError(f"hosts, {name}: {error}") from None

    @property
    def for_clients(self) -> "Download":
        """The same for when somebody waits: at most three tries, and no file has to wait for a few large ones."""
        return msgspec.structs.replace(self, retries=min(self.retries, 2), per_host=4 * self.per_host)

    def host(self, url: str) -> Host:
        """What is different for the host of a URL."""
        return self.hosts.get(host_name(url), Host())

    def for_host(self, url: str) -> "Download":
        """The same with what is different for the host of a URL."""
        host = self.host(url)
        keys = ("proxy", "ca_bundle", "connect_timeout", "stall")
        own = {key: value for key in keys if (value := getattr(host, key)) is not None}
        return Download(**{**msgspec.structs.asdict(self), **own, "hosts": {}}) if own else self

    def found(self, base: Path, environment: Mapping[str, str]) -> "Download":
        """The same with absolute paths, and with the credentials that are in the environment.

        base: what paths are relative to
        """

        def absolute(path: str) -> str:
            return str(base / path) if path else ""

        def complete(host: Host) -> Host:
            return msgspec.structs.replace(
                host,
                auth=host.auth and Credentials(host.auth.env, environment.get(host.auth.env)),
                client_cert=absolute(host.client_cert),
                ca_bundle=None if host.ca_bundle is None else absolute(host.ca_bundle),
            )

        hosts = {name: complete(host) for name, host in self.hosts.items()}
        return msgspec.structs.replace(self, ca_bundle=absolute(self.ca_bundle), hosts=hosts)

    def trusting(self, urls: Iterable[str]) -> "Download":
        """The same where credentials go over http: too, to the hosts of those URLs that begin so: somebody has written these.

        Not because upstream links to such an address: one of a host for https: would get them out of it.
        """
        names = {host_name(url) for url in urls if urllib.parse.urlsplit(url).scheme == "http"}
        hosts = {
            name: msgspec.structs.replace(host, auth=msgspec.structs.replace(host.auth, in_clear=True))
            for name, host in self.hosts.items()
            if name in names and isinstance(host.auth, Credentials)
        }
        return msgspec.structs.replace(self, hosts=self.hosts | hosts)

    @property
    def connect_seconds(self) -> float:
        """Seconds to wait for a connection."""
        return units.parse_duration(self.connect_timeout).total_seconds()

    @property
    def stalled(self) -> Stall:
        """The same as numbers. Raises ValueError for a text that is none."""
        count, _, duration = self.stall.partition("/")
        return Stall(units.parse_size(count), units.parse_duration(duration).total_seconds())

    @property
    def bytes_per_second(self) -> int | None:
        """The limit on all transfers together, None for no limit."""
        return units.parse_size(self.bandwidth.removesuffix("/s")) if self.bandwidth else None

    def room(self, folder: Path) -> int:
        """Bytes that may still be written to the disk of a folder before no more than `min_free` is left."""
        disk = shutil.disk_usage(folder)
        return max(disk.free - self.free_of(disk.total), 0)

    def free_of(self, disk: int) -> int:
        """Bytes to leave free on a disk of so many bytes. Raises ValueError if `min_free` is neither a size nor a part."""
        if part := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", self.min_free):
            return int(disk * float(part[1]) / 100)
        try:
            return units.parse_size(self.min_free)
        except ValueError:
            raise ValueError(f"min_free is {self.min_free!r}; write for example 3% or 50GB") from None


def host_name(url: str) -> str:
    """Host and port of a URL, in lower case and without credentials: the name of a table in `hosts`."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2].lower()
