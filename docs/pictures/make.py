"""Make the pictures of the pages beside this file, in Chromium, of the mirror that the tests look at.

PYTHONPATH=tests python docs/pictures/make.py
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from window import id_of, window

HERE = Path(__file__).resolve().parent
#: {name of a picture: (page, height, colours, language)}
PICTURES = {
    "setup": ("?client=conda&date=2026-06-11&month=2026-06", 900, "light", "en-GB"),
    "snapshots": ("-/page/snapshots", 640, "dark", "en-GB"),
    "compare": (f"-/page/compare?old={id_of(2)}&new={id_of(12)}", 640, "light", "en-GB"),
    "setup-zh": ("?client=uv&date=2026-06-11&month=2026-06", 900, "light", "zh-CN"),
}


def main() -> None:
    """All pictures."""
    with (
        tempfile.TemporaryDirectory() as folder,
        window(Path(folder), 24, "https://mirror.example") as (_, url),
        sync_playwright() as started,
    ):
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (path, height, colours, language) in PICTURES.items():
            page = browser.new_page(viewport={"width": 1100, "height": height}, color_scheme=colours, locale=language)
            page.goto(f"{url}/{path}")
            page.screenshot(path=HERE / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
