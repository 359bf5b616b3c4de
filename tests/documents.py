"""Documents as tests read and run them: the code blocks of a page, and a shell that does what a page says, in its order.

A block says by its first line what is done with it:

    ```console                  a line that begins with `$ ` is a command, and is run; the others are what it prints,
                                in which `...` stands for anything, and as a whole line for any lines
    ```sh                       commands that are run; what they print is not compared
    ```toml title="FILE"        (any language) is written to FILE; title="the end of FILE": added to what is there
    ```toml                     (any other) is shown, not used; tests read it with what reads such a file

A page may name servers that tests can't reach and ports that are taken: `changes` are made in all that is run and written,
and in what `snapmirror init` has written.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
#: seconds for all commands of a page on a busy machine
TIMEOUT = 240


class Block(NamedTuple):
    """A code block."""

    language: str
    text: str
    #: what is said above it: for a block with a file's content, its name
    title: str = ""


def blocks(page: Path, *languages: str) -> list[Block]:
    """The code blocks of a page, in these languages or in all; `--8<-- "FILE"` in one stands for a file of the project."""
    found = []
    for match in re.finditer(r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$', page.read_text(encoding="utf-8"), re.M | re.S):
        text = re.sub(r'^--8<-- "(.+)"\n', lambda file: (ROOT / file[1]).read_text(encoding="utf-8"), match[3], flags=re.M)
        found.append(Block(match[1], text, match[2] or ""))
    return [block for block in found if not languages or block.language in languages]


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that it is to print; those of a block of sh print anything."""
    if block.language == "sh":
        text = block.text.replace("\\\n", " ")
        lines = [found[0] for found in re.finditer(r"^(?:.*<<'(\w+)'\n(?:.*\n)*?\1$|[^#\n].*)", text, re.M)]
        return [(line if "\n" in line else re.sub(r" +# .*$", "", line), ["..."]) for line in lines]
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


class Session:
    """A page as one script for bash, and what each of its commands is to print."""

    def __init__(self, changes: Mapping[str, str], left_out: Collection[str], ports: Mapping[str, str]) -> None:
        """changes: {text: what stands for it here}; left_out: commands that are not run; ports: {port in the page: here},
        of which the first is that of `snapmirror serve`"""
        self._changes, self._ports = changes, ports
        self._left_out = left_out
        self._script: list[str] = []
        self._expected: list[tuple[str, list[str]]] = []

    def add(self, block: Block) -> None:
        """What comes next in the page."""
        if block.title:
            name = block.title.removeprefix("the end of ")
            more = ">>" if name != block.title else ">"
            self._script.append(f"mkdir -p \"$(dirname {name})\"; cat {more}{name} <<'END'\n{self._changed(block.text)}END")
        elif block.language in ("console", "sh"):
            for command, lines in commands(block):
                if command not in self._left_out:
                    self._script.append(f"printf '\\n<%s>\\n' {len(self._expected)}\n{self._here(command)}")
                    self._expected.append((command, lines))

    def _changed(self, text: str) -> str:
        every = {**self._changes, **self._ports}
        longest_first = map(re.escape, sorted(every, key=len, reverse=True))
        return re.sub("|".join(longest_first), lambda found: every[found[0]], text) if every else text

    def _here(self, stated: str) -> str:
        """A command with what it needs to be run by a test."""
        command = self._changed(stated)
        words = shlex.split(command, comments=True)
        then = 'echo "<status $?>"'
        if words[:2] == ["snapmirror", "serve"]:
            port = words[words.index("--port") + 1] if "--port" in words else next(iter(self._ports.values()))
            command = command.replace("snapmirror serve", f"snapmirror serve --host 127.0.0.1 --port {port}").rstrip(" &")
            command += " >.serving 2>&1 &"
            then += f"\n{_wait('grep -q ^serving .serving')}; cat .serving"  # its line comes a moment after it listens
        elif words[:3] == ["python", "-m", "http.server"]:
            port = next(word for word in words if word.isdigit())
            then += f"\n{_wait(f'(exec 3<>/dev/tcp/127.0.0.1/{port})')}"
        elif words[:2] == ["snapmirror", "init"]:
            edits = " ".join(f"-e {shlex.quote(f's|{old}|{new}|g')}" for old, new in self._changes.items())
            then += f"\nsed -i {edits} {words[2]}/snapmirror.toml" if edits else ""
        return f"{command}\n{then}"

    def run(self, folder: Path, **environment: str) -> str:
        """Run all in a folder; what was printed. Fails the test for a status that is not 0, and for other lines than the
        page has. environment: more of it"""
        text = "\n".join(self._script)
        output = folder / "output"
        with output.open("w") as file, session(["bash", "-c", text], cwd=folder, env=clean(folder) | environment,
                                               stdout=file, stderr=file) as process:  # fmt: skip
            status = process.wait(TIMEOUT)
        said = output.read_text(encoding="utf-8")
        assert status == 0, said
        parts = re.split(r"^<\d+>\n", said, flags=re.M)[1:]
        assert len(parts) == len(self._expected), said
        for (command, lines), part in zip(self._expected, parts, strict=True):
            printed, _, status_ = part.rpartition("<status ")
            assert status_.startswith("0>"), f"{command}\n{part}"
            wanted = [self._changed(line) for line in lines]
            pattern = "\n".join(".*" if line == "..." else re.escape(line).replace(r"\.\.\.", "[^\n]*") for line in wanted)
            assert re.fullmatch(pattern, printed.strip("\n"), re.S), "\n".join([command, printed, "The page says:", *wanted])
        return said


def run(page: Path, folder: Path, changes: Mapping[str, str], left_out: Collection[str] = (), ports: Mapping[str, str] = {},
        **environment: str) -> str:  # fmt: skip
    """Do all that a page says, in a folder; what was printed."""
    made = Session(changes, left_out, ports)
    for block in blocks(page):
        made.add(block)
    return made.run(folder, **environment)


def clean(folder: Path) -> dict[str, str]:
    """An environment in which nothing of whoever runs the tests is left, their clients' settings neither; in its PATH are this
    Python and, as `snapmirror`, what is tested. A folder for both is made in `folder`, which is the home."""
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    ours = programs / "snapmirror"
    ours.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m snapmirror "$@"\n')
    ours.chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    nothing = {"XDG_CONFIG_DIRS": str(programs), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_RETRIES": "0", "NO_PROXY": "*"}
    return {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", **nothing}


def _wait(until: str) -> str:
    """Wait until a command succeeds, for half a minute at most."""
    return f"for _ in $(seq 600); do {until} 2>/dev/null && break; sleep 0.05; done"


@contextlib.contextmanager
def session(command: list[str], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process with all that it starts; nothing of it is left afterwards."""
    with subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, text=True, **options) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
