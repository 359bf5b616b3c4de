"""snapmirror reindex: make the index again from the files alone."""

from .. import units
from .context import ConfigOption, opened, say, waiting


def reindex(config: ConfigOption = None) -> None:
    """Make the LMDB index again from the files alone. No answer of the mirror changes by it."""
    with opened(config, write=True, allow_clashes=True) as (_, store), store.lock_only(waiting):
        blobs, leaves = store.reindex()
    say(f"indexed {units.plural(blobs, 'blob')}, {leaves} of them leaves")
