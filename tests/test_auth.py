"""Read tokens: what they open, what they don't, and that they are told to nobody."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from channels import make_package
from clients import install
from mirror import Mirror
from serving import server
from test_serve import Built, Served, built, served

from snapmirror.serve.settings import Serve, Token

__all__ = ["built"]

TOOL = make_package("tool")
MAIN, OTHER = f"/current/main/noarch/{TOOL.filename}", f"/current/team/other/noarch/{TOOL.filename}"
ID = "20261120T010000Z"
#: SHA-256 of `all-of-it` and of `only-main`
AUTH = {
    "all": Token(sha256="294c04e5ac9dd23c5448c01a3bb266a553de650cc27d9a1ddc35e2765498c1fb"),
    "main": Token(sha256="7900abd8d9d16066fd9d9c3688390aae96d6a512320eb2332164575101ebc01e", repos=["main"]),
}


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.fixture
def guarded(built: Built) -> Iterator[Served]:
    built.publish({"main": {"noarch": [TOOL]}, "team/other": {"noarch": [TOOL]}, "mainly": {"noarch": [TOOL]}}, at=ID)
    with served(built, Serve(port=0, auth=AUTH)) as running:
        yield running


def test_without_a_token_there_is_nothing_but_health(guarded: Served) -> None:
    for path in (
        "/",
        MAIN,
        "/nothing",
        "/-/snapshots.json",
        "/-/config/current/condarc",
        "/t/",
        "/t/wrong/",
        "/t/wrong" + MAIN,
    ):
        for headers in ({}, {"Authorization": basic("wrong")}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic %"}):
            answer = guarded.get(path, **headers)
            assert answer.status_code == 401, path
            assert "Basic" in answer.headers["WWW-Authenticate"]
            assert answer.headers["Cache-Control"] == "no-store"
            assert "wrong" not in answer.text
    assert guarded.get("/-/healthz").status_code == guarded.get("/-/readyz").status_code == 200


def test_a_token_is_accepted_in_every_form_that_clients_have(guarded: Served) -> None:
    for headers in ({"Authorization": "Bearer all-of-it"}, {"Authorization": basic("all-of-it")}):
        assert guarded.get(MAIN, **headers).content == TOOL.data
    for path in (f"/t/all-of-it{MAIN}", MAIN.replace("/current", "/t/all-of-it"), MAIN.replace("/main", "/t/all-of-it/main")):
        for _ in range(2):
            assert guarded.get(path).content == TOOL.data
    assert guarded.get(MAIN).status_code == 401  # although its answer is ready now
    for before in ("", "/current"):
        assert guarded.get(f"{before}/t/all-of-it/").status_code == 200
        answer = guarded.get(f"{before}/t/all-of-it")
        assert (answer.status_code, "a slash is missing" in answer.text) == (404, True)


def test_a_token_for_some_repos_opens_these_alone(guarded: Served) -> None:
    bearer = {"Authorization": "Bearer only-main"}
    for path in (MAIN, "/main/noarch/repodata.json", "/2026-11-20/main/", "/main/", f"/{ID}/main/noarch/"):
        assert guarded.get(path, **bearer).status_code == 200, path
    closed = [
        OTHER,
        "/",
        "/current/",
        "/team/",
        "/team/other/",
        "/mainly/noarch/",
        "/nothing",
        "/-/snapshots.json",
        "/-/blobs/00",
    ]
    closed += [f"/-/blobs/{TOOL.record['sha256']}", "/-/config/current/condarc", f"/current/mai%6ely/noarch/{TOOL.filename}"]
    for path in closed:
        answer = guarded.get(path, **bearer)
        assert answer.status_code == 403, path
        assert "team" not in answer.text
    for path in (
        "/main/../team/other/",
        "/main/%2e%2e/team/other/",
        "/main%2f..%2fteam/",
        "//team/other/",
        "/main//../team/other/",
    ):
        assert guarded.get(path, **bearer).status_code in (403, 404), path


def test_shared_caches_keep_nothing(guarded: Served) -> None:
    for path in ("/", MAIN, f"/{ID}{MAIN.removeprefix('/current')}", "/current/main/noarch/repodata.json", "/-/snapshots.json"):
        answer = guarded.get(path, Authorization="Bearer all-of-it")
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"].startswith("private, ")


def test_no_answer_repeats_a_token(guarded: Served) -> None:
    paths = [
        "",
        "/",
        "/current",
        "/nothing",
        "/current/main",
        "/current/main/noarch/",
        "/2020-01-01/main/",
        "/-/config/current/condarc",
    ]
    for path in [*paths, "/-/snapshots.json", "/%00", "/a\x01b", "/current?x=1"]:
        answer = guarded.get(f"/t/all-of-it{path}", Accept="text/html")
        assert "all-of-it" not in answer.text + str(answer.headers), path


def secret(mirror: Mirror, name: str, **more: object) -> str:
    """A new token that the configuration of a mirror lets in."""
    made = mirror.run_bare("token", name)
    [digest] = [line.split('"')[1] for line in made.err.splitlines() if line.startswith("sha256")]
    mirror.settings.setdefault("serve", {}).setdefault("auth", {})[name] = {"sha256": digest} | more
    return made.out.strip()


def test_clients_of_channels_read_with_a_token_that_no_log_has(mirror: Mirror, tmp_path: Path) -> None:
    mirror.sync()
    token = secret(mirror, "ci", repos=["chan"])
    mirror.settings["serve"]["access_log"] = "access.log"
    mirror.write()
    with server(mirror.config) as (url, _):
        for number, sharded in enumerate((True, False)):
            found = install(f"{url}/t/{token}/current/chan", "tool", tmp_path / str(number), sharded=sharded)
            assert set(found) == {"tool", "lib"}
    log = (mirror.root / "access.log").read_text()
    assert "/t/-/current/chan/" in log
    assert token not in log
    assert token not in mirror.config.read_text()


def test_wrong_tables_say_what_is_right(mirror: Mirror) -> None:
    mirror.sync()
    for table, problem in (
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"sha256": "0" * 64, "repos": []}, "leave the key out"),
        ({"token": "x"}, "unknown key 'token'"),
    ):
        mirror.settings["serve"] = {"auth": {"ci": table}}
        assert problem in mirror.run("serve", status=2).err
    assert "letters, digits" in mirror.run_bare("token", "a b").err
