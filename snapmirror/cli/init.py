"""snapmirror init: a commented configuration and an empty store."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .context import say
from .presets import PRESETS
from .stores import create_folder


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder, made if it is missing.")],
    preset: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="Configure a mirror of this kind: anaconda, conda-forge or nexus.")
    ] = "",
) -> None:
    """Write a commented DIR/snapmirror.toml, and create the store DIR/store unless it is there."""
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: write one of {', '.join(filter(None, PRESETS))}")
    config = directory / "snapmirror.toml"
    if config.exists():
        raise UsageError(f"{config} exists; edit it, or name another folder")
    directory.mkdir(parents=True, exist_ok=True)
    created = create_folder(directory / "store")
    with config.open("x", encoding="utf-8") as file:
        file.write(PRESETS[preset])
    store = f"{'created' if created else 'kept'} the store {directory / 'store'}"
    todo = {"": "edit one [[repo]], then: snapmirror sync", "nexus": "edit it, then: snapmirror serve"}
    then = todo.get(preset, "edit it, then: snapmirror sync --dry-run")
    say(f"wrote {config} and {store}; {then} -c {config}")
