"""The `[s3]` table of the configuration."""

import re
from typing import NamedTuple

import msgspec

_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/*")


class S3(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an object store is reached. What is not given here comes from the usual environment (`AWS_ACCESS_KEY_ID`, ...)."""

    #: `https://host:port` of the service; empty: the environment's, or that of Amazon for the region
    endpoint: str = ""
    region: str = ""
    #: whether the bucket is part of the path and not of the host's name
    path_style: bool = True
    access_key: str = ""
    secret_key: str = ""

    def __post_init__(self) -> None:
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"endpoint {self.endpoint!r} is no URL: it begins with http:// or https://")
        if bool(self.access_key) != bool(self.secret_key):
            raise ValueError("access_key and secret_key go together: give both, or neither for those of the environment")


class Address(NamedTuple):
    """Where a store is: `s3://bucket/prefix`."""

    bucket: str
    #: without slashes at its ends; may be empty
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def is_remote(text: str) -> bool:
    """Whether the `store` of a configuration is no folder."""
    return text.startswith("s3:")


def parse_address(text: str) -> Address:
    """What `s3://bucket/prefix` says. Raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if not found or any(part in ("", ".", "..") for part in (found[2] or "x").split("/")):
        raise ValueError(f"{text!r} is no address of a store: write s3://bucket or s3://bucket/prefix")
    return Address(found[1], found[2] or "")
