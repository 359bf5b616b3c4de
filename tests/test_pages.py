"""The pages for people: what is on them, in two languages, and what nobody can make them do."""

import html
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from channels import Channel, make_package
from mirror import Mirror
from serving import server
from upstream import Upstream
from window import MARKUP, id_of, window

from snapmirror.web import words

WEB = Path(words.__file__).parent
#: every page, with what a visitor asks it
VISITS = [
    "",
    "?client=uv&date=2026-05-30",
    "?client=conda&repo=bioconda&repo=conda-forge&platform=linux-64&date=paper&month=2026-06",
    "-/page/snapshots",
    "-/page/snapshots?year=2026&offset=3",
    f"-/page/snapshot?id={id_of(4)}",
    f"-/page/compare?old={id_of(0)}&new=current",
    "-/page/packages",
    "-/page/packages?q=lib",
    "-/page/package?name=nasty",
    "-/page/package?name=rich",
    "-/page/file?name=lib-h-1.0-0.conda",
    "-/page/file?name=rich-13.0-py3-none-any.whl",
    "-/page/browse",
    "-/page/health",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mirror, str]]:
    """A mirror with a week behind it, and its URL. Tests only look."""
    with window(tmp_path_factory.mktemp("window")) as (mirror, url):
        yield mirror, url


def get(url: str, path: str, status: int = 200, language: str = "en") -> str:
    """A page, as it is for a visitor."""
    answer = requests.get(f"{url}/{path}", headers={"Accept-Language": language}, timeout=60)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Language"] == language
    return answer.text


def told(page: str) -> str:
    """What a reader sees of a page."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page.partition("<main")[2])))


# What a visitor came for


def test_the_settings_are_those_that_the_mirror_hands_out(made: tuple[Mirror, str]) -> None:
    _, url = made
    for client, file in (
        ("conda", "condarc"),
        ("mamba", "mambarc"),
        ("pixi", "pixi.toml"),
        ("pip", "pip.conf"),
        ("uv", "uv.toml"),
    ):
        page = get(url, f"?client={client}&date=2026-05-30")
        settings = requests.get(f"{url}/-/config/2026-05-30/{file}", timeout=60).text
        assert html.escape(settings.rstrip("\n"), quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page


def test_picked_repos_are_the_channels_of_the_settings(made: tuple[Mirror, str]) -> None:
    page = told(get(made[1], "?client=conda&repo=bioconda&repo=conda-forge&date=paper"))
    assert "channels: - bioconda - conda-forge channel_alias" in page
    assert "conda create --name NAME --platform linux-64 PACKAGE" in page


def test_a_day_that_is_not_over_offers_the_exact_id(made: tuple[Mirror, str]) -> None:
    mirror, url = made
    newest = mirror.snapshots()[-1]
    today = get(url, f"?date={newest[:4]}-{newest[4:6]}-{newest[6:8]}")
    assert "is not over" in told(today)
    assert f"date={newest}" in today
    assert "is not over" not in told(get(url, "?date=2026-05-30"))
    assert "never changes" not in told(get(url, f"?date={newest}"))


def test_the_calendar_says_what_there_is_of_each_day(made: tuple[Mirror, str]) -> None:
    page = get(made[1], "?month=2026-05")
    assert 'aria-label="2026-05-29, snapshots: 1, packages changed: ' in page
    assert 'aria-label="2026-05-30, snapshots: 1, packages changed: 4, pins: paper"' in page
    assert 'value="2026-05-28"' not in page
    assert 'name="month" value="2026-06"' in page


def test_a_snapshot_with_what_it_withholds(made: tuple[Mirror, str]) -> None:
    page = told(get(made[1], f"-/page/snapshot?id={id_of(4)}"))
    assert "conda-forge/noarch/lost-1.0-0.conda" in page
    assert "bioconda conda 1" in page


def test_two_snapshots_are_compared_and_the_list_is_filtered(made: tuple[Mirror, str]) -> None:
    _, url = made
    whole = told(get(url, f"-/page/compare?old={id_of(2)}&new={id_of(3)}"))
    assert "gone-soon removed conda-forge/noarch" in whole
    assert "rich changed pypi" in whole
    removed = told(get(url, f"-/page/compare?old={id_of(2)}&new={id_of(3)}&what=removed&q=GONE&repo=conda-forge"))
    assert "0 added, 1 removed, 0 changed" in removed
    assert "gone-soon removed conda-forge/noarch" in removed


def test_what_a_partial_snapshot_changed_is_told_of_its_own_repos(tmp_path: Path, upstream: Upstream) -> None:
    """Each is compared with what was known of the same repos before."""
    mirror = Mirror(tmp_path / "mirror")
    for name in ("alpha", "beta"):
        channel = Channel(upstream.root / name)
        channel.add(make_package(f"of-{name}"))
        channel.publish()
        mirror.add(name, channel.root.as_uri(), subdirs=["linux-64"])
    sealed = (["alpha"], ["beta"], ["alpha"], ["alpha", "beta"], ["beta"])
    days = {f"2024010{day}T000000Z": repos for day, repos in enumerate(sealed, 1)}
    for day, repos in days.items():
        mirror.sync("--seal-as", day, *repos)
    mirror.sync()
    with server(mirror.config) as (url, _):
        year = get(url, "-/page/snapshots?year=2024")
        asked = {id_: re.search(rf'href="([^"]*compare[^"]*new={id_}[^"]*)"', year) for id_ in days}
        found = {}
        for id_, link in asked.items():
            assert ("What changed since" in get(url, f"-/page/snapshot?id={id_}")) == bool(link)
            page = get(url, "-/page/" + html.unescape(link[1]).rpartition("/")[2]) if link else ""
            found[id_] = re.findall(r"of-\w+ \w+ [\w/]+|\d+ added, \d+ removed, \d+ changed", told(page))
        assert list(found.values()) == [
            [],
            ["1 added, 0 removed, 0 changed", "of-beta added beta/noarch"],
            ["0 added, 0 removed, 0 changed"],
            [],  # nothing before has both
            ["0 added, 0 removed, 0 changed"],
        ]
        assert "Nothing differs" in get(url, "-/page/compare")


def test_a_package_that_is_gone_says_when_it_was_there(made: tuple[Mirror, str]) -> None:
    _, url = made
    assert "gone-soon conda-forge (gone)" in told(get(url, "-/page/packages?q=gone"))
    page = told(get(url, "-/page/package?name=gone-soon"))
    assert f"{id_of(1)} {id_of(2)}" in page


def test_a_file_says_all_that_is_known_of_it(made: tuple[Mirror, str]) -> None:
    _, url = made
    wheel = told(get(url, "-/page/file?name=rich-13.0-py3-none-any.whl"))
    assert "Yanked upstream. broken" in wheel
    assert "Python >=3.9 pygments>=2" in wheel  # the latter is in no page of the index: it is in the wheel's metadata
    denied = told(get(url, "-/page/file?name=lib-h-1.0-0.conda"))
    assert "Denied by this mirror. unsafe" in denied
    page = get(url, "-/page/file?name=nasty-1.0-0.conda")
    assert "lib-a >=1.4" in told(page)
    (link,) = re.findall(r'href="(\.\./\.\./2026[^"]*nasty-1.0-0.conda)"', page)
    assert requests.get(f"{url}/-/page/{link}", timeout=60).status_code == 200


def test_health_says_how_the_last_runs_went(made: tuple[Mirror, str]) -> None:
    page = get(made[1], "-/page/health")
    assert "sync conda-forge" in told(page)
    assert '<svg class="chart"' in page
    assert "because every byte string is stored once" in told(page)


# In two languages, without anything from elsewhere


@pytest.mark.parametrize("path", VISITS)
@pytest.mark.parametrize("language", list(words.LANGUAGES))
def test_every_page_is_whole_and_small_and_trusts_nobody(made: tuple[Mirror, str], path: str, language: str) -> None:
    page = get(made[1], path, language=language)
    assert f'<html lang="{language}">' in page
    assert len(page) < 100_000
    assert MARKUP not in page
    tags = "".join(re.findall(r"<[^>]*>", page))
    assert not re.search(r"<script(?! src=)|<style|javascript:", tags)
    assert not re.search(r"\sstyle=|\son\w+=", re.sub(r'"[^"]*"', '""', tags))
    assert not re.search(r'(?:src|action)="[^"]*//', tags)
    assert not re.search(r'(?<!rel="noreferrer" )href="[^"]*//', tags)


def test_every_text_is_there_in_chinese() -> None:
    found = set()
    for path in [*WEB.glob("*.py"), *WEB.glob("templates/*.html")]:
        found |= set(re.findall(r"\bt\(\"([^\"]+)\"", path.read_text()))
    assert len(found) > 80
    missing = {text for text in found if words.translate("zh", text) == text} - {"API"}
    assert not missing
    assert set(re.findall(r"{\w+}", "".join(found))) == set(
        re.findall(r"{\w+}", "".join(words.translate("zh", one) for one in found))
    )


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("de, zh-TW;q=0.4", "zh"), ("en-GB, zh;q=0.9", "en"), ("fr", "en"), ("", "en")],
)
def test_the_language_is_the_one_that_the_browser_prefers(accepted: str, language: str) -> None:
    assert words.choose(accepted) == language


def test_a_chosen_language_stays(made: tuple[Mirror, str]) -> None:
    page = requests.get(f"{made[1]}/-/page/packages?lang=zh&q=lib", headers={"Accept-Language": "en"}, timeout=60).text
    assert '<html lang="zh">' in page
    links = re.findall(r'href="\.\./\.\./-/page/(?:packages|snapshots|package)\?[^"]*"(?! lang="en")', page)
    assert links
    assert all("lang=zh" in link for link in links)


def test_a_policy_lets_nothing_in_and_a_page_is_asked_about_again(made: tuple[Mirror, str]) -> None:
    answer = requests.get(f"{made[1]}/", timeout=60)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "public, no-cache"
    again = requests.get(f"{made[1]}/", headers={"If-None-Match": answer.headers["ETag"]}, timeout=60)
    assert again.status_code == 304
    (style,) = re.findall(r'rel="stylesheet" href="([^"]*)"', answer.text)
    assert "immutable" in requests.get(f"{made[1]}/{style}", timeout=60).headers["Cache-Control"]


# What goes wrong


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("?date=2999-01-01", 404, "that day has not begun anywhere yet"),
        ("?date=2020-01-01", 404, "at or before it"),
        ("?date=2026-02-30", 404, "2026-02-30: is neither"),
        (f"?date={MARKUP}", 404, "is neither"),
        ("?month=2026-13&platform=nowhere&client=apt&repo=none", 200, "Settings for conda"),
        ("-/page/snapshot?id=2999-01-01", 404, "that day has not begun"),
        ("-/page/snapshot?id=a/b", 404, "a/b: is neither"),
        ("-/page/compare?old=2020-01-01", 404, "at or before it"),
        ("-/page/compare?repo=none", 400, "none: there is no repo at or below it"),
        ("-/page/snapshots?year=1999", 404, "there is no snapshot of that year"),
        ("-/page/snapshots?offset=x", 400, "offset=x: no number"),
        ("-/page/packages?q=%25", 200, "kept snapshots: 0"),
        (f"-/page/packages?q={'x' * 7000}", 200, "kept snapshots: 0"),
        ("-/page/package", 400, "which package?"),
        ("-/page/package?name=nobody", 400, "nobody: no kept snapshot lists it"),
        ("-/page/file?name=lib-a-1.0-0.conda&sha256=00", 400, "with the SHA-256 00"),
        (f"-/page/file?name={MARKUP}", 400, "no kept snapshot lists it"),
    ],
)
def test_what_can_not_be_shown_is_told(made: tuple[Mirror, str], path: str, status: int, text: str) -> None:
    page = get(made[1], path, status)
    assert text in told(page)
    assert "<script>alert" not in page


def test_a_line_that_no_server_would_read_is_refused(made: tuple[Mirror, str]) -> None:
    assert requests.get(f"{made[1]}/-/page/packages?q={'x' * 10_000}", timeout=60).status_code in (400, 414)
    for path in ("nothing", ""):  # at the latter, links of the page at / would lead nowhere
        assert requests.get(f"{made[1]}/-/page/{path}", timeout=60).status_code == 404


def test_a_store_without_snapshots_says_how_to_make_one(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    mirror.write()
    with server(mirror.config) as (url, _):
        for path in ("", "-/page/snapshots", "-/page/browse", "-/page/health"):
            assert "The first one is made by snapmirror sync" in get(url, path)
        assert "kept snapshots: 0" in told(get(url, "-/page/packages"))
        assert "there is no snapshot" in told(get(url, "-/page/compare", 404))


def test_a_snapshot_that_is_forgotten_while_its_page_is_open(mirror: Mirror) -> None:
    first, second = "20260601T000000Z", "20260602T000000Z"
    mirror.sync("--seal-as", first)
    mirror.sync("--seal-as", second)
    with server(mirror.config) as (url, _):
        get(url, f"-/page/snapshot?id={first}")
        mirror.run("forget", first)
        time.sleep(1)  # a server looks for what is new twice a second
        page = told(get(url, f"-/page/snapshot?id={first}", 410))
        assert "That snapshot was forgotten" in page
        assert second in page
        record = mirror.store_path / "snapshots" / f"{second}.json"
        content = record.read_bytes()
        record.chmod(0o644)
        record.write_bytes(b"{")  # the one that was read last is shown, and what is new is not lost
        assert second in get(url, "-/page/snapshots")
        record.write_bytes(content)
