"""A single file that is asked for, by its SHA-256, its name, or both."""

from collections.abc import Mapping
from pathlib import Path

from ..digests import Digest, Sums
from ..ecosystem import Ecosystem
from ..ecosystem.environments import ABSENT, OTHER, Environment, Found, Held, Place
from ..store.directories import DirectoryReader
from . import named


class OneFile(Environment):
    """Fulfils `ecosystem.environments.Environment`, for directories of any kind; what it finds has paths in place of names."""

    kind = ""
    aside: Mapping[str, str] = {}

    def __init__(self, ecosystems: Mapping[str, Ecosystem], name: str, sha256: Digest | None) -> None:
        """name: empty if it may have any; then all leaves are looked through, of which each bucket remembers what it came to.
        So are, by their names, those of repos in which names are paths: the file may be in any folder.
        """
        self._ecosystems = ecosystems
        self._name = name
        self._sha256 = sha256
        self._leaves: dict[Digest, Mapping[str, Held]] = {}
        self._buckets: dict[Digest, Mapping[str, Held]] = {}

    def find(self, directories: Mapping[Place, DirectoryReader]) -> Found:
        """See Environment.find."""
        listed = {(*place, file): held for place, reader in directories.items() for file, held in self._look(reader).items()}
        right = {at: held for at, held in listed.items() if self._sha256 in (None, held.sha256)}
        what = self._name or (self._sha256 or b"").hex()
        return Found({what: right}, {}) if right else Found({}, {what: OTHER if listed else ABSENT})

    def _look(self, reader: DirectoryReader) -> Mapping[str, Held]:
        ecosystem = self._ecosystems[reader.document.kind]
        if self._name and not ecosystem.nested:
            leaf = reader.leaf(ecosystem.leaf_at(reader, self._name))
            return self._of_leaf(ecosystem, reader, leaf) if leaf else {}
        found: dict[str, Held] = {}
        for place, bucket in enumerate(reader.document.buckets):
            if bucket not in self._buckets:
                files: dict[str, Held] = {}
                for name, leaf in reader.bucket(place).leaves.items():
                    if not ecosystem.nested or self._means(name):
                        files |= self._of_leaf(ecosystem, reader, leaf)
                self._buckets[bucket] = files
            found |= self._buckets[bucket]
        return found

    def _means(self, file: str) -> bool:
        """Whether a name or a path is the one that is asked for."""
        return not self._name or self._name in (file, file.rpartition("/")[2])

    def _of_leaf(self, ecosystem: Ecosystem, reader: DirectoryReader, leaf: Digest) -> Mapping[str, Held]:
        """The files of a leaf that are meant, by path below the directory. Nobody compares their records."""
        if leaf not in self._leaves:
            content = reader.read(leaf)
            if self._name:
                files = [file for file in ecosystem.files(content) if self._means(file.name)]
            else:
                assert self._sha256
                files = named.with_digest(ecosystem, content, self._sha256)
            paths = {file.name: path for path, file in ecosystem.paths(content).items()} if files else {}
            self._leaves[leaf] = {paths.get(file.name, file.name): Held(file.sha256, b"") for file in files}
        return self._leaves[leaf]


def sha256_of(path: Path) -> Digest:
    """The SHA-256 of a file on this machine. Raises OSError."""
    sums = Sums(with_blake3=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            sums.update(piece)
    return sums.sha256
