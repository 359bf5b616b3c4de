"""Which content coding a client gets (RFC 9110 section 12.5.3)."""

from functools import lru_cache

#: in the order in which we like them
CODINGS = ("zstd", "gzip")


@lru_cache(1024)
def coding(accept: str | None) -> str:
    """The coding for an Accept-Encoding field: `zstd`, `gzip` or "" for none.

    A coding is used only if it is named: `*` says nothing of what the client can do. Where it accepts nothing that we
    have, not even identity, it gets identity, as the RFC allows.
    """
    if not accept:
        return ""
    weights = dict(map(_weight, accept.lower().split(",")))
    identity = weights.get("identity", 0.0)
    best = max(CODINGS, key=lambda name: weights.get(name, 0.0))
    weight = weights.get(best, 0.0)
    return best if weight > 0 and weight >= identity else ""


def _weight(part: str) -> tuple[str, float]:
    """One element of the list; a weight that is none counts as 0."""
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, min(max(float(value), 0.0), 1.0)
            except ValueError:
                return name, 0.0
    return name, 1.0
