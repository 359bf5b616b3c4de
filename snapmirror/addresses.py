"""URLs of upstreams: joining them, and keeping credentials out of everything that is stored or printed."""

import re
import urllib.parse

#: `https://host/t/<token>/channel`: anaconda.org puts tokens into the path, and other servers of channels put them below a
#: folder of theirs; there, `t` may also be where names begin with that letter, which are not so long
_TOKEN = re.compile(r"^/t/[^/]+(?=/)|/t/(?=[^/]*[0-9A-Z])[A-Za-z0-9_-]{36,}(?=/)")
#: as services of objects sign: S3 and what speaks like it, Google's, Azure's, CloudFront
_SIGNED = re.compile(r"(?:^|&)(?:X-Amz-Signature|X-Goog-Signature|Signature|sig)=", re.IGNORECASE)


def redact(url: str) -> str:
    """A URL without user, password, path token and signature: whoever has a signed one may fetch what it names."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = "" if _SIGNED.search(parts.query) else parts.query
    before, _, after = _parted(parts)
    return urllib.parse.urlunsplit(parts._replace(netloc=host, path=before + after, query=query))


def is_web(text: str) -> bool:
    """Whether a text is an address that a web server can have."""
    try:
        parts = urllib.parse.urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        return False


def _parted(parts: urllib.parse.SplitResult) -> tuple[str, str, str]:
    """What is before the credential in a path, that, and what is after it; a folder of this machine may have that name too."""
    found = _TOKEN.search(parts.path) if parts.scheme in ("http", "https") else None
    return (parts.path[: found.start()], found[0], parts.path[found.end() :]) if found else ("", "", parts.path)


def as_folder(url: str) -> str:
    """A URL that ends in a slash, so that names can be joined to it."""
    return url if url.endswith("/") else url + "/"


def join(base: str, reference: str) -> str:
    """A reference resolved against a base (RFC 3986 section 5), for `file:` too.

    Raises ValueError if nothing can be fetched from there, or if it leads from the network to a file of this machine:
    upstream must not choose which files of this machine are published.
    """
    joined = urllib.parse.urljoin(base, reference)
    parts = urllib.parse.urlsplit(joined)
    if parts.scheme == "file":
        if not base.startswith("file:"):
            raise ValueError(f"{reference} leads to a file of this machine")
    elif parts.scheme not in ("http", "https"):
        raise ValueError(f"{redact(reference)} is neither http: nor https:")
    elif not parts.hostname or parts.port == 0:  # asking for the port raises ValueError if it is no number
        raise ValueError(f"{redact(reference)} names no server")
    return joined


def file_url(base: str, name: str) -> str:
    """The URL of a file below a base that ends in a slash; name: a name or a path, not quoted."""
    return base + urllib.parse.quote(name, safe="/!$&'()*+,;=:@~-._")


def with_credentials(url: str, like: str) -> str:
    """A URL with the user, password and path token of another one, if both have the same scheme, host and port.

    Those that it has itself stay.
    """
    parts, known = urllib.parse.urlsplit(url), urllib.parse.urlsplit(like)
    if _server(parts) != _server(known):
        return url
    netloc = parts.netloc if "@" in parts.netloc else known.netloc
    (before, token, _), path = _parted(known), parts.path
    if not _parted(parts)[1] and f"{path}/".startswith(f"{before}/"):
        path = before + token + path[len(before) :]
    return urllib.parse.urlunsplit(parts._replace(netloc=netloc, path=path))


def _server(parts: urllib.parse.SplitResult) -> tuple[str, str]:
    host = parts.netloc.rpartition("@")[2].lower()
    return parts.scheme, host.removesuffix(":443" if parts.scheme == "https" else ":80")
