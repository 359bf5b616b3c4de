"""The command line in a process of its own that need not start: a fork of one that has everything loaded.

Starting Python and loading the program takes a third of a second, of a server more than half of one, and the tests run it two
thousand times. What is forked has done nothing yet, so that it is as good as new; it has its own arguments, environment and
folder.
"""

import array
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any


@functools.cache
def _server() -> str:
    """The socket of the process that is forked, which is started when first needed and ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    path = f"{folder.name}/socket"
    ready, alive = os.pipe(), os.pipe()
    command = [sys.executable, "-W", "error", __file__, path, str(ready[1]), str(alive[0])]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[ready[1], alive[0]])
    os.close(ready[1])
    os.close(alive[0])
    os.read(ready[0], 1)
    _KEPT.extend([folder, process, alive[1]])
    return path


#: what lives as long as this process
_KEPT: list[Any] = []


class Forked:
    """A `snapmirror` that runs, with what subprocess.Popen has for it.

    out, err: where its output and its messages go; by default nowhere, and into `stderr`
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        out: IO[Any] | None = None,
        err: IO[Any] | None = None,
    ) -> None:
        self.stderr: IO[str] | None = None
        #: the status, None while it runs
        self.returncode: int | None = None
        self._client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._client.connect(_server())
        asked = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
        body = json.dumps(asked).encode()
        with contextlib.ExitStack() as handed:
            out = out or handed.enter_context(open(os.devnull, "wb"))
            if err is None:
                read, written = os.pipe()
                self.stderr = os.fdopen(read, encoding="utf-8")
                err = handed.enter_context(open(written, "wb"))
            numbers = array.array("i", [out.fileno(), err.fileno()])
            self._client.sendmsg([len(body).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
            self._client.sendall(body)
        self.pid = int(self._client.recv(8))

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        """As Popen has it: wait, and close what was read."""
        if self.stderr:
            self.stderr.close()
        self.wait()

    def poll(self) -> int | None:
        """The status if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its status once it has ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._client.settimeout(timeout)
            try:
                self.returncode = int(self._client.recv(8))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired("snapmirror", timeout or 0) from None
            self._client.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # its status is on its way
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def run(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float) -> tuple[int, str, str]:
    """Run `snapmirror`; its exit status, output, and messages. Raises subprocess.TimeoutExpired, and it is killed then."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with Forked(arguments, environment, folder, out, err) as process:
            try:
                status = process.wait(timeout)
            finally:
                process.kill()
        out.seek(0)
        err.seek(0)
        return status, out.read().decode(), err.read().decode()


# In the process that is forked


def _serve(path: str, ready: int, alive: int) -> None:
    import snapmirror.__main__
    import snapmirror.cli
    import snapmirror.remote.store
    import snapmirror.serve.workers
    import snapmirror.store.signatures
    import snapmirror.web
    from snapmirror.errors import SnapmirrorError

    with contextlib.suppress(SnapmirrorError):  # loads all verbs, and what typer takes to read arguments: another 0.1 s
        snapmirror.cli.command_line()(["snapshots", "--config", os.devnull])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        os.write(ready, b"!")
        os.close(ready)
        if os.fork() == 0:  # ends us all when the tests have ended, however they did
            listener.close()
            os.read(alive, 1)
            os.kill(os.getppid(), signal.SIGKILL)
            os._exit(0)
        while True:
            client, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _handle(client, snapmirror.__main__.main)
            client.close()


def _handle(client: socket.socket, main: Any) -> None:
    """Run the command line in a child, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, handed, _, _ = client.recvmsg(4, socket.CMSG_SPACE(8))
    descriptors = array.array("i")
    descriptors.frombytes(handed[0][2])
    body = b""
    while len(body) < int.from_bytes(size, "big"):
        body += client.recv(65536)
    child = os.fork()
    if child == 0:
        client.close()
        out, err = descriptors
        _become(json.loads(body), out, err, main)
    for descriptor in descriptors:
        os.close(descriptor)
    client.sendall(b"%8d" % child)
    with select.epoll() as waited:
        process = os.pidfd_open(child)
        waited.register(process, select.EPOLLIN)
        waited.register(client, select.EPOLLRDHUP)
        while process not in dict(waited.poll()):  # nobody waits for it any more
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        client.sendall(b"%8d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(asked: dict[str, Any], out: int, err: int, main: Any) -> None:
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(3, 64)
        os.environ.clear()
        os.environ.update(asked["environment"])
        time.tzset()
        os.chdir(asked["folder"])
        sys.argv = [str(Path(sys.modules["snapmirror"].__path__[0], "__main__.py")), *asked["arguments"]]  # as -m has it
        if "SNAPMIRROR_SEAMS" in os.environ:
            import seams

            seams.install()
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
