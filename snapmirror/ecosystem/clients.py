"""What clients of an ecosystem are told of this mirror: each ecosystem writes the settings of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..store.directories import Directory


class Mirrored(NamedTuple):
    """A repo as a snapshot has it."""

    path: str
    #: by name
    directories: Mapping[str, Directory]

    @property
    def files(self) -> int:
        """How many it lists."""
        return sum(directory.files for directory in self.directories.values())


class Mirror(NamedTuple):
    """The mirror as a client is to use it."""

    #: URL of the server, without a slash at the end
    base: str
    selector: str
    #: the selector used before, or the URL of another mirror; empty for none
    was: str = ""

    def url(self, path: str) -> str:
        """The URL of a path below the snapshot."""
        return f"{self.base}/{self.selector}/{path}".rstrip("/")

    def old(self, path: str) -> str:
        """The same as it was before."""
        was = self.was or "OLD"
        return was.rstrip("/") if "://" in was else self._replace(selector=was).url(path)


class Client(NamedTuple):
    """A program that a mirror can be set for."""

    #: `conda`
    name: str
    #: what its settings are called below `/-/config/<selector>/`: `condarc`
    file: str
    #: makes them for these repos, of which there is at least one
    settings: Callable[[Mirror, Sequence[Mirrored]], str]
    #: whether it goes by URLs, so that it has to be told what these were (`Mirror.was`)
    remembers: bool = False


def about(mirror: Mirror, client: str, file: str, label: str, names: Iterable[str], used: Sequence[str] = ()) -> list[str]:
    """The first lines of settings: what they are for, and after the label those of the names that they do not use, if any."""
    others = [name for name in names if name not in used]
    lines = [f"# {mirror.base} as of {mirror.selector}, for {client}: {file}"]
    return [*lines, f"# {label}: {', '.join(others)}"] if others else lines
