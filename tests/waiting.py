"""Waiting for what happens soon, in another thread or process."""

import contextlib
import time
from collections.abc import Callable

#: seconds; promises are kept within one or two, and on a loaded machine later
PATIENCE = 30.0


def eventually(holds: Callable[[], object]) -> None:
    """Look until it holds; an assertion that fails is one look, for news may come in the midst of it."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(AssertionError):
            if holds():
                return
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} seconds"
        time.sleep(0.02)
