"""What the operator names in a repo of files: the path of a file."""

from ..ecosystem import Naming
from . import names


def naming(spec: str) -> Naming:
    """See Ecosystem.naming."""
    path = spec.removeprefix("/")
    if problem := names.problem_with(path):
        raise ValueError(f"write the path of a file below the repo, or its SHA-256: {problem}")
    return Naming(path, path, True, lambda leaf, _: leaf == path)
