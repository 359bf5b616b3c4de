"""Making the pages that are served: a project's from its leaf, and the list of all projects, in JSON (PEP 691, 700, 714, 740,
792) and HTML (PEP 503, 592, 629, 658, 714, 740, 792; PEP 833 adds nothing to it after version 1.4).

The same leaf always makes the same bytes. In parameters, `repo` is the relative URL from a page to its repo, ending in a slash.
"""

import html
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from .. import codec
from . import leaf, names
from .leaf import METADATA_KEYS

#: version of the API (PEP 629) of a page that has all that this version demands
VERSION = "1.4"
#: version that demands neither sizes nor versions
_FIRST = "1.0"
#: what stands in a path unquoted; not the `+` of local versions, which some servers read as a space
_SAFE = "/!~*'(),;:@&=$-._"
_PLAIN = re.compile(r"[A-Za-z0-9/._-]*").fullmatch
#: keys of a file that the specifications allow to be missing, but not to be null; other keys PyPI itself writes as null
_NEVER_NULL = ("size", "upload-time", "yanked", "gpg-sig", *METADATA_KEYS)
#: from the page of a project, `<repo>/simple/<project>/`, to the repo
UP = "../../"


class Project(NamedTuple):
    """A project as the list of all has it."""

    #: normalised; its page is in the folder of that name
    name: str
    #: as upstream writes it
    title: str
    serial: int | None


class _Listed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A project in the JSON of the list (PEP 691; `_last-serial` is PyPI's)."""

    name: str
    serial: int | None = msgspec.field(name="_last-serial", default=None)


def project_json(content: bytes, repo: str = UP) -> bytes:
    """The page of a project in JSON. content: its leaf. Raises ValueError for bytes that are no leaf."""
    page = leaf.decode(content)
    links = _links(page, repo)
    page["files"] = [_record(record, links) for record in page["files"]]
    page["meta"] = {**page["meta"], "api-version": _api_version(page)}
    page["versions"] = versions(page)
    return codec.to_json(page)


def project_html(content: bytes, repo: str = UP) -> bytes:
    """The page of a project in HTML. content: its leaf. Raises ValueError for bytes that are no leaf."""
    page = leaf.decode(content)
    links = _links(page, repo)
    title = html.escape(f"Links for {page['name']}")
    status = page.get("project-status") or {}
    heads = [("pypi:repository-version", VERSION)]
    heads += [("pypi:project-status", status["status"])] if "status" in status else []
    heads += [("pypi:project-status-reason", status["reason"])] if isinstance(status.get("reason"), str) else []
    lines = [f"    {_anchor(record, links)}<br/>\n" for record in page["files"]]
    return _document(title, heads, lines, leaf.head(content).serial)


def index_json(projects: Iterable[Project], serial: int | None) -> bytes:
    """The list of all projects in JSON. serial: of the list, if it has one."""
    meta = {"api-version": VERSION, **({} if serial is None else {"_last-serial": serial})}
    listed = [_Listed(one.title, one.serial) for one in projects]
    return codec.to_json({"meta": meta, "projects": listed})


def index_html(projects: Iterable[Project], serial: int | None, folder: str = "") -> bytes:
    """The list of all projects in HTML. serial: as above; folder: relative URL from the list to the folder of pages"""
    lines = [f'    <a href="{folder}{one.name}/">{html.escape(one.title)}</a><br/>\n' for one in projects]
    return _document("Simple index", [("pypi:repository-version", VERSION)], lines, serial)


def _api_version(page: Mapping[str, Any]) -> str:
    """The version that a page fulfils: since 1.1 (PEP 700) every file has a size, which not every upstream states."""
    return VERSION if all(record.get("size") is not None for record in page["files"]) else _FIRST


def versions(page: Mapping[str, Any]) -> list[str]:
    """The versions of a project (PEP 700): as upstream states them, or else those of its files, oldest first."""
    if isinstance(page.get("versions"), list):
        return list(page["versions"])
    project = names.normalise(page["name"])
    found = {names.parse(record["filename"], project).version for record in page["files"]} - {""}
    return sorted(found, key=lambda version: (names.parse_version(version) or names.OLDEST, version))


def _links(page: Mapping[str, Any], repo: str) -> dict[str, str]:
    """{file: its address on the page}; upstream's own for a file that has no path here."""
    found = {}
    for record in page["files"]:
        path = leaf.place(record["filename"], record["url"], record["hashes"].get("sha256"))
        found[record["filename"]] = repo + quoted(path) if path else record["url"]
    return found


def quoted(path: str) -> str:
    """A path as it stands in an address."""
    return path if _PLAIN(path) else urllib.parse.quote(path, safe=_SAFE)


def _record(record: dict[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """A record as it is served. What it says of metadata is under the one key that all clients know (PEP 714)."""
    served = {**record, "url": links[record["filename"]]}
    for key in _NEVER_NULL:
        if key in served and served[key] is None:
            del served[key]
    served.pop("dist-info-metadata", None)
    if any(record.get(key) is not None for key in METADATA_KEYS):
        served["core-metadata"] = leaf.advertised(record) or False  # an empty map of hashes says that there is none
    if served.pop(leaf.PROVENANCE_KEY, None):
        served[leaf.PROVENANCE_KEY] = links[record["filename"]] + names.PROVENANCE
    if record.get("gpg-sig"):
        served["gpg-sig"] = False  # signatures are not mirrored
    return served


def _anchor(record: dict[str, Any], links: Mapping[str, str]) -> str:
    """The link to a file; data-upload-time and data-size are not specified, and uv reads them."""
    hash_ = _hash(record["hashes"])
    attributes = {"href": links[record["filename"]] + (f"#{hash_}" if hash_ else "")}
    if record.get("requires-python") is not None:
        attributes["data-requires-python"] = record["requires-python"]
    if metadata := leaf.advertised(record):
        stated = _hash(metadata) if isinstance(metadata, dict) else "true"
        attributes["data-dist-info-metadata"] = attributes["data-core-metadata"] = stated
    if record.get("yanked"):
        attributes["data-yanked"] = "" if record["yanked"] is True else record["yanked"]
    if record.get("provenance"):
        attributes["data-provenance"] = record["provenance"]
    if record.get("upload-time"):
        attributes["data-upload-time"] = record["upload-time"]
    if record.get("size") is not None:
        attributes["data-size"] = str(record["size"])
    stated = " ".join(f'{key}="{html.escape(value)}"' for key, value in attributes.items())
    return f"<a {stated}>{html.escape(record['filename'])}</a>"


def _hash(hashes: Mapping[str, str]) -> str:
    """The one hash that HTML has room for: `sha256=…` if it is known; empty if none is."""
    kind = "sha256" if "sha256" in hashes else min(hashes, default="")
    return f"{kind}={hashes[kind]}" if kind else ""


def _document(title: str, heads: Iterable[tuple[str, str]], lines: Iterable[str], serial: int | None) -> bytes:
    metas = "".join(f'    <meta name="{name}" content="{html.escape(content)}">\n' for name, content in heads)
    end = "" if serial is None else f"<!--SERIAL {serial}-->"
    return (
        f'<!DOCTYPE html>\n<html>\n  <head>\n    <meta charset="utf-8">\n{metas}'
        f"    <title>{title}</title>\n  </head>\n  <body>\n"
        f"    <h1>{title}</h1>\n{''.join(lines)}  </body>\n</html>\n{end}"
    ).encode("utf-8", "surrogatepass")
