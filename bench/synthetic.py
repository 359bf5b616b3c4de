"""A repodata.json as large as conda-forge's largest, made up: 600,000 records of 31,000 names, 340 MiB.

    python -m bench.synthetic FILE [--records N] [--names N] [--seed N]

What matters to a reader is as in the real one: bytes a record, digests that do not compress, few names with thousands
of builds and many with a handful, both kinds of archive, specs that repeat.
"""

import argparse
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

RECORDS = 600_000
NAMES = 31_000
SEED = 20261120

#: part of the builds that are `.tar.bz2`: the older ones
_BZ2_PART = 0.3
_FIRST, _LAST = 1_400_000_000_000, 1_795_000_000_000
_STEMS = ("arrow", "boost", "cell", "data", "expat", "flow", "geo", "hdf", "image", "jinja", "kernel", "lib", "mesh", "net")
_PREFIXES = ("", "", "", "lib", "py", "r-", "perl-", "go-", "rust-", "ros-")
_SUFFIXES = ("", "-base", "-core", "-cpp", "-dev", "-devel", "-python", "-static", "-tests", "-tools")
_LICENSES = (("MIT", "MIT"), ("BSD-3-Clause", "BSD"), ("Apache-2.0", "Apache"), ("GPL-3.0-or-later", "GPL"), ("Zlib", "Other"))


class _Package(NamedTuple):
    name: str
    builds: int


class _Section(NamedTuple):
    key: str
    ending: str


_BZ2 = _Section("packages", ".tar.bz2")
_CONDA = _Section("packages.conda", ".conda")


#: the bytes of a file, by its name
Content = Callable[[str], bytes]


def write(
    path: Path,
    records: int = RECORDS,
    names: int = NAMES,
    seed: int = SEED,
    subdir: str = "linux-64",
    content: Content | None = None,
) -> None:
    """Write a repodata.json, record by record. The same arguments make the same bytes.

    content: of the files; None: there are none, and what is said of them is made up
    """
    random = Random(seed)
    packages = _packages(random, records, names)
    known = specs(random, [package.name for package in packages])
    with path.open("w", encoding="ascii", buffering=1 << 20) as file:
        file.write(f'{{"info":{{"subdir":"{subdir}"}}')
        for section in (_BZ2, _CONDA):
            file.write(f',"{section.key}":{{')
            members = itertools.chain.from_iterable(_members(random, one, section, known, subdir, content) for one in packages)
            file.write(next(members, ""))
            file.writelines(f",{member}" for member in members)
            file.write("}")
        file.write(',"removed":[],"repodata_version":1}')


def _packages(random: Random, records: int, names: int) -> list[_Package]:
    """Names in order, each with its number of builds: a power law with a flat head, as conda-forge's is."""
    weights = [(rank + 8) ** -0.9 for rank in range(names)]
    spare, scale = records - names, sum(weights)
    shares = [math.floor(spare * weight / scale) for weight in weights]
    for rank in range(spare - sum(shares)):
        shares[rank] += 1
    random.shuffle(shares)
    chosen: set[str] = set()
    while len(chosen) < names:
        stem = f"{random.choice(_STEMS)}{random.choice(_STEMS)}{random.randrange(names)}"
        chosen.add(f"{random.choice(_PREFIXES)}{stem}{random.choice(_SUFFIXES)}")
    return [_Package(name, 1 + share) for name, share in zip(sorted(chosen), shares, strict=True)]


def specs(random: Random, names: list[str]) -> list[str]:
    """Specs that records depend on, as JSON strings."""
    found = [
        '"__glibc >=2.17,<3.0.a0"',
        '"libgcc >=14"',
        '"libstdcxx >=14"',
        '"python >=3.12,<3.13.0a0"',
        '"python_abi 3.12.* *_cp312"',
    ]
    for name in random.sample(names, min(len(names), 2000)):
        major, minor = random.randrange(1, 9), random.randrange(30)
        found.append(f'"{name} >={major}.{minor},<{major + 1}.0a0"')
    return found


def _members(
    random: Random, package: _Package, section: _Section, specs: list[str], subdir: str, content: Content | None
) -> Iterator[str]:
    """The records of one name in one section, each as `"file":{…}`."""
    older = math.floor(package.builds * _BZ2_PART)
    numbers = range(older) if section is _BZ2 else range(older, package.builds)
    license_, family = random.choice(_LICENSES)
    files = []
    for number in numbers:
        version, build_number = f"{1 + number // 40}.{number // 4 % 10}.{number % 4}", number % 3
        digests = random.randbytes(52).hex()
        build = f"py312h{digests[96:103]}_{build_number}" if number % 3 else f"h{digests[96:103]}_{build_number}"
        depends = ",".join(random.choices(specs, k=2 + number % 5))
        time = _FIRST + (_LAST - _FIRST) * number // package.builds + random.randrange(1_000_000)
        file = f"{package.name}-{version}-{build}{section.ending}"
        size, md5, sha256 = random.randrange(5_000, 40_000_000), digests[64:96], digests[:64]
        if content:
            body = content(file)
            size, md5, sha256 = len(body), hashlib.md5(body).hexdigest(), hashlib.sha256(body).hexdigest()
        files.append(
            f'"{file}":{{"build":"{build}","build_number":{build_number},'
            f'"constrains":[{specs[number % len(specs)]}],"depends":[{depends}],"license":"{license_}",'
            f'"license_family":"{family}","md5":"{md5}","name":"{package.name}","sha256":"{sha256}",'
            f'"size":{size},"subdir":"{subdir}","timestamp":{time},"version":"{version}"}}'
        )
    yield from sorted(files)


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser(prog="python -m bench.synthetic", description="Write a made-up repodata.json.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--names", type=int, default=NAMES)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    write(arguments.file, arguments.records, arguments.names, arguments.seed)


if __name__ == "__main__":
    main()
