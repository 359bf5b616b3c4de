"""Where else lost blobs may be had (`check --from`): another snapmirror, its store, or an old mirror. Nothing here is trusted:
whatever is fetched from there is compared with its SHA-256 before it is admitted.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from .. import addresses
from ..digests import Digest, is_hex_digest
from ..errors import UsageError


class Giver(Protocol):
    """One place that is asked."""

    def urls(self, digest: Digest, size: int | None) -> Iterator[str]:
        """Where it may have a blob. size: its bytes, if they are known"""
        ...

    def upstreams(self, repo: str) -> list[str]:
        """Base URLs under which it may have what the upstreams of a repo have."""
        ...


def giver(text: str) -> Giver:
    """The place that a URL or a folder names. Raises UsageError."""
    if addresses.is_web(text):
        return _Site(text)
    folder = Path(text)
    if not folder.is_dir():
        raise UsageError(f"--from {text}: is neither an http or https URL nor a folder")
    return _Folder(folder.absolute())


class _Site:
    """Another snapmirror, or an old mirror, over HTTP."""

    def __init__(self, url: str) -> None:
        self._base = addresses.as_folder(url)

    def urls(self, digest: Digest, size: int | None) -> Iterator[str]:
        yield f"{self._base}-/blobs/{digest.hex()}"

    def upstreams(self, repo: str) -> list[str]:
        return [f"{self._base}{repo}", self._base]


class _Folder:
    """The store of another snapmirror, or a tree of files under any names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        #: size -> digest -> path, of the files whose size was asked for
        self._hashed: dict[int, dict[Digest, str]] = {}

    def urls(self, digest: Digest, size: int | None) -> Iterator[str]:
        name = digest.hex()
        blob = self._root / "blobs" / name[:2] / name
        if blob.is_file():
            yield blob.as_uri()
        elif (self._root / "snapmirror.json").exists():
            return  # a store has nothing anywhere else
        elif path := self._named.get(name) or self._of_size(size).get(digest):
            yield Path(path).as_uri()

    def upstreams(self, repo: str) -> list[str]:
        return []

    def _of_size(self, size: int | None) -> dict[Digest, str]:
        """All files of a size; without one, none: to read a whole disk for a single blob is not worth it."""
        if size is None:
            return {}
        if size not in self._hashed:
            found: dict[Digest, str] = {}
            for path in self._files.get(size, ()):
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    found[hashlib.file_digest(file, "sha256").digest()] = path
            self._hashed[size] = found
        return self._hashed[size]

    @cached_property
    def _files(self) -> dict[int, list[str]]:
        """Every file, by size."""
        found: dict[int, list[str]] = {}
        for parent, _, names in os.walk(self._root):
            for name in names:
                path = os.path.join(parent, name)
                with contextlib.suppress(OSError):
                    if os.path.isfile(path):
                        found.setdefault(os.path.getsize(path), []).append(path)
        return found

    @cached_property
    def _named(self) -> dict[str, str]:
        """The files that are named by a digest, as those of a store are."""
        paths = (path for paths in self._files.values() for path in paths)
        return {os.path.basename(path): path for path in paths if is_hex_digest(os.path.basename(path))}
