"""What the files of `include_from` ask for: exactly the files that a lock names, or the specs of an environment file.

environment.yml            its `dependencies`, with all that they need, but for its `pip` part (CEP 24)
conda-lock.yml, pixi.lock  the conda packages of all their environments and platforms
explicit lists             a URL a line, below `@EXPLICIT`, perhaps with `#<md5>` or `#sha256:<sha256>` (CEP 23); no paths
"""

import re
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from ..errors import SelectionError
from .closure import Shelf
from .settings import CondaRepo
from .specs import Locked, Spec, locked

#: a SHA-256, or an MD5
_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{64})|([0-9a-f]{32})")

#: so deep are parentheses in a lock at most: py-rattler reads those of a marker by calling itself, and the process dies of many
_DEEPEST = 64
#: and so long is a text in it: for a marker of 4000 parts py-rattler takes half a minute, for one of this length some seconds.
#: That is no bound where `and` joins pairs of extras, and `or` these: twenty pairs, 800 characters, take nearly as long
_LONGEST = 8192


class Included(NamedTuple):
    """What one file asks for, or what all files of one repo ask for together."""

    specs: list[str]
    #: {directory: {file: its hashes}}; of several, for two channels may each have a file of that name
    files: dict[str, dict[str, tuple[Locked, ...]]]
    #: of an environment file, as it names them
    channels: Sequence[str] = ()


class IncludeFiles:
    """The files of `include_from` of all repos that are selected together."""

    def __init__(self) -> None:
        self._read: dict[str, Included] = {}
        #: {file: paths of the repos that name it}
        self._named_by: dict[str, list[str]] = {}

    def read(self, repo: CondaRepo) -> Included:
        """What a repo's files ask for. Raises SelectionError for a file that can't be read or is none of these."""
        whole = Included([], {})
        for name in repo.select.include_from:
            if name not in self._read:
                try:
                    self._read[name] = read_file(Path(name))
                except (OSError, ValueError) as error:
                    problem = error.strerror if isinstance(error, OSError) else error
                    raise SelectionError(repo.path, f"includes from {name}, which can't be used: {problem}") from None
            self._named_by.setdefault(name, []).append(repo.path)
            found = self._read[name]
            whole.specs.extend(found.specs)
            for directory, files in found.files.items():
                own = whole.files.setdefault(directory, {})
                own |= {file: (*own.get(file, ()), *sums) for file, sums in files.items()}
        return whole

    def verify(self, shelves: Collection[Shelf]) -> None:
        """Raise SelectionError if a lock names a file of a mirrored subdir that no shelf of the repos that name it keeps."""
        for name, included in self._read.items():
            kept: dict[str, set[str]] = {}
            for shelf in shelves:
                if shelf.repo in self._named_by[name]:
                    kept.setdefault(shelf.directory, set()).update(*shelf.kept.values())
            for directory, files in included.files.items():
                if directory in kept and (absent := sorted(files.keys() - kept[directory])):
                    more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
                    problem = f"includes from {name}, which names {directory}/{absent[0]}{more}: no repo that does so has it"
                    raise SelectionError(self._named_by[name][0], problem)


def is_explicit(text: str) -> bool:
    """Whether a text is an explicit list (CEP 23)."""
    return any(line.strip() == "@EXPLICIT" for line in text.splitlines())


def read_file(path: Path) -> Included:
    """What one file asks for. Raises ValueError for a file that is none of these, OSError for one that can't be read."""
    text = path.read_text(encoding="utf-8")
    if is_explicit(text):
        return _of_urls(_explicit(text))
    try:
        # everything is text: a package may be called `yes`, and no merges are expanded
        content = yaml.load(text, yaml.BaseLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())  # it quotes the file, over several lines
        raise ValueError(f"it is not YAML, and has no line @EXPLICIT: {reason}") from None
    if isinstance(content, Mapping) and isinstance(content.get("dependencies"), list):
        channels = content.get("channels")
        texts = [one for one in channels if isinstance(one, str)] if isinstance(channels, list) else []
        return Included(_specs(content["dependencies"]), {}, texts)
    if _depth(text) > _DEEPEST:
        raise ValueError("it is nested too deeply")
    if any(len(one) > _LONGEST for one in _texts(content)):
        raise ValueError(f"a marker, or another text in it, is longer than {_LONGEST} characters")
    return _of_urls(locked(path))


def _depth(text: str) -> int:
    """How deep its parentheses are nested."""
    depth = deepest = 0
    for sign in re.findall(r"[()]", text):
        depth = depth + 1 if sign == "(" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest


def _texts(content: object) -> Iterator[str]:
    """The texts in a YAML document, but for keys. It may have a part in several places, and in that part itself."""
    waiting, seen = [content], set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif id(one) not in seen:
            seen.add(id(one))
            waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def _specs(dependencies: list[object]) -> list[str]:
    """The specs of an environment file, without channels: these are configured. Raises ValueError for what is no spec."""
    specs = [text.rpartition("::")[2] for text in dependencies if isinstance(text, str) and text]
    for text in specs:
        try:
            found = Spec(text).first_of("url", "namespace", "file_name")
        except ValueError as error:
            raise ValueError(f"{text!r} is no MatchSpec: {error}") from None
        if found:
            raise ValueError(f"{text!r} names {found}; name a package of a channel")
    return specs


def _explicit(text: str) -> Iterable[tuple[str, Locked]]:
    for line in text.splitlines():
        url, _, digest = line.strip().partition("#")
        if "://" in url:
            found = _HASH.fullmatch(digest)
            yield url, Locked(*(bytes.fromhex(one) if one else None for one in found.groups())) if found else Locked()
        elif url and url != "@EXPLICIT":
            raise ValueError(f"{url!r} is no URL: it may be a file of a machine, and is none of a channel")


def _of_urls(locked_: Iterable[tuple[str, Locked]]) -> Included:
    files: dict[str, dict[str, tuple[Locked, ...]]] = {}
    for url, sums in locked_:
        directory, _, file = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")
        known = files.setdefault(directory.rpartition("/")[2], {})
        if sums not in known.setdefault(file, ()):
            known[file] += (sums,)
    if not files:
        raise ValueError("it names no package")
    return Included([], files)
