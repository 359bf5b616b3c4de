"""The pages in a real browser: every task by clicking, on a phone and a wide screen, light and dark, with and without
JavaScript, in both languages; nothing that hinders a reader (axe-core); and what is copied works in real clients.

Pictures of every page are left in `$SNAPMIRROR_PICTURES`, if that names a folder.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import yaml
from clients import install
from window import id_of, window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

axe_playwright_python = pytest.importorskip("axe_playwright_python.sync_playwright")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="needs chromium")]
#: milliseconds that anything on a page may take on a busy machine
PATIENCE = 60_000


class Reader(NamedTuple):
    """Who looks at the pages, and with what."""

    width: int
    colours: str
    script: bool
    language: str

    def __str__(self) -> str:
        return f"{self.width}-{self.colours}-{'script' if self.script else 'plain'}-{self.language}"


#: of these CI takes those in which each two of the properties come together in every way
READERS = [Reader(*one) for one in product((390, 1280), ("light", "dark"), (True, False), ("en", "zh"))]
PAIRS = {"390-dark-script-zh", "1280-light-script-en", "390-light-plain-en", "1280-dark-plain-zh", "390-dark-plain-en"}
PAIRS |= {"1280-light-plain-zh"}
#: what a reader of each language clicks on
TEXTS = {
    "en": {
        "snapshots": "Snapshots", "packages": "Packages", "browse": "Browse", "health": "Health", "show": "Show the settings",
        "compare": "Show what differs", "search": "Search", "copy": "copy", "set up": "Set me up with it",
    },
    "zh": {
        "snapshots": "快照", "packages": "软件包", "browse": "浏览", "health": "运行状况", "show": "显示配置",
        "compare": "显示差异", "search": "搜索", "copy": "复制", "set up": "使用此快照",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a mirror with a week behind it."""
    with window(tmp_path_factory.mktemp("window")) as (_, address):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium without a window."""
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()


class Visitor:
    """A page of the browser, and what must be so on whatever it shows."""

    def __init__(self, context: "BrowserContext", reader: Reader) -> None:
        context.set_default_timeout(PATIENCE)
        self.page = context.new_page()
        self.reader = reader
        self.texts = TEXTS[reader.language]
        self.seen: list[str] = []
        self.page.on("console", lambda message: self.seen.append(message.text))
        self.page.on("pageerror", lambda error: self.seen.append(str(error)))
        self.page.on("request", lambda request: self.seen.append(request.url) if "127.0.0.1" not in request.url else None)

    def look(self, name: str) -> None:
        """The page fits the screen, has one heading, nothing to say on the console, and no hindrance."""
        assert self.page.locator("h1").count() == 1
        assert self.page.locator("html").get_attribute("lang") == self.reader.language
        assert self.seen == []
        if folder := os.environ.get("SNAPMIRROR_PICTURES"):
            self.page.screenshot(path=str(Path(folder) / f"{name}-{self.reader}.png"), full_page=True)
        if self.reader.script:
            assert self.page.evaluate("document.documentElement.scrollWidth") <= self.reader.width
            found = axe_playwright_python.Axe().run(self.page)
            assert found.violations_count == 0, found.generate_report()

    def click(self, text: str, within: str = "main") -> None:
        """Press what has this text."""
        self.page.locator(within).locator("a, button").filter(has_text=re.compile(f"^\\s*{re.escape(text)}\\s*$")).first.click()
        self.page.wait_for_load_state()


@pytest.mark.parametrize(
    "reader", [pytest.param(one, marks=[pytest.mark.long] * (str(one) not in PAIRS), id=str(one)) for one in READERS]
)
def test_every_task_by_clicking(browser: "Browser", url: str, reader: Reader) -> None:
    context = browser.new_context(
        viewport={"width": reader.width, "height": 800},
        color_scheme=reader.colours,
        java_script_enabled=reader.script,
        locale={"en": "en-GB", "zh": "zh-CN"}[reader.language],
    )
    with context:
        visitor = Visitor(context, reader)
        page, texts = visitor.page, visitor.texts
        page.goto(url)
        set_up(visitor)
        visitor.click(texts["snapshots"], "header")
        visitor.look("snapshots")
        page.locator("table.calendar a").nth(3).click()
        page.wait_for_load_state()
        visitor.look("snapshot")
        visitor.click(texts["set up"])
        assert page.locator("#date").input_value() == id_of(3)
        visitor.click(texts["snapshots"], "header")
        page.locator("input[name=old]").fill(id_of(2))
        page.locator("input[name=new]").fill(id_of(3))
        visitor.click(texts["compare"])
        page.locator("input[name=q]").fill("gone")
        page.locator("input[name=q]").press("Enter")
        page.wait_for_url("**q=gone**")
        assert page.locator("main tbody tr").count() == 1
        visitor.look("compare")
        look_for_a_package(visitor)
        visitor.click(texts["browse"], "header")
        visitor.look("browse")
        page.locator("main a", has_text="paper/").first.click()
        page.locator("a", has_text="conda-forge/").first.click()
        page.locator("a", has_text="noarch/").first.click()
        assert page.locator("a", has_text="nasty-1.0-0.conda").count() == 1
        visitor.seen.clear()  # a listing is for scrapers too, and links to no icon
        page.goto(f"{url}/-/page/health")
        visitor.look("health")


def set_up(visitor: Visitor) -> None:
    """From nothing to settings of a client for a day, and a link that leads there again."""
    page, texts = visitor.page, visitor.texts
    visitor.look("setup")
    page.locator("input[name=client][value=pip]").check()
    if not visitor.reader.script:  # with it, a choice counts at once
        visitor.click(texts["show"])
    page.locator("pre", has_text="index-url").first.wait_for()
    while page.locator("button[name=date][value='2026-05-30']").count() == 0:
        page.locator(".turn button[name=month]").first.click()
        page.wait_for_load_state()
    page.locator("button[name=date][value='2026-05-30']").click()
    page.locator("pre", has_text="/2026-05-30/pypi/simple/").first.wait_for()
    visitor.look("settings")
    address = page.locator("main section a").nth(-2).get_attribute("href")
    page.goto(page.url.partition("?")[0] + (address or "").removeprefix("./"))
    assert page.locator("input[name=client][value=pip]").is_checked()
    assert "/2026-05-30/pypi/simple/" in page.locator("pre").first.inner_text()


def look_for_a_package(visitor: Visitor) -> None:
    """By a part of its name, to one of its files."""
    page, texts = visitor.page, visitor.texts
    visitor.click(texts["packages"], "header")
    page.locator("input[name=q]").fill("ric")
    visitor.click(texts["search"])
    visitor.look("packages")
    visitor.click("rich")
    visitor.look("package")
    page.locator("main tbody a").filter(has_text="13.0").first.click()
    page.wait_for_load_state()
    visitor.look("file")


@pytest.fixture
def copied(browser: "Browser", url: str) -> Iterator["Copied"]:
    """Copies settings from the page, as a person does."""
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"], locale="en-GB") as context:
        yield Copied(context.new_page(), url)


class Copied:
    """What the button `copy` has put into the clipboard."""

    def __init__(self, page: "Page", url: str) -> None:
        self._page = page
        self._url = url

    def settings(self, **choice: str) -> str:
        """The settings for a choice."""
        query = "&".join(f"{name}={value}" for name, value in choice.items())
        self._page.goto(f"{self._url}/?{query}", timeout=PATIENCE)
        self._page.locator(".copy").first.click()
        self._page.locator(".copy", has_text="copied").first.wait_for(timeout=PATIENCE)
        text: str = self._page.evaluate("navigator.clipboard.readText()")
        return text


def test_copied_settings_make_pip_and_uv_install_what_a_day_had(copied: Copied, tmp_path: Path) -> None:
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for day, version in (("2026-05-29", "13.0"), (id_of(5), "13.1")):
        for client, variable, command in (
            ("pip", "PIP_CONFIG_FILE", [sys.executable, "-m", "pip", "install", "--no-cache-dir"]),
            ("uv", "UV_CONFIG_FILE", ["uv", "pip", "install", "--no-cache", "--python", sys.executable]),
        ):
            settings, target = tmp_path / f"{client}-{day}.conf", tmp_path / f"{client}-{day}"
            settings.write_text(copied.settings(client=client, date=day))
            program = [str(Path(sys.executable).parent / "uv"), *command[1:]] if client == "uv" else command
            run = [*program, "--no-deps", "--target", str(target), "rich"]
            done = subprocess.run(run, env={**clean, variable: str(settings)}, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            assert [path.name for path in target.glob("*.dist-info")] == [f"rich-{version}.dist-info"]


def test_copied_settings_make_py_rattler_install_what_a_pin_had(copied: Copied, tmp_path: Path) -> None:
    settings = yaml.safe_load(copied.settings(client="conda", date="paper", repo="conda-forge"))
    channel = f"{settings['channel_alias']}/{settings['channels'][0]}"
    assert "/paper/" in channel
    assert set(install(channel, "nasty", tmp_path)) == {"nasty", "lib-a"}


def test_the_keyboard_alone_is_enough(browser: "Browser", url: str) -> None:
    with browser.new_context(locale="en-GB") as context:
        page = context.new_page()
        page.goto(url, timeout=PATIENCE)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name") == "client"
        page.keyboard.press("ArrowDown")
        page.wait_for_url("**client=mamba**", timeout=PATIENCE)
