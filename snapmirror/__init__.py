"""A mirror with a memory: immutable dated snapshots of conda channels, PyPI and installers, every byte string stored once."""

import functools


@functools.cache
def version() -> str:
    """The version that is installed: that of the tag it was built from, with what came after it."""
    from importlib import metadata  # to load it takes longer than many a command

    try:
        return metadata.version(__name__)
    except metadata.PackageNotFoundError:  # run from a folder, and never installed
        return "0.0.0"
