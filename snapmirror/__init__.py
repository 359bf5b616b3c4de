"""A mirror with a memory: immutable dated snapshots of conda channels, PyPI and installers, every byte string stored once."""

__version__ = "0.1.0"
