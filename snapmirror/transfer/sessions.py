"""What a request to an upstream is made with: retries, credentials, certificates, proxies; each host may have its own."""

import logging
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import requests
from requests.auth import AuthBase
from urllib3.util import Retry

from .. import addresses, version
from ..errors import TransportError
from .settings import Auth, Credentials, Download, Stall
from .wire import TimelyAdapter

_RETRIED = (429, 500, 502, 503, 504)
logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # its warnings have addresses, with the tokens in their paths


class RefusedError(TransportError):
    """Upstream is there, but does not give us what we ask for: 403, redirects without end, credentials that are not set.

    It tells nothing of whether there is such a file, so it counts as no answer; the host is not left alone for it.
    """


class HostRules(NamedTuple):
    """What holds for all requests to one host."""

    #: held while a request is under way: `per_host` at once
    gate: threading.BoundedSemaphore
    #: who we are: user and password, or a token; None if nobody in particular, or if the URL says it
    auth: "tuple[str, str] | _Bearer | None"
    #: {scheme: URL of the proxy}, as requests takes them
    proxies: Mapping[str, str]
    #: certificates that it is checked against: a file, or True for those of the system
    verify: str | bool
    #: file of the certificate and key that we show
    cert: str | None
    #: seconds for a connection, and for the header of an answer
    timeout: tuple[float, float]
    stalled: Stall
    #: User-Agent
    agent: str


def rules_for(url: str, settings: Download) -> HostRules:
    """The rules for the host of a URL. Raises RefusedError if its credentials are not there."""
    host, own = settings.host(url), settings.for_host(url)
    environment = requests.Session().merge_environment_settings(url, {}, False, None, None)
    return HostRules(
        threading.BoundedSemaphore(own.per_host),
        None if "@" in urllib.parse.urlsplit(url).netloc else _auth(url, host.auth),
        _proxies(url, own.proxy, direct=host.proxy == ""),
        own.ca_bundle or environment["verify"] or True,
        host.client_cert or None,
        (own.connect_seconds, own.stalled.seconds),
        own.stalled,
        f"snapmirror/{version()} {host.user_agent}".rstrip(),
    )


def _proxies(url: str, proxy: str, *, direct: bool) -> Mapping[str, str]:
    if direct:
        return {}
    return {"http": proxy, "https": proxy} if proxy else requests.utils.get_environ_proxies(url)


def _auth(url: str, given: Auth | None) -> "tuple[str, str] | _Bearer | None":
    if not isinstance(given, Credentials):
        return requests.utils.get_netrc_auth(url)
    if urllib.parse.urlsplit(url).scheme == "http" and not given.in_clear:
        return None
    secret = (given.secret or "").strip()
    if not secret:
        problem = f"the variable {given.env} of the environment, which is to hold its credentials, is not set"
        raise RefusedError(addresses.redact(url), problem)
    user, colon, password = secret.partition(":")
    return (user, password) if colon else _Bearer(secret)


class _Bearer(AuthBase):
    """A token (RFC 6750)."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def new_session(rules_of: Callable[[str], HostRules], settings: Download, patience: int) -> requests.Session:
    """A session, for one thread.

    rules_of: gives the rules for the host of a URL
    patience: seconds that a pause before another try may take
    """
    session = _Session(rules_of)
    retry = _Retry(
        total=settings.retries,
        status_forcelist=_RETRIED,
        allowed_methods={"GET", "HEAD"},
        backoff_factor=0.5,
        backoff_max=min(30, patience),
        backoff_jitter=0.5,  # or all that failed at once come back at once
        retry_after_max=patience,  # a server that says "in an hour" is asked sooner: a sync has an end
        respect_retry_after_header=True,
        raise_on_status=False,
    )
    adapter = TimelyAdapter(max_retries=retry, pool_maxsize=settings.connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    session.trust_env = False  # see rules_for
    session.headers["Accept-Encoding"] = "identity"
    return session


class _Retry(Retry):
    """Does not try again what stays as it is: a certificate that is not trusted is to urllib3 like a broken connection."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        *more: Any,
        **others: Any,
    ) -> Self:
        """See Retry."""
        if error and error.args and isinstance(error.args[0], ssl.SSLCertVerificationError):
            raise error
        return super().increment(method, url, response, error, *more, **others)


class _Session(requests.Session):
    """Goes by the rules for the host of each request, also of the one to which a redirect leads; that gets no credentials."""

    def __init__(self, rules_of: Callable[[str], HostRules]) -> None:
        super().__init__()
        self._rules_of = rules_of

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        host = self._rules_of(request.url or "")
        request.headers["User-Agent"] = host.agent
        options |= {"proxies": host.proxies, "verify": host.verify, "cert": host.cert, "timeout": host.timeout}
        return super().send(request, **options)

    def rebuild_proxies(self, prepared_request: requests.PreparedRequest, proxies: Any) -> Any:
        """requests would put the proxy's credentials into the request itself; the adapter gives them to the proxy alone."""
        return proxies
