"""What the operator names in a channel: `tool`, `tool==1.2`, `tool-1.2-0.conda`; `tool=1.2` is read as conda does (CEP 29)."""

import re

from ..ecosystem import Naming
from . import names

_ENDINGS = (".conda", ".tar.bz2", ".whl")
_NAME = re.compile(r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)(?:\s*(?P<exactly>==?)\s*(?P<version>[A-Za-z0-9_.!+-]+))?")


def naming(spec: str) -> Naming:
    """See Ecosystem.naming. A file is meant in whichever subdir it is."""
    if spec.endswith(_ENDINGS):
        if "/" in spec:
            raise ValueError("write the file's name without a folder: it is meant in every subdir")
        return Naming(spec, names.leaf_of(spec), False, lambda _, file: file == spec)
    if "/" in spec:
        return of_path(spec)
    found = _NAME.fullmatch(spec)
    if not found:
        raise ValueError("write a package's name, name==version, name=version, the name of a file, or its SHA-256")
    name, version = found["name"].lower(), found["version"]
    if version is None:
        return Naming(name, found["name"], True, lambda leaf, _: leaf.lower() == name)
    text = f"{name}{found['exactly']}{version}"
    return Naming(text, found["name"], False, lambda leaf, file: leaf.lower() == name and _is_of(text, name, version, file))


def _is_of(spec: str, name: str, version: str, file: str) -> bool:
    """Whether a file is of the version that a spec names. A version that conda can't read must be written the same."""
    stated, build = names.version_of(file)
    if stated == version:
        return True
    from .specs import Build, Spec  # py-rattler is slow to load and only wanted here

    try:
        return Spec(spec).matches(Build(name, stated, build or "0", 0))
    except ValueError:
        return False


def of_path(spec: str) -> Naming:
    """A file beside a channel's packages. spec: its path below the channel"""
    return Naming(spec, names.leaf_of(spec), False, lambda _, file: file == spec)
