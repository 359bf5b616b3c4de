"""A site without a network: imports an export, serves it, and installs from it with real clients, at each date.

`python tests/behind_gap.py EXPORT FOLDER DATE …` in a network namespace of its own; prints {date: {client: what it installed}}.
"""

import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

from clients import install
from mirror import Mirror
from serving import serving

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def loopback_alone() -> None:
    """Loopback is down in a new namespace. Raises AssertionError if there is a way out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        flags = struct.unpack("16sH14x", fcntl.ioctl(one, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0)))[1]
        fcntl.ioctl(one, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    with socket.socket() as one:
        assert one.connect_ex(("192.0.2.1", 443)) == errno.ENETUNREACH


def installed(folder: Path) -> list[str]:
    """Names and versions that a Python client has put into a folder."""
    return sorted(path.name.removesuffix(".dist-info") for path in folder.glob("*.dist-info"))


def clients(url: str, folder: Path) -> dict[str, list[str]]:
    """Install `app` of each kind, with empty caches."""
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "UV_CACHE_DIR": str(folder / "uv-cache")}
    index = ["--index-url", f"{url}/pypi/simple/", "app"]
    for target, command in {
        "pip": [binaries / "pip", "--disable-pip-version-check", "install", "--no-cache-dir"],
        "uv": [binaries / "uv", "pip", "install", "--python", sys.executable],
    }.items():
        done = subprocess.run([*command, "--target", folder / target, *index], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    install(f"{url}/chan", "app", folder)
    conda = sorted(path.stem for path in (folder / "prefix" / "conda-meta").glob("*.json"))
    return {"rattler": conda, "pip": installed(folder / "pip"), "uv": installed(folder / "uv")}


def main(export: str, folder: Path, dates: list[str]) -> None:
    """See the module."""
    loopback_alone()
    replica = Mirror(folder / "replica")
    replica.run("import", export)
    replica.run("check", "--read-data")
    with serving(replica.store_path) as url:
        print(json.dumps({date: clients(f"{url}/{date}", folder / date) for date in dates}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
