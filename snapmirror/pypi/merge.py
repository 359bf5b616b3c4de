"""Several indexes published as one (`merge`), decided project by project.

A project comes from the first repo that has it, whole; repos after that one do not count. Were the files of several mixed,
anybody could publish a newer version of a private project at the public index, and installers would take it. For the same
reason nobody supplies a project of which the first repo can publish nothing, because its page or its files can't be read, or
are denied.
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

#: key of a page that says which repo it comes from
FROM = "_snapmirror-from"
_SALT = b"pypi merged 1\0"


class MergedReading(Reading):
    """Several directories as one. Fulfils `readings.Reading`."""

    def __init__(
        self,
        directories: Sequence[tuple[str, DirectoryReader]],
        denied: Mapping[str, Collection[str]] = {},
        known: Mapping[str, Collection[str]] = {},
    ) -> None:
        """directories: (path of a repo, what it publishes in the same snapshot), the first wins
        denied: {path of a repo: projects that the operator denies there}
        known: {path of a repo that could not be read: projects that later ones may supply}; any other may be new in it
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
        allowed: Collection[str] | None = None
        for path, reader in directories:
            for name, digest in reader.leaves.items():
                if name not in self._owners and name not in kept_free and (allowed is None or name in allowed):
                    self._owners[name] = path, reader
                    sources[name] = blake3(_SALT + path.encode() + b"\0" + digest).digest()
            kept_free.update(map(leaf_of, reader.document.withheld), reader.document.aside, denied.get(path, ()))
            allowed = known.get(path, allowed)
        self.sources = sources

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts. Raises DamagedError for a leaf that can't be read."""
        for name in names:
            path, reader = self._owners[name]
            page = leaf.decode(reader.read_leaf(name) or b"")
            content = leaf.encode({**page, FROM: path})
            yield Draft(name, content, leaf.files(content), self.sources[name], {})
