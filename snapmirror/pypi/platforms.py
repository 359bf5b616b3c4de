"""Pythons and platforms that a mirror is for: which wheels run there (PEP 425, 600, 656), and what markers say (PEP 508)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from packaging.markers import Marker, UndefinedEnvironmentName
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, mac_platforms

#: (major, minor) of a Python
Python = tuple[int, int]

#: those that there are, and some that will be
_PYTHONS: tuple[Python, ...] = ((2, 6), (2, 7), *((3, minor) for minor in range(21)))
#: a patch release that a specifier or a marker names
_PATCH = re.compile(r"(?<![\d.])(\d{1,2})\.(\d{1,3})\.(\d{1,4})(?!\d)")
#: of these in a marker; one with more is taken to hold, rather than tried on all of them
_MOST_PATCHES = 20

_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")
_MUSLLINUX = re.compile(r"musllinux_(\d+)_(\d+)_(\w+)")
_MACOS = re.compile(r"macosx_(\d+)_(\d+)_(\w+)")
_FIXED = {"win32", "win_amd64", "win_arm64", "any"}
#: names from before PEP 600 {minor version of glibc 2: name}
_LEGACY = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_LEGACY_PLATFORM = re.compile(r"(manylinux1|manylinux2010|manylinux2014)_(\w+)")
_TAG = re.compile(r"(py|cp|pp|ip|jy|graalpy)(\d)(\d*)")

#: what markers are evaluated for where no platform is configured
_USUAL = (
    "manylinux_2_28_x86_64",
    "manylinux_2_28_aarch64",
    "macosx_11_0_arm64",
    "macosx_10_9_x86_64",
    "win_amd64",
)


def problem_with_platform(platform: str) -> str | None:
    """Why a text names no platform, None if it does."""
    if platform in _FIXED or any(form.fullmatch(platform) for form in (_MANYLINUX, _MUSLLINUX, _MACOS)):
        return None
    if re.fullmatch(r"(linux|android|ios|freebsd|manylinux\d+|pyodide|emscripten|wasi)_\w+", platform):
        return None
    return f"{platform!r} is no platform; write for example manylinux_2_28_x86_64, macosx_11_0_arm64 or win_amd64"


def accepted(platforms: Iterable[str]) -> frozenset[str]:
    """The platform tags of all wheels that run on one of these machines."""
    return frozenset(tag for platform in _spelled_out(platforms) for tag in _accepted(platform)) | {"any"}


def _spelled_out(platforms: Iterable[str]) -> Iterator[str]:
    """Platforms by the names that PEP 600 has, and universal2 as the two platforms that its wheels are for."""
    for platform in platforms:
        if found := _LEGACY_PLATFORM.fullmatch(platform):
            minor = next(minor for minor, name in _LEGACY.items() if name == found[1])
            yield f"manylinux_2_{minor}_{found[2]}"
        elif platform.endswith("_universal2"):
            yield from (platform.removesuffix("universal2") + machine for machine in ("arm64", "x86_64"))
        else:
            yield platform


def _accepted(platform: str) -> Iterator[str]:
    yield platform
    if found := _MANYLINUX.fullmatch(platform):
        yield f"linux_{found[3]}"
        for minor in range(int(found[2]) + 1):
            yield f"manylinux_{found[1]}_{minor}_{found[3]}"
            if found[1] == "2" and minor in _LEGACY:
                yield f"{_LEGACY[minor]}_{found[3]}"
    elif found := _MUSLLINUX.fullmatch(platform):
        yield f"linux_{found[3]}"
        yield from (f"musllinux_{found[1]}_{minor}_{found[3]}" for minor in range(int(found[2]) + 1))
    elif found := _MACOS.fullmatch(platform):
        yield from mac_platforms((int(found[1]), int(found[2])), found[3])


def pythons(specifiers: Sequence[str]) -> tuple[Python, ...]:
    """The Pythons that one of these specifiers means; all, if there is no specifier."""
    if not specifiers:
        return _PYTHONS
    return tuple(python for python in _PYTHONS if any(means(specifier, python) for specifier in specifiers))


@lru_cache(65_536)
def means(specifier: str, python: Python) -> bool:
    """Whether a specifier means some release of a Python. A text that is no specifier (PyPI has some) means any."""
    try:
        parsed = _specifier(specifier)
        releases = (f"{python[0]}.{python[1]}.{patch}" for patch in _patches(specifier, python))
        return any(parsed.contains(release, prereleases=True) for release in releases)
    except ValueError:  # InvalidSpecifier; or, of `contains`, a number that names.parse_version can't read either
        return True


def _patches(text: str, python: Python) -> list[int]:
    """Patch releases of a Python of which a specifier or a marker means one if it means any: the first, a last one, and those
    that it names, with neighbours.
    """
    stated = {int(patch) for major, minor, patch in _PATCH.findall(text) if (int(major), int(minor)) == python}
    return sorted({0, 9999, *(max(number + step, 0) for number in stated for step in (-1, 0, 1))})


@lru_cache(16_384)
def _specifier(text: str) -> SpecifierSet:
    return SpecifierSet(text)


def runs(tag: Tag, targets: Iterable[Python]) -> bool:
    """Whether a wheel with such a tag can be installed for one of these Pythons."""
    found = _TAG.fullmatch(tag.interpreter)
    if not found:
        return False
    major, minor = int(found[2]), int(found[3] or 0)
    later = found[1] == "py" or tag.abi in ("abi3", "abi3t")  # runs on all later ones of the same major
    return any(
        python[0] == major and (python[1] >= minor if later or not found[3] else python[1] == minor) for python in targets
    )


class Machines:
    """Every environment that dependencies are looked up for: each Python on each platform.

    Of a Python these are its oldest and its newest release, and those at which a marker may change.
    """

    def __init__(self, targets: Sequence[Python], platforms: Sequence[str]) -> None:
        self._targets = targets
        self._platforms = sorted({tuple(sorted(_environment(one).items())) for one in _spelled_out(platforms or _USUAL)})
        self._answers: dict[tuple[str, frozenset[str]], bool] = {}

    def need(self, marker: Marker | None, extras: frozenset[str] = frozenset()) -> bool:
        """Whether a requirement with that marker holds in any environment, with any of these extras or none."""
        if marker is None:
            return True
        key = text, _ = str(marker), extras
        if key not in self._answers:
            self._answers[key] = len(_PATCH.findall(text)) > _MOST_PATCHES or any(
                _holds(marker, {**environment, "extra": extra})
                for environment in self._environments(text)
                for extra in ("", *sorted(extras))
            )
        return self._answers[key]

    def together(self, markers: Sequence[Marker | None]) -> set[frozenset[int]]:
        """Which of these markers hold, without any extra, in each environment: their numbers, each such set once."""
        stated = " ".join(str(marker) for marker in markers if marker)
        if not stated:
            return {frozenset(range(len(markers)))}
        return {
            frozenset(number for number, marker in enumerate(markers) if marker is None or _holds(marker, environment))
            for environment in self._environments(stated)
        }

    def _environments(self, markers: str) -> Iterator[dict[str, str]]:
        """All in which one of these markers may hold if it holds in any."""
        for python in self._targets:
            for number in _patches(markers, python):
                release = f"{python[0]}.{python[1]}.{number}"
                stated = {
                    "python_version": f"{python[0]}.{python[1]}",
                    "python_full_version": release,
                    "implementation_version": release,
                    "platform_release": f"{number}",
                    "extra": "",
                }
                yield from ({**dict(platform), **stated} for platform in self._platforms)


def _holds(marker: Marker, environment: dict[str, str]) -> bool:
    """A marker that can't be evaluated holds: more is mirrored then, not less."""
    try:
        return marker.evaluate(environment)
    except (ValueError, UndefinedEnvironmentName):  # ValueError: UndefinedComparison, InvalidSpecifier; see also `means`
        return True


def _environment(platform: str) -> dict[str, str]:
    """The variables of markers (PEP 508) that a platform decides alone, not the Python or the release of the system."""
    system, os_name, sys_platform = "Linux", "posix", "linux"
    machine = platform.partition("_")[2]
    if platform.startswith("win"):
        system, os_name, sys_platform = "Windows", "nt", "win32"
        machine = {"win32": "x86", "win_amd64": "AMD64", "win_arm64": "ARM64"}.get(platform, machine)
    elif found := _MACOS.fullmatch(platform):
        system, sys_platform, machine = "Darwin", "darwin", found[3]
    elif found := _MANYLINUX.fullmatch(platform) or _MUSLLINUX.fullmatch(platform):
        machine = found[3]
    return {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": os_name,
        "platform_machine": machine,
        "platform_system": system,
        "platform_version": "",
        "sys_platform": sys_platform,
    }
