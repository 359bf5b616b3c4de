"""What pages of a package index must be, written down from the specifications: PEP 503, 629, 691, 700, 714, 740, 792.

`check` reads a page or a list in both its forms and fails unless each is valid and both say the same.
"""

import hashlib
import html
import json
import re
from typing import Annotated, Any, Literal
from urllib.parse import urljoin, urlsplit

import msgspec
from pypi_simple import IndexPage, ProjectPage, parse_links_stream

_Hashes = dict[str, Annotated[str, msgspec.Meta(pattern="^[0-9a-f]+$")]]
_Version = Annotated[str, msgspec.Meta(pattern=r"^1\.\d+$")]
_Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Size = Annotated[int, msgspec.Meta(ge=0)]


class _Meta(msgspec.Struct):
    version: _Version = msgspec.field(name="api-version")
    #: of PyPI, and of none of the specifications: some that copy it have it as a text
    serial: int | str | msgspec.UnsetType = msgspec.field(name="_last-serial", default=msgspec.UNSET)


class _File(msgspec.Struct):
    filename: _Text
    url: _Text
    hashes: _Hashes
    #: None is no part of the specification, but of PyPI's answers; so below
    requires_python: str | None = msgspec.field(name="requires-python", default=None)
    size: _Size | msgspec.UnsetType = msgspec.UNSET
    upload_time: _Time | msgspec.UnsetType = msgspec.field(name="upload-time", default=msgspec.UNSET)
    yanked: bool | _Text = False
    core_metadata: bool | _Hashes = msgspec.field(name="core-metadata", default=False)
    gpg_sig: bool = msgspec.field(name="gpg-sig", default=False)
    provenance: str | None = None
    #: that clients read it as what it is not is why the other name was made (PEP 714)
    dist_info_metadata: msgspec.UnsetType = msgspec.field(name="dist-info-metadata", default=msgspec.UNSET)


class _Status(msgspec.Struct):
    status: Literal["active", "archived", "quarantined", "deprecated"] = "active"
    reason: str | msgspec.UnsetType = msgspec.UNSET


class _Project(msgspec.Struct):
    meta: _Meta
    name: _Text
    files: list[_File]
    versions: list[_Text] | msgspec.UnsetType = msgspec.UNSET
    status: _Status = msgspec.field(name="project-status", default_factory=_Status)


class _Listed(msgspec.Struct):
    name: _Text
    serial: int | msgspec.UnsetType = msgspec.field(name="_last-serial", default=msgspec.UNSET)


class _List(msgspec.Struct):
    meta: _Meta
    projects: list[_Listed]


def normal(name: str) -> str:
    """A name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check_list(json_: bytes, html_: bytes) -> list[str]:
    """The list of all projects, in both forms; their normalised names."""
    found = msgspec.json.decode(json_, type=_List)
    listed = [project.name for project in found.projects]
    assert len(set(map(normal, listed))) == len(listed)
    assert IndexPage.from_json_data(json.loads(json_)).projects == IndexPage.from_html(html_).projects == listed
    links = [link.attrs["href"] for link in parse_links_stream([html_.decode()])]
    assert links == [f"{normal(name)}/" for name in listed]
    return [normal(name) for name in listed]


def check_project(json_: bytes, html_: bytes, base: str) -> Any:
    """The page of a project, in both forms; the JSON. base: its address"""
    found = msgspec.json.decode(json_, type=_Project)
    assert normal(found.name) == base.rstrip("/").rpartition("/")[2]
    if tuple(map(int, found.meta.version.split("."))) >= (1, 1):
        assert found.versions is not msgspec.UNSET
        assert len(set(found.versions)) == len(found.versions)
        assert all(file.size is not msgspec.UNSET for file in found.files)
    assert found.status.status != "quarantined" or not found.files
    names = [file.filename for file in found.files]
    assert len(set(names)) == len(names)
    for file in found.files:
        assert urlsplit(urljoin(base, file.url)).path.endswith("/" + file.filename.replace("+", "%2B"))
        assert set(file.hashes) <= hashlib.algorithms_available
        assert file.provenance is None or urlsplit(file.provenance).netloc
    _check_alike(found, ProjectPage.from_json_data(json.loads(json_), base), html_, base)
    return json.loads(json_)


def _check_alike(page: _Project, read: ProjectPage, html_: bytes, base: str) -> None:
    other = ProjectPage.from_html(read.project, html_, base)
    assert (other.status, other.status_reason) == (read.status, read.status_reason)
    serial = re.search(rb"<!--SERIAL (\d+)-->\Z", html_)
    assert (serial[1].decode() if serial else "UNSET") == str(page.meta.serial)
    for one, two in zip(read.packages, other.packages, strict=True):
        assert one.digests.items() >= two.digests.items()
        assert "sha256" in two.digests or "sha256" not in one.digests
        for key in ("filename", "url", "requires_python", "is_yanked", "provenance_url", "version", "package_type"):
            assert getattr(one, key) == getattr(two, key), key
        assert (one.yanked_reason or "") == (two.yanked_reason or "")
        assert (one.has_metadata or False, one.metadata_digests or {}) == (
            two.has_metadata or False,
            two.metadata_digests or {},
        )
    # What uv reads of HTML beyond the specification.
    attributes = [link.attrs for link in parse_links_stream([html_.decode()])]
    assert [(one.get("data-size"), one.get("data-upload-time")) for one in attributes] == [
        (None if file.size is msgspec.UNSET else str(file.size), file.upload_time or None) for file in page.files
    ]
    anchors = re.findall(r"<a [^>]*>([^<]*)</a>", html_.decode())
    assert [html.unescape(text) for text in anchors] == [file.filename for file in page.files]
