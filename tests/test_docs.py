"""The pages of docs/ are true: what they tell a reader to do is done here, in the order of the page, and works.

Upstreams are those of the tests: a channel in the place of conda-forge, an index in the place of PyPI, with a few packages that
have names of real ones.
"""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import documents
import pytest
from channels import Channel, make_package
from documents import ROOT, clean
from mirror import Mirror
from pypi_index import Index
from services import moto
from serving import free_port, server
from test_web_servers import Authority, authority, example, nginx, program  # noqa: F401
from upstream import Upstream
from wheels import wheel

#: commands of README and of the pages that are not run -> why
NOT_RUN = {
    "conda create -n hello -c http://127.0.0.1:8080/before-the-update/greetings --override-channels hello-snapmirror":
        "conda is not on the machines that run the tests",
    "conda create -n hello -c http://127.0.0.1:8080/2026-02-15/greetings --override-channels hello-snapmirror":
        "likewise",
    "make demo": "test_documents.py runs the demo",
    "make test": "these are the tests",
    "make install": "it writes to /usr/local",
    "snapmirror replicate http://mirror:8080": "on a second machine, see test_copies.py",
    "snapmirror import days.tar": "on a second machine, as docs/howto/air-gap.md does",
}  # fmt: skip
DOCS = ROOT / "docs"
CONDA_FORGE = "https://conda.anaconda.org/conda-forge"
PACKAGES = (
    make_package("python", "3.12.1", subdir="linux-64"),
    make_package("numpy", "2.3.0", subdir="linux-64", depends=["python >=3.12"]),
)
OLD = "2024-03-01T10:00:00.000000Z"
NOW = datetime.now(UTC)


class World:
    """The upstreams, and what stands for what in a page: their addresses, and today for the day that pages are about."""

    def __init__(self, index: Index, upstream: Upstream) -> None:
        self.index = index
        #: the folder of the channel
        self.channel = upstream.root / "conda-forge"
        self.changes = {
            'upstream = "PyPI"': f'upstream = "{index.url}/simple/"',
            CONDA_FORGE: f"{upstream.url}/conda-forge",
            "http://mirror:": "http://127.0.0.1:",
            "2026-11-20": f"{NOW:%Y-%m-%d}",
        }

    def upload(self, project: str, version: str, requires: list[str], when: str = OLD) -> None:
        """A wheel that pip takes."""
        file, content, metadata = wheel(project, version, requires)
        self.index.upload(project, file, content, metadata, upload_time=when)


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An index with two versions of requests, the older one old, and a channel."""
    folder = tmp_path_factory.mktemp("upstreams")
    channel = Channel(folder / "conda" / "conda-forge", subdirs=["linux-64"])
    channel.add(*PACKAGES)
    channel.publish()
    with Index(folder / "index") as index, Upstream(folder / "conda") as upstream:
        made = World(index, upstream)
        for version in ("2.32.4", "2.32.5"):
            made.upload("requests", version, ["idna >=2"])
        made.upload("idna", "3.10", [])
        yield made


@pytest.fixture(autouse=True)
def _shell() -> None:
    """What pages are run with."""
    for name in ("bash", "curl"):
        program(name)


def ports(*stated: str) -> dict[str, str]:
    """A free port for each that a page has."""
    return {port: str(free_port()) for port in stated}


def yesterday() -> str:
    """As an upload time."""
    return f"{NOW - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"


def test_every_command_is_run_or_said_not_to_be() -> None:
    """All pages with commands have a test here, but for targets of make, which test_documents.py looks at."""
    tested, stated = Path(__file__).read_text(encoding="utf-8"), set[str]()
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        lines = {command for block in documents.blocks(page, "console", "sh") for command, _ in documents.commands(block)}
        assert f'"{page.name}"' in tested or all(line.startswith("make ") for line in lines), page.name
        stated |= lines
    assert set(NOT_RUN) <= stated


def test_the_tutorial(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    documents.run(DOCS / "tutorial.md", tmp_path, {}, NOT_RUN, ports("8080", "8900"))


@pytest.mark.slow
def test_replace_a_nexus(tmp_path: Path, world: World) -> None:
    documents.run(DOCS / "howto" / "nexus.md", tmp_path, world.changes, ports=ports("8081"))


@pytest.mark.slow
def test_replace_a_mirror_script(tmp_path: Path, world: World) -> None:
    old = tmp_path / "old"
    shutil.copytree(world.channel, old / "anaconda" / "cloud" / "conda-forge")
    documents.run(DOCS / "howto" / "mirror-script.md", tmp_path, {**world.changes, "/srv/old": str(old)}, ports=ports("8080"))


@pytest.mark.slow
def test_reproduce_a_papers_environment(tmp_path: Path, world: World) -> None:
    documents.run(DOCS / "howto" / "paper.md", tmp_path, world.changes, ports=ports("8080"))


@pytest.mark.slow
def test_wait_before_you_trust(tmp_path: Path, world: World) -> None:
    world.upload("requests", "2.33.0", ["idna >=2"], yesterday())
    world.upload("certifi", "2026.11.12", [], yesterday())
    documents.run(DOCS / "howto" / "cooldown.md", tmp_path, world.changes, ports=ports("8080"))


@pytest.mark.slow
def test_a_cache_for_ci(tmp_path: Path, world: World) -> None:
    """The page's mirror has snapshots of earlier days already; requests 2.33.0 came on the fifth of them."""
    (tmp_path / "before.toml").write_text(
        f'[[repo]]\nkind = "pypi"\npath = "pypi"\nupstream = "{world.index.url}/simple/"\nprojects = ["requests", "idna"]\n'
    )
    for day in range(1, 9):
        if day == 5:
            world.upload("requests", "2.33.0", ["idna >=2"], yesterday())
        command = ["snapmirror", "sync", "-c", "before.toml", "--seal-as", f"2024-11-0{day}"]
        subprocess.run(command, cwd=tmp_path, env=clean(tmp_path), check=True, capture_output=True)
    changes = {**world.changes, "2026-11-0": "2024-11-0", "2026110": "2024110"}
    documents.run(DOCS / "howto" / "ci.md", tmp_path, changes, ports=ports("8080"))


@pytest.mark.slow
def test_cross_an_air_gap(tmp_path: Path, world: World) -> None:
    world.upload("requests", "2.33.0", ["idna >=2"])
    documents.run(DOCS / "howto" / "air-gap.md", tmp_path, world.changes, ports=ports("8080"))


@pytest.mark.slow
def test_run_behind_nginx(tmp_path: Path, world: World, authority: Authority) -> None:  # noqa: F811
    folder, port, ours = tmp_path / "nginx", free_port(), ports("8080")
    folder.mkdir()
    places = {
        "http://127.0.0.1:8080": f"http://127.0.0.1:{ours['8080']}",
        "/etc/ssl/mirror/server.pem": str(authority.certificate),
        "/etc/ssl/mirror/server.key": str(authority.key),
        "listen 443": f"listen {port}",
    }
    changes = {**world.changes, "https://mirror.example.org": f"https://localhost:{port}"}
    with nginx(folder, port, example("nginx-serve.conf", places)):
        documents.run(DOCS / "howto" / "nginx.md", tmp_path, changes, ports=ours, CURL_CA_BUNDLE=str(authority.ca))


@pytest.mark.slow
def test_store_in_s3(tmp_path: Path, world: World) -> None:
    world.upload("requests", "2.33.0", ["idna >=2"])
    with moto() as service:
        service.client.create_bucket(Bucket="mirrors")
        changes = {**world.changes, "https://objects.example.org": service.endpoint}
        documents.run(DOCS / "howto" / "s3.md", tmp_path, changes, ports=ports("8080"))


#: fails with every snapshot but the one of 2026-11-01
BUILD = """\
#!/bin/sh
case $SNAPMIRROR_URL in */20241101T*) ;; *) exit 1; esac
"""


@pytest.mark.slow
def test_commands_of_readme(tmp_path: Path, world: World) -> None:
    """Each block by itself, beside a mirror with a snapshot of 2026-11-01 and one of today."""
    channel = world.channel
    lock = "".join(f"{CONDA_FORGE}/linux-64/{one.filename}#sha256:{one.record['sha256']}\n" for one in PACKAGES)
    (requests,) = (one for one in world.index.pages["requests"]["files"] if "2.32.5" in one["filename"])
    wheel_ = f'{{ url = "{requests["url"]}", hash = "sha256:{requests["hashes"]["sha256"]}" }}'
    texts = {
        "requirements.txt": "idna >=2\n",
        "environment.yml": "channels: [conda-forge]\ndependencies: [numpy]\n",
        "conda-lock.yml": f"@EXPLICIT\n{lock}",
        "project/uv.lock": f'version = 1\n[[package]]\nname = "requests"\nsource = {{ registry = "x" }}\nwheels = [{wheel_}]\n',
        "build-and-test.sh": BUILD,
        ".pixi/config.toml": "",
        ".config/pip/pip.conf": "",
        ".config/uv/uv.toml": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "build-and-test.sh").chmod(0o755)
    for name in ("conda-forge", "anaconda/cloud/bioconda"):
        shutil.copytree(channel, tmp_path / "old" / name)
    subprocess.run(["python3", "-m", "venv", tmp_path / "env"], check=True)

    mirror = Mirror(tmp_path)
    mirror.settings = {"sign": {"key": "snapmirror.key"}}
    mirror.run_bare("key", "generate", "snapmirror.key")
    for path in ("conda-forge", "anaconda/cloud/bioconda"):
        mirror.add(path, f"{world.changes[CONDA_FORGE]}", subdirs=["linux-64"])
    mirror.add("pypi", f"{world.index.url}/simple/", kind="pypi", projects=["requests", "idna"])
    mirror.sync("--seal-as", "2024-11-01")
    mirror.sync()
    with server(mirror.config) as (url, _):
        changes = {
            **world.changes,
            "http://mirror:8080": url,
            "/srv/old": f"{tmp_path}/old",
            "2026-11-01": "2024-11-01",
            "--since 2026-11-20": "--since 2024-11-01",  # today's is the last there is
        }
        for block in documents.blocks(ROOT / "README.md", "sh")[1:]:  # test_packaging.py runs the first
            made = documents.Session(changes, NOT_RUN, ports("8081"))
            made.add(block)
            made.run(tmp_path, PATH=f"{tmp_path}/env/bin:{clean(tmp_path)['PATH']}", VIRTUAL_ENV=f"{tmp_path}/env")
    installed = tmp_path.glob("env/lib/python*/site-packages/requests.py")
    assert [path.read_text() for path in installed] == ["version = '2.32.5'\n"]
