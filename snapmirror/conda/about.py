"""What people are told of a package, from its record (CEP 34)."""

from typing import Any

from .. import codec
from ..ecosystem import About
from . import leaf, names


def about(file: str, record: bytes) -> About:
    """See Ecosystem.about. A record may say anything."""
    said = codec.from_msgpack(record)
    if not isinstance(said, dict):
        return About()
    version, build = names.version_of(file)
    depends = said.get("depends")
    return About(
        version=_text(said.get("version")) or version,
        build=_text(said.get("build")) or build,
        license=_text(said.get("license")),
        depends=[one for one in depends if isinstance(one, str)] if isinstance(depends, list) else (),
        released=leaf.listed_at(said.get("indexed_timestamp"), said.get("timestamp")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
