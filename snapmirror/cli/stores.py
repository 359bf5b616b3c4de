"""The store of a configuration: a folder, or objects of a service."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .. import units
from ..errors import UsageError
from ..remote.settings import parse_address
from ..store import layout
from ..store.layout import Layout
from ..store.store import Store
from .config import Config

if TYPE_CHECKING:
    from ..remote.store import RemoteStore
    from ..store.signatures import PrivateKey


def opener(config: Config, *, write: bool, key: "PrivateKey | None" = None) -> Callable[[], Store]:
    """What opens the store, see `Store.open`. Raises UsageError if what an object store needs is not installed."""
    if not config.is_remote:
        return partial(Store.open, Path(config.store), write=write, index=config.index_path, key=key)
    opened = _remote().open_remote
    return partial(
        opened,
        parse_address(config.store),
        config.s3,
        config.store_path,
        write=write,
        index=config.index_path,
        key=key,
        hot=units.parse_size(config.serve.cache_size),
    )


def create(config: Config) -> bool:
    """Make the store unless there is one; whether it was made. Raises StoreError, ObjectError if there is anything else."""
    if config.is_remote:
        return _remote().create_remote(parse_address(config.store), config.s3)
    return create_folder(config.store_path)


def create_folder(folder: Path) -> bool:
    """Make a store in a folder unless there is one; whether it was made. Raises StoreError if it holds anything else."""
    if (folder / "snapmirror.json").exists():
        return False
    Store.create(folder)
    return True


@contextlib.contextmanager
def planned(config: Config) -> Iterator[Config]:
    """The configuration for a dry run: with an empty store instead of a folder that the first sync will make one.

    It lies on the same disk, in that folder if it is there, and is gone after the block.
    """
    paths = Layout(config.store_path)
    if config.is_remote or paths.format.exists() or not layout.is_vacant(paths):
        yield config
        return
    near = next(folder for folder in (paths.root, *paths.root.parents) if folder.is_dir())
    # the name of what may be left in a folder that becomes a store
    with tempfile.TemporaryDirectory(prefix=f".{paths.format.name}.", dir=near) as made:
        create_folder(Path(made) / "store")
        yield msgspec.structs.replace(config, store=f"{made}/store", index=None)


def there(config: Config) -> bool:
    """Whether there is a store of objects. Raises ObjectError if that can't be told, UsageError as `opener` does."""
    return _remote().there(parse_address(config.store), config.s3)


def _remote() -> "type[RemoteStore]":
    try:
        from ..remote.store import RemoteStore  # its library is an extra, and takes a while to load
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise UsageError("a store at s3:// needs the extra `s3`: pip install 'snapmirror[s3]'") from None
    return RemoteStore
