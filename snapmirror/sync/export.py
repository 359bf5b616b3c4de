"""The derived documents of a directory, for others to read."""

import bz2
from collections.abc import Sequence

from .. import codec
from ..digests import Digest, sha256
from ..ecosystem import DocumentPlan, Ecosystem
from ..errors import DamagedError
from ..store.directories import Derived, DirectoryReader
from ..store.store import Store


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
