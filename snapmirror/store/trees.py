"""Tree objects: folders of hard links into `blobs/`, under the names that clients ask for, named by their listing.

They let any web server, rsync or `file://` use a snapshot. Two directories with the same listing are one object, so an
unchanged directory is never linked again (2.8 million names cost over 30 s of link(2)).
"""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..digests import Digest, sha256
from ..errors import DamagedError
from . import fs
from .layout import Layout

#: a file to be linked: its folder, its name there, and the path that it is to have
_Link = tuple[str, str, str]


class Trees:
    """The objects in `published/.trees`."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.trees
        self._blobs = str(layout.blobs)

    def path(self, name: str) -> Path:
        """Where an object lies, or would."""
        return self._folder / name

    def build(self, listing: Mapping[str, Digest], elsewhere: Mapping[str, Path] = {}, *, sync: bool = True) -> str:
        """Make the object of a listing {path below it: SHA-256}, as far as it is not there; its name.

        elsewhere: where those of its files are that are no blobs
        Durable on return if `sync`. Needs no lock: it is seen only once it is whole. Raises DamagedError if a path leads out,
        or a file is gone.
        """
        name = name_of(listing)
        if self.path(name).is_dir():
            self._complete(self.path(name), listing, elsewhere)
            return name
        for path in filter(leads_out, listing):
            raise DamagedError(f"a file with the name {path!r}", "is listed, and can't be in a tree: that name leads out of it")
        temporary = self._folder / f".new-{secrets.token_hex(8)}"
        folders = sorted({path.rpartition("/")[0] for path in listing} | {""})
        try:
            for folder in folders:
                with fs.full_disk(temporary):
                    os.makedirs(temporary / folder, exist_ok=True)
            _link_all(temporary, self._links(listing, elsewhere))
            if sync:
                fs.sync_folders(temporary)
            self._give_name(temporary, name)
            if sync:
                fs.sync_folder(self._folder)
        except BaseException:
            fs.remove_tree(temporary)
            raise
        return name

    def _complete(self, tree: Path, listing: Mapping[str, Digest], elsewhere: Mapping[str, Path]) -> None:
        """Put back into an object what a check took out of it, because it was wrong then."""
        lacking = {path: digest for path, digest in listing.items() if not os.path.lexists(f"{tree}/{path}")}
        if lacking:
            _link_all(tree, self._links(lacking, elsewhere))
            fs.sync_folders(tree)

    def _links(self, listing: Mapping[str, Digest], elsewhere: Mapping[str, Path]) -> Iterator[_Link]:
        """One at a time: there may be a million, and to hold them all took 4 of the 22 µs that a file cost."""
        for path, digest in listing.items():
            if other := elsewhere.get(path):
                yield str(other.parent), other.name, path
            else:
                name = digest.hex()
                yield f"{self._blobs}/{name[:2]}", name, path

    def _give_name(self, temporary: Path, name: str) -> None:
        try:
            fs.rename(temporary, self.path(name))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            fs.remove_tree(temporary)  # another sync built the same listing meanwhile


def name_of(listing: Mapping[str, Digest]) -> str:
    """The name of a tree object: SHA-256 of its sorted lines `<sha256>  <path>\\n`."""
    lines = (f"{listing[path].hex()}  {path}\n" for path in sorted(listing))
    return sha256("".join(lines).encode()).hex()


def leads_out(path: str) -> bool:
    """Whether a path is none below a folder: empty, absolute, or with an empty part, dots or a NUL. Readers withhold such
    names; where one did not, a listing could put links anywhere on the disk.
    """
    inside = f"/{path}/"  # 0.2 µs; a listing may have a million paths
    return "//" in inside or "/./" in inside or "/../" in inside or "\0" in inside


def gone(path: Path) -> DamagedError:
    """What to raise of a blob or a document that was to be in a tree and is not there: a check may take it away at any time."""
    what = f"blob {path.name}" if path.parent.name == path.name[:2] else f"{path.parent.name}/{path.name}"
    return DamagedError(what, "is gone: a check may just have found it bad; `sync` and `check --repair` get it anew")


def _link_all(target: Path, links: Iterable[_Link]) -> None:
    with fs.full_disk(target), fs.Linker(target) as linker:
        for folder, name, path in links:
            try:
                _link(linker, folder, name, path)
            except FileExistsError:
                continue  # two complete it at once
            except FileNotFoundError:
                if os.path.lexists(f"{folder}/{name}"):
                    raise
                raise gone(Path(folder, name)) from None


def _link(linker: fs.Linker, folder: str, name: str, path: str) -> None:
    try:
        linker.link(folder, name, path)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        fs.renew(Path(folder, name))  # its inode has as many names as the file system allows (ext4: 65,000)
        linker.link(folder, name, path)
