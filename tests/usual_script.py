"""A stand-in for the script that most Anaconda mirrors run: its requests, its checks, its files, its weaknesses.

One curl a file, to `.downloading.<name>` and then renamed, with the server's time; repodata.json first, its `.bz2`, which
must be there, and current_repodata.json, which may be missing. A package is right if it has the size that repodata.json
states. Installers come from an HTML table with columns for name, size, date and hash; one is right if its hash is.
"""

import hashlib
import json
import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path


class Mirror:
    """One run: `files` counts what was downloaded, `failed` what could not be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = 0
        self.failed: list[str] = []

    def channel(self, url: str, path: str, subdirs: list[str]) -> None:
        """Mirror a channel to a folder below the root."""
        for subdir in subdirs:
            self._subdir(f"{url}/{subdir}", self.root / path / subdir)

    def _subdir(self, url: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        index = self.root / f".repodata-{os.getpid()}.json"
        if not self._curl(f"{url}/repodata.json", index):
            return
        repodata = json.loads(index.read_bytes())
        for name, record in {**repodata["packages"], **repodata.get("packages.conda", {})}.items():
            there = folder / name
            if not there.exists() or there.stat().st_size != record["size"]:
                self._download(f"{url}/{name}", there)
        packed = folder / "repodata.json.bz2"
        if not self._curl(f"{url}/repodata.json.bz2", packed):
            return
        shutil.move(index, folder / "repodata.json")
        self._curl(f"{url}/current_repodata.json", folder / "current_repodata.json", needed=False)

    def installers(self, url: str, path: str) -> None:
        """Mirror a folder of installers behind a table."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        page = self.root / f".table-{os.getpid()}.html"
        if not self._curl(f"{url}/", page):
            return
        for name, *rest in rows(page.read_text()):
            there = folder / name
            known = hashlib.sha256(there.read_bytes()).hexdigest() if there.exists() else ""
            if known not in rest[2:]:
                self._download(f"{url}/{name}", there)
        page.unlink()

    def _download(self, url: str, target: Path) -> None:
        partial = target.with_name(f".downloading.{target.name}")
        if self._curl(url, partial, "--remote-time"):
            self.files += 1
            partial.rename(target)

    def _curl(self, url: str, target: Path, *options: str, needed: bool = True) -> bool:
        patience = ["--retry", "10", "--retry-delay", "0", "--speed-time", "15", "--speed-limit", "5000"]
        command = ["curl", "-o", target, "-sSfL", *patience, *options, url]
        done = subprocess.run(command, capture_output=True, timeout=60)
        if done.returncode and needed:
            self.failed.append(url)
        return done.returncode == 0


def rows(page: str) -> list[list[str]]:
    """The texts of the cells of a table whose first column is a link to a file."""
    found = _Table()
    found.feed(page)
    return [row for row in found.rows if len(row) >= 4 and not row[0].endswith("/")]


class _Table(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag == "td" and self.rows:
            self.rows[-1].append("")
        self._inside = tag == "td" or (self._inside and tag != "tr")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()
