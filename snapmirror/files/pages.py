"""HTML listings of a folder: Anaconda's table, and those that nginx, Apache, fancyindex and their like make.

No specification says what such a page looks like. It is read row by row: a row has a link, and beside it a size, a date and
perhaps a hash, in any order. The name of a file is taken from the address in the link, as servers shorten the text of it.
If a row links to several files (an archive, its signature), size and hash are those of the first.
"""

import re
import urllib.parse
from html.parser import HTMLParser
from typing import NamedTuple

from .. import addresses, markup
from ..errors import BadIndexError
from . import names
from .entries import DATE, Entry, seconds

_HEADING = re.compile(r"\s*(index of|directory listing|directory:|listing of)", re.IGNORECASE)
_HASH = re.compile(r"(?<![\w])(?:([0-9a-fA-F]{64})|([0-9a-fA-F]{32}))(?![\w])")
#: a size, or another number (see _size)
_NUMBER = re.compile(r"(?<!\S)(\d{1,15})(\.\d+)?(?: ?(B|bytes?|[KMGTP](?:i?B)?))?(?!\S)", re.IGNORECASE)
_UNITS = "bkmgtp"
_SPACE = re.compile(r"\s+")
#: characters beside a link; a row of a megabyte with thousands of links would be read again for each of them
_BESIDE = 1000


class Page(NamedTuple):
    """What the listing of one folder lists. Names are paths below the folder."""

    files: tuple[Entry, ...]
    #: names of folders, without a slash at the end
    folders: tuple[str, ...]
    #: files and folders that can't be published: {name: reason}
    invalid: dict[str, str]


def parse(body: bytes, url: str) -> Page:
    """Read a listing in HTML.

    url: of the folder, ending in a slash; links that don't lead below it, or that have a query, are ignored
    Raises BadIndexError for a page that is no listing.
    """
    rows = _Rows()
    rows.feed(markup.parseable(body.decode("utf-8", "replace")))
    rows.close()
    if rows.asks_for_password:
        raise BadIndexError(addresses.redact(url), "is no listing but a page to log in")
    files: dict[str, Entry] = {}
    folders: dict[str, None] = {}
    invalid: dict[str, str] = {}
    owners: dict[int, str] = {}  # {a row's text: the first file of that row}
    for row in rows.found:
        segments = _below(url, row.href)
        if not segments:
            continue
        folder = segments[-1] == ""
        name = "/".join(segments[:-1] if folder else segments)
        if any("/" in segment for segment in segments):
            invalid[name] = "its name is unsafe (an encoded slash)"
        elif problem := names.problem_with(name):
            invalid[name] = problem
        elif folder:
            folders[name] = None
        else:
            entry = _entry(name, " ".join(row.texts))
            if owners.setdefault(id(row.texts), name) != name:
                entry = Entry(name, modified=entry.modified, text=entry.text)
            if _contradict(known := files.get(name, entry), entry):
                invalid[name] = "it is listed twice, with different hashes"
            files[name] = entry if entry.says_something else known
    if not rows.headed and not invalid and not any(entry.says_something for entry in files.values()):
        raise BadIndexError(
            addresses.redact(url), "is no listing: it has no heading of one, and no link with a size, a date or a hash"
        )
    kept = tuple(entry for name, entry in files.items() if name not in invalid)
    return Page(kept, tuple(folders), invalid)


def _contradict(one: Entry, other: Entry) -> bool:
    return bool(one.sha256 and other.sha256 and one.sha256 != other.sha256)


def _below(url: str, href: str) -> list[str]:
    """The decoded segments of a link below a folder, the last one empty for a folder; none for a link elsewhere."""
    try:
        there, here = urllib.parse.urlsplit(urllib.parse.urljoin(url, href.strip())), urllib.parse.urlsplit(url)
    except ValueError:
        return []
    if "?" in href or (there.scheme, there.netloc.rpartition("@")[2]) != (here.scheme, here.netloc.rpartition("@")[2]):
        return []
    above = [urllib.parse.unquote(segment) for segment in here.path.split("/")[:-1]]
    path = [urllib.parse.unquote(segment, errors="replace") for segment in there.path.split("/")]
    return path[len(above) :] if path[: len(above)] == above and path[len(above) :] != [""] else []


def _entry(name: str, text: str) -> Entry:
    sha256 = md5 = modified = None
    for found in _HASH.finditer(text):
        sha256, md5 = sha256 or found[1], md5 or found[2]
    rest = _HASH.sub(" ", text)
    if date := DATE.search(rest):
        modified = seconds(date)
        rest = DATE.sub(" ", rest)
    size, about = _size(rest)
    return Entry(
        name,
        size,
        modified,
        bytes.fromhex(sha256) if sha256 else None,
        bytes.fromhex(md5) if md5 else None,
        about=about,
        text=_SPACE.sub(" ", text).strip(),
    )


def _size(text: str) -> tuple[int | None, int | None]:
    """The size that a row states, exactly and rounded, one of them or neither.

    That is the first number with a unit; with B it is exact. One without a unit is exact too, if no other number stands there:
    else it may be part of a date that we can't read, or a count of downloads, and what upstream's headers say is more certain.
    """
    found = list(_NUMBER.finditer(text))
    stated = next((number for number in found if number[3]), None)
    if stated and (stated[2] or stated[3][0] not in "Bb"):
        return None, int(float(stated[1] + (stated[2] or "")) * 1000 ** _UNITS.index(stated[3][0].lower()))
    if not stated and len(found) == 1 and not found[0][2]:
        stated = found[0]
    return int(stated[1]) if stated else None, None


class _Row(NamedTuple):
    """A link, and the texts beside it, which may still come in."""

    href: str
    texts: list[str]


class _Rows(HTMLParser):
    """Links with the text beside them: in a table, the text of the row; elsewhere, the text up to the next link.

    IIS writes the text before the link, in a `<pre>` whose lines end in `<br>`: there a link has the text of its line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Row] = []
        self.headed = False
        self.asks_for_password = False
        #: the text of the row so far
        self._texts: list[str] = []
        #: characters that it may still get
        self._room = _BESIDE
        self._in_row = self._in_link = self._in_heading = self._in_lines = False
        #: whether a line has begun in which no link was yet
        self._begun = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        values = dict(attributes)
        if tag == "a" and values.get("href"):
            if not self._in_row and not self._begun:
                self._texts, self._room = [], _BESIDE
            self._begun = False
            self.found.append(_Row(values["href"] or "", self._texts))
            self._in_link = True
        elif tag == "tr":
            self._in_row, self._texts, self._room = True, [], _BESIDE
        elif tag == "pre":
            self._in_lines = not self._in_row
        elif tag == "br" and self._in_lines:
            self._begun, self._texts, self._room = True, [], _BESIDE
        elif tag in ("title", "h1", "h2"):
            self._in_heading = True
        elif tag == "input" and (values.get("type") or "").lower() == "password":
            self.asks_for_password = True

    def handle_endtag(self, tag: str) -> None:
        """See HTMLParser."""
        if tag == "a":
            self._in_link = False
        elif tag in ("tr", "table", "pre", "ul"):
            self._in_row, self._texts, self._room = False, [], _BESIDE
            self._in_lines = self._begun = False
        elif tag in ("title", "h1", "h2"):
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        """See HTMLParser."""
        if self._in_heading:
            self.headed = self.headed or bool(_HEADING.match(data))
        elif not self._in_link and self._room > 0:
            self._texts.append(data[: self._room])
            self._room -= len(data) + 1  # one for the space that joins them
