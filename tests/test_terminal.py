"""What `snapmirror sync` shows on a terminal: a table of its repos while it works, and the same lines as ever in the end."""

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from pathlib import Path

from channels import Channel, make_package
from mirror import Mirror
from upstream import Call, Status, Upstream
from waiting import eventually


def on_a_terminal(mirror: Mirror, *arguments: str, lines: int = 24) -> "tuple[subprocess.Popen[bytes], list[str]]":
    """Start snapmirror with its messages on a terminal; all that it writes there, as it comes, without colours and moves."""
    mirror.write()
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (lines, 100))
    command = [sys.executable, "-m", "snapmirror", *arguments, "-c", str(mirror.config)]
    environment = {**os.environ, "TERM": "xterm", "NO_PROXY": "127.0.0.1"}
    environment = {name: value for name, value in environment.items() if name not in ("LINES", "COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=other, env=environment)
    os.close(other)
    shown = [""]

    def read() -> None:
        with open(main, "rb", buffering=0) as terminal:
            while True:
                try:
                    data = terminal.read(65536)
                except OSError:  # its other end is closed
                    return
                shown[0] += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))

    threading.Thread(target=read).start()
    return process, shown


def until(shown: list[str], *patterns: str) -> None:
    """Wait until all of these have been shown."""
    eventually(lambda: all(re.search(pattern, shown[0]) for pattern in patterns))


def test_how_far_each_repo_is(mirror: Mirror, upstream: Upstream, channel: Channel) -> None:
    gate = threading.Event()
    mirror.add("gone", f"{upstream.url}/gone")
    upstream.fault("/gone/*", Status(404))
    upstream.fault("/chan/noarch/lib-1.0-0.conda", Call(lambda: gate.wait(30)))
    process, shown = on_a_terminal(mirror, "sync")
    try:
        until(shown, r"chan +fetching +3 files to fetch", r"gone +failed +http://\S+/gone\S* ")
    finally:
        gate.set()
        assert process.wait(60) == 3
    until(shown, r"chan +publishing")
    assert mirror.listed("chan/noarch")


def test_more_repos_than_lines(mirror: Mirror, upstream: Upstream, tmp_path: Path) -> None:
    gate = threading.Event()
    for number in range(12):
        made = Channel(upstream.root / f"c{number}", variants={"json"})
        made.add(make_package(f"p{number}"))
        made.publish()
        mirror.add(f"c{number}", f"{upstream.url}/c{number}")
    upstream.fault("/chan/noarch/*", Call(lambda: gate.wait(30)))
    process, shown = on_a_terminal(mirror, "sync", lines=8)
    try:
        until(shown, r"chan +reading", r"and 10 more")
    finally:
        gate.set()
        assert process.wait(60) == 0
