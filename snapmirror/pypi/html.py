"""Reading pages in HTML (PEP 503, 592, 629, 658, 714, 740, 792), with pypi-simple, into what JSON (PEP 691) would say."""

import contextlib
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

from pypi_simple import Link, RepositoryPage, UnsupportedRepoVersionError, parse_links_stream

from .. import addresses, markup
from ..errors import BadIndexError
from ..readings import Answer
from . import leaf, names
from .version import check_version, unknown_version

#: bytes of a project's page in HTML: its tree takes 50 times as many in memory
_LIMIT = 32 << 20
#: titles that generators of such pages give them
_HEADING = re.compile(rb"<(?:title|h1)[^>]*>\s*(?:links for|simple index|index of|directory listing)", re.IGNORECASE)
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*>")
_SERIAL = re.compile(rb"<!--\s*SERIAL\s+(\d{1,18})\s*-->")
#: where links begin and end
_LINK = re.compile(r"<(/?)a(?=[\s>])", re.IGNORECASE)
#: tags that say nothing of links; to look for the beginning of each end takes parsers long where there are thousands
_OTHER_TAG = re.compile(r"</?(?!(?:a|base|meta|script|style|title|textarea)[\s/>])[a-z][^<>]*>", re.IGNORECASE)
_META_CHARSET = re.compile(rb"<meta[^<>]*charset=[\"']?([\w-]+)", re.IGNORECASE)
_META_VERSION = re.compile(rb"<meta[^<>]*pypi:repository-version[^<>]*content=[\"']?([\d.]+)")
_HASH = re.compile(r"(md5|sha1|sha224|sha256|sha384|sha512|blake2b)[=:]([0-9a-fA-F]+)")


def project(answer: Answer, name: str) -> dict[str, Any]:
    """The page of a project, as JSON has it. name: of the project, for the page does not state it.

    Raises BadIndexError for what is no page of a project (a login page, say) or of an API version that we can't know.
    """
    found = _parse(answer)
    files = [_file(link) for link in found.links if names.is_archive(_name_of(link.url))]
    if not files and found.repository_version is None and not _HEADING.search(answer.body[:4096]):
        raise BadIndexError(addresses.redact(answer.url), "is HTML, and no page of a project: no link in it leads to a release")
    meta: dict[str, Any] = {"api-version": found.repository_version or "1.0"}
    if serial := _SERIAL.search(answer.body[-200:]):
        meta["_last-serial"] = int(serial[1])
    elif (stated := leaf.serial_of(answer.headers.get("x-pypi-last-serial"))) is not None:
        meta["_last-serial"] = stated
    page: dict[str, Any] = {"meta": meta, "name": name, "files": files}
    if status := found.pypi_meta.get("project-status"):
        reason = found.pypi_meta.get("project-status-reason")
        page["project-status"] = {"status": status[0], **({"reason": reason[0]} if reason else {})}
    return page


def _parse(answer: Answer) -> RepositoryPage:
    shown = addresses.redact(answer.url)
    if b"<" not in answer.body:
        raise BadIndexError(shown, "is neither JSON nor HTML")
    if len(answer.body) > _LIMIT:
        raise BadIndexError(shown, f"is HTML of more than {_LIMIT} bytes; an index of that size has JSON")
    with _refusing(shown):
        return RepositoryPage.from_html(_text(answer), answer.url)


@contextlib.contextmanager
def _refusing(shown: str) -> Iterator[None]:
    """Raise BadIndexError for what the parsers refuse. shown: URL of the page, without credentials"""
    try:
        yield
    except UnsupportedRepoVersionError as error:  # every version that a page states, were it the second one
        raise unknown_version(error.declared_version, shown) from None
    except (ValueError, AssertionError, RecursionError) as error:
        raise BadIndexError(shown, f"can't be parsed as HTML: {error}") from None


def _text(answer: Answer) -> str:
    """A page as the parsers can take it. Raises BadIndexError for one in an unknown encoding.

    It has `</a>` before each `<a>` that begins inside a link: to the parsers, thousands of links that are left open lie in each
    other, and each has the text of all that follow.
    """
    try:
        text = answer.body.decode(_charset(answer), "replace")
        text.encode()  # some encodings, such as utf-7, have what Unicode does not: halves of characters
    except (LookupError, UnicodeError):
        raise BadIndexError(addresses.redact(answer.url), f"is HTML in an unknown encoding, {_charset(answer)}") from None
    # XHTML begins with a declaration that the parser would warn of
    text = _OTHER_TAG.sub("", markup.parseable(_DECLARATION.sub("", text)))
    inside = False

    def end(found: re.Match[str]) -> str:
        nonlocal inside
        before, inside = inside, not found[1]
        return "</a>" + found[0] if before and inside else found[0]

    return _LINK.sub(end, text)


def _charset(answer: Answer) -> str:
    """The encoding that the server states, or else the page; else UTF-8, if the page can be that, or Latin-1."""
    if found := re.search(r"charset=\"?([\w-]+)", answer.headers.get("content-type", "")):
        return found[1]
    try:
        answer.body.decode()
        return "utf-8"
    except UnicodeDecodeError:
        stated = _META_CHARSET.search(answer.body[:4096])
        return stated[1].decode() if stated else "latin-1"


def _name_of(url: str) -> str:
    """The name of the file that a link leads to. The text of the link may be shortened, or be another."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])


def _file(link: Link) -> dict[str, Any]:
    """The record of the file that a link leads to.

    PEP 503 and later have the hash (the address's fragment), data-requires-python, data-yanked, data-core-metadata (at first
    data-dist-info-metadata) and data-provenance; data-upload-time and data-size are uv's.
    """
    attributes = {key: value for key, value in link.attrs.items() if isinstance(value, str)}
    file: dict[str, Any] = {
        "filename": _name_of(link.url),
        "url": urllib.parse.urldefrag(link.url)[0],
        "hashes": _hashes(urllib.parse.urlsplit(link.url).fragment),
        "requires-python": attributes.get("data-requires-python"),
    }
    if "data-yanked" in attributes:
        file["yanked"] = attributes["data-yanked"] or True
    stated = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
    if stated is not None:
        file["core-metadata"] = _hashes(stated) or stated.lower() == "true"
    if "data-provenance" in attributes:
        file["provenance"] = attributes["data-provenance"]
    if "data-upload-time" in attributes:
        file["upload-time"] = attributes["data-upload-time"]
    if attributes.get("data-size", "").isdecimal():
        file["size"] = int(attributes["data-size"][:18])
    return file


def _hashes(text: str) -> dict[str, str]:
    """{algorithm: hexadecimal digest} of `sha256=…`."""
    return {kind: digits.lower() for kind, digits in _HASH.findall(text)}


def listing(answer: Answer) -> tuple[list[str], str | None]:
    """The projects that a list links to (normalised names), and the version of the API if it states one.

    A link of a list leads to a folder that has the name of the project, and has that name as its text.
    Raises BadIndexError for what is no list of projects, or of an API version that we can't know.
    """
    shown = addresses.redact(answer.url)
    version = _META_VERSION.search(answer.body[:4096])
    if version:
        check_version(version[1].decode(), shown)
    with _refusing(shown):
        links = list(parse_links_stream([_text(answer)], answer.url))
    found: list[str] = []
    for link in links:
        folder = urllib.parse.urlsplit(link.url).path.rstrip("/").rpartition("/")[2]
        name = names.normalise(urllib.parse.unquote(folder))
        if names.is_project(name) and names.normalise(link.text.rstrip("/")) == name and not names.is_archive(folder):
            found.append(name)
    if not found and not version and not _HEADING.search(answer.body[:4096]):
        raise BadIndexError(shown, "is HTML, and no list of projects: no link in it leads to one")
    return found, version[1].decode() if version else None
