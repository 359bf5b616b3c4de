"""Makes a small, real conda channel in two states, for trying a mirror out and for testing one.

    python examples/make_channel.py build               write examples/channel anew
    python examples/make_channel.py build --check       exit 1 if examples/channel is not what would be built
    python examples/make_channel.py state first DIR     make DIR a plain channel folder in its first state
    python examples/make_channel.py state second DIR    the same for its second state; DIR may hold the first

The packages are real: any conda client can solve for them and install them. They hold text and shell scripts
only, so that an installation needs nothing else. What the two states hold, and why, is in README.md.

The same channel comes out wherever this runs: all times are given here, members are sorted, owners left out.
"""

import argparse
import bz2
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHANNEL = Path(__file__).parent / "channel"
SUBDIRS = ("noarch", "linux-64", "linux-aarch64", "osx-arm64")
ZSTD_LEVEL = 19

LICENSE = """\
Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is
hereby granted.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE
INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE,
DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN
CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
"""


@dataclass(frozen=True)
class Package:
    """One package: what its metadata says, and the files (path: text) that it installs."""

    name: str
    version: str
    build_number: int
    subdir: str
    kind: Literal[".conda", ".tar.bz2"]
    built: datetime
    summary: str
    depends: tuple[str, ...]
    files: Mapping[str, str]

    @property
    def stem(self) -> str:
        """The file name without its extension; the members of a .conda file are named by it."""
        return f"{self.name}-{self.version}-{self.build_number}"

    @property
    def filename(self) -> str:
        """The file name that repodata.json lists."""
        return self.stem + self.kind

    @property
    def path(self) -> str:
        """Where the package is in a channel."""
        return f"{self.subdir}/{self.filename}"

    def index(self) -> dict[str, object]:
        """The content of info/index.json (CEP 34), which is also most of its record in repodata.json."""
        index: dict[str, object] = {
            "build": str(self.build_number),
            "build_number": self.build_number,
            "depends": list(self.depends),
            "license": "0BSD",
            "name": self.name,
            "subdir": self.subdir,
            "timestamp": int(self.built.timestamp()) * 1000,
            "version": self.version,
        }
        return index | ({"noarch": "generic"} if self.subdir == "noarch" else {})


@dataclass(frozen=True)
class State:
    """The channel as it was from `published` on.

    `removed` is what an earlier state held; `depends` overrides what the packages at those paths say.
    """

    published: datetime
    packages: tuple[Package, ...]
    removed: tuple[Package, ...] = ()
    depends: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, datetime]:
        """Every file as path: modification time; packages come before the documents that list them."""
        times = {package.path: package.built for package in self.packages}
        return times | {f"{subdir}/repodata.json": self.published for subdir in SUBDIRS}


def day(month: int, day_of_month: int) -> datetime:
    """Nine in the morning (UTC) of that day of 2026, the year in which everything here happens."""
    return datetime(2026, month, day_of_month, 9, tzinfo=UTC)


def greeting_data(version: str, greeting: str, built: datetime) -> Package:
    """The greeting itself, one text file, the same on every platform."""
    return Package(
        name="greeting-data",
        version=version,
        build_number=0,
        subdir="noarch",
        kind=".tar.bz2",
        built=built,
        summary="The greeting that libgreet uses",
        depends=(),
        files={"share/greeting-data/hello.txt": f"{greeting}\n"},
    )


def libgreet(build_number: int, subdir: str, kind: Literal[".conda", ".tar.bz2"], depends: str, built: datetime) -> Package:
    """A shell library that is different on every platform, as a compiled one is."""
    script = f"""\
# Usage: greet PREFIX NAME. Prints the greeting that greeting-data installed in PREFIX.
greet() {{
    echo "$(cat "$1/share/greeting-data/hello.txt"), $2! (libgreet 1.0 for {subdir})"
}}
"""
    return Package(
        name="libgreet",
        version="1.0",
        build_number=build_number,
        subdir=subdir,
        kind=kind,
        built=built,
        summary="A library of one function, which greets",
        depends=(depends,),
        files={"lib/libgreet/greet.sh": script},
    )


def hello_snapmirror(version: str, who: str, built: datetime) -> Package:
    """The program: prints its version and greets `who`, an expression of the shell."""
    script = f"""\
#!/bin/sh
prefix=$(dirname "$0")/..
. "$prefix/lib/libgreet/greet.sh"
echo "hello-snapmirror {version}: $(greet "$prefix" "{who}")"
"""
    return Package(
        name="hello-snapmirror",
        version=version,
        build_number=0,
        subdir="noarch",
        kind=".conda",
        built=built,
        summary="A program that says hello and which version it is",
        depends=("libgreet >=1.0",),
        files={"bin/hello-snapmirror": script},
    )


MISSPELLED = greeting_data("0.9", "Helo", built=day(1, 5))
TOO_TOLERANT = libgreet(0, "linux-64", ".tar.bz2", "greeting-data", built=day(1, 7))
UNCHANGED = (
    greeting_data("1.0", "Hello", built=day(1, 12)),
    *(libgreet(1, subdir, ".conda", "greeting-data >=1.0", built=day(1, 14)) for subdir in SUBDIRS[1:]),
    hello_snapmirror("1.0", "world", built=day(1, 19)),
)

STATES = {
    "first": State(published=day(2, 2), packages=(MISSPELLED, TOO_TOLERANT, *UNCHANGED)),
    "second": State(
        published=day(3, 2),
        packages=(TOO_TOLERANT, *UNCHANGED, hello_snapmirror("1.1", "${1:-world}", built=day(2, 23))),
        removed=(MISSPELLED,),
        depends={TOO_TOLERANT.path: ("greeting-data >=1.0",)},
    ),
}


def json_bytes(document: object) -> bytes:
    """`document` as JSON that people can read, always the same bytes."""
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def info_members(package: Package) -> dict[str, bytes]:
    """The package's info/ folder (CEP 34) as path: content."""
    payload = payload_members(package)
    paths = [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_in_bytes": len(content),
        }
        for path, content in sorted(payload.items())
    ]
    members = {
        "info/about.json": json_bytes({"license": "0BSD", "summary": package.summary}),
        "info/files": "".join(f"{path}\n" for path in sorted(payload)).encode(),
        "info/index.json": json_bytes(package.index()),
        "info/licenses/LICENSE": LICENSE.encode(),
        "info/paths.json": json_bytes({"paths": paths, "paths_version": 1}),
    }
    if package.subdir == "noarch":
        members["info/link.json"] = json_bytes({"noarch": {"type": "generic"}, "package_metadata_version": 1})
    return members


def payload_members(package: Package) -> dict[str, bytes]:
    """What the package installs, as path: content."""
    return {path: text.encode() for path, text in package.files.items()}


def tarball(members: Mapping[str, bytes], modified: datetime) -> bytes:
    """An uncompressed tar archive of `members` in the order of their paths, info/ first, without owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        # Clients find the metadata of a .tar.bz2 package fast only where it comes first.
        for path in sorted(members, key=lambda path: (not path.startswith("info/"), path)):
            member = tarfile.TarInfo(path)
            member.size = len(members[path])
            member.mode = 0o755 if path.startswith("bin/") else 0o644
            member.mtime = int(modified.timestamp())
            archive.addfile(member, io.BytesIO(members[path]))
    return buffer.getvalue()


def conda_file(package: Package) -> bytes:
    """The package in the `.conda` format (CEP 35): a stored zip file of two compressed tar archives."""
    parts = {"pkg": payload_members(package), "info": info_members(package)}
    archives = {
        f"{part}-{package.stem}.tar.zst": zstd.compress(tarball(members, package.built), level=ZSTD_LEVEL)
        for part, members in parts.items()
    }
    members = {"metadata.json": b'{"conda_pkg_format_version": 2}'} | archives
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, mode="w", compression=zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)  # dated 1980-01-01, the earliest that a zip file can say
            member.create_system = 3  # Unix, wherever this runs
            member.external_attr = 0o600 << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def tar_bz2_file(package: Package) -> bytes:
    """The package in the older `.tar.bz2` format (CEP 35)."""
    members = info_members(package) | payload_members(package)
    return bz2.compress(tarball(members, package.built), compresslevel=9)


def unpacked(conda: bytes) -> dict[str, bytes]:
    """What a `.conda` file holds, as name: content, with its archives decompressed."""
    with zipfile.ZipFile(io.BytesIO(conda)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return {name: zstd.decompress(content) if name.endswith(".zst") else content for name, content in members.items()}


def package_file(package: Package, shipped: bytes | None) -> bytes:
    """The package's bytes; `shipped`, if there is one, is an undamaged package file that may be the same.

    zstd gives the same bytes only within one release, so a `.conda` file that holds what it should hold is
    kept as it is: with another release the channel comes out the same.
    """
    if package.kind == ".tar.bz2":
        return tar_bz2_file(package)
    made = conda_file(package)
    return shipped if shipped and unpacked(shipped) == unpacked(made) else made


def repodata(state: State, subdir: str, packages: Mapping[str, bytes]) -> bytes:
    """repodata.json (CEP 36) of one subdir of `state`; `packages` has every package's bytes by path."""

    def records(kind: str) -> dict[str, dict[str, object]]:
        return {
            package.filename: record(package, packages[package.path], state.depends.get(package.path))
            for package in state.packages
            if package.subdir == subdir and package.kind == kind
        }

    return json_bytes(
        {
            "info": {"subdir": subdir},
            "packages": records(".tar.bz2"),
            "packages.conda": records(".conda"),
            "removed": sorted(package.filename for package in state.removed if package.subdir == subdir),
            "repodata_version": 1,
        }
    )


def record(package: Package, content: bytes, depends: Sequence[str] | None) -> dict[str, object]:
    """A package's record in repodata.json; `depends`, if given, stands instead of the package's own."""
    checksums: dict[str, object] = {
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    hotfix: dict[str, object] = {} if depends is None else {"depends": list(depends)}
    return package.index() | checksums | hotfix


def channel_files(shipped: Mapping[str, bytes]) -> dict[str, bytes]:
    """Everything below examples/channel as path: content, given what is there now."""
    every_package = {package.path: package for state in STATES.values() for package in state.packages}
    intact = undamaged(shipped)
    packages = {path: package_file(package, intact.get(f"packages/{path}")) for path, package in every_package.items()}
    documents = {
        f"{name}/{subdir}/repodata.json": repodata(state, subdir, packages)
        for name, state in STATES.items()
        for subdir in SUBDIRS
    }
    return {f"packages/{path}": content for path, content in packages.items()} | documents


def undamaged(shipped: Mapping[str, bytes]) -> dict[str, bytes]:
    """The shipped files whose checksum is in some shipped repodata.json: packages, just as they were built."""
    documents = b"".join(content for path, content in shipped.items() if path.endswith("/repodata.json"))
    return {path: content for path, content in shipped.items() if hashlib.sha256(content).hexdigest().encode() in documents}


def file_paths(folder: Path) -> set[str]:
    """The paths of all files below `folder`, relative to it; none if there is no such folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def build(channel: Path, *, check: bool) -> list[str]:
    """Make `channel` what it should be, or with `check` change nothing. Returns the paths that differed."""
    shipped = {path: (channel / path).read_bytes() for path in file_paths(channel)}
    wanted = channel_files(shipped)
    differing = sorted(path for path in shipped | wanted if shipped.get(path) != wanted.get(path))
    for path in [] if check else differing:
        if path in wanted:
            (channel / path).parent.mkdir(parents=True, exist_ok=True)
            (channel / path).write_bytes(wanted[path])
        else:
            (channel / path).unlink()
    return differing


class ForeignFileError(Exception):
    """The folder that shall become a channel holds a file that is not of this channel."""


def put_state(channel: Path, name: str, target: Path) -> None:
    """Make `target` a channel folder that holds exactly the named state; it may hold another one until then.

    Packages come first and go last, so that whoever reads the folder meanwhile finds what is listed. Raises
    ForeignFileError, before anything is changed, if the folder holds anything else.
    """
    ours = {path for state in STATES.values() for path in state.files}
    if foreign := sorted(file_paths(target) - ours):
        problem = "is not of this channel; give a folder that is new, empty or holds one of its states"
        raise ForeignFileError(f"{target / foreign[0]} {problem}")
    state = STATES[name]
    for path, modified in state.files.items():
        source = f"{name}/{path}" if path.endswith("/repodata.json") else f"packages/{path}"
        put_copy(channel / source, target / path, modified)
    for path in file_paths(target) - state.files.keys():
        (target / path).unlink()


def put_copy(source: Path, target: Path, modified: datetime) -> None:
    """Put a copy of `source` at `target` in one step, dated `modified`.

    Web servers are asked "changed since?" to the second: dated now, a state that takes another's place within
    the same second would look unchanged.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    shutil.copyfile(source, part)
    os.utime(part, (modified.timestamp(), modified.timestamp()))
    part.replace(target)


def main() -> int:
    """Read the command line and do what it says. Returns the exit status."""
    parser = argparse.ArgumentParser(description="A small, real conda channel in two states.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    build_verb = verbs.add_parser("build", help="write examples/channel anew")
    build_verb.add_argument("--check", action="store_true", help="write nothing; exit 1 if something differs")
    state_verb = verbs.add_parser("state", help="make a folder a plain channel in one of its states")
    state_verb.add_argument("name", choices=tuple(STATES), help="which state")
    state_verb.add_argument("folder", type=Path, metavar="DIR", help="new, empty, or holding one of the states")
    arguments = parser.parse_args()
    if arguments.verb == "build":
        differing = build(CHANNEL, check=arguments.check)
        for path in differing:
            print(f"{'differs' if arguments.check else 'changed'}: {path}")
        return 1 if arguments.check and differing else 0
    try:
        put_state(CHANNEL, arguments.name, arguments.folder)
    except ForeignFileError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
