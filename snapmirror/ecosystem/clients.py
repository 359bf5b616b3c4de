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
    #: the first segment of the paths that the client is to ask for: `current`, `2026-11-20`
    selector: str
    #: what the client has used before: a selector of this mirror, or the URL of another mirror; empty if nobody knows
    was: str = ""
    #: paths of the repos that the client is to use; empty for those that most people want
    picked: Sequence[str] = ()

    def url(self, path: str) -> str:
        """The URL of a path below the snapshot, without a slash at the end."""
        return f"{self.base}/{self.selector}/{path}".rstrip("/")

    def old(self, path: str) -> str:
        """Where the client has found the same before; with `OLD` for the selector, to be filled in, if nobody knows."""
        was = self.was or "OLD"
        return was.rstrip("/") if "://" in was else self._replace(selector=was).url(path)


class Client(NamedTuple):
    """A program that can use the repos of an ecosystem, and whose settings can be written for it."""

    #: as `snapmirror client` calls it: `conda`
    name: str
    #: as its settings are called below `/-/config/<selector>/`: `condarc`
    file: str
    #: makes the settings for these repos, of which there is at least one
    settings: Callable[[Mirror, Sequence[Mirrored]], str]
    #: whether it knows packages by the URL that they came from, so that it must be told of the old URLs (`Mirror.was`)
    remembers: bool = False
    #: the environment variable that names a file of its settings; empty if there is none
    variable: str = ""
    #: a command that uses the settings, to try them; `{platform}` stands for a directory of the repo
    example: str = ""
    #: environment variables by which it would use other channels or indexes than its settings say
    overruling: Sequence[str] = ()


def about(mirror: Mirror, client: str, file: str, label: str, names: Iterable[str], used: Sequence[str] = ()) -> list[str]:
    """The first lines of settings: comments that say what they are for, and what else the mirror has.

    client: the program, in words; file: where it reads its settings
    label: words before the list of those `names` that are not in `used`; there is no such line if all are
    """
    others = [name for name in names if name not in used]
    lines = [f"# {mirror.base} as of {mirror.selector}, for {client}: {file}"]
    return [*lines, f"# {label}: {', '.join(others)}"] if others else lines
