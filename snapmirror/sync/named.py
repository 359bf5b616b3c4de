"""What a text names in a directory (`Ecosystem.naming`): the leaves that may list it, and which of their files are meant."""

from collections.abc import Iterator

from ..digests import Digest
from ..ecosystem import Naming
from ..store.directories import DirectoryReader


def leaves(reader: DirectoryReader, naming: Naming) -> Iterator[tuple[str, Digest]]:
    """The leaves that may list it, each with its name. No bucket is read but those of these names. Raises DamagedError."""
    for name in dict.fromkeys((naming.leaf, naming.leaf.lower(), reader.name_of(naming.text))):
        if name and (leaf := reader.leaf(name)):
            yield name, leaf


def covers(naming: Naming, leaf: str, file: str) -> bool:
    """Whether a file is meant. leaf: name of the leaf that lists it"""
    return naming.text == file or naming.covers(leaf, file)
