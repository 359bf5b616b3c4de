"""What the methods of an ecosystem take and give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..digests import Digest
from ..readings import Draft, File


class Want(NamedTuple):
    """What metadata a request needs, of a repo whose metadata is on request."""

    #: name of a leaf; empty for all of the repo's metadata
    name: str
    #: whether the request is for the metadata itself, which then should be fresh; else it is for a file, and the metadata
    #: has to be asked for only if it does not list that file yet
    itself: bool
    #: the metadata's own path below the repo, however it was asked for: `allow` and `block` of the repo are applied to it
    #: too; empty if that is the path of the request
    path: str = ""


class Wishes(NamedTuple):
    """What somebody is going to install."""

    #: paths of requirements, lock and environment files
    files: Sequence[str]
    #: requirements as the ecosystem's own installers take them
    specs: Sequence[str]


class Needed(NamedTuple):
    """What wishes come to."""

    #: {directory: leaves that list nothing but what is needed}
    drafts: Mapping[str, Sequence[Draft]]
    #: {wish that nothing fulfils: why}
    missing: Mapping[str, str]


class LeafAt(NamedTuple):
    """A path names a leaf itself, a shard for example."""

    digest: Digest


class FileAt(NamedTuple):
    """A path names a file that a directory lists."""

    file: File
    #: whether the path can never name other bytes, in no snapshot
    immutable: bool = False


class Naming(NamedTuple):
    """What the operator means by a text: a package, a version of it, or a file."""

    #: the same for every way of writing it; of a file, its name
    text: str
    #: name of the leaf that lists it, as far as the text tells
    leaf: str
    #: whether all that this leaf lists is meant
    whole: bool
    #: whether a file is meant: (name of its leaf, its own name) -> yes or no
    covers: Callable[[str, str], bool]


class About(NamedTuple):
    """What a record says of a file for people, as far as it does; empty where it does not."""

    version: str = ""
    build: str = ""
    license: str = ""
    #: one line
    summary: str = ""
    #: what has to be there too, as the ecosystem writes it
    depends: Sequence[str] = ()
    #: when upstream had it first, in seconds since 1970; None if it is not said
    released: float | None = None


@dataclass(frozen=True)
class DocumentPlan:
    """A derived document that a directory publishes."""

    #: path below the directory, of the plain form
    name: str
    #: endings of the forms that are published: "" is the plain form, ".zst" and ".bz2" are compressed ones
    suffixes: tuple[str, ...] = field(default=("", ".zst"))
