"""snapmirror reindex: make the index again from the files alone."""

from .context import ConfigOption, opened, say, waiting


def reindex(config: ConfigOption = None) -> None:
    """Make the LMDB index again from the files. Nothing that an answer depends on lives only there."""
    with opened(config, write=True) as (_, store), store.lock(waiting):
        blobs, leaves = store.reindex()
    say(f"indexed {blobs} blobs, {leaves} of them leaves")
