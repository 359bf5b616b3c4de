"""The certificate of a server that speaks TLS itself."""

import ssl

from ..errors import UsageError
from .settings import Serve


def context_of(settings: Serve) -> ssl.SSLContext | None:
    """What is configured, read anew; None for plain HTTP. Raises UsageError for a certificate or key that can't be used."""
    if not settings.cert:
        return None
    for what, path in (("cert", settings.cert), ("key", settings.key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise UsageError(f"{what} {path} can't be read: {error.strerror}") from None
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.set_alpn_protocols(["http/1.1"])
    try:
        made.load_cert_chain(settings.cert, settings.key, _no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"cert {settings.cert} and key {settings.key} don't belong together") from None
        problem = f"cert {settings.cert} or key {settings.key} is no certificate (chain) or no unencrypted key in PEM form"
        raise UsageError(problem) from None
    except ValueError as error:  # of _no_password
        raise UsageError(f"key {settings.key}: {error}") from None
    return made


def _no_password() -> str:
    """OpenSSL would ask on the terminal, in the middle of a reload too."""
    raise ValueError("is encrypted; a server that starts by itself needs one that is not, readable only by its user")
