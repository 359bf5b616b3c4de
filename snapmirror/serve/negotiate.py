"""Which content coding a client gets (RFC 9110 section 12.5.3)."""

from functools import lru_cache

from ..weights import weights

#: in the order in which we prefer them
_CODINGS = ("zstd", "gzip")


def is_codable(media: str) -> bool:
    """Whether a content coding makes something of this media type smaller."""
    return media == "application/json" or media.startswith("text/")


@lru_cache(1024)
def coding(accept: str | None) -> str:
    """The coding for an Accept-Encoding field, None if there is none: `zstd`, `gzip`, or "" for the plain form.

    A coding is used only if it is named: `*` says nothing of what the client can do. A client that accepts nothing that
    we have gets the plain form, as the RFC allows.
    """
    if not accept:
        return ""
    weighed = weights(accept)
    identity = weighed.get("identity", 0.0)
    best = max(_CODINGS, key=lambda name: weighed.get(name, 0.0))
    weight = weighed.get(best, 0.0)
    return best if weight > 0 and weight >= identity else ""
