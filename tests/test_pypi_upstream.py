"""Package indexes as upstreams: what is asked for and when, what is believed, and what keeps its old state."""

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypi_index import Index, Remembered, follow, make_wheel
from upstream import Body, Html, Status, Upstream

from snapmirror.errors import AbsentError, BadIndexError, TransportError
from snapmirror.pypi import Pypi, PypiRepo, leaf, listing
from snapmirror.transfer.http import Http
from snapmirror.transfer.settings import Download

HOUR = timedelta(hours=1)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index with three projects."""
    with Index(tmp_path / "index") as made:
        made.wheel("six", "1.16.0")
        made.wheel("idna", "3.10")
        made.upload("Flask.Thing", "flask_thing-1.0.tar.gz")
        made.pages["flask-thing"] = made.pages.pop("flask.thing")
        yield made


def pages(leaves: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """What leaves say."""
    return {name: leaf.decode(content) for name, content in leaves.items()}


# Named projects


def test_named_projects(index: Index) -> None:
    """Every key of a page is kept, known or not; then nothing is asked but whether it has changed; never for the list."""
    index.pages["six"] |= {"x-new": {"deep": [1, None, 2.5]}, "project-status": {"status": "active"}}
    index.pages["six"]["files"][0] |= {"x-file": "é", "data-dist-info-metadata": {"sha256": "0" * 64}, "provenance": None}
    follower = follow(index, "SIX", "flask-thing")
    assert pages(follower.sync()) == {name: index.pages[name] for name in ("six", "flask-thing")}
    assert set(index.asked()) == {"flask-thing 200", "six 200"}

    before = dict(follower.leaves)
    assert follower.sync() == before
    assert index.asked() == ["flask-thing 304", "six 304"]
    assert not follower.read

    index.wheel("six", "1.17.0")
    assert pages(follower.sync())["six"] == index.pages["six"]
    assert index.asked() == ["flask-thing 304", "six 200"]


class Packing(Index):
    """Packs its pages if asked to, as Apache does: it knows the ETag that it gives them only without its end."""

    def _answer(self, method: str, path: str, headers: Any) -> Any:
        status, plan = super()._answer(method, path, headers)
        if status.code != 200 or headers.get("accept-encoding") != "gzip":
            return status, plan
        fields = {"ETag": status.headers["ETag"].removesuffix('"') + '-gzip"', "Content-Encoding": "gzip"}
        return replace(status, headers={**status.headers, **fields}, body=gzip.compress(status.body)), plan


def test_pages_are_packed_on_their_way(tmp_path: Path) -> None:
    """If upstream can do that; what tells whether they have changed does so nevertheless."""
    with Packing(tmp_path) as index:
        for number in range(100):
            index.wheel("six", f"1.{number}")
        follower = follow(index, "six", upstream=f"{index.url}/simple")
        assert pages(follower.sync()) == index.pages
        assert index.bytes_sent() < len(json.dumps(index.pages)) * 0.7
        index.clear()
        follower.sync()
        assert index.asked() == ["six 304"]


def test_notes_may_be_lost(index: Index) -> None:
    follower = follow(index, "six")
    before = dict(follower.sync())
    follower.notes = Remembered()
    index.clear()
    assert follower.sync() == before
    assert set(index.asked()) == {"six 200"}
    assert follower.sync() == before
    assert index.asked() == ["six 304"]


@pytest.mark.parametrize("simple", ["/simple/", "/", "/whl/cpu/"])
@pytest.mark.parametrize("stated", ["", "/", "simple", "simple/"])
def test_the_address_of_an_index(tmp_path: Path, simple: str, stated: str) -> None:
    """With and without `/simple` at its end; an index need not have it. What was found out is not tried again."""
    with Index(tmp_path, simple=simple) as index:
        index.wheel("six", "1.0")
        folder = simple.removesuffix("simple/").removesuffix("/")
        upstream = f"{index.url}{folder}{stated if stated in ('', '/') else f'/{stated}'}"
        if stated.startswith("simple") and simple != "/simple/":
            with pytest.raises(AbsentError):
                follow(index, upstream=upstream).sync()
            return
        for one in (follow(index, "six", upstream=upstream), follow(index, upstream=upstream)):
            assert pages(one.sync()) == index.pages
            index.clear()
            one.sync()
            assert {request.status for request in index.requests} == {304}


def test_an_index_that_fails_before_it_is_known_where_its_pages_are(index: Index) -> None:
    """Fails: that there is no project in the folder above says nothing."""
    index.fault("/simple/*", Status(503))
    with pytest.raises(TransportError, match="/simple/six/: upstream answers 503"):
        follow(index, "six").sync()
    index.heal()
    assert set(follow(index, "six").sync()) == {"six"}


def test_an_index_that_moves(index: Index) -> None:
    """Is found again, and its projects have not been deleted meanwhile."""
    follower = follow(index, "six", "idna")
    before = dict(follower.sync())
    index.simple = "/"
    assert follower.sync() == before
    assert set(follower.aside) == {"six", "idna"}
    index.wheel("six", "1.17.0")
    assert pages(follower.sync(2 * HOUR))["six"] == index.pages["six"]
    assert not follower.aside


def test_a_list_that_moves(index: Index) -> None:
    """Is found again; what is only like a list, as the front page of a server may be, does not take its place."""
    follower = follow(index)
    before = dict(follower.sync())
    index.fault("/simple/", Status(404))
    index.fault("/", Html("<title>Index of /</title><a href='packages/'>packages/</a>"))
    with pytest.raises(AbsentError):
        follower.sync()
    index.heal()
    index.simple = "/"
    assert follower.sync() == before


def test_a_list_below_a_page_that_links_to_it(tmp_path: Path) -> None:
    with Index(tmp_path, json=False, serials=False) as index:
        index.wheel("six", "1.0")
        index.fault("/", Html("<title>Index of /</title><a href='packages/'>packages/</a><a href='simple/'>simple/</a>"))
        assert set(follow(index).sync()) == {"six"}
        index.heal()
        index.simple = "/"
        index.html["simple"] = f"<title>Links for simple</title><a href='simple-1.zip#sha256={'a' * 64}'>simple-1.zip</a>"
        assert set(follow(index).sync()) == {"six"}


def test_all_projects_gone_at_once(index: Index) -> None:
    """Named ones: that is more likely an accident, and not called certain; one alone, or some of them, may be deleted."""
    both, one = follow(index, "six", "idna"), follow(index, "six")
    for follower in (both, one):
        follower.sync()
    index.simple = "/elsewhere/"
    for follower in (both, one):
        follower.sync()
        follower.sync(2 * HOUR)
        assert not follower.aside
    assert (both.gone, one.gone) == (set(), {"six"})


def test_names_that_upstream_has_never_had(index: Index) -> None:
    """A project that is deleted is nobody's fault; one that never was is a name that is not right."""
    follower = follow(index, "six", "idna", "sixx")
    follower.sync()
    del index.pages["idna"]
    follower.sync(2 * HOUR)
    assert (set(follower.aside), follower.warnings) == ({"idna"}, [f"{index.url}/simple/sixx/: {_NEVER}"])
    follower.sync(2 * HOUR)
    assert set(follower.leaves) == {"six"}
    assert follower.warnings == [f"{index.url}/simple/sixx/: {_NEVER}"] * 2
    with pytest.raises(AbsentError, match="/simple/sixx/: upstream answers 404"):
        follow(index, "sixx", "seven", upstream=f"{index.url}/simple").sync()


def test_names_that_anybody_asks_for_leave_nothing_behind(index: Index) -> None:
    """Of one that upstream has never had nothing is noted: a client may make up as many as it likes."""
    notes = Remembered()
    repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", download="on-demand", metadata="on-request")
    with Http(Download(retries=0), print, notes) as http:
        for name in ("sixx", "sixx", "seven"):
            with pytest.raises(AbsentError):
                Pypi().read_name(repo, name, http)
        assert notes.rows == {}
        Pypi().read_name(repo, "six", http)
        del index.pages["six"]
        with pytest.raises(AbsentError):
            Pypi().read_name(repo, "six", http)
        assert len(notes.rows) == 1


_NEVER = "upstream answers 404, as it always has: is the name right?"


def test_where_pypi_is() -> None:
    """Its address is in no file of ours."""
    repo = PypiRepo(path="pypi", upstream="PyPI", projects=["six"])
    assert repo.upstreams[0].startswith("https://")
    assert repo.upstreams[0].endswith("/simple/")


def test_credentials_are_neither_kept_nor_told(index: Index) -> None:
    """They are sent, and what is kept of an address is without them."""
    index.credentials = ("user", "secret")
    index.pages["six"]["files"][0]["url"] = "../../packages/six-1.16.0-py2.py3-none-any.whl"
    follower = follow(index, "six", "nothing", upstream=index.url.replace("//", "//user:secret@"))
    (record,) = pages(follower.sync())["six"]["files"]
    assert record["url"] == f"{index.url}/packages/six-1.16.0-py2.py3-none-any.whl"
    assert "secret" not in f"{follower.leaves} {follower.aside} {follower.warnings} {follower.notes.rows}"


def test_the_next_upstream(index: Index, tmp_path: Path) -> None:
    """Is asked for the projects that the first fails to answer for, and for no other."""
    with Index(tmp_path / "second") as second:
        second.pages = {"six": index.pages["six"], "idna": index.pages["idna"]}
        index.fault("/simple/idna/", Status(503))
        follower = follow(index, "six", "idna", upstream=[f"{index.url}/simple", f"{second.url}/simple"])
        assert set(follower.sync()) == {"six", "idna"}
        assert second.asked() == ["idna 200"]
        assert not follower.aside
        index.heal()
        follower.sync()
        assert second.asked() == []


def test_a_later_upstream_deletes_nobody(index: Index, tmp_path: Path) -> None:
    """It is asked because the first one failed, and need not have what that has."""
    with Index(tmp_path / "second") as second:
        second.wheel("idna", "3.10")
        follower = follow(index, "six", "idna", upstream=[f"{index.url}/simple", f"{second.url}/simple"])
        before = dict(follower.sync())
        for _ in range(3):
            index.fault("/simple/six/", Status(503))
            assert follower.sync(2 * HOUR) == before
            assert set(follower.aside) == {"six"}
            index.heal()
            follower.sync()


def test_a_later_upstream_says_nothing_of_what_the_first_has(index: Index, tmp_path: Path) -> None:
    """One project that is asked for alone keeps what it has, although the second upstream answers that there is none."""
    with Index(tmp_path / "second") as second, Http(Download(retries=0), print, Remembered()) as http:
        repo = PypiRepo(path="pypi", upstream=[f"{index.url}/simple/", f"{second.url}/simple/"], projects=["six"])
        index.fault("/simple/six/", Status(503))
        with pytest.raises(TransportError, match="503"):
            Pypi().read_name(repo, "six", http)
        assert second.asked() == ["six 404"]


def test_an_upstream_that_lags_behind(index: Index, tmp_path: Path) -> None:
    """Is not believed while the others fail: what has come since would be gone, and what was yanked would not be."""
    with Index(tmp_path / "second") as second:
        second.pages, second.serial = json.loads(json.dumps(index.pages)), index.serial
        index.wheel("six", "1.17.0")
        index.wheel("new", "1.0")
        both = [f"{index.url}/simple/", f"{second.url}/simple/"]
        everything, named = follow(index, upstream=both), follow(index, "six", "idna", upstream=both)
        before = dict(everything.sync()), dict(named.sync())
        index.fault("/simple/*", Status(503))
        with pytest.raises(TransportError):
            everything.sync()
        assert (everything.leaves, named.sync()) == before
        assert "is an old list" in everything.warnings[-1]
        assert named.aside == {"six": f"upstream answers an old page of it: its serial is 101, and was {index.serial - 1}"}
        index.heal()
        index.wheel("six", "1.18.0")
        assert pages(everything.sync())["six"] == pages(named.sync())["six"] == index.pages["six"]
        index.wheel("six", "1.19.0")
        named.repo.upstream = [*reversed(both)]  # what the first does not know yet, the next one does
        assert pages(named.sync())["six"] == index.pages["six"]
        assert not named.aside


# HTML


def test_html(tmp_path: Path, upstream: Upstream) -> None:
    """PEP 503 as PyTorch's index has it: no /simple/, `<base>`, addresses of every kind, and what lies elsewhere."""
    file, _, _ = make_wheel("torch", "2.0+cpu")
    page = f"""<!DOCTYPE html><html><head><base href="/whl/cpu/"><title>Links for torch</title></head><body>
      <a href="../">up</a>
      <a href="{file.replace("+", "%2B")}#sha256={"a" * 64}" data-requires-python="&gt;=3.8" data-yanked="bad &amp; old"
         data-dist-info-metadata="sha256={"b" * 64}">torch</a>
      <a href="{upstream.url}/elsewhere/torch-1.0.tar.gz#md5={"c" * 32}" data-yanked="">torch-1.0.tar.gz</a>
      <a href="/other/torch-0.9.zip">torch-0.9.zip</a></body></html><!--SERIAL 77-->"""
    with Index(tmp_path, simple="/whl/", json=False, html={"torch": page}) as index:
        follower = follow(index, "torch", upstream=f"{index.url}/whl")
        found = pages(follower.sync())["torch"]
        follower.sync()
        assert index.asked()[-1] == "torch 304"
        assert found["meta"] == {"api-version": "1.0", "_last-serial": 77}
        assert [(one["filename"], one["url"], one["hashes"], one.get("yanked")) for one in found["files"]] == [
            (file, f"{index.url}/whl/cpu/{file.replace('+', '%2B')}", {"sha256": "a" * 64}, "bad & old"),
            ("torch-1.0.tar.gz", f"{upstream.url}/elsewhere/torch-1.0.tar.gz", {"md5": "c" * 32}, True),
        ]
        assert found["files"][0]["requires-python"] == ">=3.8"
        assert found["files"][0]["core-metadata"] == {"sha256": "b" * 64}
        assert follower.invalid == {"torch-0.9.zip": "it has neither a hash nor a size"}


def test_a_list_in_html(tmp_path: Path) -> None:
    """It has no serials: every page is asked for, and again only if it has changed."""
    with Index(tmp_path, json=False, serials=False) as index:
        index.wheel("Six", "1.0")
        index.wheel("idna", "1.0")
        follower = follow(index)
        assert set(follower.sync()) == {"six", "idna"}
        index.asked()
        index.wheel("idna", "2.0")
        index.wheel("new", "1.0")
        assert {name: len(page["files"]) for name, page in pages(follower.sync()).items()} == {"six": 1, "idna": 2, "new": 1}
        assert index.asked() == ["idna 200", "new 200", "six 304", "the list 200"]


def test_links_that_are_left_open(tmp_path: Path) -> None:
    """To a parser they lie in each other; that must not take the square of the time."""
    links = "".join(f'<a href="six-1.{number}.zip#sha256={"a" * 64}">six-1.{number}.zip<br>\n' for number in range(8000))
    with Index(tmp_path, json=False, html={"six": f"<title>Links for six</title>{links}"}) as index:
        index.fault("/simple/", Html("<title>Simple index</title><a href=six/>six"))
        begin = time.monotonic()
        assert len(pages(follow(index).sync())["six"]["files"]) == 8000
        assert time.monotonic() - begin < 10


@pytest.mark.parametrize("fields", [("idna", ""), ("undefined", ""), ("utf-8", '<a href="http://[::1">six</a>')])
def test_a_list_that_can_not_be_parsed(index: Index, fields: tuple[str, str]) -> None:
    """Is an error of upstream's, whatever the parsers make of it."""
    charset, link = fields
    page = f'<title>Simple index</title><a href="six/">six</a>{link}'.encode()
    index.fault("/simple/", Status(200, {"Content-Type": f"text/html; charset={charset}"}, page))
    with pytest.raises(BadIndexError, match=r"unknown encoding|can't be parsed"):
        follow(index, upstream=f"{index.url}/simple").sync()


def test_a_page_of_nothing(index: Index) -> None:
    """Is not told of millions of times, nor is that kept with every snapshot."""
    index.pages["six"]["files"] += [{}] * 10_000 + [5]
    follower = follow(index, "six")
    assert len(pages(follower.sync())["six"]["files"]) == 1
    assert follower.invalid == {"six, a file": "it has no file name"}


@pytest.mark.parametrize("name", ["a\nb", "six_", "../six", "", "x" * 201])
def test_names_that_are_none(index: Index, name: str) -> None:
    """Are passed over in a list: nobody could ask for them."""
    index.pages[name] = {"meta": {"api-version": "1.0"}, "name": name, "files": []}
    follower = follow(index)
    assert set(follower.sync()) == {"six", "idna", "flask-thing"}
    assert not follower.aside


@pytest.mark.parametrize(
    "answer", [Html(), Body(b"{"), Body(b"[]"), Body(b'{"files": 1}'), Body(b""), Status(200, {}, b"\x80")]
)
def test_what_is_no_page(index: Index, answer: Any) -> None:
    """Keeps the old state of that project, and stops nobody else."""
    follower = follow(index, "six", "idna")
    before = dict(follower.sync())
    index.fault("/simple/six/", answer)
    index.wheel("idna", "4.0")
    after = follower.sync()
    assert after["six"] == before["six"]
    assert after["idna"] != before["idna"]
    assert set(follower.aside) == {"six"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"meta": {"api-version": "2.0"}}, "has version 2.0 of the API, and this version of snapmirror knows 1"),
        ({"meta": {"api-version": 1}}, "states 1 as its API version"),
        ({"name": "seven"}, "is the page of another project, 'seven'"),
    ],
)
def test_pages_that_are_refused(index: Index, change: dict[str, Any], reason: str) -> None:
    follower = follow(index, "six", "idna")
    before = dict(follower.sync())
    index.pages["six"] = {**index.pages["six"], **change}
    assert follower.sync() == before
    assert follower.aside == {"six": reason}


def test_json_that_is_html(index: Index) -> None:
    """What says that it is JSON, and is the login page of some proxy."""
    index.fault("/simple/six/", Status(200, {"Content-Type": "application/vnd.pypi.simple.v1+json"}, b"<html>Sign in"))
    follower = follow(index, "six", "idna", upstream=f"{index.url}/simple")
    follower.sync()
    assert follower.aside == {"six": "says that it is JSON, and begins with b'<html>Sign in'"}


# Time


def test_a_serial_that_goes_backwards(index: Index) -> None:
    """A cache that answers an old page does not undo what was seen; the project goes on where upstream does."""
    follower = follow(index, "six", "idna")
    old = json.loads(json.dumps(index.pages["six"]))
    index.wheel("six", "1.17.0")
    before = dict(follower.sync())
    new, index.pages["six"] = index.pages["six"], old
    assert follower.sync() == before
    assert follower.aside == {"six": f"upstream answers an old page of it: its serial is 101, and was {index.serial}"}
    index.pages["six"] = new
    assert follower.sync() == before
    assert not follower.aside


def test_a_project_that_is_gone_for_a_minute(index: Index) -> None:
    """Is not deleted; one that is still gone an hour later is; what comes back in between begins a new hour."""
    follower = follow(index, "six", "idna")
    before = dict(follower.sync())
    page = index.pages.pop("six")
    assert follower.sync() == before
    assert follower.aside == {
        "six": "upstream answers 404 since 20261120T120000Z; if it still does an hour later, it is deleted"
    }
    assert follower.sync(HOUR - timedelta(seconds=1)) == before
    index.pages["six"] = page
    assert follower.sync() == before
    del index.pages["six"]
    assert follower.sync() == before
    assert set(follower.sync(HOUR)) == {"idna"}
    assert not follower.aside
    index.pages["six"] = page
    assert follower.sync() == before


def test_a_project_that_is_gone_while_the_clock_is_wrong(index: Index) -> None:
    """Does not stay for the year that the clock was ahead."""
    follower = follow(index, "six", "idna")
    before = dict(follower.sync())
    del index.pages["six"]
    assert follower.sync(timedelta(365)) == follower.sync(-timedelta(365)) == before
    assert set(follower.sync(HOUR)) == {"idna"}


def test_all_projects(index: Index) -> None:
    """One question for all; of the pages only those whose serial is another. What the list lacks is deleted."""
    follower = follow(index)
    assert pages(follower.sync()) == index.pages
    index.asked()
    follower.sync()
    assert index.asked() == ["the list 304"]
    index.wheel("six", "1.17.0")
    index.wheel("new", "1.0")
    del index.pages["idna"]
    assert pages(follower.sync()) == index.pages
    assert index.asked() == ["new 200", "six 200", "the list 200"]


def test_the_list_is_ahead_of_a_page(index: Index) -> None:
    """And has what the page has not yet, or not any more: that project is asked for again next time."""
    follower = follow(index)
    before = dict(follower.sync())
    old = json.loads(json.dumps(index.pages["six"]))
    index.wheel("six", "1.17.0")
    index.wheel("idna", "4.0")
    rules = index.fault("/simple/six/", Body(json.dumps(old).encode())), index.fault("/simple/idna/", Status(404))
    for later in (timedelta(), 2 * HOUR):  # what is listed is not deleted, however long it is 404
        assert follower.sync(later) == before
        assert set(follower.aside) == {"six", "idna"}
    assert all(rule.hits == 2 for rule in rules)
    index.heal()
    assert pages(follower.sync()) == index.pages


def test_an_old_list(index: Index) -> None:
    """Would make the projects of the time since seem deleted."""
    follower = follow(index)
    old = json.dumps(index.list()).encode()
    index.wheel("new", "1.0")
    follower.sync()
    index.fault("/simple/", Body(old))
    with pytest.raises(BadIndexError, match="is an old list: its serial is"):
        follower.sync()


def test_an_upstream_that_fails(index: Index) -> None:
    """Of thousands of projects a few are tried, not all with their retries; if nobody answers, that is an error."""
    for number in range(300):
        index.wheel(f"p{number}", "1.0")
    follower = follow(index)
    index.fault("/simple/p*/", Status(503))
    assert set(follower.sync(per_host=8)) == {"six", "idna", "flask-thing"} - set(follower.aside)
    assert len(follower.aside) >= 300
    assert len(index.asked()) < 300
    index.fault("/simple/*", Status(503))
    with pytest.raises(TransportError):
        follow(index, "six", "idna", upstream=f"{index.url}/simple").sync()


def test_some_pages_that_fail(index: Index) -> None:
    """Among many that have not changed: these have answered too, and the others are asked for."""
    for number in range(200):
        index.wheel(f"p{number}", "1.0")
    follower = follow(index, *index.pages, upstream=f"{index.url}/simple")
    follower.sync()
    for number in range(0, 200, 8):
        index.fault(f"/simple/p{number}/", Status(503))
    follower.sync()
    assert set(follower.aside) == {f"p{number}" for number in range(0, 200, 8)}


def test_what_has_changed_since_a_mark(index: Index) -> None:
    """The short way of comparing two lists says what the long way says."""
    repo = PypiRepo(path="pypi", upstream=index.url, projects="all")
    with Http(Download(retries=0), print, Remembered()) as http:
        first: Any = Pypi().read(repo, "", http, lambda _: None, ())
        index.wheel("six", "2.0")
        index.wheel("new", "1.0")
        del index.pages["idna"]
        second: Any = Pypi().read(repo, "", http, lambda _: None, ())
    found = second.since(first.mark())
    assert (set(found.changed), set(found.gone)) == ({"six", "new"}, {"idna"})
    assert {name for name in second.sources if second.sources[name] != dict(first.sources).get(name)} == {"six", "new"}
    assert second.since(b"nonsense") is None
    first.aside["six"] = "it was set aside"
    assert "six" in first.since(first.mark()).changed


# Ten syncs against a model

_STEPS = st.lists(
    st.tuples(st.sampled_from(["upload", "yank", "delete", "remove", "quarantine"]), st.sampled_from(["a", "b", "c"])),
    max_size=4,
)


@given(st.lists(_STEPS, min_size=2, max_size=10), st.booleans(), st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_upstream(tmp_path: Path, syncs: list[Any], serials: bool, json_: bool) -> None:
    """Every state is upstream's: uploads, yanking, deletion of a file and of a project, quarantine, and all of it undone."""
    with Index(tmp_path, serials=serials, json=json_) as index:
        index.wheel("other", "1.0")
        listed, named = follow(index), follow(index, "a", "b", "c", "other", upstream=f"{index.url}/simple")
        for number, steps in enumerate(syncs):
            for place, (step, project) in enumerate(steps):
                _happen(index, step, project, f"{number}.{place}")
            for follower in (listed, named):
                follower.sync(2 * HOUR)
                follower.sync(2 * HOUR)  # a named project is deleted when it is 404 twice
                found = {name: _files(page, json_) for name, page in pages(follower.leaves).items()}
                assert found == {name: _files(page, json_) for name, page in index.pages.items()}
                if json_:
                    yanked = {
                        one["filename"]: one["yanked"] for page in pages(follower.leaves).values() for one in page["files"]
                    }
                    assert all(
                        yanked[one["filename"]] == one["yanked"]
                        for page in index.pages.values()
                        for one in page["files"]
                        if one["filename"] in yanked
                    )


def _files(page: dict[str, Any], json_: bool) -> list[tuple[str, Any]]:
    """What a page lists, and what is yanked, which HTML of the simplest kind does not say."""
    hidden = json_ and page.get("project-status", {}).get("status") == "quarantined"
    return [] if hidden else [(one["filename"], one.get("yanked") if json_ else None) for one in page["files"]]


def _happen(index: Index, step: str, project: str, version: str) -> None:
    if step == "upload":
        index.wheel(project, version)
        return
    if project not in index.pages:
        return
    files = index.pages[project]["files"]
    if step == "yank" and files:
        files[0]["yanked"] = False if files[0]["yanked"] else "broken"
    elif step == "remove" and files:
        files.pop()
    elif step == "quarantine":
        status = index.pages[project].get("project-status", {}).get("status")
        index.pages[project]["project-status"] = {"status": "active" if status == "quarantined" else "quarantined"}
    elif step == "delete":
        del index.pages[project]
        index.serial += 1
        return
    index.touch(project)


_LISTS = st.dictionaries(st.integers(0, 3000).map(lambda number: f"p{number:04}"), st.integers(0, 2) | st.none(), max_size=60)


@given(_LISTS, _LISTS, st.booleans(), st.integers(1, 9))
def test_lists_differ_as_their_maps_do(
    one: dict[str, int | None], other: dict[str, int | None], in_order: bool, block: int
) -> None:
    """However they are ordered, and wherever the blocks end in which they are compared."""
    names = sorted(other) if in_order else list(other)
    before = (sorted(one), [one[name] for name in sorted(one)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_BLOCK", block)
        changed, gone = listing.differences(before, (names, [other[name] for name in names]))
    assert changed == {name: number for name, number in other.items() if number is None or one.get(name) != number}
    assert gone == one.keys() - other.keys()


def test_a_project_that_was_listed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a block and the begin of the next one: it has not gone when it is listed once."""
    monkeypatch.setattr(listing, "_BLOCK", 2)
    assert listing.differences((["a", "b", "b", "c"], [1, 1, 1, 1]), (["a", "b", "c"], [1, 1, 1]))[1] == set()
