"""snapmirror reindex: make the index again from the files alone."""

from ..errors import LockedError
from ..store import reindex as rebuilding
from ..store import syncing
from .context import ConfigOption, opened, say, waiting


def reindex(config: ConfigOption = None) -> None:
    """Make the LMDB index again from the files. Nothing that an answer depends on lives only there."""
    with opened(config, write=True) as (_, store), store.lock(waiting):
        if syncing.any_alive(store.layout):  # it holds the old index open and would write into a file without a name
            raise LockedError("a repo of this store")
        blobs, leaves = rebuilding.execute(store)
    say(f"indexed {blobs} blobs, {leaves} of them leaves")
