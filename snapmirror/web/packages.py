"""The pages of packages: search, one package, one file."""

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..sync.api import FOUND
from ..sync.packages import Package
from ..sync.searcher import Names
from .visit import Visit, quoted

#: files of a package on one page
_FILES = 200


def search(visit: Visit) -> Mapping[str, Any]:
    """Packages by name. See pages.PAGES."""
    repo, text, offset = visit.one("repo"), visit.one("q"), visit.number("offset")
    names: Names = visit.ask("packages", q=text, repo=repo, offset=str(offset))
    newest = {path: record.id for record in visit.catalog.records for path in record.repos}
    return {
        "text": text,
        "repo": repo,
        "repos": sorted({path for record in visit.catalog.records for path in record.repos}),
        "names": names,
        "newest": newest,
        "offset": offset,
        "step": FOUND,
    }


def package(visit: Visit) -> Mapping[str, Any]:
    """A package with its files. See pages.PAGES."""
    found, offset = _found(visit), visit.number("offset")
    return {
        "package": found,
        "repo": visit.one("repo"),
        "rows": found.files[offset : offset + _FILES],
        "first": next((one for one in found.files if one.current), found.files[0] if found.files else None),
        "versions": len({one.version for one in found.files}),
        "offset": offset,
        "step": _FILES,
    }


def file(visit: Visit) -> Mapping[str, Any]:
    """A file, with the dates that have it. See pages.PAGES."""
    found = _found(visit)
    sha256 = visit.one("sha256")
    files = [one for one in found.files if not sha256 or one.sha256 == sha256]
    if not files and not found.withheld:
        raise UsageError(f"{found.name}: no kept snapshot lists it with the SHA-256 {sha256[:64]}")
    return {"name": found.name, "files": files, "withheld": found.withheld}


def _found(visit: Visit) -> Package:
    name = visit.one("name")
    if not name:
        raise UsageError("name: which package?")
    answer: Package = visit.ask(f"packages/{quoted(name, whole=True)}", repo=visit.one("repo"))
    return answer
