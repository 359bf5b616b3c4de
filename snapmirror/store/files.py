"""The small files of a store that are replaced as a whole: records, signatures, pins, rules of the deny list."""

from pathlib import Path

from . import fs


class Files:
    """Changes them on the disk. A store of another kind keeps them elsewhere too, and what is here is its copy of them."""

    def replace(self, path: Path, data: bytes) -> None:
        """Make a file hold these bytes, atomically and durably."""
        fs.replace(path, data)

    def remove(self, path: Path) -> bool:
        """Remove a file, whether it was there; not durable (see `fs.sync_folder`)."""
        return fs.unlink(path)
