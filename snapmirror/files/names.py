"""Names of files: which may be published, globs, and the versions in them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

#: bytes of a segment and of a whole path that every file system takes to which a mirror may be copied
_LONGEST = 255
_LONGEST_PATH = 1024
#: segments of a path
_DEEPEST = 60


def problem_with(path: str) -> str | None:
    """Why a path below a repo can't be published, None if it can."""
    segments = path.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        return "its name is unsafe (it has an empty segment, or dots)"
    if "\\" in path or not path.isprintable() or "\ufffd" in path:
        return "its name is unsafe (a backslash, a control character, or no UTF-8)"
    if any(len(segment.encode()) > _LONGEST for segment in segments) or len(path.encode()) > _LONGEST_PATH:
        return "its name is too long"
    return "it is too deep" if len(segments) > _DEEPEST else None


@lru_cache(1024)
def glob(pattern: str) -> Callable[[str], object]:
    """A test of a path below a repo: what it returns is true if the pattern matches. Raises ValueError for what is no pattern.

    `*` and `?` match within a segment, `**` across segments. A pattern without a slash is compared with the last segment, a
    pattern that ends in a slash with each folder above the file.
    """
    body = pattern.removesuffix("/").removeprefix("/")
    if not body:
        raise ValueError(f"{pattern!r} is no pattern; write for example *-Linux-x86_64.sh")
    text = "".join(_translate(piece) for piece in re.findall(r"\*\*/|\*\*|\[[^]/]+]|.", body, re.DOTALL))
    start = "" if "/" in pattern.removesuffix("/") else "(?:.*/)?"
    end = "/.*" if pattern.endswith("/") else ""
    try:
        return re.compile(f"{start}{text}{end}", re.DOTALL).fullmatch
    except re.error as error:
        raise ValueError(f"{pattern!r} is no pattern: {error}") from None


def _translate(piece: str) -> str:
    match piece:
        case "**/":
            return "(?:.*/)?"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
    if len(piece) == 1:
        return re.escape(piece)
    inner = re.sub(r"([\\[&~|])", r"\\\1", piece[1:-1])  # of a class, [abc]
    return f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"


#: `2025.06-0`, `4.9.2`, `v1.0.0-rc.1`: numbers joined by dots, with what marks an early version, and a build number. It is
#: `(?:…)+(?!\.\d)` and not `(?:…)++`, with which Python 3.11.2, Debian 12's, loses what the group around that has matched.
_VERSION = re.compile(
    r"(?<![A-Za-z0-9.])v?(\d++(?:\.\d++)+)(?!\.\d)(?:[-_.]?(a|alpha|b|beta|c|rc|pre|preview|dev)[-.]?(\d*+))?(?![A-Za-z0-9])"
    r"(?:-(\d++)(?![A-Za-z0-9_]|\.\d))?"
)
_EARLY = {"dev": 0, "a": 1, "alpha": 1, "b": 2, "beta": 2, "c": 3, "rc": 3, "pre": 3, "preview": 3}
_FINAL = 4
#: newer is greater
Version = tuple[tuple[tuple[int, ...], int, int, int], ...]


def versions(path: str) -> tuple[str, Version]:
    """The versions in a path, and before them its family: the path with `*` for each of these, alike for all versions."""
    found = []
    for match in _VERSION.finditer(path):
        numbers = [int(number) for number in match[1].split(".")]
        while numbers[-1:] == [0]:
            numbers.pop()  # 1.0 is 1.0.0
        found.append((tuple(numbers), _EARLY.get(match[2] or "", _FINAL), int(match[3] or 0), int(match[4] or 0)))
    return _VERSION.sub("*", path), tuple(found)


def matches_any(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of these globs matches a path."""
    return any(glob(pattern)(path) for pattern in patterns)


def choose(
    paths: Iterable[str], include: Sequence[str], exclude: Sequence[str], newest: int
) -> tuple[set[str], Mapping[str, int]]:
    """The paths that are kept, and how many each rule drops {key of the configuration: count}.

    newest: how many versions of each family are kept, 0 for all
    """
    dropped = {"include": 0, "exclude": 0, "newest": 0}
    families: dict[str, dict[Version, list[str]]] = {}
    for path in paths:
        if matches_any(path, exclude):
            dropped["exclude"] += 1
        elif include and not matches_any(path, include):
            dropped["include"] += 1
        else:
            family, version = versions(path)
            families.setdefault(family, {}).setdefault(version, []).append(path)
    kept: set[str] = set()
    for by_version in families.values():
        for place, version in enumerate(sorted(by_version, reverse=True)):
            if newest and place >= newest:
                dropped["newest"] += len(by_version[version])
            else:
                kept.update(by_version[version])
    return kept, {rule: count for rule, count in dropped.items() if count}
