"""Readings without what the operator has denied: it is neither published nor fetched, whenever it was uploaded.

The source of a leaf that rules may concern (see `Reading.sources`) is another one than without these rules, so that the leaf
is planned anew when a rule is made, and again when it is taken away.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from blake3 import blake3

from ..digests import Digest, is_hex_digest
from ..ecosystem import Ecosystem, Naming
from ..readings import Changes, Draft, File, Reading
from ..store.denied import Rule
from ..store.directories import DirectoryReader
from ..validators import Validators


class Rules:
    """What is denied in the directories of one repo that one ecosystem reads."""

    def __init__(self, ecosystem: Ecosystem, repo: str, rules: Collection[Rule]) -> None:
        """repo: its path; rules: all that there are. By the SHA-256 of a file those of other repos count too."""
        own = [rule for rule in rules if rule.repo == repo]
        #: files that are denied whatever their names are
        self.digests: frozenset[Digest] = frozenset(file.digest for rule in rules for file in rule.files)
        self._namings = list(_namings(ecosystem, own))
        self._by_leaf: dict[str, list[Naming]] = {}
        for naming in self._namings:
            self._by_leaf.setdefault(naming.leaf.lower(), []).append(naming)
        self._files = frozenset(naming.text for naming in self._namings)
        #: what had a denied SHA-256 when it was denied: where upstream states none, nothing but the name tells
        self._unsummed = frozenset(file.name for rule in own if is_hex_digest(rule.spec) for file in rule.files)
        leaves = {naming.leaf for naming in self._namings} | {file.leaf for rule in rules for file in rule.files}
        self._leaves = frozenset(leaves | {leaf.lower() for leaf in leaves})
        parts = [*sorted(self._files), *sorted(digest.hex() for digest in self.digests), *sorted(self._leaves)]
        #: all that is denied, as a text: the same for the same rules, empty if there are none
        self.text = f" without {blake3(repr(parts).encode()).hexdigest()}" if rules else ""

    def concerns(self, leaf: str) -> bool:
        """Whether anything of a leaf may be denied, as far as its name tells."""
        return leaf in self._leaves or leaf.lower() in self._leaves

    @property
    def forbidden(self) -> frozenset[str]:
        """Names of leaves of which all is denied, as far as rules name them."""
        return frozenset(naming.leaf for naming in self._namings if naming.whole)

    def forbids(self, leaf: str) -> bool:
        """Whether all of a leaf is denied, whatever it lists."""
        return any(naming.whole and naming.covers(leaf, "") for naming in self._by_leaf.get(leaf.lower(), ()))

    def names(self, leaf: str, file: str) -> bool:
        """Whether a file is denied by its name."""
        return file in self._files or any(naming.covers(leaf, file) for naming in self._by_leaf.get(leaf.lower(), ()))

    def denies(self, leaf: str, file: File) -> bool:
        """Whether a file is denied."""
        if file.sha256 in self.digests or (file.sha256 is None and file.name in self._unsummed):
            return True
        return self.names(leaf, file.name)

    def source(self, digest: Digest) -> Digest:
        """The source of a leaf that rules concern. digest: its source without rules"""
        return blake3(f"allowed 1{self.text}\0".encode() + digest).digest()

    def count(self, ecosystem: Ecosystem, reader: DirectoryReader) -> int:
        """How many files are denied of those that a directory lists, in the leaves that rules concern."""
        if not self.text:
            return 0
        found = 0
        for leaf in self._leaves:
            if content := reader.read_leaf(leaf):
                files = ecosystem.files(content)
                found += len(files) - len(self.cut(ecosystem, leaf, content, files)[1])
        return found

    def cut(self, ecosystem: Ecosystem, leaf: str, content: bytes, files: tuple[File, ...]) -> tuple[bytes, tuple[File, ...]]:
        """A leaf and what it lists without what is denied, and without what lies beside that; empty if nothing is left."""
        denied = {file.name for file in files if self.denies(leaf, file)}
        if not denied:
            return content, files
        content = b"" if self.forbids(leaf) else ecosystem.settle(content, {}, denied, {})
        left = {file.name for file in ecosystem.files(content)} if content else set()
        return content, tuple(file for file in files if file.name in left)

    def cut_draft(self, ecosystem: Ecosystem, draft: Draft) -> Draft:
        """A draft without what is denied."""
        invalid = {file: reason for file, reason in draft.invalid.items() if not self.names(draft.name, file)}
        content, files = self.cut(ecosystem, draft.name, draft.content, draft.files)
        if len(files) == len(draft.files):
            return draft._replace(invalid=invalid)
        gone = {file.sha256 for file in draft.files} - {file.sha256 for file in files}
        return draft._replace(
            content=content,
            files=files,
            source=draft.source if self.concerns(draft.name) else None,  # else it would stay when the rule goes
            invalid=invalid,
            bodies={digest: body for digest, body in draft.bodies.items() if digest not in gone},
        )


def _namings(ecosystem: Ecosystem, rules: Collection[Rule]) -> Iterator[Naming]:
    for rule in rules:
        if not is_hex_digest(rule.spec):
            with contextlib.suppress(ValueError):  # what names nothing here may name something beside it
                yield ecosystem.naming(rule.spec)


class Allowed(Reading):
    """A reading whose drafts are without what is denied, as a whole. Fulfils `readings.Reading`."""

    def __init__(self, ecosystem: Ecosystem, reading: Reading, rules: Rules) -> None:
        self._reading, self._rules = reading, rules
        self.bases: tuple[str, ...] = reading.bases
        self.info: dict[str, Any] = reading.info
        self.extra: dict[str, Any] = reading.extra
        self.document = reading.document
        self.invalid: Mapping[str, str] = {
            file: reason for file, reason in reading.invalid.items() if not rules.names(ecosystem.leaf_of(file), file)
        }
        self.validators: Mapping[str, Validators] = reading.validators
        self.gone, self.alone, self.young = reading.gone, reading.alone, reading.young
        self.sources: Mapping[str, Digest] = _Sources(reading.sources, rules)

    @property
    def aside(self) -> Mapping[str, str]:
        """See Reading.aside. Of what is denied altogether nothing old is kept either."""
        return {name: reason for name, reason in self._reading.aside.items() if not self._rules.forbids(name)}

    def mark(self) -> bytes:
        """See Reading.mark. Whoever keeps it keeps `Rules.text` with it, as one of the settings."""
        return self._reading.mark()

    def since(self, mark: bytes) -> Changes | None:
        """See Reading.since. Of names that are denied altogether there are no drafts, changed or not, and no sources."""
        found = self._reading.since(mark)
        if found is None or not found.sourced:
            return found
        denied = [name for name in found.changed if self._rules.forbids(name)]
        return found._replace(changed=set(found.changed) - set(denied), gone={*found.gone, *denied})

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts."""
        for draft in self._reading.drafts([name for name in names if not self._rules.forbids(name)]):
            yield self._allowed(draft)
        self.validators = self._reading.validators
        self.gone = self._reading.gone

    def _allowed(self, draft: Draft) -> Draft:
        """They were cut by `Rules.cut_draft` before anything was selected of them."""
        if draft.source is None or not self._rules.concerns(draft.name):
            return draft
        return draft._replace(source=self._rules.source(draft.source))


class _Sources(Mapping[str, Digest]):
    """Sources made when asked for: there may be 700,000, and who knows what has changed needs none of them."""

    def __init__(self, sources: Mapping[str, Digest], rules: Rules) -> None:
        self._sources = sources
        self._rules = rules

    def __getitem__(self, name: str) -> Digest:
        source = self._sources[name]
        if not self._rules.concerns(name):
            return source
        if self._rules.forbids(name):
            raise KeyError(name)
        return self._rules.source(source)

    def __iter__(self) -> Iterator[str]:
        rules = self._rules
        return (name for name in self._sources if not (rules.concerns(name) and rules.forbids(name)))

    def __len__(self) -> int:
        return sum(1 for _ in self)
