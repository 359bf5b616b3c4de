"""Ten syncs of an index on which happens all that happens on PyPI: each snapshot shows what a simple model says, for ever."""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from inprocess import collect, forget, store_at, sync
from mirror import Mirror
from pypi_index import JSON, Index, make_wheel
from pypi_schema import check_list, check_project
from serving import serving
from upstream import Body, Status
from waiting import eventually

from snapmirror.pypi import PypiRepo, leaf
from snapmirror.pypi.settings import Select
from snapmirror.store.denied import Rule
from snapmirror.store.records import Pin

HTML = "text/html"
#: a project that nobody has ever had is asked for too
NAMES = ["six", "idna", "foo-bar", "evil", "gone", "cursed", "lost", "torch", "nobody"]
REPOS: dict[str, Any] = {"all": "all", "named": NAMES}

Page = dict[str, Any]


# What happens


class PyPI(Index):
    """A project that is quarantined is not in its list."""

    def list(self) -> Page:
        hidden = {page["name"] for page in self.pages.values() if page["project-status"]["status"] == "quarantined"}
        made = super().list()
        return {**made, "projects": [project for project in made["projects"] if project["name"] not in hidden]}

    def release(self, project: str, *versions: str, status: str = "active", **keys: Any) -> None:
        """A wheel with its metadata and a source archive of each version."""
        for version in versions:
            self.wheel(project, version, upload_time="2026-01-01T10:00:00.5Z", **keys)
            self.upload(project, f"{project.replace('-', '_')}-{version}.tar.gz", **keys)
        page = self.pages[project]
        page.setdefault("project-status", {"status": status})
        page["versions"] = [*page.get("versions", []), *versions]

    def change(self, project: str, **keys: Any) -> None:
        """Something that is said of a project."""
        self.pages[project] |= {key.replace("_", "-"): value for key, value in keys.items()}
        self.touch(project)

    def file(self, name: str) -> Page:
        """What is said of a file; to be changed."""
        project, record = next((p, f) for p, page in self.pages.items() for f in page["files"] if f["filename"] == name)
        self.touch(project)
        return record

    def remove(self, name: str) -> None:
        self.file(name)
        for page in self.pages.values():
            page["files"] = [record for record in page["files"] if record["filename"] != name]

    def delete(self, project: str) -> None:
        del self.pages[project]
        self.serial += 1


def begin(index: PyPI) -> None:
    index.release("six", "1.15", "1.16")
    index.release("idna", "3.10")
    index.release("foo-bar", "1.0")
    index.change("foo-bar", name="Foo.Bar", x_unknown={"deep": [1, None, "é"]})
    index.release("evil", "6.6.6")
    index.release("gone", "1.0")
    index.release("cursed", "1.0")
    index.release("lost", "1.0", provenance="https://index.example/integrity/lost/1.0/x/provenance")
    index.release("torch", "2.0+cpu", requires_python=">=3.9,<4")


def upload_and_delete_a_file(index: PyPI) -> None:
    index.release("six", "1.17")
    index.remove("idna-3.10.tar.gz")
    index.release("cursed", "1.1")
    index.fault("/simple/cursed/", Status(404))


def yank_and_delete_projects(index: PyPI) -> None:
    index.heal()
    index.file("six-1.16-py3-none-any.whl")["yanked"] = 'broken: "<&>"'
    index.delete("gone")
    index.delete("cursed")


def lose_a_page_for_a_minute(index: PyPI) -> None:
    index.release("idna", "3.11")
    index.fault("/simple/idna/", Status(404))


def unyank(index: PyPI) -> None:
    index.heal()
    index.file("six-1.16-py3-none-any.whl")["yanked"] = False
    index.file("six-1.17.tar.gz")["yanked"] = True


def quarantine_and_rename(index: PyPI) -> None:
    index.change("evil", project_status={"status": "quarantined"}, files=[])
    index.release("foo-bar", "1.1")
    index.change("foo-bar", name="foo-bar")


def upload_again_and_answer_an_old_page(index: PyPI) -> None:
    index.remove("six-1.15.tar.gz")
    index.upload("six", "six-1.15.tar.gz", b"other bytes than before")
    old = index.pages["idna"]
    first = {**old, "meta": {**old["meta"], "_last-serial": 110}, "files": old["files"][:1], "versions": ["3.10"]}
    index.release("idna", "3.12")
    index.fault("/simple/idna/", Body(json.dumps(first).encode()))


def lose_a_page_for_long(index: PyPI) -> None:
    index.heal()
    index.release("lost", "1.1")
    index.fault("/simple/lost/", Status(404))


def lift_the_quarantine(index: PyPI) -> None:
    index.release("evil", "7.0")
    index.change("evil", project_status={"status": "archived", "reason": "no more <evil>"}, versions=["7.0"])


def find_it_and_take_a_free_name(index: PyPI) -> None:
    index.heal()
    index.release("gone", "0.1")


@dataclass(frozen=True)
class Step:
    """What happens before a sync, and when that begins."""

    time: str
    happen: Callable[[PyPI], None]
    #: projects that keep what they had, for they can't be believed
    all: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()


NOBODY = frozenset({"nobody"})
HISTORY = [
    Step("20260102T010000Z", begin, named=NOBODY),
    Step("20260102T030000Z", upload_and_delete_a_file, frozenset({"cursed"}), frozenset({"cursed"})),
    Step("20260103T010000Z", yank_and_delete_projects, named=frozenset({"gone"})),
    Step("20260103T010100Z", lose_a_page_for_a_minute, frozenset({"idna"}), frozenset({"idna", "gone"})),
    Step("20260103T030000Z", unyank),
    Step("20260104T010000Z", quarantine_and_rename),
    Step("20260105T010000Z", upload_again_and_answer_an_old_page, frozenset({"idna"}), frozenset({"idna"})),
    Step("20260105T013000Z", lose_a_page_for_long, frozenset({"lost"}), frozenset({"lost"})),
    Step("20260105T030000Z", lift_the_quarantine, frozenset({"lost"})),
    Step("20260106T010000Z", find_it_and_take_a_free_name),
]
IDS = [step.time for step in HISTORY]


# What should be seen


@dataclass
class Model:
    """What a mirror shows: what upstream answered, but for what it can't be believed."""

    projects: Any
    pages: dict[str, Page] = field(default_factory=dict)
    missing: dict[str, datetime] = field(default_factory=dict)

    def sync(self, upstream: str, now: datetime) -> None:
        listed = [_normal(project["name"]) for project in _get(f"{upstream}/simple/").json()["projects"]]
        for name in listed if self.projects == "all" else self.projects:
            answer = _get(f"{upstream}/simple/{name}/")
            if answer.status_code == 200:
                self.missing.pop(name, None)
                self._take(name, answer.json())
            elif self.projects != "all" and now - self.missing.setdefault(name, now) >= timedelta(hours=1):
                self.pages.pop(name, None)
        if self.projects == "all":
            self.pages = {name: page for name, page in self.pages.items() if name in listed}

    def _take(self, name: str, page: Page) -> None:
        if name not in self.pages or page["meta"]["_last-serial"] >= self.pages[name]["meta"]["_last-serial"]:
            self.pages[name] = page


def _normal(name: str) -> str:
    return name.lower().replace(".", "-")


def _get(url: str, accept: str = JSON) -> requests.Response:
    return requests.get(url, headers={"Accept": accept}, timeout=10)


# What is seen


@dataclass
class History:
    """A mirror of that index by its list, and one of named projects, after the ten syncs."""

    root: Path
    index: PyPI
    models: dict[str, list[dict[str, Page]]] = field(default_factory=lambda: {path: [] for path in REPOS})
    #: of each snapshot, when it was new: {(repo, page, form): its bytes, None for 404}
    seen: list[dict[tuple[str, str, str], bytes | None]] = field(default_factory=list)
    #: of each sync: {repo: projects that kept what they had}
    aside: list[dict[str, set[str]]] = field(default_factory=list)
    #: names of blobs after each sync
    blobs: list[set[str]] = field(default_factory=list)

    @property
    def repos(self) -> dict[str, Page]:
        upstream = f"{self.index.url}/simple/"
        return {path: {"path": path, "upstream": upstream, "projects": projects} for path, projects in REPOS.items()}

    def run(self) -> None:
        models = {path: Model(projects) for path, projects in REPOS.items()}
        now = datetime.now(UTC)
        store_path = self.root / "store"
        with store_at(store_path, lambda: now) as store, serving(store_path) as url:
            for number, step in enumerate(HISTORY):
                now = datetime.strptime(step.time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                step.happen(self.index)
                report = sync(store, *(PypiRepo(**keys) for keys in self.repos.values()))  # type: ignore[arg-type]
                assert report.snapshot == step.time
                self.aside.append({path: set(repo.directories[""].aside) for path, repo in report.repos.items()})
                for path, model in models.items():
                    model.sync(self.index.url, now)
                    self.models[path].append(copy.deepcopy(model.pages))
                store.snapshots.write_pin(Pin(name=f"pin-{number}", snapshot=step.time, set=step.time))
                self.blobs.append(blobs(store_path))
                self.seen.append(look(url, step.time, new=True))

    def copy(self, root: Path) -> Mirror:
        """A mirror that goes on from here, for a test of its own."""
        mirror = Mirror(root)
        shutil.copytree(self.root / "store", mirror.store_path, symlinks=True)
        mirror.repos = [{"kind": "pypi", **keys} for keys in self.repos.values()]
        return mirror


def look(url: str, selector: str, new: bool = False) -> dict[tuple[str, str, str], bytes | None]:
    """All pages of a snapshot in both forms; new: the server may not know it yet."""
    if new:
        eventually(lambda: _get(f"{url}/{selector}/all/simple/").headers.get("X-Snapmirror-Snapshot") == selector)
    found: dict[tuple[str, str, str], bytes | None] = {}
    with requests.Session() as session:
        for path in REPOS:
            for page in ["", *(f"{name}/" for name in NAMES)]:
                for form in (JSON, HTML):
                    answer = session.get(f"{url}/{selector}/{path}/simple/{page}", headers={"Accept": form}, timeout=10)
                    assert answer.status_code in (200, 404)
                    found[path, page, form] = answer.content if answer.status_code == 200 else None
    return found


def blobs(store: Path) -> set[str]:
    return {path.name for path in (store / "blobs").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    root = tmp_path_factory.mktemp("history")
    with PyPI(root / "index") as index:
        made = History(root, index)
        made.run()
        yield made


@pytest.fixture(scope="module")
def site(history: History) -> Iterator[str]:
    with serving(history.root / "store") as url:
        yield url


def test_the_history_is_one(history: History) -> None:
    """All that can happen has happened, and what can't be believed is named."""
    assert history.aside == [{"all": set(step.all), "named": set(step.named)} for step in HISTORY]
    states = history.models["named"]
    assert ["gone" in state for state in states] == [True] * 4 + [False] * 5 + [True]
    assert ["cursed" in state for state in states] == [True] * 2 + [False] * 8
    assert ["lost" in state for state in states] == [True] * 8 + [False] + [True]
    assert ["gone" in state for state in history.models["all"]] == [True] * 2 + [False] * 7 + [True]
    assert [state["foo-bar"]["name"] for state in states] == ["Foo.Bar"] * 5 + ["foo-bar"] * 5
    assert [len(state["evil"]["files"]) for state in states] == [2] * 5 + [0] * 3 + [2] * 2


@pytest.mark.parametrize("path", REPOS)
@pytest.mark.parametrize("number", range(len(HISTORY)), ids=[step.happen.__name__ for step in HISTORY])
def test_a_snapshot_is_what_upstream_was(path: str, number: int, history: History, site: str) -> None:
    """Every key of every page, but for the addresses of files: these are here, without a date."""
    model = history.models[path][number]
    for name in NAMES:
        body = history.seen[number][path, f"{name}/", JSON]
        if name not in model:
            assert body is None
            continue
        expected = copy.deepcopy(model[name])
        for record in expected["files"]:
            record["url"] = f"{site}/{path}{urlsplit(record['url']).path}"
        found = json.loads(body or b"")
        for record in found["files"]:
            record["url"] = urljoin(f"{site}/{IDS[number]}/{path}/simple/{name}/", record["url"]).replace("%2B", "+")
        assert found == expected
    listed = json.loads(history.seen[number][path, "", JSON] or b"")["projects"]
    assert sorted(listed, key=lambda project: project["name"].lower()) == sorted(
        ({"name": page["name"], "_last-serial": page["meta"]["_last-serial"]} for page in model.values()),
        key=lambda project: str(project["name"]).lower(),
    )


@pytest.mark.parametrize("number", range(len(HISTORY)))
def test_ids_days_and_pins_say_the_same(number: int, history: History, site: str) -> None:
    """To the byte; the state of a day is that of its end."""
    assert look(site, IDS[number]) == history.seen[number]
    assert look(site, f"pin-{number}") == history.seen[number]
    day = IDS[number][:8]
    last = max(place for place, id_ in enumerate(IDS) if id_.startswith(day))
    assert look(site, f"{day[:4]}-{day[4:6]}-{day[6:]}") == history.seen[last]


def test_nothing_changes_later(history: History, tmp_path: Path) -> None:
    """Upstream becomes another, is synced, what nobody needs is removed, and the index is made anew."""
    mirror = history.copy(tmp_path)
    with PyPI(tmp_path / "other") as other:
        for name in NAMES:
            other.release(name, "99")
        for repo in mirror.repos:
            repo["upstream"] = f"{other.url}/simple/"
        mirror.sync("--allow-shrink")
    with store_at(mirror.store_path) as store:
        assert collect(store) == 0
        with store.lock(None):
            store.reindex()
    with serving(mirror.store_path) as url:
        assert json.loads(look(url, "current")["named", "nobody/", JSON] or b"")["versions"] == ["99"]
        for number, id_ in enumerate(IDS):
            assert look(url, id_) == look(url, f"pin-{number}") == history.seen[number]


@pytest.mark.parametrize("path", REPOS)
def test_every_page_is_valid(path: str, history: History) -> None:
    """And says in HTML what it says in JSON."""
    for seen in history.seen:
        names = check_list(seen[path, "", JSON] or b"", seen[path, "", HTML] or b"")
        assert set(names) == {name for name in NAMES if seen[path, f"{name}/", HTML]}
        for name in names:
            of_json, of_html = (seen[path, f"{name}/", form] or b"" for form in (JSON, HTML))
            check_project(of_json, of_html, f"http://mirror.example/{path}/simple/{name}/")


def test_every_file_that_was_ever_listed_is_there(history: History, site: str) -> None:
    """Under the address that its pages give, with its metadata beside it; also what upstream replaced by other bytes."""
    found: dict[str, set[str]] = {}
    for number, seen in enumerate(history.seen):
        for (path, page, form), body in seen.items():
            if form != JSON or not page or body is None:
                continue
            for record in json.loads(body)["files"]:
                address = urljoin(f"{site}/{IDS[number]}/{path}/simple/{page}", record["url"])
                found.setdefault(address, set()).add(record["hashes"]["sha256"])
                if record["core-metadata"]:
                    found.setdefault(f"{address}.metadata", set()).add(record["core-metadata"]["sha256"])
    assert len({address for address in found if address.endswith("/six-1.15.tar.gz")}) == 4
    for address, digests in found.items():
        answer = _get(address, "*/*")
        assert {hashlib.sha256(answer.content).hexdigest()} == digests
        assert ("immutable" in answer.headers["Cache-Control"]) == (not address.endswith(".metadata"))


def test_nothing_is_lost_until_gc(history: History, tmp_path: Path) -> None:
    """Then only what no snapshot has any more."""
    assert all(before <= after for before, after in zip(history.blobs, history.blobs[1:], strict=False))
    listed = [
        {file["hashes"]["sha256"] for path in REPOS for page in history.models[path][number].values() for file in page["files"]}
        for number in range(len(HISTORY))
    ]
    ever = set().union(*listed)
    assert ever <= history.blobs[-1]
    mirror = history.copy(tmp_path)
    for number in range(len(HISTORY) - 1):
        (mirror.store_path / "pins" / f"pin-{number}.json").unlink()
    with store_at(mirror.store_path) as store:
        forget(store, *IDS[:-1])
        assert ever <= blobs(mirror.store_path)
        assert collect(store) > 0
    assert ever & blobs(mirror.store_path) == listed[-1] < ever


def test_where_nothing_has_changed(history: History, tmp_path: Path) -> None:
    """Nothing is asked but whether it has: for the list, or for the pages of the named projects."""
    mirror = history.copy(tmp_path)
    mirror.repos[1]["projects"] = list(history.index.pages)
    mirror.sync("named")  # its settings are others
    for path, asked in (("all", {"/simple/"}), ("named", {f"/simple/{name}/" for name in mirror.repos[1]["projects"]})):
        history.index.clear()
        report = mirror.sync("--json", path).json["repos"][path]["directories"][""]
        assert (report["state"], report["fetch_files"]) == ("unchanged", 0)
        assert set(history.index.paths()) == asked
        assert {request.status for request in history.index.requests} == {304}


def test_a_list_that_says_nothing_of_changes(tmp_path: Path) -> None:
    """HTML without serials: deletions are followed, and each page is asked only whether it has changed."""
    with Index(tmp_path / "index", json=False, serials=False) as index:
        for project in ("six", "idna", "torch"):
            index.wheel(project, "1.0")
        mirror = Mirror(tmp_path / "mirror")
        mirror.repos = [{"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": "all"}]
        mirror.sync()
        del index.pages["torch"]
        index.wheel("six", "2.0")
        mirror.sync()
        assert {name: len(page["files"]) for name, page in leaves(mirror).items()} == {"six": 2, "idna": 1}
        index.clear()
        mirror.sync()
        assert index.asked() == ["idna 304", "six 304", "the list 200"]


def test_another_upstream_with_the_same_serials(tmp_path: Path) -> None:
    """They mean something else there; those of several upstreams of one repo mean the same."""
    with Index(tmp_path / "one") as one, Index(tmp_path / "other") as other:
        for version, index in {"1.0": one, "9.0": other}.items():
            for project in ("six", "idna"):
                index.wheel(project, version)
        mirror = Mirror(tmp_path / "mirror")
        both = [f"{one.url}/simple/", f"{other.url}/simple/"]
        found = []
        for upstream in (both[0], both[1], both):
            mirror.repos = [{"kind": "pypi", "path": "pypi", "upstream": upstream, "projects": "all"}]
            mirror.sync()
            found.append({record["filename"].split("-")[1] for page in leaves(mirror).values() for record in page["files"]})
        assert found == [{"1.0"}, {"9.0"}, {"9.0"}]


def test_sizes_that_nobody_states(tmp_path: Path) -> None:
    """HTML has none: that is said, not that there is nothing to fetch."""
    with Index(tmp_path / "index", json=False, serials=False) as index:
        index.wheel("six", "1.0")
        mirror = Mirror(tmp_path / "mirror")
        mirror.repos = [{"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": ["six"]}]
        with store_at(mirror.store_path):
            planned = mirror.sync("--dry-run").out
        assert "pypi: would fetch 1 file, sizes not stated\n" in planned
        assert "To fetch: 1 file, sizes not stated; " in planned
        assert "fetching 1 file, sizes not stated\n" in mirror.sync().err
        assert "To fetch: 0 files, 0; " in mirror.sync("--dry-run").out


def test_a_file_of_two_projects_that_fails_keeps_both_as_they_were_and_no_other(tmp_path: Path) -> None:
    """Its name may be that of a post-release of one, and of a release of the other."""
    with Index(tmp_path / "index") as index, store_at(tmp_path / "store") as store:
        repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", projects="all")
        for project in ("six", "six-1", "idna"):
            index.upload(project, f"{project}-1.0.tar.gz")
        sync(store, repo)  # type: ignore[arg-type]
        for project in ("six", "six-1"):
            index.upload(project, "six-1-2.tar.gz")
        index.upload("idna", "idna-2.0.tar.gz")
        index.fault("*/six-1-2.tar.gz", Status(503))
        found = sync(store, repo).repos["pypi"].directories[""]  # type: ignore[arg-type]
        assert (found.aside.keys(), found.problem, found.files) == ({"six", "six-1"}, None, 4)


def test_an_index_that_loses_all_its_projects(tmp_path: Path) -> None:
    """Named ones: it has moved, say. The mirror keeps what it has until the operator says that this is meant."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with Index(tmp_path / "index") as index, store_at(tmp_path / "store", lambda: now) as store:
        repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", projects=["six", "idna"])
        for project in ("six", "idna"):
            index.wheel(project, "1.0")
        sync(store, repo)  # type: ignore[arg-type]
        index.simple = "/elsewhere/"
        found = []
        for allow_shrink in (False, False, True):
            now += timedelta(hours=2)
            report = sync(store, repo, allow_shrink=allow_shrink)  # type: ignore[arg-type]
            found.append((report.exit_status(strict=False), report.repos["pypi"].files))
        assert found == [(3, 4), (1, 4), (0, 0)]


@pytest.mark.parametrize("denied", [(), ("six==9",)], ids=["nothing denied", "something denied"])
def test_a_project_that_is_deleted_for_certain_may_be_most_of_what_there_was(denied: tuple[str, ...], tmp_path: Path) -> None:
    """That is no accident of upstream's; nothing else has changed."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with Index(tmp_path / "index") as index, store_at(tmp_path / "store", lambda: now) as store:
        repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", projects=["six", "idna"])
        for project, version in (("six", "1.0"), ("idna", "1.0"), ("idna", "2.0"), ("idna", "3.0")):
            index.wheel(project, version)
        for spec in denied:
            store.denied.write(Rule(repo="pypi", spec=spec, reason="", since="20260101T000000Z"))
        sync(store, repo)  # type: ignore[arg-type]
        del index.pages["idna"]
        found = []
        for _ in range(2):
            now += timedelta(hours=2)
            report = sync(store, repo)  # type: ignore[arg-type]
            found.append((report.exit_status(strict=False), report.repos["pypi"].files))
        assert found == [(3, 8), (0, 2)]


@pytest.mark.parametrize("modern", [True, False], ids=["JSON with metadata", "HTML with nothing"])
@pytest.mark.parametrize(
    "failing",
    [["/simple/app/", "/packages/*/app-*"], ["/packages/*/app-*.whl"]],
    ids=["page", "file"],
)
def test_what_a_project_needs_that_keeps_its_old_state(failing: list[str], modern: bool, tmp_path: Path) -> None:
    """Stays with it, though it would need something else now, and though its files can't be had for a second look."""
    with Index(tmp_path / "index", json=modern, serials=False) as index, store_at(tmp_path / "store") as store:
        upload = index.wheel if modern else lambda *wheel: index.upload(wheel[0], *make_wheel(*wheel)[:2])
        for wheel in (("app", "1.0", ["lib<2"]), ("lib", "1.0", ["base"]), ("base", "1.0"), ("other", "1.0")):
            upload(*wheel)
        select = Select(with_dependencies=True, newest=1)
        repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", projects=["app", "other"], select=select)

        def mirrored() -> set[str]:
            report = sync(store, repo)  # type: ignore[arg-type]
            aside.append(set(report.repos["pypi"].directories[""].aside))
            reader = store.metadata.directory(store.catalog().records[-1].repos["pypi"].directories[""].blob)
            return {record["filename"][:-17] for _, content in reader.contents() for record in leaf.decode(content)["files"]}

        aside: list[set[str]] = []
        assert mirrored() == {"app-1.0", "lib-1.0", "base-1.0", "other-1.0"}
        for wheel in (("app", "2.0", ["lib>=2"]), ("lib", "2.0"), ("other", "2.0")):
            upload(*wheel)
        for path in failing:
            index.fault(path, Status(503))
        assert mirrored() == {"app-1.0", "lib-1.0", "base-1.0", "other-2.0"}
        index.heal()
        assert mirrored() == {"app-2.0", "lib-2.0", "other-2.0"}
        assert aside == [set(), {"app"}, set()]


def leaves(mirror: Mirror) -> dict[str, Page]:
    return {name: leaf.decode(content) for name, content in mirror.reader("pypi/").contents()}


def test_a_withheld_file_is_tried_again_though_its_project_has_not_changed(tmp_path: Path) -> None:
    """Of a list nothing but serials is compared; what could not be had is missing from one sync to the next."""
    (tmp_path / "index").mkdir()
    with Index(tmp_path / "index") as index:
        index.wheel("six", "1.0")
        index.wheel("idna", "1.0")
        mirror = Mirror(tmp_path / "mirror")
        mirror.repos = [{"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": "all"}]
        mirror.sync()
        late = index.wheel("six", "2.0")
        index.fault(f"/packages/*/{late}", Status(404))
        mirror.sync(status=3)
        index.wheel("idna", "2.0")  # the list changes, six does not
        mirror.sync("--strict", status=3)
        assert late in mirror.withheld("pypi/")
        index.fault("/simple/six/", Status(403))
        assert "withheld" not in mirror.sync(status=3).err  # six keeps its old state, and that is what it had
        assert late in mirror.withheld("pypi/")
        index.heal()
        index.fault(f"/packages/*/{late}", Status(404))
        mirror.sync()  # it is told of once
        index.heal()
        index.wheel("idna", "3.0")
        mirror.sync("--strict")
        assert late in {file.name for _, content in mirror.reader("pypi/").contents() for file in leaf.files(content)}
        index.fault(f"/packages/*/{index.wheel('six', '3.0')}", Status(404))
        mirror.sync(status=3)
        del index.pages["six"]
        index.serial += 1
        index.clear()
        mirror.sync("--strict")
        assert index.asked() == ["the list 200"]  # not for what is there no more
