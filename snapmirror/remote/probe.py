"""Whether a service creates an object for one writer only, on which publishing with several writers rests."""

import secrets

from ..errors import ObjectError
from .objects import Objects

_WRITERS = 16
#: where the objects lie that are created for this
PROBES = "probe/"


def probe(objects: Objects, rounds: int) -> None:
    """Raise ObjectError unless of two writers, one after the other, and of many at once, one alone creates an object.

    rounds: of many at once
    """
    for tries in (2, *(_WRITERS,) * rounds):
        key = f"{PROBES}{secrets.token_hex(8)}"
        try:
            first = [] if tries > 2 else [_attempt(objects, key)]
            made = [*first, *objects.threads.map(lambda key: _attempt(objects, key), [key] * (tries - len(first)))]
        finally:
            objects.delete(key)
        if sum(made) != 1:
            problem = (
                f"{sum(made)} of {tries} writers were told that they had created one object: this service, or this bucket, "
                "does not honour If-None-Match, and writers would overwrite what others publish. Use a bucket without "
                "versioning, of a service that honours it"
            )
            raise ObjectError(str(objects.address), "", problem)


def _attempt(objects: Objects, key: str) -> bool:
    return objects.create(key, secrets.token_bytes(8))
