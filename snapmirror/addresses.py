"""URLs of upstreams: joining them, and keeping credentials out of everything that is stored or printed."""

import re
import urllib.parse

#: `https://host/t/<token>/channel`: anaconda.org puts tokens into the path
_TOKEN = re.compile(r"^/t/[^/]+(?=/)")


def redact(url: str) -> str:
    """A URL without user, password and path token."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit(parts._replace(netloc=host, path=_TOKEN.sub("", parts.path)))


def as_folder(url: str) -> str:
    """A URL that ends in a slash, so that names can be joined to it."""
    return url if url.endswith("/") else url + "/"


def join(base: str, reference: str) -> str:
    """A reference resolved against a base (RFC 3986 section 5), for `file:` too.

    Raises ValueError if it leads from the network to a file of this machine: upstream must not choose what is published of it.
    """
    joined = urllib.parse.urljoin(base, reference)
    if joined.startswith("file:") and not base.startswith("file:"):
        raise ValueError(f"{reference} leads to a file of this machine")
    return joined


def file_url(base: str, name: str) -> str:
    """The URL of a file below a base that ends in a slash; the name is quoted."""
    return base + urllib.parse.quote(name, safe="!$&'()*+,;=:@~-._")


def with_credentials(url: str, like: str) -> str:
    """A URL with the user and password of another one, if both go to the same scheme, host and port."""
    parts, known = urllib.parse.urlsplit(url), urllib.parse.urlsplit(like)
    if (parts.scheme, parts.netloc) != (known.scheme, known.netloc.rpartition("@")[2]):
        return url
    return urllib.parse.urlunsplit(parts._replace(netloc=known.netloc))
