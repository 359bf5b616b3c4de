"""snapmirror which: the snapshots that have all of a lock, of an environment, or a file."""

from collections.abc import Sequence
from typing import Annotated

import typer

from .. import units
from ..ecosystem.environments import ABSENT
from ..sync.which import Lack, Questions
from .context import ConfigOption, JsonOption, opened, output, output_json, printable, say
from .ecosystems import ECOSYSTEMS

PlatformOption = Annotated[
    str, typer.Option("--platform", metavar="NAME", help="For which an environment.yml is solved: `linux-64`.")
]
#: names in one line
_NAMED = 3
#: characters of a reason
_WIDTH = 240


def which(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="A lock, requirements.txt, environment.yml, any file, or a SHA-256.")
    ],
    platform: PlatformOption = "",
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show which snapshots hold every file that a lock names, solve an environment, or have a file; and what others lack."""
    with opened(config, write=False) as (settings, store):
        found = Questions(store, ECOSYSTEMS, store.catalog(), settings.repo, platform).which(what)
    if json:
        output_json(found)
    else:
        if found.aside:
            say(f"does not count: {named(found.aside)}")
        for path in found.files:
            say(f"found as {path}")
        for one in found.ranges:
            forgotten = f", {one.forgotten} forgotten" if one.forgotten else ""
            rest = f": {named(one.missing)}" if one.missing else ""
            count = f"{units.plural(one.snapshots, 'snapshot')}{forgotten}"
            output(f"{'lacks' if one.missing else 'holds'}  {one.first} .. {one.last}  {count}{printable(rest)}")
    raise typer.Exit(0 if found.holds else 1)


def named(lacks: Sequence[Lack]) -> str:
    """The first of them, and how many more there are."""
    texts = [lack.what if lack.why == ABSENT else f"{lack.what} ({_short(lack.why)})" for lack in lacks[:_NAMED]]
    return ", ".join(texts) + (f" and {len(lacks) - _NAMED} more" if len(lacks) > _NAMED else "")


def _short(text: str) -> str:
    """A solver may have much to say; `--json` has all of it."""
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."
