"""snapmirror serve."""


def serve() -> None: ...
