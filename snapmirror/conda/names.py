"""File names of conda packages (CEP 26): `name-version-build.conda` or `.tar.bz2`; which we let in, and what they tell."""

import re
from urllib.parse import unquote

#: bytes (CEP 26); it also keeps the name of a partial download under the 255 bytes that file systems allow
LONGEST = 211
#: names of the documents that a directory publishes itself, without their endings
_OURS = ("repodata", "current_repodata", "repodata_shards", "shards")

#: nearly every real name can be let in for this alone; `problem_with`, which is slower, has the last word on the others
is_plain = re.compile(r"(?!repodata|current_repodata|shards)[A-Za-z0-9_][A-Za-z0-9_.+!=-]{,210}").fullmatch


def problem_with(file: str) -> str | None:
    """Why a file name can't be published, None if it can."""
    if not file:
        return "it has no file name"
    if len(file.encode("utf-8", "replace")) > LONGEST:
        return f"its file name is longer than {LONGEST} bytes"
    if "/" in file or "\\" in file or file.startswith(".") or not file.isprintable():
        return "its file name is unsafe (a path, a leading dot or a control character)"
    if is_ours(file):
        return "its file name is that of an index"
    return None


def is_ours(file: str) -> bool:
    """Whether a name is one of those that a directory publishes itself."""
    return file.split(".")[0] in _OURS


def leaf_of(file: str) -> str:
    """The package name in a file name: `name-version-build.conda` without its last two parts.

    Of a wheel (PEP 427) its first part, in lower case and with `-` for `_`.
    """
    if file.endswith(".whl"):
        return file.split("-")[0].lower().replace("_", "-")
    return file.rsplit("-", 2)[0]


def version_of(file: str) -> tuple[str, str]:
    """The version and the build in a file name; empty if there is none. A wheel's name has no build."""
    if file.endswith(".whl"):
        return (*file.split("-"), "", "")[1], ""
    parts = file.removesuffix(".conda").removesuffix(".tar.bz2").rsplit("-", 2)
    return (parts[1], parts[2]) if len(parts) == 3 else ("", "")


def v3_file(kind: str, key: str, record: dict[str, object]) -> str:
    """The file name of a record of `v3` (CEP 48): its key there and its kind, unless it states another.

    A wheel may state it in `fn`, or in `url` (a draft of a CEP, ceps#151).
    """
    stated = record.get("fn")
    if isinstance(stated, str):
        return stated
    url = record.get("url")
    if kind == "whl" and isinstance(url, str):
        return unquote(url.partition("?")[0].partition("#")[0].rsplit("/", 1)[-1])
    return f"{key}.{kind}"
