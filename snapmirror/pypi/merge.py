"""Several indexes published as one (`merge`), decided project by project.

A project is that of the first repo that has it, whole: its name hides it in the repos after that one. Were files of several
mixed, anybody could publish a newer version of one's own project at the public index, and installers would take that. So it
is with a project of which the first can publish nothing, because its files can't be read or the operator denies them: then
nobody has it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from blake3 import blake3

from ..digests import Digest
from ..readings import Draft, Reading
from ..store.directories import DirectoryReader
from ..validators import Validators
from . import leaf
from .names import leaf_of

#: key of a page that says of which repo it is
FROM = "_snapmirror-from"
_SALT = b"pypi merged 1\0"


class MergedReading(Reading):
    """Several directories as one. Fulfils `readings.Reading`."""

    def __init__(
        self, directories: Sequence[tuple[str, DirectoryReader]], denied: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """directories: paths of repos, and what these publish in the same snapshot; the first wins
        denied: projects that a repo may not have, by its path
        """
        self.bases: tuple[str, ...] = tuple(reader.document.origin for _, reader in directories)
        self.info: dict[str, Any] = {"merged": [path for path, _ in directories]}
        self.extra: dict[str, Any] = {}
        self.invalid: Mapping[str, str] = {}
        self.document = ""
        self.validators: Mapping[str, Validators] = {}
        self._owners: dict[str, tuple[str, DirectoryReader]] = {}
        self.sources: Mapping[str, Digest] = {}
        sources = {}
        kept_free: set[str] = set()
        for path, reader in directories:
            for name, digest in reader.leaves.items():
                if name not in self._owners and name not in kept_free:
                    self._owners[name] = path, reader
                    sources[name] = blake3(_SALT + path.encode() + b"\0" + digest).digest()
            kept_free.update(map(leaf_of, reader.document.withheld), (denied or {}).get(path, ()))
        self.sources = sources

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts. Raises DamagedError for a leaf that can't be read."""
        for name in names:
            path, reader = self._owners[name]
            page = leaf.decode(reader.read_leaf(name) or b"")
            content = leaf.encode({**page, FROM: path})
            yield Draft(name, content, leaf.files(content), self.sources[name], {})
