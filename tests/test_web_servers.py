"""The configurations in examples/web do what they say, with the servers themselves: nginx, Apache, rsync.

Each server listens on a port of loopback, has a configuration and a folder of its own, and is ended by the test.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
import yaml
from channels import Channel, make_package
from clients import install
from mirror import Mirror
from serving import free_port, running, serving
from upstream import Upstream

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "web"
MODULES = Path("/usr/lib/apache2/modules")
IDENTITY = {"Accept-Encoding": "identity"}


def program(name: str) -> str:
    """The path of a program; the test skips, naming it, where it is not installed."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or pytest.skip(f"{name} is not installed")


def example(name: str, changes: dict[str, str]) -> str:
    """An example, with other places than the ones in it."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, port: int, text: str) -> contextlib.AbstractContextManager[str]:
    """nginx with the types that Debian gives it."""
    places = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    http = f"include /etc/nginx/mime.types; access_log off; gzip on; {places}\n{text}"
    (folder / "conf").write_text(f"{user} pid {folder}/pid; daemon off; events {{}} http {{ {http} }}", encoding="utf-8")
    return running([program("nginx"), "-e", folder / "log", "-c", folder / "conf"], port)


def apache(folder: Path, port: int, text: str) -> contextlib.AbstractContextManager[str]:
    """Apache with the modules that Debian switches on, and those that the examples name."""
    server = program("apache2")
    (folder / "html").mkdir(exist_ok=True)
    debian = ("mpm_event", "authz_core", "dir", "autoindex", "alias", "mime", "env", "setenvif", "filter", "deflate")
    load = "".join(
        f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in (*debian, "headers", "ssl", "proxy", "proxy_http")
    )
    user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
    (folder / "conf").write_text(
        f"ServerRoot {folder}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {folder}/pid\nMutex file:{folder}\n"
        f"ErrorLog {folder}/log\nDocumentRoot {folder}/html\n{user}{load}"
        f"IncludeOptional /etc/apache2/mods-available/mime.conf\nIncludeOptional /etc/apache2/mods-available/deflate.conf\n"
        f"AddEncoding x-bzip2 .bz2\n{text}",
        encoding="utf-8",
    )
    return running([server, "-DFOREGROUND", "-f", folder / "conf"], port)


@pytest.fixture
def synced(upstream: Upstream, channel: Channel) -> Iterator[Mirror]:
    """A mirror with two snapshots, and a folder `server` beside it; pytest's own folders are closed to Apache's user."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "server").mkdir()
        mirror = Mirror(Path(folder) / "mirror")
        mirror.add("chan", f"{upstream.url}/chan", subdirs=["linux-64"], bz2=True)
        mirror.sync()
        channel.add(make_package("tool", "2.0", subdir="linux-64", depends=["lib"]))
        channel.publish()
        mirror.sync()
        yield mirror


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, links followed."""
    found = (Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@contextlib.contextmanager
def nginx_tree(mirror: Mirror, folder: Path) -> Iterator[str]:
    port = free_port()
    places = {"/srv/mirror/store/published": f"{mirror.store_path}/published", "listen 8081": f"listen 127.0.0.1:{port}"}
    with nginx(folder, port, example("nginx-tree.conf", places)):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def apache_tree(mirror: Mirror, folder: Path) -> Iterator[str]:
    port = free_port()
    (folder / "html").mkdir(exist_ok=True)
    (folder / "html" / "mirror").symlink_to(mirror.store_path / "published")
    with apache(folder, port, example("apache-tree.conf", {"/var/www/html/mirror>": f"{folder}/html/mirror>"})):
        yield f"http://127.0.0.1:{port}/mirror"


TREES = {"nginx": nginx_tree, "Apache": apache_tree}


@pytest.mark.parametrize("server", TREES)
def test_exported_snapshots_are_served_as_serve_does(synced: Mirror, tmp_path: Path, server: str) -> None:
    first, second = synced.snapshots()
    published = synced.store_path / "published"
    with serving(synced.store_path) as ours, TREES[server](synced, synced.root.parent / "server") as url:
        for selector in ("current", first):
            for path in files(published / selector):
                answer = requests.get(f"{url}/{selector}/{path}", headers=IDENTITY, timeout=9)
                assert (answer.status_code, answer.content) == (
                    200,
                    requests.get(f"{ours}/{selector}/{path}", timeout=9).content,
                )
                for_ever = selector == first or "/shards/" in path
                assert ("immutable" in answer.headers["Cache-Control"]) == for_ever, path
                if not path.endswith(".json"):
                    assert "Content-Encoding" not in requests.head(f"{url}/{selector}/{path}", timeout=9).headers, path
        assert files(published / "current") == files(published / second) != files(published / first)
        package = f"{url}/current/chan/noarch/lib-1.0-0.conda"
        part = requests.get(package, headers={"Range": "bytes=-5"}, timeout=9)
        whole = requests.get(package, timeout=9)
        assert (part.status_code, part.content) == (206, whole.content[-5:])
        again = requests.get(package, headers={"If-None-Match": whole.headers["ETag"]}, timeout=9)
        assert again.status_code == 304
        for absent in ("current/chan/noarch/no-1.0-0.conda", "current/no", ".trees/", "2020-01-01/chan/noarch/repodata.json"):
            answer = requests.get(f"{url}/{absent}", timeout=9)
            assert (answer.status_code, "Cache-Control" in answer.headers) == (404, False), absent
        assert set(install(f"{url}/current/chan", "tool", tmp_path / "client")) == {"tool", "lib"}


class Authority(NamedTuple):
    """A certificate authority of one's own, and what it has signed for localhost."""

    ca: Path
    certificate: Path
    key: Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "ca"
    folder.mkdir()
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n"
    (folder / "extensions").write_text(extensions, encoding="utf-8")
    new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for command in (
        f"req -x509 {new} -keyout ca.key -out ca.pem -subj /CN=Ours -days 2 -addext keyUsage=critical,keyCertSign",
        f"req {new} -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out server.pem -days 2",
    ):
        subprocess.run([program("openssl"), *command.split()], cwd=folder, check=True, capture_output=True)
    return made


@contextlib.contextmanager
def serve(mirror: Mirror, **settings: str) -> Iterator[str]:
    """`snapmirror serve` with settings of its own; its URL."""
    mirror.settings["serve"] = {"port": 0, **settings}
    with mirror.start("serve") as process:
        try:
            assert process.stderr
            yield process.stderr.readline().split()[-1].rstrip("/")
        finally:
            process.terminate()


@contextlib.contextmanager
def proxied(mirror: Mirror, folder: Path, authority: Authority, name: str) -> Iterator[tuple[str, str]]:
    """`snapmirror serve` behind a proxy: the URLs of the proxy and of the server."""
    port = free_port()
    with serve(mirror, public_url=f"https://localhost:{port}/mirror") as ours:
        places = {
            "http://127.0.0.1:8080": ours,
            "/etc/ssl/mirror/server.pem": str(authority.certificate),
            "/etc/ssl/mirror/server.key": str(authority.key),
        }
        start, listening = (nginx, "listen 443") if name.startswith("nginx") else (apache, "*:443")
        text = example(name, {**places, listening: listening.replace("*:443", f"*:{port}").replace(" 443", f" {port}")})
        with start(folder, port, text):
            yield f"https://localhost:{port}/mirror", ours


@pytest.mark.parametrize("name", ["nginx-serve.conf", "apache-serve.conf"])
def test_serve_below_a_path_with_a_certificate_of_ones_own(
    synced: Mirror, tmp_path: Path, authority: Authority, name: str
) -> None:
    with proxied(synced, synced.root.parent / "server", authority, name) as (url, ours), requests.Session() as session:
        with pytest.raises(requests.exceptions.SSLError):
            session.get(f"{url}/", timeout=9)
        session.verify = str(authority.ca)
        session.trust_env = False  # or an authority named in the environment would count instead
        for path in files(synced.store_path / "published" / "current"):
            there, here = (session.get(f"{at}/current/{path}", headers=IDENTITY, timeout=9) for at in (url, ours))
            assert there.status_code == 200
            for header in ("ETag", "Cache-Control", "Content-Type", "Last-Modified", "X-Snapmirror-Snapshot"):
                assert there.headers.get(header) == here.headers.get(header), (path, header)
            assert there.content == here.content
        package = f"{url}/current/chan/noarch/lib-1.0-0.conda"
        etag = session.get(package, timeout=9).headers["ETag"]
        part = session.get(package, headers={"Range": "bytes=1-3", "If-Range": etag}, timeout=9)
        assert (part.status_code, len(part.content)) == (206, 3)
        assert session.get(package, headers={"If-None-Match": etag}, timeout=9).status_code == 304
        assert session.get(f"{url}/current/chan/noarch/no.conda", timeout=9).status_code == 404
        assert session.get(f"{url}/current/chan", timeout=9).url == f"{url}/current/chan/"  # a folder: redirected within
        there, here = (session.get(f"{at}/-/api/v1/which/a%2Fb.sh", timeout=9).json() for at in (url, ours))
        assert there == here
        condarc = yaml.safe_load(session.get(f"{url}/-/config/current/condarc", timeout=9).text)
        assert condarc["channel_alias"] == f"{url}/current"
        assert session.get(f"{condarc['channel_alias']}/chan/noarch/repodata.json", timeout=9).ok


def test_nginx_sends_the_bytes_of_files_and_serve_says_what_they_are(synced: Mirror, tmp_path: Path) -> None:
    port, first = free_port(), synced.snapshots()[0]
    with serve(synced, accel="/internal/") as behind, serving(synced.store_path) as ours:
        places = {"http://127.0.0.1:8080": behind, "listen 8081": f"listen 127.0.0.1:{port}"}
        text = example("nginx-accel.conf", {**places, "/srv/mirror/store/blobs": f"{synced.store_path}/blobs"})
        with nginx(synced.root.parent / "server", port, text), requests.Session() as session:
            url = f"http://127.0.0.1:{port}"
            for path in [f"{at}/{path}" for at in ("current", first) for path in files(synced.store_path / "published" / at)]:
                here = requests.get(f"{ours}/{path}", headers=IDENTITY, timeout=9)
                etag = here.headers["ETag"]
                for more in (
                    {},
                    {"Range": "bytes=2-5"},
                    {"Range": "bytes=2-5", "If-Range": etag},
                    {"Range": "bytes=2-5", "If-Range": '"another"'},
                    {"If-None-Match": etag},
                    {"If-None-Match": '"another"'},
                    {"If-Modified-Since": "Sat, 21 Nov 2099 00:00:00 GMT"},
                ):
                    here, there = (session.get(f"{at}/{path}", headers=IDENTITY | more, timeout=9) for at in (ours, url))
                    assert (there.status_code, there.content) == (here.status_code, here.content), (path, more)
                    assert settled(there) == settled(here), (path, more)
                here, there = (session.head(f"{at}/{path}", headers=IDENTITY, timeout=9) for at in (ours, url))
                assert settled(there) == settled(here)
            assert session.get(f"{url}/current/chan/noarch/no-1.0-0.conda", timeout=9).status_code == 404
            blob = next((synced.store_path / "blobs").glob("*/*"))
            assert session.get(f"{url}/internal/{blob.parent.name}/{blob.name}", timeout=9).status_code == 404
            package = requests.get(f"{behind}/current/chan/noarch/lib-1.0-0.conda", timeout=9)
            assert (package.status_code, package.content) == (200, b"")  # it is nginx that sends them
            assert set(install(f"{url}/current/chan", "tool", tmp_path / "client")) == {"tool", "lib"}


def settled(answer: requests.Response) -> dict[str, str]:
    """The headers of an answer, without those of the server and the connection."""
    changing = {"Date", "Server", "Connection", "Transfer-Encoding"}
    if answer.status_code == 206:
        changing.add("Accept-Ranges")  # nginx leaves it out of a part: it goes without saying
    return {name: value for name, value in answer.headers.items() if name not in changing}


def test_an_rsync_module_gives_the_bytes_that_are_served(synced: Mirror, tmp_path: Path) -> None:
    rsync, port = program("rsync"), free_port()
    text = example("rsyncd.conf", {"/srv/mirror/store/published": f"{synced.store_path}/published"})
    chroot = "" if os.geteuid() == 0 else "use chroot = no\n"
    (tmp_path / "rsyncd.conf").write_text(f"pid file = {tmp_path}/pid\n{chroot}{text}", encoding="utf-8")
    daemon = [rsync, "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}", f"--config={tmp_path}/rsyncd.conf"]
    with running([*daemon], port), serving(synced.store_path) as ours:
        for selector in ("current", synced.snapshots()[0]):
            copy = tmp_path / selector
            subprocess.run([rsync, "-aL", f"rsync://127.0.0.1:{port}/snapshots/{selector}/", copy], check=True)
            found = files(copy)
            assert "chan/noarch/lib-1.0-0.conda" in found
            assert found == {path: requests.get(f"{ours}/{selector}/{path}", timeout=9).content for path in found}
            assert found == files(synced.store_path / "published" / selector)
