"""snapmirror token: a secret with which somebody may read, and what the configuration says of it."""

import hashlib
import re
import secrets
from typing import Annotated

import typer

from ..errors import UsageError
from .context import say


def token(name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will use it.")]) -> None:
    """Make a token for reading: printed this once; the table that lets it in goes to standard error."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UsageError(f"{name!r} can't name a token: write letters, digits, `_` and `-`")
    made = secrets.token_hex(32)  # conda finds tokens in URLs by letters, digits and `-`
    print(made)
    say("The token is on standard output, this once. Put this into snapmirror.toml, then send SIGHUP to the server:")
    say(f"[serve.auth.{name}]")
    say(f'sha256 = "{hashlib.sha256(made.encode()).hexdigest()}"')
