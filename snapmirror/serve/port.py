"""Whether a server could begin to listen now, as it is configured."""

import http.client
import json
import ssl

from ..errors import UsageError
from ..findings import Finding
from .internal import PREFIX
from .settings import Serve
from .sockets import bind
from .tls import context_of

#: seconds that whoever listens there has to answer
_TIMEOUT = 3.0
#: the answer of a server of ours, see app
_HEALTHY = {"status": "ok"}


def finding(settings: Serve) -> Finding:
    """What is at the address of `[serve]`: nothing, a server of ours, or something else."""
    where = f"{settings.host or 'any address'}, port {settings.port}"
    try:
        context_of(settings)
    except UsageError as error:
        return Finding("port", "fail", f"serve can't begin: {error}", "correct cert and key of [serve]")
    try:
        (listeners,) = bind(settings, 1)
    except UsageError as error:
        if _is_ours(settings):
            return Finding("port", "ok", f"snapmirror serves at {where}")
        return Finding("port", "fail", str(error), "end what listens there, or set host and port of [serve] to others")
    for listener in listeners:
        listener.close()
    return Finding("port", "ok", f"{where} is free")


def _is_ours(settings: Serve) -> bool:
    """Whether it answers as ours does. Whose certificate it shows does not matter: it is told nothing."""
    host = settings.host if settings.host not in ("", "0.0.0.0", "::") else "localhost"
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    connection = (
        http.client.HTTPSConnection(host, settings.port, timeout=_TIMEOUT, context=tls)
        if settings.cert
        else http.client.HTTPConnection(host, settings.port, timeout=_TIMEOUT)
    )
    try:
        connection.request("GET", f"{PREFIX}healthz")
        return bool(json.loads(connection.getresponse().read(1024)) == _HEALTHY)
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
