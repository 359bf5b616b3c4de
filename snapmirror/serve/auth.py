"""Read tokens: who may read, and what (`[serve.auth]`).

The configuration holds SHA-256 digests only. A token is 32 random bytes, so nobody can guess it from its digest: neither
salt nor a slow hash would add anything, for those protect what people choose.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping

from aiohttp import web

from .answers import Refused
from .internal import PREFIX
from .resolve import split
from .settings import Token

#: for supervisors, which know nothing of tokens, and learn nothing
_OPEN = {f"{PREFIX}healthz", f"{PREFIX}readyz"}
#: `/t/<token>/chan`: conda puts it before a channel's name, so it may also come after a selector
_IN_PATH = re.compile(r"(/[^/]+)?/t/([^/]+)(/.*)?", re.DOTALL)
_WELCOME = ('WWW-Authenticate: Bearer realm="snapmirror"', 'WWW-Authenticate: Basic realm="snapmirror", charset="UTF-8"')


class Unauthorized(Refused):
    """Nobody is known by the credentials that came, or none came."""

    fields = _WELCOME

    def __init__(self) -> None:
        super().__init__(401, "this mirror wants a token: as password of any user, as bearer, or as /t/TOKEN/ in the URL")


class Guard:
    """Lets through what a token covers."""

    def __init__(self, tokens: Mapping[str, Token]) -> None:
        """tokens: name -> token"""
        self._tokens = [(name, bytes.fromhex(token.sha256), token.repos) for name, token in tokens.items()]

    def admit(self, request: web.BaseRequest, path: str, is_selector: Callable[[str], bool]) -> str:
        """The raw path without a token in it. Raises Unauthorized; Refused for what the token does not cover.

        That is told by the path alone, before anything is looked up: the refusal says nothing of what there is.
        """
        stripped, in_path = _taken_out(path, is_selector)
        if stripped in _OPEN:
            return stripped
        known = self._known(in_path) or self._known(_in_header(request.headers.get("Authorization", "")))
        if known is None:
            raise Unauthorized
        name, repos = known
        if repos is not None and not _covers(repos, stripped, is_selector):
            raise Refused(403, f"the token {name} does not cover this path")
        if in_path and path.endswith(f"/t/{in_path}"):  # links would lead out of it, and to redirect would be to repeat it
            raise Refused(404, "a slash is missing after the token: /t/TOKEN/")
        return stripped

    def _known(self, secret: str | None) -> tuple[str, list[str] | None] | None:
        """Name and repos of a token. All are compared, each in a time that does not depend on where it differs."""
        if not secret:
            return None
        digest, found = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest(), None
        for name, expected, repos in self._tokens:
            if hmac.compare_digest(digest, expected):
                found = (name, repos)
        return found


def _taken_out(path: str, is_selector: Callable[[str], bool]) -> tuple[str, str | None]:
    """A raw path without its token, and the token."""
    found = _IN_PATH.fullmatch(path)
    if not found:
        return path, None
    before, token, rest = found[1] or "", found[2], found[3] or "/"
    return (before + rest, token) if not before or is_selector(before[1:]) else (path, None)


def _in_header(value: str) -> str | None:
    """The token of an Authorization field (RFC 6750, RFC 7617)."""
    scheme, _, rest = value.partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            try:
                return base64.b64decode(rest.strip(), validate=True).decode("utf-8", "surrogateescape").partition(":")[2]
            except (binascii.Error, ValueError):
                return None
    return None


def _covers(repos: list[str], path: str, is_selector: Callable[[str], bool]) -> bool:
    """Whether a raw path is that of one of these repos, or below it. Raises Refused for one that can name nothing."""
    segments, _ = split(path)
    if segments and is_selector(segments[0]):
        segments = segments[1:]
    inner = "/".join(segments) + "/"
    return any(inner.startswith(f"{repo}/") for repo in repos)
