"""A package index for tests: an `Upstream` that makes the pages of projects; and a reader that keeps what it has read."""

import base64
import hashlib
import html
import io
import json
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from upstream import Headers, Status, Upstream, _Plan

from snapmirror import codec
from snapmirror.digests import Digest, sha256
from snapmirror.pypi import Pypi, PypiRepo, leaf, names
from snapmirror.store.assembly import assemble
from snapmirror.store.directories import Directory, DirectoryReader
from snapmirror.store.store import Store
from snapmirror.transfer.http import Http
from snapmirror.transfer.settings import Download
from snapmirror.validators import Validators

JSON = "application/vnd.pypi.simple.v1+json"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def make_wheel(name: str, version: str, requires: Iterable[str] = (), tag: str = "py3-none-any") -> tuple[str, bytes, bytes]:
    """File name, content and metadata of a wheel."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{stem}.dist-info/METADATA"), metadata)
    return f"{stem}-{tag}.whl", body.getvalue(), metadata.encode()


@dataclass(eq=False)
class Index(Upstream):
    """An index below `simple`, with files below `/packages`; as PyPI answers unless it is told otherwise."""

    simple: str = "/simple/"
    #: whether it knows JSON, and whether it has serials
    json: bool = True
    serials: bool = True
    serial: int = 100
    #: {normalised name: page}; may be changed at any time
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: {normalised name: page in HTML}, instead
    html: dict[str, str] = field(default_factory=dict)

    def upload(
        self, project: str, file: str, content: bytes = b"", metadata: bytes | None = None, **keys: Any
    ) -> dict[str, Any]:
        """Add a file to a project; its record. keys: of the record, with `_` for `-`."""
        content = content or file.encode()
        digits = hashlib.blake2b(content, digest_size=32).hexdigest()
        path = f"packages/{digits[:2]}/{digits[2:4]}/{digits[4:]}/{file}"
        self.write(path, content)
        record = {
            "filename": file,
            "url": f"{self.url}/{path}",
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "requires-python": None,
            "size": len(content),
            "upload-time": "2026-11-01T10:00:00.123456Z",
            "yanked": False,
            "core-metadata": False,
        }
        if metadata is not None:
            self.write(f"{path}.metadata", metadata)
            record["core-metadata"] = {"sha256": hashlib.sha256(metadata).hexdigest()}
        record |= {key.replace("_", "-"): value for key, value in keys.items()}
        page = self.pages.setdefault(project.lower(), {"meta": {"api-version": "1.4"}, "name": project, "files": []})
        page["files"].append(record)
        self.touch(project.lower())
        return record

    def wheel(self, project: str, version: str, requires: Iterable[str] = (), tag: str = "py3-none-any", **keys: Any) -> str:
        """Upload a wheel with its metadata; its file name."""
        file, content, metadata = make_wheel(project, version, requires, tag)
        self.upload(project, file, content, metadata, **keys)
        return file

    def touch(self, project: str) -> None:
        """Something about a project has changed."""
        self.serial += 1
        if self.serials:
            self.pages[project]["meta"]["_last-serial"] = self.serial

    def write(self, path: str, content: bytes) -> None:
        """A file of the folder that is served."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def asked(self) -> list[str]:
        """The projects whose page was asked for, or `the list`, with the status of the answer; forgets them."""
        found = []
        for request in self.requests:
            if match := re.fullmatch(f"{self.simple}(?:([^/]+)/)?", request.path):
                found.append(f"{match[1] or 'the list'} {request.status}")
        self.clear()
        return sorted(found)

    def _answer(self, method: str, path: str, headers: Headers) -> tuple[Status, _Plan]:
        made = self._made(path, headers)
        if made is None or self._forbids(headers):
            return super()._answer(method, path, headers)
        body, fields = made
        plan = _Plan()
        for fault in self._faults(path):
            plan.add(fault)
        if plan.answer is not None:
            return plan.answer, plan
        status = self._serve(method, path, headers, body if plan.content is None else plan.content, None)
        return replace(status, headers={**status.headers, **fields}), plan

    def _forbids(self, headers: Headers) -> bool:
        proof = base64.b64encode(":".join(self.credentials or ()).encode()).decode()
        return self.credentials is not None and headers.get("authorization") != f"Basic {proof}"

    def _made(self, path: str, headers: Headers) -> tuple[bytes, dict[str, str]] | None:
        """A page, and the fields that go with it."""
        match = re.fullmatch(f"{self.simple}(?:([^/]+)/)?", path)
        if not match or (match[1] and match[1] not in {*self.pages, *self.html}):
            return None
        if self.json and headers.get("accept", "").startswith(JSON) and match[1] not in self.html:
            page = self.pages[match[1]] if match[1] else self.list()
            serial = page.get("meta", {}).get("_last-serial")
            fields = {"Content-Type": JSON} | ({"X-PyPI-Last-Serial": str(serial)} if serial else {})
            return json.dumps(page).encode(), fields
        text = self.html.get(match[1]) or self._html(match[1])
        return text.encode(), {"Content-Type": "text/html; charset=utf-8"}

    def list(self) -> dict[str, Any]:
        """The list of all projects."""
        pages = self.pages.values()
        listed = [{"name": one["name"]} | {k: v for k, v in one["meta"].items() if k == "_last-serial"} for one in pages]
        meta = {"api-version": "1.4"} | ({"_last-serial": self.serial} if self.serials else {})
        return {"meta": meta, "projects": listed}

    def _html(self, project: str | None) -> str:
        if project is None:
            rows = [f'<a href="{self.simple}{name}/">{page["name"]}</a><br/>' for name, page in self.pages.items()]
        else:
            rows = [
                f'<a href="{html.escape(one["url"])}#sha256={one["hashes"]["sha256"]}">{one["filename"]}</a><br/>'
                for one in self.pages[project]["files"]
            ]
        return (
            f"<!DOCTYPE html><html><title>{'Links for ' + project if project else 'Simple index'}</title><body>\n"
            + "\n".join(rows)
            + "\n</body></html>"
        )


class Remembered:
    """Notes in memory. Fulfils `ecosystem.Notes`."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}

    def get(self, keys: Collection[str]) -> Mapping[str, bytes]:
        return {key: self.rows[key] for key in keys if key in self.rows}

    def put(self, rows: Mapping[str, bytes]) -> None:
        self.rows.update(rows)


@dataclass
class Follower:
    """Follows an index as a sync does: what is known by its source is not read again, what is kept stays as it was."""

    repo: PypiRepo
    notes: Remembered = field(default_factory=Remembered)
    time: datetime = NOON
    #: {project: leaf}
    leaves: dict[str, bytes] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    #: projects whose page was read in the last sync
    read: set[str] = field(default_factory=set)
    #: see Reading.gone
    gone: set[str] = field(default_factory=set)
    _made: dict[Digest, bytes] = field(default_factory=dict)
    _known: dict[str, Validators] = field(default_factory=dict)

    def sync(self, later: timedelta = timedelta(), **download: Any) -> dict[str, bytes]:
        """The leaves afterwards. later: than the time before"""
        self.time += later
        settings = Download(**({"retries": 0} | download))
        with Http(settings, self.warnings.append, self.notes, lambda: self.time) as http:
            self._sync(Pypi(), http)
        return self.leaves

    def _sync(self, pypi: Pypi, http: Http) -> None:
        self.read, self.aside = set(), {}
        reading: Any = pypi.read(self.repo, "", http, self._known.get, ())
        if reading is None:
            return
        reading.before = self.leaves.get
        if pypi.selects(self.repo):
            selection = pypi.select({self.repo.path: self.repo}, {(self.repo.path, ""): reading}, self.time)
            reading, self.dropped, _ = selection[self.repo.path, ""]
        found = {
            name: made
            for name, source in reading.sources.items()
            if (made := self._made.get(source)) and self.leaves.get(name) == made
        }
        for draft in reading.drafts([name for name in reading.sources if name not in found]):
            self.read.add(draft.name)
            self.invalid |= draft.invalid
            if draft.content:
                found[draft.name] = draft.content
            if draft.source and not draft.invalid:
                self._made[draft.source] = draft.content
        self.aside, self.gone = dict(reading.aside), set(reading.gone)
        found |= {name: self.leaves[name] for name in self.aside if name in self.leaves}
        self.leaves = found
        self._known = {} if self.aside else dict(reading.validators)


def published(root: Path, leaves: Mapping[str, bytes]) -> DirectoryReader:
    """A directory of these leaves in a new store, as a sync would publish it."""
    Store.create(root)
    blobs = {name: codec.compress(content, codec.LEAF_LEVEL) for name, content in leaves.items()}
    files = {file.name: name for name, content in leaves.items() for file in leaf.files(content)}
    strays = {file: name for file, name in files.items() if names.leaf_of(file) != name}
    header = Directory(kind="pypi", form=1, mode="eager", origin="https://index.example/simple/")
    labels = {name: leaf.label(content) for name, content in leaves.items()}
    made = assemble(header, {name: sha256(blob) for name, blob in blobs.items()}, {}, strays, labels)
    with Store.open(root, write=True) as store:
        store.put([*blobs.values(), *made.blobs.values()])
        return store.metadata.directory(made.digest)


def follow(index: Index, *names: str, **keys: Any) -> Follower:
    """A follower of some projects of an index, or of all that it lists if none is named."""
    return Follower(PypiRepo(path="pypi", upstream=keys.pop("upstream", index.url), projects=list(names) or "all", **keys))
