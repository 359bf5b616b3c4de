"""What the figures were made on: the machine, and the version of every program that took part."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

_PROGRAMS = {
    "nginx": ("nginx", "-v"),
    "wrk": ("wrk", "-v"),
    "restic": ("restic", "version"),
    "curl": ("curl", "--version"),
    "rsync": ("rsync", "--version"),
    "cp": ("cp", "--version"),
}
_PACKAGES = ("aiohttp", "backports.zstd", "blake3", "lmdb", "msgspec", "requests", "urllib3")


def describe(folder: Path) -> str:
    """Some lines on machine and versions; `folder` is where was measured."""
    disk = shutil.disk_usage(folder)
    lines = [
        f"machine   {_processor()}, {os.cpu_count()} cores, {_memory()}",
        f"disk      {_file_system(folder)}, {disk.free / 1e9:.0f} of {disk.total / 1e9:.0f} GB free",
        f"system    {platform.system()} {platform.release()}",
        f"python    {platform.python_implementation()} {platform.python_version()} (and its json), {_packages()}",
    ]
    lines += [f"{name:9} {_version(command)}" for name, command in _PROGRAMS.items()]
    return "\n".join(lines)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _file_system(folder: Path) -> str:
    """The type of the file system that holds a folder: the mount with the longest fitting path."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown file system"
    path = folder.resolve()
    fitting = [(len(mount[1]), mount[2]) for mount in mounts if path.is_relative_to(mount[1])]
    return max(fitting, default=(0, "unknown file system"))[1]


def _packages() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _version(command: tuple[str, ...]) -> str:
    if not shutil.which(command[0]):
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    said = (done.stdout + done.stderr).strip().splitlines()
    return said[0] if said else "unknown"
