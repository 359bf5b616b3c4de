"""snapmirror pin and unpin: names for snapshots."""

from typing import Annotated

import typer

from .. import clock
from ..errors import UsageError
from ..store.catalog import is_pin_name
from ..store.records import Pin
from .context import ConfigOption, SnapshotArgument, complete_pin, opened, say, taken_names, waiting

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits, `.`, `_` and `-`.")]


def pin(
    name: NameArgument,
    snapshot: SnapshotArgument,
    move: Annotated[bool, typer.Option("--move", help="Let a pin that exists name another snapshot.")] = False,
    config: ConfigOption = None,
) -> None:
    """Give a snapshot a name that can stand in a URL; it is never forgotten while it has one."""
    with opened(config, write=True) as (settings, store), store.lock(waiting) as catalog:
        if name in taken_names(settings, catalog):
            raise UsageError(f"{name!r} can't be a pin: a repo's path begins with it, or it is reserved; choose another name")
        if not is_pin_name(name):
            raise UsageError(
                f"{name!r} can't be a pin: write a lower-case letter, then up to 62 lower-case letters, digits, `.`, `_` or `-`"
            )
        record = catalog.single(snapshot, store.now())
        old = catalog.pins.get(name)
        if old and old.snapshot != record.id and not move:
            raise UsageError(f"the pin {name} already names {old.snapshot}; --move lets it name {record.id}")
        store.snapshots.write_pin(Pin(name=name, snapshot=record.id, set=clock.to_id(store.now())))
        store.published.refresh(store.catalog(), store.now())
    say(f"{name} names {record.id}")


def unpin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pin.", autocompletion=complete_pin)],
    config: ConfigOption = None,
) -> None:
    """Remove a pin; the snapshot stays until it is forgotten."""
    with opened(config, write=True, allow_clashes=True) as (_, store), store.lock(waiting) as catalog:
        if name not in catalog.pins:
            raise UsageError(f"there is no pin {name!r} (pins: {', '.join(sorted(catalog.pins)) or 'none'})")
        store.snapshots.remove_pin(name)
        store.published.refresh(store.catalog(), store.now())
    say(f"removed the pin {name}")
