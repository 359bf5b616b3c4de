"""What people are told of a file on a project's page: from its record (PEP 691), and from its metadata (PEP 658) if held."""

from collections.abc import Callable

from packaging.metadata import parse_email

from .. import codec
from ..ecosystem import About
from . import leaf, names


def about(file: str, record: bytes, metadata: Callable[[], bytes]) -> About:
    """See Ecosystem.about. Records have the types of PEP 691, or they would not have been let in; metadata may be anything."""
    said = codec.from_msgpack(record)
    raw, _ = parse_email(metadata())
    python = said.get("requires-python") or raw.get("requires_python")
    uploaded = said.get("upload-time")
    return About(
        version=names.parse(file, names.leaf_of(file)).version,
        license=raw.get("license_expression") or raw.get("license", "").partition("\n")[0],
        summary=raw.get("summary", ""),
        depends=[*([f"Python {python}"] if python else ()), *raw.get("requires_dist", ())],
        released=leaf.seconds(uploaded) if uploaded else None,
    )
