"""`/pypi/<project>/json` (PyPI's JSON API, "Get a project"; no PEP has it), by which bandersnatch mirrors.

Of the metadata of releases (summary, author, licence) nothing is in a leaf, so that is missing.
"""

from typing import Any

from .. import codec
from . import leaf, names, pages

_PACKAGE_TYPES = {"wheel": "bdist_wheel", "sdist": "sdist"}
_NEVER = "1970-01-01T00:00:00Z"


def project(content: bytes) -> bytes:
    """The document of a project, made of its leaf. Raises ValueError for bytes that are no leaf.

    Addresses of files are paths, which bandersnatch appends to the address of the index; it refuses paths that don't begin
    with /packages.
    """
    page = leaf.decode(content)
    title, serial, _ = leaf.head(content)
    name = names.normalise(title)
    paths = {file.name: path for path, file in leaf.paths(content).items()}
    releases: dict[str, list[dict[str, Any]]] = {version: [] for version in pages.versions(page)}
    written = {names.version_key(version): version for version in releases}
    for record in page["files"]:
        named = names.parse(record["filename"], name)
        version = written.get(names.version_key(named.version), named.version or "unknown")
        path = paths.get(record["filename"])
        url = f"/{pages.quoted(path)}" if path else record["url"]
        releases.setdefault(version, []).append(_file(record, named, url))
    latest = _latest(releases)
    info = {"name": title, "version": latest, "yanked": False, "yanked_reason": None}
    document = {"info": info, "releases": releases, "urls": releases.get(latest or "", []), "vulnerabilities": []}
    return codec.to_json({**document, **({} if serial is None else {"last_serial": serial})})


def _file(record: dict[str, Any], named: names.Named, url: str) -> dict[str, Any]:
    yanked = record.get("yanked")
    time = record.get("upload-time") or _NEVER
    return {
        "filename": record["filename"],
        "url": url,
        "digests": record["hashes"],
        "md5_digest": record["hashes"].get("md5"),
        "size": record.get("size"),
        "upload_time": time[:19],
        "upload_time_iso_8601": time,
        "requires_python": record.get("requires-python"),
        "yanked": bool(yanked),
        "yanked_reason": yanked if isinstance(yanked, str) and yanked else None,
        "packagetype": _PACKAGE_TYPES.get(named.kind, "bdist_egg" if record["filename"].endswith(".egg") else "bdist_dumb"),
        "python_version": _python_version(named),
        "core-metadata": leaf.advertised(record),
        "has_sig": False,
        "comment_text": None,
    }


def _python_version(named: names.Named) -> str:
    return "source" if named.kind == "sdist" else ".".join(sorted({tag.interpreter for tag in named.tags}))


def _latest(releases: dict[str, list[dict[str, Any]]]) -> str | None:
    """The newest version that an installer would take: with files that are not yanked, and final if there is any."""
    candidates = [
        (not parsed.is_prerelease, parsed, version)
        for version, files in releases.items()
        if (parsed := names.parse_version(version)) and any(not file["yanked"] for file in files)
    ]
    return max(candidates)[2] if candidates else None
