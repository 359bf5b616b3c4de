"""What a client would rather have, as request fields such as Accept say it (RFC 9110 section 12.4.2)."""


def weights(field: str) -> dict[str, float]:
    """The elements of a list: {name in lower case: weight from 0 to 1}. What is no number counts as 0."""
    return dict(_element(part) for part in field.lower().split(",") if part.strip())


def _element(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, min(max(0.0, float(value)), 1.0)  # in this order "nan" comes to 0
            except ValueError:
                return name, 0.0
    return name, 1.0
