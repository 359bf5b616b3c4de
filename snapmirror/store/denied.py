"""The deny list: the files in `denied/` (man snapmirror-store, section DENIED).

A rule is what the operator has denied of one repo, in the operator's words, with the files that it stood for when it was
made. Whatever has the SHA-256 of one of these files is denied, in every repo: the same bytes are no better elsewhere.
`denied/<sha256>.json` is the same for one file of no particular repo; the name alone denies.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from ..digests import Digest, is_hex_digest
from . import fs
from .files import Files
from .layout import Layout
from .records import Hex, decode
from .snapshots import Folder


class DeniedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file that a rule stood for."""

    sha256: Hex
    #: as the directory lists it
    name: str = ""
    #: name of the leaf that lists it
    leaf: str = ""

    @property
    def digest(self) -> Digest:
        """The SHA-256 as bytes."""
        return bytes.fromhex(self.sha256)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What `denied/<name>.json` holds."""

    #: path of the repo; empty for any
    repo: str
    #: what is denied, as its ecosystem writes it: a package, a version, a file; or a SHA-256 in hexadecimal
    spec: str
    #: told to clients; may be empty
    reason: str
    #: since when, in the form of an id; empty if nobody has said
    since: str
    files: tuple[DeniedFile, ...] = ()


class Denied:
    """Reads and writes the rules."""

    def __init__(self, layout: Layout, files: Files | None = None) -> None:
        """files: changes the files"""
        self._folder = layout.denied
        self._changes = files or Files()
        self._files = Folder(layout.denied, _read)

    def rules(self) -> list[Rule]:
        """All rules as they are now, by repo and spec. Raises DamagedError."""
        if not self._folder.is_dir():  # of a copy of a store that is only read
            return []
        return sorted(self._files.read().values(), key=lambda rule: (rule.repo, rule.spec))

    def write(self, rule: Rule) -> None:
        """Write a rule, in the place of one of the same repo and spec. The caller holds the store's lock."""
        self._changes.replace(self._path(rule), msgspec.json.format(msgspec.json.encode(rule), indent=1) + b"\n")

    def remove(self, rule: Rule) -> None:
        """Take a rule away, durably. The caller holds the store's lock."""
        self._changes.remove(self._path(rule))
        fs.sync_folder(self._folder)

    def _path(self, rule: Rule) -> Path:
        if not rule.repo:
            return self._folder / f"{rule.spec}.json"
        name = hashlib.sha256(f"{rule.repo}\0{rule.spec}".encode()).hexdigest()
        return self._folder / f"rule-{name[:32]}.json"


def reasons(rules: Iterable[Rule]) -> dict[str, str]:
    """{SHA-256 in hexadecimal: reason} of all files of these rules; of several reasons the first that is not empty."""
    found: dict[str, str] = {}
    for rule in rules:
        for file in rule.files:
            found[file.sha256] = found.get(file.sha256) or rule.reason
    return found


def _read(path: Path) -> Rule:
    content = path.read_bytes()
    if is_hex_digest(path.stem):
        return Rule(repo="", spec=path.stem, reason=_reason(content), since="", files=(DeniedFile(sha256=path.stem),))
    rule: Rule = decode(content, Rule, f"denied/{path.name}")
    return rule


def _reason(content: bytes) -> str:
    try:
        stated = msgspec.json.decode(content, type=dict[str, Any]).get("reason")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return stated if isinstance(stated, str) else ""
