"""What a text names in a directory (`Ecosystem.naming`): the leaves that may list it, and which of their files are meant."""

from collections.abc import Iterator

from ..digests import Digest
from ..ecosystem import Ecosystem, Naming
from ..readings import File
from ..store.directories import DirectoryReader


def leaves(reader: DirectoryReader, naming: Naming) -> Iterator[tuple[str, Digest]]:
    """The leaves that may list it, each with its name. No bucket is read but those of these names. Raises DamagedError."""
    for name in dict.fromkeys((naming.leaf, naming.leaf.lower(), reader.name_of(naming.text))):
        if name and (leaf := reader.leaf(name)):
            yield name, leaf


def covers(naming: Naming, leaf: str, file: str) -> bool:
    """Whether a file is meant. leaf: name of the leaf that lists it"""
    return naming.text == file or naming.covers(leaf, file)


def with_digest(ecosystem: Ecosystem, leaf: bytes, digest: Digest) -> list[File]:
    """The files of a leaf that have a SHA-256. Nearly no leaf has one, and to look for its bytes is quicker than to decode all.

    leaf: its bytes
    """
    if digest not in leaf and digest.hex().encode() not in leaf:
        return []
    return [file for file in ecosystem.files(leaf) if file.sha256 == digest]
