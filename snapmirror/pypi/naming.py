"""What the operator names in an index: `project`, `project==1.2`, `project-1.2-py3-none-any.whl`."""

import re

from ..ecosystem import Naming
from . import names

_NAME = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:\s*===?\s*(?P<version>[A-Za-z0-9_.!+-]+))?")


def naming(spec: str) -> Naming:
    """See Ecosystem.naming. It never covers metadata and attestations: these go with their file, and the SHA-256 of metadata
    may be that of another file's too.
    """
    if names.is_archive(spec) and "/" not in spec:
        return Naming(spec, names.leaf_of(spec), False, lambda _, file: file == spec)
    found = None if spec.endswith(names.SIDECARS) else _NAME.fullmatch(spec)
    if not found:
        raise ValueError("write a project's name, name==version, the name of a file, or its SHA-256")
    name = names.normalise(found["name"])
    if found["version"] is None:
        return Naming(name, name, True, lambda leaf, file: leaf == name and not file.endswith(names.SIDECARS))
    version = names.version_key(found["version"])
    return Naming(
        f"{name}=={version}",
        name,
        False,
        lambda leaf, file: (
            leaf == name and not file.endswith(names.SIDECARS) and names.version_key(names.parse(file, leaf).version) == version
        ),
    )
