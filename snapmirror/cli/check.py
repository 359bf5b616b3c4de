"""snapmirror check."""


def check() -> None: ...
