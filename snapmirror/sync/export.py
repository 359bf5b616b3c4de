"""What is made of a directory for others to read: its derived documents, and its tree."""

import bz2
from collections.abc import Iterator, Sequence

from .. import codec
from ..digests import Digest, sha256
from ..ecosystem import DocumentPlan, Ecosystem
from ..errors import DamagedError
from ..store.directories import Derived, DirectoryReader
from ..store.store import Store
from ..store.trees import Source, source


def encode(content: bytes, suffix: str) -> bytes:
    """A document in the form that a suffix stands for."""
    if suffix == ".zst":
        return codec.compress(content, codec.DOCUMENT_LEVEL)
    return bz2.compress(content) if suffix == ".bz2" else content


def derive(
    store: Store, ecosystem: Ecosystem, reader: DirectoryReader, documents: Sequence[DocumentPlan], *, plain: bool
) -> dict[str, Derived]:
    """Make the documents of a directory and leave them in the cache.

    plain: also the uncompressed form, which trees link; servers make it from the compressed one
    """
    found = {}
    for planned in documents:
        content = ecosystem.derive(reader, planned.name)
        digest = sha256(content)
        found[planned.name] = Derived(sha256=digest, size=len(content), suffixes=planned.suffixes)
        _keep(store, digest, content, planned.suffixes, plain=plain)
    return found


def _keep(store: Store, digest: Digest, content: bytes, suffixes: Sequence[str], *, plain: bool) -> None:
    for suffix in suffixes:
        if (suffix or plain) and not store.documents.path(digest, suffix).exists():
            store.documents.put(digest, suffix, encode(content, suffix))


def refill(store: Store, ecosystem: Ecosystem, reader: DirectoryReader, *, plain: bool) -> None:
    """Make documents again that are no longer in the cache. Raises DamagedError if one is not what was recorded."""
    for name, derived in reader.document.documents.items():
        wanted = [suffix for suffix in derived.suffixes if suffix or plain]
        if all(store.documents.path(derived.sha256, suffix).exists() for suffix in wanted):
            continue
        content = ecosystem.derive(reader, name)
        if sha256(content) != derived.sha256:
            raise DamagedError(f"document {name} of directory {reader.digest.hex()}", "is not what was recorded")
        _keep(store, derived.sha256, content, wanted, plain=plain)


def stands(store: Store, tree: str, reader: DirectoryReader, *, plain: bool) -> bool:
    """Whether the tree object of a directory that has not changed is there, with the forms that are wanted now."""
    path = store.trees.path(tree)
    plains = (name for name, derived in reader.document.documents.items() if "" in derived.suffixes)
    return path.is_dir() and all((path / name).exists() == plain for name in plains)


def build_tree(store: Store, ecosystem: Ecosystem, reader: DirectoryReader, *, plain: bool) -> str:
    """Make the tree object of an eager directory; its name."""
    refill(store, ecosystem, reader, plain=plain)
    return store.trees.build(tree_listing(store, ecosystem, reader, plain=plain))


def blobs_in(ecosystem: Ecosystem, reader: DirectoryReader) -> Iterator[tuple[str, Digest]]:
    """Files and leaves of an eager directory under the names that clients ask for. Raises DamagedError."""
    for leaf in reader.leaves.values():
        if path := ecosystem.leaf_path(leaf):
            yield path, leaf
        for file in ecosystem.files(reader.read(leaf)):
            if file.sha256:
                yield file.name, file.sha256


def documents_in(reader: DirectoryReader, *, plain: bool) -> dict[str, tuple[Digest, str]]:
    """Documents in every form, under the names that clients ask for: digest of the plain form, and suffix."""
    return {
        name + suffix: (derived.sha256, suffix)
        for name, derived in reader.document.documents.items()
        for suffix in derived.suffixes
        if suffix or plain
    }


def tree_listing(store: Store, ecosystem: Ecosystem, reader: DirectoryReader, *, plain: bool) -> dict[str, Source]:
    """Files, leaves and documents of a directory under the names that clients ask for; documents are in the cache."""
    listing = {name: store.trees.blob(blob) for name, blob in blobs_in(ecosystem, reader)}
    for name, (digest, suffix) in documents_in(reader, plain=plain).items():
        document = store.documents.path(digest, suffix)
        listing[name] = source(document, sha256(document.read_bytes()) if suffix else digest)
    return listing
