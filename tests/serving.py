"""Real servers, each in a process of its own, on a free port: ours, and others."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

import forks

#: a server that runs
Process: TypeAlias = "subprocess.Popen[str] | forks.Forked"


@contextmanager
def serving(store: Path, *options: str) -> Iterator[str]:
    """`snapmirror serve` for a store; gives its URL, without a slash at the end."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "snapmirror.toml"
        config.write_text(f'store = "{store}"\n')
        with server(config, *options) as (url, _):
            yield url


@contextmanager
def server(
    config: Path,
    *options: str,
    program: Sequence[str | Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, Process]]:
    """`snapmirror serve` with a configuration; gives its URL, without a slash at the end, and its process.

    program: what Python is to run, if it is another; environment: more of it
    """
    arguments = ["serve", "--port", "0", "-c", str(config), *options]
    with _started(program, arguments, {**os.environ, **(environment or {})}) as process:
        try:
            assert process.stderr
            said = ""
            while "serving on" not in (line := process.stderr.readline()):
                said += line
                assert line, said
            yield line.split()[-1].rstrip("/"), process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()  # or the end of the block would wait on
                raise


def _started(program: Sequence[str | Path], arguments: list[str], environment: dict[str, str]) -> Process:
    if not program:
        return forks.Forked(arguments, environment, Path.cwd())
    return subprocess.Popen([sys.executable, *program, *arguments], stderr=subprocess.PIPE, text=True, env=environment)


class Memory(NamedTuple):
    """What a process has in memory, bytes."""

    #: its own, which nothing but the process can give back
    anonymous: int
    #: pages of files, which the system takes back when it likes: of programs, and of an index that is mapped
    mapped: int


def memory_of(process: int) -> Memory:
    """What a process has in memory now."""
    lines = dict(line.split(":") for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("Rss"))
    anonymous, *mapped = (int(lines[name].split()[0]) << 10 for name in ("RssAnon", "RssFile", "RssShmem"))
    return Memory(anonymous, sum(mapped))


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def running(command: Sequence[str | Path], port: int) -> Iterator[str]:
    """Any server that stays in the foreground, once it listens; gives its URL, without a slash at the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for _ in range(400):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None, process.stdout and process.stdout.read()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
