"""Which form of a page a client wants (PEP 691, "Version + Format Selection"; RFC 9110 section 12.5.1, Accept)."""

from functools import lru_cache

from ..weights import weights

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
TEXT = "text/html"

#: {media type that we have: its other name}; of equally welcome ones the first is answered, as PyPI does
_FORMS = {
    TEXT: "",
    HTML: "application/vnd.pypi.simple.latest+html",
    JSON: "application/vnd.pypi.simple.latest+json",
}


@lru_cache(1024)
def choose(accept: str | None, format_: str | None = None) -> str:
    """The media type to answer with: JSON, HTML or TEXT.

    accept: value of the Accept field, None if there is none. If it accepts nothing that we have, the answer is TEXT, as PyPI's
    format_: value of `?format=`, which wins over `accept`; ignored if it is none that we have
    """
    stated = (format_ or "").strip().lower().replace(" ", "+")  # as a `+` that is not quoted arrives
    if found := next((form for form, other in _FORMS.items() if stated and stated in (form, other)), None):
        return found
    ranges = weights(accept or "")
    welcome = {form: max(_weight(form, ranges), ranges.get(other, 0.0)) for form, other in _FORMS.items()}
    best = max(_FORMS, key=lambda form: welcome[form])  # max gives the first of equals
    return best if welcome[best] > 0 else TEXT


def _weight(form: str, ranges: dict[str, float]) -> float:
    """How welcome a type is: the weight of the most specific range that it is in."""
    for name in (form, f"{form.partition('/')[0]}/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0


def media_type(form: str) -> str:
    """The value of the Content-Type field for a form that `choose` gave."""
    return form if form == JSON else f"{form}; charset=utf-8"
