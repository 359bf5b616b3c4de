"""snapmirror init: a commented configuration and an empty store."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..store.store import Store
from .context import say

_CONFIG = """\
# snapmirror.toml: what to mirror, and how. `man snapmirror.toml` explains every key.
# Relative paths are relative to this file.

store = "store"

[download]
connections = 8            # transfers at once; per_host = 4 of them to one host
retries = 5
# bandwidth = "50MB/s"     # over all connections
# min_free = "3%"          # what a sync always leaves free on the disk

[retention]                # nothing set: every snapshot is kept. `snapmirror gc` applies it.
# daily = 30
# monthly = 24
# yearly = 10

[publish]
keep_trees = "30d"         # how long snapshots are exported as folders of hard links; current and pins always

[serve]
host = "127.0.0.1"         # "0.0.0.0" to be reached from elsewhere
port = 8080

# One [[repo]] for each channel. "redirect" keeps every day's metadata, a few megabytes, and sends clients to upstream
# for the packages. Nothing is mirrored until you take the # away; to copy packages too, say download = "eager", and run
# `snapmirror sync --dry-run` first: it prints how much that is. All of conda-forge is over 10 TB.

# [[repo]]
# kind = "conda"
# path = "conda-forge"
# upstream = "https://conda.anaconda.org/conda-forge"
# subdirs = ["linux-64"]   # noarch always comes along
# download = "redirect"
"""


def init(directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make; it may exist.")]) -> None:
    """Write a commented DIR/snapmirror.toml and create the store DIR/store."""
    config = directory / "snapmirror.toml"
    if config.exists():
        raise UsageError(f"{config} exists; edit it, or name another folder")
    directory.mkdir(parents=True, exist_ok=True)
    Store.create(directory / "store")
    with config.open("x", encoding="utf-8") as file:
        file.write(_CONFIG)
    say(f"wrote {config} and created the store {directory / 'store'}; edit one [[repo]], then: snapmirror sync -c {config}")
