"""What a lock or requirements ask of indexes, and whether a snapshot of them has it.

Of a lock these are its files, of requirements something that fulfils each of them; what that depends on is not looked for.
What is only for machines that no mirrored index is for (`python` and `platforms` of `[repo.select]`) does not count.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.pylock import is_valid_pylock_path

from .. import clock
from ..digests import Digest
from ..ecosystem.environments import ABSENT, OTHER, At, Environment, Found, Held, Mirrored, Place
from ..store.directories import DirectoryReader
from . import names
from .platforms import Machines, pythons
from .requirements import Asked, read_file
from .rules import Listed, Rules, listed
from .settings import PypiRepo, Select

#: gives the records of a leaf, see Ecosystem.records
Records = Callable[[bytes], Mapping[str, bytes]]


def reads(path: Path) -> bool:
    """Whether a file is, by its name, one that is for Python packages."""
    return path.name == "uv.lock" or is_valid_pylock_path(path) or path.suffix in (".txt", ".in")


class _Answer(NamedTuple):
    """What a page has of one wish."""

    files: Mapping[str, Held]
    #: why it has none; empty if it has some
    why: str


#: by project and page: what that has of each wish
_Known = dict[tuple[str, Digest], Mapping[str, _Answer]]


class Requirements(Environment):
    """What one file asks for."""

    kind = "pypi"

    def __init__(self, path: Path, mirrored: Mirrored, records: Records) -> None:
        """Raises OSError, ValueError for a file that can't be read, or that asks for nothing."""
        python, platforms = _machines(mirrored.repos)
        wanted = read_file(path, Machines(pythons(python), platforms))
        self._rules = Rules(Select(python=python, platforms=platforms), clock.from_seconds(0), final=True)
        self._records = records
        self.aside: dict[str, str] = {}
        #: {project: what is asked of it, by the text of each wish}
        self._wishes: dict[str, dict[str, Asked]] = {}
        for project in wanted.projects:
            wishes = {file: Asked(files={file: hashes}) for file, hashes in wanted.files.get(project, {}).items()}
            strange = [file for file in wishes if self._rules.machine_rule(Listed(file, {}), names.parse(file, project))]
            self.aside |= dict.fromkeys(strange, "no index that is mirrored is for its Python or platform")
            bounds = wanted.bounds.get(project, ())
            wishes |= {
                f"{project}{need.specifier}": Asked(needs=(need,), bounds=bounds) for need in wanted.needs.get(project, ())
            }
            self._wishes[project] = {text: asked for text, asked in wishes.items() if text not in strange}
        if not any(self._wishes.values()):
            raise ValueError("it names nothing that is for this mirror")
        self._known: _Known = {}

    def find(self, directories: Mapping[Place, DirectoryReader]) -> Found:
        """See Environment.find."""
        files: dict[str, Mapping[At, Held]] = {}
        missing: dict[str, str] = {}
        before, self._known = self._known, {}
        for project, wishes in self._wishes.items():
            pages = [
                (at, self._of_page(project, reader, page, before))
                for at, reader in directories.items()
                if (page := reader.leaf(project))
            ]
            for text in wishes:
                right = {(*at, file): held for at, answers in pages for file, held in answers[text].files.items()}
                if right:
                    files[text] = right
                else:
                    reasons = {answers[text].why for _, answers in pages}
                    missing[text] = OTHER if OTHER in reasons else ABSENT
        return Found(files, missing)

    def _of_page(self, project: str, reader: DirectoryReader, page: Digest, before: _Known) -> Mapping[str, _Answer]:
        key = project, page
        if key not in self._known and key in before:
            self._known[key] = before[key]
        elif key not in self._known:
            content = reader.read(page)
            self._known[key] = self._answers(project, listed(content), self._records(content))
        return self._known[key]

    def _answers(self, project: str, there: Sequence[Listed], records: Mapping[str, bytes]) -> dict[str, _Answer]:
        sums = {one.filename: bytes.fromhex(one.sha256) if one.sha256 else None for one in there}
        found = {}
        for text, asked in self._wishes[project].items():
            chosen = self._rules.choose(project, there, asked).files
            why = "" if chosen else OTHER if self._is_other(project, there, asked) else ABSENT
            found[text] = _Answer({file: Held(sums[file], records[file]) for file in chosen}, why)
        return found

    def _is_other(self, project: str, there: Sequence[Listed], asked: Asked) -> bool:
        """Whether the hashes alone are what is not fulfilled."""
        anyhow = asked._replace(
            needs=tuple(need._replace(hashes=frozenset()) for need in asked.needs), files={file: set() for file in asked.files}
        )
        return bool(self._rules.choose(project, there, anyhow).files)


def _machines(repos: Sequence[PypiRepo]) -> tuple[list[str], list[str]]:
    """The Pythons and platforms that indexes are mirrored for; none: all. What is merged of others says nothing of that."""
    selects = [repo.select for repo in repos if not repo.merge]
    python = [text for select in selects for text in select.python] if all(select.python for select in selects) else []
    platforms = [text for select in selects for text in select.platforms] if all(select.platforms for select in selects) else []
    return python, platforms
