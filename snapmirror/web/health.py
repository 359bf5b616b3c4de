"""The page that says how the mirror fares."""

from collections.abc import Mapping
from typing import Any

from .. import clock
from ..sync.health import Health
from .visit import Visit


def health(visit: Visit) -> Mapping[str, Any]:
    """See pages.PAGES."""
    found: Health = visit.ask("health")
    now = visit.store.now()
    ages = {}
    for repo in found.repos:
        read = clock.from_id(repo.read)
        ages[repo.repo] = (now - read).total_seconds() if read else None
    return {"health": found, "ages": ages}
