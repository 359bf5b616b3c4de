"""What the methods of an ecosystem take and give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..digests import Digest
from ..readings import Draft, File


class Want(NamedTuple):
    """What of a repo's metadata a request needs."""

    #: name of a leaf; empty for all of the repo
    name: str
    #: whether it is asked for itself, and so should be fresh; else it only has to list what is asked for
    itself: bool
    #: where it is below the repo, however it was asked for: what is blocked there is asked for in no other way either
    path: str = ""


class Wishes(NamedTuple):
    """What somebody is going to install."""

    #: paths of requirements, locks, environments
    files: Sequence[str]
    #: requirements as the ecosystem's own installers take them
    specs: Sequence[str]


class Needed(NamedTuple):
    """What wishes come to."""

    #: leaves that list nothing but what is needed, by directory
    drafts: Mapping[str, Sequence[Draft]]
    #: wishes that nothing fulfils: {wish: why}
    missing: Mapping[str, str]


class LeafAt(NamedTuple):
    """A path that names a leaf itself (a shard)."""

    digest: Digest


class FileAt(NamedTuple):
    """A path that names a file listed in a directory."""

    file: File
    #: whether the path can never mean other bytes
    immutable: bool = False


class Naming(NamedTuple):
    """What a text of the operator's names: a package, a version of it, or a file."""

    #: the same for every way of writing it; of a file, its name
    text: str
    #: name of the leaf that lists it, as far as the text tells
    leaf: str
    #: whether all that such a leaf lists is meant
    whole: bool
    #: whether a file is meant, by the name of its leaf and its own
    covers: Callable[[str, str], bool]


@dataclass(frozen=True)
class DocumentPlan:
    """A derived document that a directory publishes."""

    name: str
    #: endings under which it is published: "" is the document itself, ".zst" and ".bz2" its compressed forms
    suffixes: tuple[str, ...] = field(default=("", ".zst"))
