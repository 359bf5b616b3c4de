"""Which content coding a client gets (RFC 9110 section 12.5.3)."""

from functools import lru_cache

from ..weights import weights

#: in the order in which we like them
CODINGS = ("zstd", "gzip")


def is_codable(media: str) -> bool:
    """Whether a content coding makes something of this media type smaller."""
    return media == "application/json" or media.startswith("text/")


@lru_cache(1024)
def coding(accept: str | None) -> str:
    """The coding for an Accept-Encoding field: `zstd`, `gzip` or "" for none.

    A coding is used only if it is named: `*` says nothing of what the client can do. Where it accepts nothing that we
    have, not even identity, it gets identity, as the RFC allows.
    """
    if not accept:
        return ""
    weighed = weights(accept)
    identity = weighed.get("identity", 0.0)
    best = max(CODINGS, key=lambda name: weighed.get(name, 0.0))
    weight = weighed.get(best, 0.0)
    return best if weight > 0 and weight >= identity else ""
