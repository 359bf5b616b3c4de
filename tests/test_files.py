"""Installers: folders behind listings of every kind, mirrored, served, and readable again by what reads upstream."""

import contextlib
import gc
import hashlib
import itertools
import json
import os
import re
import shutil
import time
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from inprocess import store_at, sync
from mirror import Mirror
from pypi_index import Index
from serving import free_port, running, server, serving
from upstream import Body, Call, Gzip, Html, Status, Unframed, Upstream

from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.digests import sha256
from snapmirror.errors import BadIndexError
from snapmirror.files import FilesRepo, leaf, names, pages
from snapmirror.readings import File
from snapmirror.serve.answers import FolderAnswer
from snapmirror.serve.resolve import Resolver
from snapmirror.serve.view import Watch
from snapmirror.transfer.settings import Download

LINUX, WINDOWS = "Anaconda3-2025.06-0-Linux-x86_64.sh", "Anaconda3-2025.06-0-Windows-x86_64.exe"
WHEN = 1_749_723_153  # 2025-06-12 10:12:33 UTC
WRITTEN = 1_795_136_400  # 2026-11-20 01:00 UTC


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    """Without any repo yet."""
    return Mirror(tmp_path / "mirror")


def write(folder: Path, files: Mapping[str, bytes], when: int = WHEN) -> None:
    """Files of upstream, with their date."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (when, when))


def table(folder: Path, hashes: bool = True) -> bytes:
    """The listing of a folder as repo.anaconda.com writes it."""
    rows = ['<tr><td><a href=".winzip/">.winzip/</a></td><td class="s">-</td><td></td><td>&lt;directory&gt;</td></tr>']
    for path in sorted(folder.iterdir()):
        size = f"{path.stat().st_size / 1024:.1f}K"
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(path.stat().st_mtime))
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if hashes else ""
        link = f'<a href="{path.name}">{path.name}</a>'
        rows.append(f'<tr><td>{link}</td><td class="s">{size}</td><td>{date}</td><td>{digest}</td></tr>')
    head = "<tr><th>Filename</th><th>Size</th><th>Last Modified</th><th>SHA256</th></tr>"
    body = f"<h2>Index of /archive/</h2>\n<table>{head}\n" + "\n".join(rows) + "\n</table>"
    return f"<html><head><title>Index of /archive/</title></head><body>{body}</body></html>".encode()


def plain_list(*names_: str) -> bytes:
    """A listing as nginx makes it, of files of 3 bytes each."""
    rows = "".join(f'<a href="{name}">{name}</a>       12-Jun-2025 10:12          {3}\n' for name in names_)
    return (
        f'<html><head><title>Index of /x/</title></head><body><pre><a href="../">../</a>\n{rows}</pre></body></html>'.encode()
    )


def get(url: str, method: str = "GET") -> tuple[int, Any, bytes]:
    """Status, headers and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def fetched(mirror: Mirror) -> int:
    """How many files a sync had to fetch."""
    report = mirror.sync("--json").json
    return sum(one["fetch_files"] for repo in report["repos"].values() for one in repo["directories"].values())


def tree(mirror: Mirror, repo: str, selector: str = "current") -> dict[str, bytes]:
    """What other web servers see of a repo."""
    root = mirror.store_path / "published" / selector / repo
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def in_folder(root: Path) -> dict[str, bytes]:
    """{path below it: content}."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# What listings look like


def test_the_table_of_anaconda(upstream: Upstream, mirror: Mirror, tmp_path: Path) -> None:
    """Files, hashes and dates come through; nothing is fetched twice; what we serve reads as what we have read."""
    folder = upstream.root / "archive"
    write(folder, {LINUX: b"linux" * 1000, WINDOWS: b"windows" * 1000})
    upstream.fault("/archive/", Body(table(folder)))
    mirror.add("anaconda/archive", f"{upstream.url}/archive/", kind="files")

    assert fetched(mirror) == 2
    assert tree(mirror, "anaconda/archive") == in_folder(folder)
    upstream.clear()
    assert fetched(mirror) == 0
    assert upstream.paths() == ["/archive/"]

    with serving(mirror.store_path) as url:
        status, headers, body = get(f"{url}/current/anaconda/archive/{LINUX}")
        assert (status, body) == (200, b"linux" * 1000)
        assert headers["Last-Modified"] == formatdate(WHEN, usegmt=True)
        _, _, page = get(f"{url}/anaconda/archive/")
        rows = [re.findall("<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", page.decode())]
        listed = {re.sub("<.*?>", "", cells[0]): cells[1:] for cells in rows if len(cells) == 4}
        digest = hashlib.sha256(b"linux" * 1000).hexdigest()
        assert listed.keys() == {LINUX, WINDOWS}
        assert listed[LINUX] == ["5000", "2025-06-12 10:12:33", digest]

        second = Mirror(tmp_path / "second")
        second.add("anaconda/archive", f"{url}/anaconda/archive", kind="files")
        assert fetched(second) == 2
        assert fetched(second) == 0
    here, there = (one.reader("anaconda/archive/", "current").leaves for one in (mirror, second))
    assert here == there


def nginx(folder: Path, root: Path, options: str) -> contextlib.AbstractContextManager[str]:
    """nginx with autoindex."""
    port = free_port()
    folder.mkdir()
    places = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    server = f"server {{ listen 127.0.0.1:{port}; root {root}; autoindex on; {options} }}"
    user = "user root;" if os.geteuid() == 0 else ""
    http = f"access_log off; {places} {server}"
    (folder / "conf").write_text(f"{user} pid {folder}/pid; daemon off; events {{}} http {{ {http} }}")
    return running(["/usr/sbin/nginx", "-e", f"{folder}/log", "-c", f"{folder}/conf"], port)


def apache(folder: Path, root: Path, options: str) -> contextlib.AbstractContextManager[str]:
    """Apache with mod_autoindex."""
    port = free_port()
    folder.mkdir()
    modules = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
        for name in ("mpm_event", "authz_core", "dir", "autoindex", "alias", "mime")
    )
    user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
    (folder / "conf").write_text(
        f"ServerRoot {folder}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {folder}/pid\nMutex file:{folder}\n"
        f"ErrorLog {folder}/log\nTypesConfig /etc/mime.types\nDocumentRoot {root}\n{user}{modules}{options}\n"
        f"<Directory {root}>\nOptions Indexes FollowSymLinks\nRequire all granted\n</Directory>\n"
    )
    return running(["/usr/sbin/apache2", "-X", "-f", f"{folder}/conf"], port)


SERVERS: dict[str, tuple[Callable[[Path, Path, str], contextlib.AbstractContextManager[str]], str]] = {
    "nginx": (nginx, ""),
    "nginx, rounded sizes and local time": (nginx, "autoindex_exact_size off; autoindex_localtime on;"),
    "nginx as JSON": (nginx, "autoindex_format json;"),
    "Apache": (apache, ""),
    "Apache, fancy": (apache, "IndexOptions FancyIndexing NameWidth=20"),
    "Apache, a table": (apache, "IndexOptions FancyIndexing HTMLTable IconsAreLinks"),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_listings_of_real_servers(mirror: Mirror, tmp_path: Path, kind: str) -> None:
    """A folder and the folders in it: all files, with the very dates; a second sync fetches none."""
    start, options = SERVERS[kind]
    if not Path("/usr/sbin/apache2" if start is apache else "/usr/sbin/nginx").exists():
        pytest.skip("that server is not installed")
    root = tmp_path / "root"
    contents = {
        "a file & more, 100%.sh": b"1" * 3000,
        "a-name-that-is-longer-than-what-servers-show-of-one-1.0.sh": b"2",
        "linux/é.sh": b"3" * 70_000,
        "linux/deep/x.sh": b"4",
        "linux/deep/deeper/too-deep.sh": b"5",
    }
    write(root / "installers", contents)
    for path in [tmp_path, *tmp_path.parents]:
        with contextlib.suppress(PermissionError):
            path.chmod(path.stat().st_mode | 0o055)  # for www-data
    with start(tmp_path / "server", root, options) as url:
        mirror.add("installers", f"{url}/installers/", kind="files", depth=2)
        assert fetched(mirror) == 4
        before = mirror.directories()
        assert fetched(mirror) == 0
        assert mirror.directories() == before
    wanted = {name: content for name, content in contents.items() if "deeper" not in name}
    assert tree(mirror, "installers") == wanted
    found = [leaf.decode(content) for _, content in mirror.reader("installers/").contents()]
    assert {(file.name, file.size, file.sha256, file.modified) for file in found} == {
        (name, len(content), sha256(content), WHEN) for name, content in wanted.items()
    }


def test_fancyindex_and_addresses_from_the_root() -> None:
    page = b"""<h1>Index of /f/</h1><table id="list"><thead><tr>
      <th><a href="?C=N&amp;O=A">File Name</a></th></tr></thead><tbody>
      <tr><td class="link"><a href="../">Parent directory/</a></td><td class="size">-</td><td class="date">-</td></tr>
      <tr><td class="link"><a href="/f/z.sh" title="z">z...</a></td><td>12 MiB</td><td>2025-Jun-12 10:12</td></tr>
      <tr><td class="link"><a href="d/">d/</a></td><td>-</td><td>2025-Jun-12 10:12</td></tr></tbody></table>"""
    found = pages.parse(page, "https://host/f/")
    assert [(file.name, file.size, file.modified) for file in found.files] == [("z.sh", None, WHEN - 33)]
    assert found.folders == ("d",)


def test_releases_of_github(upstream: Upstream, mirror: Mirror) -> None:
    """`<tag>/<name>`, with the digests that the API states; of a draft nothing."""

    def asset(tag: str, name: str, content: bytes, **more: Any) -> dict[str, Any]:
        write(upstream.root / "dl" / tag, {name: content})
        url = f"{upstream.url}/dl/{tag}/{name}"
        stated = {"digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "updated_at": "2025-06-12T10:12:33Z"}
        return {"name": name, "browser_download_url": url, "size": len(content), "download_count": 7} | stated | more

    releases = [
        {"tag_name": "v1.10.0", "assets": [asset("v1.10.0", "tool-x86_64.tar.gz", b"new")]},
        {"tag_name": "v1.9.0", "assets": [asset("v1.9.0", "tool-x86_64.tar.gz", b"old")]},
        {"tag_name": "v1.11.0", "draft": True, "assets": [asset("v1.11.0", "tool-x86_64.tar.gz", b"none")]},
        {"tag_name": "v1.8.0", "assets": [asset("v1.8.0", "tool-x86_64.tar.gz", b"lie", digest=f"sha256:{'0' * 64}")]},
        {"tag_name": "../up", "assets": [{"name": "x", "browser_download_url": "x", "size": 3}]},
    ]
    upstream.fault("/repos/tool/releases", Body(json.dumps(releases).encode()))
    mirror.add("tool", f"{upstream.url}/repos/tool/releases", kind="files")
    err = mirror.sync(status=3).err
    assert "tool/v1.8.0/tool-x86_64.tar.gz: withheld" in err
    assert "unsafe" in err
    files = {"v1.10.0/tool-x86_64.tar.gz": b"new", "v1.9.0/tool-x86_64.tar.gz": b"old"}
    assert tree(mirror, "tool") == files

    mirror.repos[0] |= {"newest": 1, "download": "redirect"}
    mirror.sync()
    with serving(mirror.store_path) as url:
        assert set(re.findall('href="(v[^"]*)"', get(f"{url}/tool/")[2].decode())) == {"v1.10.0/"}
        assert get(f"{url}/tool/v1.10.0/tool-x86_64.tar.gz")[2] == b"new"
    assert "/dl/v1.10.0/tool-x86_64.tar.gz" in upstream.paths()


@pytest.mark.parametrize(
    ("beside", "size", "modified"),
    [
        ("Nov 20, 2026 01:00:30</td><td>777", 777, WRITTEN + 30),  # Undertow
        ("Nov 20, 2026 01:00:30</td><td>12 KB", None, WRITTEN + 30),
        ("Fri, 20 Nov 2026 01:00:30 GMT</td><td>777", 777, WRITTEN + 30),
        ("Fri Nov 20 01:00:30 UTC 2026</td><td>777 bytes</td><td>8", 777, WRITTEN + 30),
        ("Nov 20, 2026, 1:00:30 AM</td><td>777 B", 777, WRITTEN - 3600),  # Jenkins
        ("November 20, 2026  10:00 PM</td><td>777", 777, WRITTEN - 3600),
        ("2026-Nov-20 01:00</td><td>777", 777, WRITTEN),
        ("20 nov. 2026 01:00</td><td>777", None, None),  # which of the numbers it is can't be told
        ("777</td><td>12 downloads", None, None),
        ("version 3.11", None, None),
    ],
)
def test_dates_and_sizes_beside_a_link(beside: str, size: int | None, modified: int | None) -> None:
    """What may be a part of something else is not taken for the size, and no date for one."""
    page = f'<h1>Index of /x/</h1><table><tr><td><a href="a.zip">a.zip</a></td><td>{beside}</td></tr></table>'
    [found] = pages.parse(page.encode(), "https://host/x/").files
    assert (found.size, found.modified) == (size, modified)


def test_several_links_in_a_row_and_rows_of_iis() -> None:
    """A signature does not have the size and hash of what it signs. IIS writes date and size before the link."""
    digest = sha256(b"abc").hex()
    rows = f"""<table><tr><td><a href="icon/"><img></a><a href="a.zip"><img></a><a href="a.zip">a.zip</a></td><td>777</td>
        <td>2026-11-20 01:00</td><td>{digest}</td><td><a href="a.zip.asc">signature</a></td></tr></table>"""
    one, other = pages.parse(rows.encode(), "https://host/x/").files
    assert (one.name, one.size, one.sha256, one.modified) == ("a.zip", 777, sha256(b"abc"), WRITTEN)
    assert (other.name, other.size, other.sha256, other.modified) == ("a.zip.asc", None, None, WRITTEN)
    assert digest in other.text  # so that it is looked at again when the row changes

    iis = b"""<H1>host - /x/</H1><hr><pre><A HREF="/">[To Parent Directory]</A><br><br>
        11/20/2026  1:00 AM    &lt;dir&gt; <A HREF="/x/old/">old</A><br> 11/20/2026  1:00 AM      777 <A HREF="/x/a.zip">a.zip
        </A><br> 11/20/2026 10:30 PM        8 <A HREF="/x/b.zip">b.zip</A><br></pre><hr>"""
    found = pages.parse(iis, "https://host/x/")
    assert (found.folders, {file.name: file.size for file in found.files}) == (("old",), {"a.zip": 777, "b.zip": 8})


def test_the_headers_tell_a_size_that_the_page_leaves_open(upstream: Upstream, mirror: Mirror) -> None:
    """A size that it states must be theirs: see test_files_that_are_pages."""
    dates = ["Nov 20, 2026 01:00:30", "20 nov. 2026 01:00"]
    cells = [f"<td>{date}</td><td>{size}</td>" for date in dates for size in ("12 KB", "12345")]
    rows = "".join(f'<tr><td><a href="{number}.zip">x</a></td>{cell}</tr>' for number, cell in enumerate(cells))
    upstream.fault("/x/", Body(f"<h1>Index of /x/</h1><table>{rows}</table>".encode()))
    files = {f"{number}.zip": bytes(12345) for number in range(4)}
    write(upstream.root / "x", files)
    mirror.add("x", f"{upstream.url}/x/", kind="files")
    mirror.sync()
    assert tree(mirror, "x") == files


def release(upstream: Upstream, tag: str, *names_: str) -> dict[str, Any]:
    """As GitHub's API states one, of files of 3 bytes."""
    assets = [{"name": name, "browser_download_url": f"{upstream.url}/{name}", "size": 3} for name in names_]
    return {"tag_name": tag, "assets": assets}


def test_pages_of_releases(upstream: Upstream, mirror: Mirror) -> None:
    """All are read, also behind releases that have no files."""
    write(upstream.root, {"tool.zip": b"abc"})
    first = [release(upstream, f"v{number}") for number in range(100)]
    for page in (first, first, [release(upstream, "v0.1", "tool.zip")]):  # what is asked for first has no number
        upstream.fault("/releases", Body(json.dumps(page).encode()), times=1)
    upstream.fault("/releases", Body(b"[\n\n]\n"))
    mirror.add("tool", f"{upstream.url}/releases", kind="files")
    mirror.sync()
    assert tree(mirror, "tool") == {"v0.1/tool.zip": b"abc"}
    assert upstream.paths().count("/releases") == 4


def test_pages_of_releases_that_never_end(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused: nothing is left out without a word. A server that answers every page alike has one page."""
    monkeypatch.setattr("snapmirror.files.upstream._MOST_PAGES", 5)
    repo = FilesRepo(path="tool", upstream=f"{upstream.url}/releases")
    write(upstream.root, {"releases": json.dumps([release(upstream, "v0")]).encode()})
    with store_at(tmp_path / "store") as store:
        assert sync(store, repo).exit_status(strict=True) == 0
        tags = itertools.count()
        another = Call(lambda: write(upstream.root, {"releases": json.dumps([release(upstream, f"v{next(tags)}")]).encode()}))
        upstream.fault("/releases", another)
        assert "has more than 5 pages" in str(sync(store, repo).repos["tool"].directories[""].problem)


def test_a_list_of_addresses(upstream: Upstream, mirror: Mirror) -> None:
    """Of any server, with or without hash and size or byte order mark; what lies elsewhere is fetched from there."""
    write(upstream.root, {"one/a.sh": b"a", "two/b.sh": b"bb"})
    digest = hashlib.sha256(b"a").hexdigest()
    listed = [
        {"url": "../one/a.sh", "sha256": digest},
        {"url": f"{upstream.url}/two/b.sh", "size": 2, "name": "sub/b.sh"},
        {"url": "c.sh", "sha256": "no hash"},
        {"url": "file:///etc/passwd", "sha256": digest},
    ]
    write(upstream.root, {"lists/all.json": b"\xef\xbb\xbf" + json.dumps(listed).encode()})
    mirror.add("tools", f"{upstream.url}/lists/all.json", kind="files")
    err = mirror.sync(status=3).err
    assert "c.sh" in err
    assert "passwd" in err
    assert "file of this machine" in err
    assert tree(mirror, "tools") == {"a.sh": b"a", "sub/b.sh": b"bb"}
    assert fetched(mirror) == 0


def test_a_folder_of_this_machine(mirror: Mirror, tmp_path: Path) -> None:
    write(tmp_path / "built", {"x-1.0.sh": b"x", "sub/y.sh": b"y"})
    mirror.add("built", f"file://{tmp_path}/built", kind="files", depth=1, link=True)
    assert fetched(mirror) == 2
    assert tree(mirror, "built") == {"x-1.0.sh": b"x", "sub/y.sh": b"y"}
    inode = (tmp_path / "built" / "x-1.0.sh").stat().st_ino
    assert (mirror.store_path / "published" / "current" / "built" / "x-1.0.sh").stat().st_ino == inode
    assert fetched(mirror) == 0


# Hashes, and bytes that change


def test_hashes_in_files_of_their_own(upstream: Upstream, mirror: Mirror) -> None:
    """`<file>.sha256` and SHA256SUMS verify; a file that is not what they say is withheld, and comes when it is."""

    def line(content: bytes, name: str) -> bytes:
        return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()

    files = {
        "good.sh": b"one",
        "good.sh.sha256": line(b"one", "./good.sh"),
        "bad.sh": b"two",
        "bad.sh.sha256": line(b"TWO", "bad.sh"),
        "odd.sh": b"six",
        "odd.sh.sha256": b"<html>gone</html>",
        "a.zip": b"abc",
        "b.zip": b"bcd",
        "SHA256SUMS": line(b"abc", "*a.zip") + line(b"BCD", "b.zip"),
    }
    folder = upstream.root / "x"
    write(folder, files)
    page = Body(table(folder, hashes=False))
    upstream.fault("/x/", page)
    mirror.add("x", f"{upstream.url}/x", kind="files", exclude=["*.sha256"])
    err = mirror.sync(status=3).err
    for name in ("bad.sh", "odd.sh", "b.zip"):
        assert f"x/{name}: withheld" in err
    assert tree(mirror, "x").keys() == {"good.sh", "a.zip", "SHA256SUMS"}

    assert mirror.sync().err.count("withheld") == 0  # only news are told
    files |= {"bad.sh.sha256": line(b"two", "bad.sh"), "odd.sh.sha256": hashlib.sha256(b"six").hexdigest().encode()}
    files["SHA256SUMS"] = line(b"abc", "a.zip") + line(b"bcd", "b.zip")
    write(folder, files, WHEN + 100)
    upstream.heal()
    upstream.fault("/x/", Body(table(folder, hashes=False)))
    mirror.sync()
    assert tree(mirror, "x") == {name: content for name, content in files.items() if not name.endswith(".sha256")}


def test_a_name_that_moves(upstream: Upstream, mirror: Mirror) -> None:
    """`latest` gets other bytes: that is said, and becomes a version of its own; the old snapshot has the old ones."""
    folder, name = upstream.root / "miniconda", "Miniconda3-latest-Linux-x86_64.sh"
    mirror.add("miniconda", f"{upstream.url}/miniconda/", kind="files")

    def sync(content: bytes, when: int, *, hashes: bool) -> str:
        write(folder, {name: content}, when)
        upstream.heal()
        upstream.fault("/miniconda/", Body(table(folder, hashes=hashes)))
        return mirror.sync().err

    sync(b"old", WHEN, hashes=True)
    first = mirror.snapshots()[-1]
    message = f"miniconda/{name}: upstream has other bytes than before under this name"
    assert message in sync(b"new", WHEN, hashes=True)  # another hash
    assert message not in sync(b"new", WHEN, hashes=False)
    assert message in sync(b"odd", WHEN + 1, hashes=False)  # the same size, another second
    assert message not in sync(b"odd", WHEN + 2, hashes=False)  # touched
    assert tree(mirror, "miniconda") == {name: b"odd"}
    assert tree(mirror, "miniconda", first) == {name: b"old"}
    assert mirror.run("diff", first, "current").out == f"~ miniconda/{name}\n"
    assert mirror.run("diff", "current", mirror.snapshots()[-2]).out == f"~ miniconda/{name}\n"  # its date


#: listings that look the same whatever becomes of a file
SILENT = {
    "links": b"<title>Directory listing for /x/</title><ul><li><a href='a.sh'>a.sh</a></li></ul>",
    "sizes": b"<title>Index of /x/</title><table><tr><td><a href='a.sh'>a.sh</a></td><td>3</td></tr></table>",
    "json": b'[{"url": "a.sh", "size": 3}]',
    "sum beside": b"<title>Directory listing for /x/</title><a href='a.sh'>a.sh</a> <a href='a.sh.sha256'>a.sh.sha256</a>",
}


@pytest.mark.parametrize("listing", SILENT.values(), ids=SILENT)
def test_a_listing_that_does_not_show_what_changes(upstream: Upstream, tmp_path: Path, listing: bytes) -> None:
    """Python's http.server states neither size nor date: upstream's headers are looked at, or the sum beside a file."""
    upstream.fault("/x/", Body(listing))
    repo = FilesRepo(path="x", upstream=f"{upstream.url}/x/")
    with store_at(tmp_path / "store") as store:
        for when, content in enumerate([b"old", b"new"]):
            sums = f"{hashlib.sha256(content).hexdigest()}  a.sh\n".encode()
            files = {"a.sh": content} | ({"a.sh.sha256": sums} if b"sha256" in listing else {})
            write(upstream.root / "x", files, WHEN + when)
            sync(store, repo)
            assert in_folder(tmp_path / "store/published/current/x") == files
            found = sync(store, repo).repos["x"].directories[""]
            assert (found.state, found.fetch_files) == ("unchanged", 0)


def test_a_sync_that_is_killed_leaves_what_it_has_fetched_to_the_next(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no hash tells that it is held."""

    def die(_: object, http: object) -> None:
        raise KeyboardInterrupt

    write(upstream.root / "x", {"a-1.0.sh": b"aaa"})
    upstream.fault("/x/", Body(plain_list("a-1.0.sh")))
    repo = FilesRepo(path="x", upstream=f"{upstream.url}/x/")
    with store_at(tmp_path / "store") as store:
        with monkeypatch.context() as patched:
            patched.setattr("snapmirror.sync.engine.Sync._finish", die)
            with pytest.raises(KeyboardInterrupt):
                sync(store, repo)
        sync(store, repo)
        assert in_folder(tmp_path / "store/published/current/x") == {"a-1.0.sh": b"aaa"}
    paths = [request.path for request in upstream.requests if request.method == "GET"]
    assert paths.count("/x/a-1.0.sh") == 1


@pytest.mark.parametrize("changes", [False, True], ids=["the same", "changed"])
def test_what_was_fetched_is_fetched_again_only_if_the_listing_that_is_read_again_shows_a_change(
    upstream: Upstream, tmp_path: Path, changes: bool
) -> None:
    """It is read again because another file is missing; no hash tells that these are held."""
    folder, listing = upstream.root / "x", plain_list("a-1.0.sh", "b-1.0.sh", "gone-1.0.sh")
    write(folder, {"a-1.0.sh": b"old", "b-1.0.sh": b"bbb"})

    def answer_404() -> None:
        if changes:
            write(folder, {"a-1.0.sh": b"new"}, WHEN + 600)
        upstream.fault("/x/", Body(listing.replace(b"10:12", b"10:22", 1) if changes else listing))

    upstream.fault("/x/", Body(listing), times=1)
    upstream.fault("/x/gone-1.0.sh", Call(answer_404))
    with store_at(tmp_path / "store") as store:
        # One after the other: beside it the first would be fetched when it has changed already.
        sync(store, FilesRepo(path="x", upstream=f"{upstream.url}/x/"), download=Download(connections=1))
        assert in_folder(tmp_path / "store/published/current/x") == {
            "a-1.0.sh": b"new" if changes else b"old",
            "b-1.0.sh": b"bbb",
        }
    paths = [request.path for request in upstream.requests if request.method == "GET"]
    assert [paths.count(f"/x/{name}-1.0.sh") for name in ("a", "b", "gone")] == [1 + changes, 1, 2]


# Bad input


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (b"<h1>Index of /x/</h1><form><input name=user><input type=password></form><a href=x>x</a>", "log in"),
        (b"<title>Welcome</title><a href='forgot'>Forgot?</a>", "is no listing"),
        (b"no page at all", "is no listing"),
        (b'{"message": "API rate limit exceeded"}', "neither a list of releases"),
        (b'[{"tag_name": "v1", "assets": {"count": 1, "links": []}}]', "neither a list of releases"),
        (b'[{"url": ', "is no JSON"),
        (b"", "is no listing"),
        (Status(403), "upstream answers 403"),
        (Status(500), "upstream answers 500"),
    ],
)
def test_what_is_no_listing_changes_nothing(upstream: Upstream, mirror: Mirror, page: bytes | Status, problem: str) -> None:
    write(upstream.root / "x", {"a.sh": b"abc"})
    rule = upstream.fault("/x/", Body(plain_list("a.sh")), times=1)
    upstream.fault("/x/", page if isinstance(page, Status) else Body(page))
    mirror.add("x", f"{upstream.url}/x/", kind="files")
    mirror.sync()
    assert rule.hits == 1
    before = mirror.snapshots()
    assert problem in mirror.sync("--allow-shrink", status=1).err
    assert (mirror.snapshots(), tree(mirror, "x")) == (before, {"a.sh": b"abc"})


def test_links_that_lead_elsewhere(upstream: Upstream, mirror: Mirror) -> None:
    """Only what lies below the folder is followed; what has an unsafe name is withheld."""
    write(upstream.root, {"x/a.sh": b"abc", "up.sh": b"abc", "y/a.sh": b"abc"})
    links = ["a.sh", "a.sh?download", "../up.sh", "/up.sh", "/y/a.sh", "https://example.org/x/b.sh", "//example.org/x/c.sh"]
    links += ["javascript:void(0)", "mailto:x@example.org", "#top", "./", "http://[", "%2e%2e%2fup.sh", "d%0aown.sh", "%ff.sh"]
    upstream.fault("/x/", Body(plain_list(*links)))
    mirror.add("x", f"{upstream.url}/x/", kind="files", depth=5)
    err = mirror.sync(status=3).err
    assert err.count("unsafe") == 3
    assert tree(mirror, "x") == {"a.sh": b"abc"}
    assert not {"/up.sh", "/y/a.sh", "/"} & set(upstream.paths())


def test_folders_that_lead_out_of_the_mirror(upstream: Upstream, mirror: Mirror) -> None:
    """Of a listing in JSON, which names them freely: they are withheld, nothing is asked for there, and nothing written."""
    outside = ["..", ".", "", "/", "/etc", "../../../..", "in/../../../../..", "..\\.."]
    listed = [{"name": "a.sh", "type": "file", "size": 3}, {"name": "in", "type": "directory"}]
    listed += [{"name": name, "type": "directory"} for name in outside]
    upstream.fault("/x/y/", Body(json.dumps(listed).encode()))
    upstream.fault("*/", Body(b'[{"name": "b.sh", "type": "file", "size": 3}]'))
    upstream.fault("*.sh", Body(b"abc"))
    mirror.add("x", f"{upstream.url}/x/y/", kind="files", depth=9)
    told = mirror.sync(status=3)
    for name in outside:
        told.line(f"x/{name}: withheld", "its name is unsafe")
    assert tree(mirror, "x") == {"a.sh": b"abc", "in/b.sh": b"abc"}
    assert set(upstream.paths()) == {"/x/y/", "/x/y/in/", "/x/y/a.sh", "/x/y/in/b.sh"}
    assert {path.name for path in mirror.root.iterdir()} == {"snapmirror.toml", "store"}


def test_paths_that_are_too_long(upstream: Upstream, mirror: Mirror) -> None:
    """Every name in them is short enough. Such a file is withheld; the others, and the other repos, go on."""
    deep = f"{'d' * 200}/"
    upstream.fault("*.sh", Body(b"abc"))
    for depth in range(25):
        upstream.fault(f"/x/{deep * depth}", Body(plain_list(f"{depth}.sh", deep)))
    upstream.fault("*", Body(plain_list("a.sh")))
    for path in "xy":
        mirror.add(path, f"{upstream.url}/{path}/", kind="files", depth=40)
    mirror.sync(status=3).line(f"x/{deep * 24}24.sh: withheld", "its name is too long")
    assert tree(mirror, "x") == {f"{deep * depth}{depth}.sh": b"abc" for depth in range(6)}
    assert tree(mirror, "y") == {"a.sh": b"abc"}


def test_folders_in_a_loop(upstream: Upstream, mirror: Mirror) -> None:
    write(upstream.root, {"x/a.sh": b"abc", "x/sub/b.sh": b"abc"})
    upstream.fault("/x/sub/", Body(plain_list("b.sh", "gone/", "own/", "b.sh/")))
    upstream.fault("/x/sub/gone/", Status(404))
    upstream.fault("/x/odd/", Html(), times=1)
    upstream.fault("/x/odd/", Body(plain_list()))
    upstream.fault("*/", Body(plain_list("a.sh", "loop/", "sub/", "own/", "odd/")))  # x itself, and x/loop, which is x
    mirror.add("x", f"{upstream.url}/x/", kind="files", depth=9, exclude=["own/"])
    assert "is no listing: it has no heading of one" in (err := mirror.sync(status=1).err)
    assert 'exclude = ["/odd/"] leaves it out' in err
    err = mirror.sync().err
    assert "/x/sub/gone/: upstream answers 404, though the folder above lists it" in err
    assert "/x/loop/: lists what a folder above it lists; a loop?" in err
    assert tree(mirror, "x") == {"a.sh": b"abc", "sub/b.sh": b"abc"}
    assert not any("loop/loop" in path or "own" in path for path in upstream.paths())


def test_a_folder_that_is_listed_and_is_not_there(upstream: Upstream, mirror: Mirror) -> None:
    """What was in it stays, unless it is not meant any more; it is gone when no folder lists it."""
    write(upstream.root, {"x/a.sh": b"abc", "x/old/b.sh": b"abc", "x/old/c.sh": b"abc", "x/old/deep/d.sh": b"abc"})
    upstream.fault("/x/", Body(plain_list("a.sh", "old/")), times=4)
    upstream.fault("/x/", Body(plain_list("a.sh")))
    upstream.fault("/x/old/", Body(plain_list("b.sh", "c.sh", "deep/")), times=1)
    upstream.fault("/x/old/", Status(404), times=2)
    upstream.fault("/x/old/", Body(plain_list("b.sh")))
    upstream.fault("/x/old/deep/", Body(plain_list("d.sh")))
    mirror.add("x", f"{upstream.url}/x/", kind="files", depth=2)
    mirror.sync()
    before = tree(mirror, "x")
    told = mirror.sync(status=3)
    told.line("x/old/deep/d.sh: upstream lists the folder old/, and answers that it is not there; it keeps its old state")
    assert tree(mirror, "x") == before
    mirror.repos[0]["exclude"] = ["c.sh"]
    mirror.write()
    mirror.sync(status=3)
    assert sorted(tree(mirror, "x")) == ["a.sh", "old/b.sh", "old/deep/d.sh"]
    mirror.sync()
    assert sorted(tree(mirror, "x")) == ["a.sh", "old/b.sh"]
    mirror.sync()
    assert sorted(tree(mirror, "x")) == ["a.sh"]


def test_a_file_with_the_name_of_a_folder(upstream: Upstream, mirror: Mirror) -> None:
    write(upstream.root, {"a/b": b"abc", "l.json": b'[{"url": "a", "size": 3}, {"url": "a/b", "name": "a/b", "size": 3}]'})
    mirror.add("x", f"{upstream.url}/l.json", kind="files")
    assert "x/a: withheld" in mirror.sync(status=3).err
    assert tree(mirror, "x") == {"a/b": b"abc"}


def test_a_listing_that_shrinks(upstream: Upstream, mirror: Mirror) -> None:
    write(upstream.root / "x", {f"{letter}.sh": b"abc" for letter in "abc"})
    upstream.fault("/x/", Body(plain_list("a.sh", "b.sh", "c.sh")), times=1)
    upstream.fault("/x/", Body(plain_list()))
    mirror.add("x", f"{upstream.url}/x/", kind="files")
    mirror.sync()
    assert "lists 0 files, the newest snapshot 3" in mirror.sync(status=1).err
    mirror.sync("--allow-shrink")
    assert tree(mirror, "x") == {}


def test_a_path_that_gets_another_kind(upstream: Upstream, mirror: Mirror, tmp_path: Path) -> None:
    """What it had is no older state of what it has now, and stays what it was at its date. No other repo minds."""
    write(upstream.root / "x", {"a.sh": b"abc"})
    upstream.fault("/x/", Body(plain_list("a.sh")))
    with Index(tmp_path / "index") as index:
        index.upload("six", "six-1.0.tar.gz")
        files: dict[str, Any] = {"kind": "files", "path": "x", "upstream": f"{upstream.url}/x/"}
        projects: dict[str, Any] = {"kind": "pypi", "path": "x", "upstream": f"{index.url}/simple/", "projects": ["six"]}
        for repo in (files, projects, files):
            mirror.repos = [repo, {**files, "path": "other"}]
            mirror.sync()
    first, second, third = mirror.snapshots()
    assert [mirror.reader("x/", id_).document.kind for id_ in (first, second, third)] == ["files", "pypi", "files"]
    assert mirror.directories(first) == mirror.directories(third)
    changes = mirror.run("diff", "--json", first, second).json
    assert (changes["removed"], changes["added"]) == (["x/a.sh"], ["x/six-1.0.tar.gz"])


@pytest.mark.parametrize("how", [(), (Gzip(),)], ids=["plain", "packed"])
def test_a_listing_that_breaks_off_and_nothing_shows_it(upstream: Upstream, mirror: Mirror, how: tuple[Gzip, ...]) -> None:
    """Where only the end of the connection ends a body, a server that dies cuts it; half a listing must not pass for all."""
    names_ = [f"{number}.sh" for number in range(20)]
    write(upstream.root / "x", dict.fromkeys(names_, b"abc"))
    listing = Body(plain_list(*names_))
    upstream.fault("/x/", listing, *how, Unframed(150), times=1)
    upstream.fault("/x/", listing, *how, Unframed())
    mirror.add("x", f"{upstream.url}/x/", kind="files")
    mirror.sync()
    assert set(tree(mirror, "x")) == set(names_)
    upstream.clear()
    mirror.sync()
    assert "if-none-match" not in upstream.requests[0].headers

    upstream.heal()
    for end in range(150, 170):
        upstream.fault("/x/", listing, *how, Unframed(end), times=1)
    assert "it states no length" in mirror.sync("--allow-shrink", status=1).err
    assert set(tree(mirror, "x")) == set(names_)


def test_files_that_are_pages(upstream: Upstream, mirror: Mirror) -> None:
    """A server that answers every address with a page to log in: no such page becomes an installer."""
    digest = hashlib.sha256(b"installer").hexdigest().encode()
    page = plain_list("by-size.sh", "rounded.sh", "by-hash.sh", "good.sh").splitlines()
    rounded, hashed = page[2].replace(b" 3", b"3M"), page[3].replace(b" 3", b"- " + digest)
    upstream.fault("/x/", Body(b"\n".join([*page[:2], rounded, hashed, *page[4:]])))
    write(upstream.root, {"x/good.sh": b"abc"})
    upstream.fault("/x/[!g]*", Html())
    mirror.add("x", f"{upstream.url}/x/", kind="files")
    err = mirror.sync(status=3).err
    for name, problem in [("by-size", "headers state"), ("rounded", "headers state"), ("by-hash", "sha256 is")]:
        assert re.search(f"x/{name}.sh: withheld: .*{problem}", err), err
    assert tree(mirror, "x") == {"good.sh": b"abc"}


# What is kept


def test_versions_in_names() -> None:
    """The rule of the manual, by example: (family, names from old to new)."""
    for family, *ordered in [
        ("Anaconda3-*-Linux-x86_64.sh", "Anaconda3-5.3.1-Linux-x86_64.sh", "Anaconda3-2024.10-1-Linux-x86_64.sh", LINUX),
        ("Miniconda3-py39_*-MacOSX.pkg", "Miniconda3-py39_4.9.2-MacOSX.pkg", "Miniconda3-py39_4.10.1-MacOSX.pkg"),
        ("*/uv-*-x86_64.tar.gz", "v0.9.9/uv-0.9.9-x86_64.tar.gz", "v0.10.0/uv-0.10.0-x86_64.tar.gz"),
        (
            "a-*.zip",
            "a-1.0.dev1.zip",
            "a-1.0a1.zip",
            "a-1.0-beta.2.zip",
            "a-1.0rc1.zip",
            "a-1.0.zip",
            "a-1.0-2.zip",
            "a-1.0.1.zip",
        ),
        ("Miniconda3-latest-Linux-x86_64.sh", "Miniconda3-latest-Linux-x86_64.sh"),
        ("a-1.2.3x-64.7z", "a-1.2.3x-64.7z"),
    ]:
        found = [names.versions(name) for name in ordered]
        assert {one for one, _ in found} == {family}
        assert [version for _, version in found] == sorted({version for _, version in found})


def test_globs() -> None:
    matching = {
        "*-Linux-*.sh": ["a-Linux-x.sh", "d/e/a-Linux-x.sh"],
        "d/*.sh": ["d/a.sh"],
        "d/**": ["d/a", "d/e/f"],
        "**/f.sh": ["f.sh", "d/f.sh", "d/e/f.sh"],
        "/f.sh": ["f.sh"],
        "old/": ["old/a", "d/old/e/f"],
        "[!ab]?": ["xy", "d/c1"],
    }
    others = ["x/d/a.sh", "e/a.sh2", "olds", "abc", "f/ash"]
    for pattern, paths in matching.items():
        every = {path for found in matching.values() for path in found} | set(others)
        assert set(paths) <= {path for path in every if names.matches_any(path, [pattern])}
        assert not any(names.matches_any(path, [pattern]) for path in others)
    with pytest.raises(ValueError, match="no pattern"):
        names.glob("/")


def test_a_selection(upstream: Upstream, mirror: Mirror) -> None:
    """include, exclude, newest; what is left out is not fetched, nor asked about; a change takes effect at once."""
    folder = upstream.root / "archive"
    every = [
        f"Anaconda3-{version}-{system}" for version in ("2024.10-1", "2025.06-0", "5.3.1") for system in ("Linux.sh", "Win.exe")
    ]
    write(folder, {name: name.encode() for name in [*every, "Anaconda3-latest-Linux.sh"]})
    upstream.fault("/archive/", Body(table(folder, hashes=False)))
    mirror.add("archive", f"{upstream.url}/archive/", kind="files", include=["Anaconda3-*"], exclude=["*.exe"], newest=1)
    mirror.sync()
    assert tree(mirror, "archive").keys() == {"Anaconda3-2025.06-0-Linux.sh", "Anaconda3-latest-Linux.sh"}
    assert not any("Win" in path or "5.3" in path for path in upstream.paths())
    mirror.repos[0] |= {"newest": 2, "include": ["*-20*"]}
    mirror.sync()
    assert tree(mirror, "archive").keys() == {"Anaconda3-2025.06-0-Linux.sh", "Anaconda3-2024.10-1-Linux.sh"}
    plan = mirror.sync("--dry-run", "--json").json["repos"]["archive"]["directories"][""]
    assert plan["dropped"] == {"exclude": 3, "include": 2}
    mirror.repos[0] |= {"include": ["nothing*"]}
    assert "keeps nothing" in mirror.sync(status=None).err


# Adopted from a folder that other tools have filled


@pytest.fixture
def archive(upstream: Upstream, mirror: Mirror, tmp_path: Path) -> Path:
    """A copy of upstream's folder as a script leaves it: with versions that are not kept, and what it did not finish."""
    folder = upstream.root / "archive"
    write(folder, {LINUX: b"linux" * 1000, WINDOWS: b"windows", "Anaconda3-5.3.1-Linux-x86_64.sh": b"old", "deep/a.sh": b"a"})
    mirror.add("archive", f"{upstream.url}/archive/", kind="files", exclude=["*.exe"], newest=1)
    shutil.copytree(folder, tmp_path / "tree")
    shutil.rmtree(folder / "deep")
    write(tmp_path / "tree", {f".downloading.{LINUX}": b"lin", ".rsync/partial": b"par"})
    return tmp_path / "tree"


@pytest.mark.parametrize("stated", ["sha256", "md5", "size and date"])
def test_adopted_files_are_not_transferred_again(
    upstream: Upstream, mirror: Mirror, archive: Path, stated: str, tmp_path: Path
) -> None:
    """Whatever upstream says of them is enough, though the folder said nothing but size and date."""
    folder = upstream.root / "archive"
    page = table(folder, hashes=stated != "size and date")
    for path in folder.iterdir() if stated == "md5" else ():
        content = path.read_bytes()
        page = page.replace(hashlib.sha256(content).hexdigest().encode(), hashlib.md5(content).hexdigest().encode())
    upstream.fault("/archive/", Body(page))
    result = mirror.run("adopt", str(archive), "--repo", "archive")
    assert result.line(str(archive), "1 hidden")
    assert tree(mirror, "archive") == {LINUX: b"linux" * 1000}
    assert (mirror.store_path / "published/current/archive" / LINUX).samefile(archive / LINUX)
    assert {path.stat().st_nlink for path in archive.rglob("*") if path.is_file() and path.name != LINUX} == {1}
    [(_, adopted)] = mirror.reader("archive/").contents()
    assert leaf.decode(adopted) == File(LINUX, 5000, sha256(b"linux" * 1000), None, modified=WHEN)
    assert upstream.paths() == []
    assert fetched(mirror) == 0
    assert tree(mirror, "archive") == {LINUX: b"linux" * 1000}
    assert [request.path for request in upstream.requests if request.method == "GET"] == ["/archive/"]


def test_what_contradicts_a_sum_is_not_adopted(upstream: Upstream, mirror: Mirror, archive: Path) -> None:
    """It is listed and left as it lies there; the sync fetches it, and nothing else. No file is read twice for that."""

    def line(name: str) -> str:
        return f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n"

    names_ = ["good.sh", "bad.sh", "good.zip", "bad.zip", "good without sum"]
    write(upstream.root / "archive", {name: name.encode() for name in names_})
    upstream.fault("/archive/", Body(table(upstream.root / "archive")))
    write(archive, {name: name.encode() if "good" in name else b"rotten" for name in names_})
    write(archive, {f"{name}.sha256": line(name).encode() for name in names_[:2]})
    write(archive, {"SHA256SUMS": (line("good.zip") + line("bad.zip")).encode()})
    mirror.repos[0] |= {"include": names_}
    report = mirror.run("adopt", str(archive), "--repo", "archive", "--json", status=3).json["trees"][0]
    assert {path: reason.split()[0] for path, reason in report["withheld"].items()} == {
        str(archive / name): "sha256" for name in ("bad.sh", "bad.zip")
    }
    assert report["linked"] == 3
    good = {name for name in names_ if "good" in name}
    assert {path.name for path in archive.iterdir() if path.stat().st_nlink == 3} == good
    assert {(archive / name).read_bytes() for name in ("bad.sh", "bad.zip")} == {b"rotten"}
    assert tree(mirror, "archive").keys() == good
    mirror.sync()
    fetched_ = [one.path for one in upstream.requests if one.method == "GET" and one.path != "/archive/"]
    assert sorted(fetched_) == ["/archive/bad.sh", "/archive/bad.zip"]


def test_dated_folders_and_releases_are_adopted(upstream: Upstream, mirror: Mirror, tmp_path: Path) -> None:
    """Releases lie in folders named by their tags, which no depth has to allow."""
    for number, day in enumerate(("2024-01-01", "2024-02-01")):
        write(tmp_path / "dated" / day, {"v1.0/tool.sh": day.encode(), ".git/config": b"hidden"}, WHEN + number)
    listed = {"name": "tool.sh", "browser_download_url": f"{upstream.url}/dl/v1.0/tool.sh", "size": 10}
    write(upstream.root / "dl/v1.0", {"tool.sh": b"2024-02-01"})
    upstream.fault("/releases", Body(json.dumps([{"tag_name": "v1.0", "assets": [listed | _digest(b"2024-02-01")]}]).encode()))
    mirror.add("tool", f"{upstream.url}/releases", kind="files")
    mirror.run("adopt", str(tmp_path / "dated"), "--repo", "tool")
    assert mirror.snapshots() == ["20240101T235959Z", "20240201T235959Z"]
    for day in ("2024-01-01", "2024-02-01"):
        assert tree(mirror, "tool", mirror.record(day).id) == {"v1.0/tool.sh": day.encode()}
    assert fetched(mirror) == 0
    assert "/dl/v1.0/tool.sh" not in upstream.paths()


def _digest(content: bytes) -> dict[str, str]:
    return {"digest": f"sha256:{hashlib.sha256(content).hexdigest()}"}


# As any other repo


def test_served_checked_repaired_and_collected(upstream: Upstream, mirror: Mirror) -> None:
    """Folders have pages of their own; a lost file comes back from upstream; gc takes what no snapshot has."""
    write(upstream.root, {"x/sub/b c.sh": b"abc", "x/a:1.sh": b"def"})
    upstream.fault("/x/sub/", Body(plain_list("b%20c.sh")))
    upstream.fault("/x/", Body(plain_list("./a:1.sh", "sub/")))
    mirror.add("in/x", f"{upstream.url}/x/", kind="files", depth=1)
    mirror.sync()
    assert mirror.run("show", "current").out.count("in/x")
    with serving(mirror.store_path) as url:
        assert get(f"{url}/current/in/x/sub/b%20c.sh")[2] == b"abc"
        assert '<a href="./a%3A1.sh">a:1.sh</a>' in (page := get(f"{url}/in/x/")[2].decode())
        assert '<a href="sub/">' in page
        assert "<title>Index of /current/in/x/sub/</title>" in get(f"{url}/in/x/sub")[2].decode()  # led on to sub/
        assert '<a href="b%20c.sh">b c.sh</a>' in get(f"{url}/in/x/sub/")[2].decode()
        for gone in ("in/x/su/", "in/x/sub/b", "in/x/a:1.sh/", "in/x/sub//b", "in/x/shards/"):
            assert get(f"{url}/{gone}")[0] == 404

    [blob] = mirror.store_path.glob(f"blobs/*/{hashlib.sha256(b'abc').hexdigest()}")
    blob.unlink()
    assert "sub/b c.sh" in mirror.run("check", status=5).out
    mirror.run("check", "--repair")
    assert blob.read_bytes() == b"abc"

    shutil.rmtree(mirror.store_path / "published" / mirror.snapshots()[0])
    mirror.run("tree", "current")
    assert tree(mirror, "in/x") == {"sub/b c.sh": b"abc", "a:1.sh": b"def"}

    first = mirror.snapshots()[0]
    upstream.heal()
    write(upstream.root, {"x/new.sh": b"ghi"})
    upstream.fault("/x/", Body(plain_list("./a:1.sh", "new.sh")))
    mirror.sync()
    mirror.run("forget", first)
    mirror.run("gc", "--grace", "0s")
    assert not blob.exists()
    assert tree(mirror, "in/x") == {"a:1.sh": b"def", "new.sh": b"ghi"}
    mirror.run("check", "--read-data")


def test_many_files_in_many_folders(mirror: Mirror, tmp_path: Path) -> None:
    """A file is found without all the others being read, and a folder that was asked for does not keep them in memory."""
    paths = [f"f{number // 20}/{number}.sh" for number in range(2000)]
    digest = hashlib.sha256(b"abc").hexdigest()
    entries = [{"url": path, "name": path, "size": 3, "sha256": digest} for path in paths]
    write(tmp_path, {paths[7]: b"abc", "list.json": json.dumps(entries).encode()})
    mirror.add("x", (tmp_path / "list.json").as_uri(), kind="files", download="on-demand")
    mirror.sync()
    reader = mirror.reader("x/")

    with mirror.store() as store:
        resolver = Resolver(store, ECOSYSTEMS, Watch(store).view(), "", {})
        resolver.resolve("/x/f0/")
        tracemalloc.start()
        assert all(isinstance(resolver.resolve(f"/x/f{number}/"), FolderAnswer) for number in range(1, 100))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 100 * 3_000

    for bucket in {*reader.document.buckets} - {*reader.buckets_of([paths[7]])}:
        store.blobs.path(bucket).unlink()
    mirror.write()
    with server(mirror.config) as (url, _):
        assert get(f"{url}/x/{paths[7]}")[::2] == (200, b"abc")
        assert get(f"{url}/x/f0/")[0] == 503


def test_mistakes_in_the_configuration(mirror: Mirror) -> None:
    for keys, problem in [
        ({"deepth": 1}, "did you mean depth?"),
        ({"subdirs": ["linux-64"]}, "known here: kind, path, "),
        ({"newest": -1}, "can't be negative"),
        ({"depth": 99}, "between 0 and 50"),
        ({"exclude": ["/"]}, "is no pattern"),
        ({"kind": "filez"}, "filez"),
    ]:
        mirror.repos = []
        mirror.add("x", "https://example.org/x/", **{"kind": "files", **keys})
        assert problem in mirror.sync(status=2).err
    mirror.repos = []
    mirror.add("x", "https://example.org/x/", kind="files")
    mirror.add("x/y", "https://example.org/y/", kind="files")
    assert "is, or is below, a directory of the repo x" in mirror.sync(status=2).err


def test_the_form_is_frozen() -> None:
    """A leaf made now is the same in years: snapshots are compared by the digests of leaves."""
    file = File("sub/x.sh", 3, sha256(b"abc"), hashlib.md5(b"abc").digest(), modified=WHEN)
    assert leaf.decode(leaf.encode(file)) == file
    assert sha256(leaf.encode(file)).hex() == "e3eb061784f630cb368c4cff6ea372ea0cc173f71587996b3b69659896847dcf"
    bare = File("x", None, None, None)
    assert leaf.settle(leaf.encode(bare), {"x": sha256(b"")}, ()) == leaf.encode(bare.but(sha256=sha256(b"")))
    assert leaf.settle(leaf.encode(bare), {}, {"x"}) == b""
    with pytest.raises(ValueError, match="not a file's leaf"):
        leaf.decode(b"\x80")


@pytest.mark.parametrize(
    "page",
    ["<a href>", "<tr><td><a href='x.sh'>x", "<a href='\xff'>", "<!DOCTYPE", "<a href='//['>", "&#xD800;<a href='&#0;'>"]
    + [piece * 100_000 for piece in ("<", "<!--", "<a ", "<a href=x ", "<![CDATA[", "&", "9 ")],
    ids=lambda page: page[:10],
)
def test_broken_pages(page: str) -> None:
    """Whatever a page holds, it is read or refused, and soon: HTMLParser alone would take minutes for some of these."""
    with contextlib.suppress(BadIndexError):
        pages.parse(f"{page} 2025-06-12 10:12 3".encode("latin-1"), "https://host/")
