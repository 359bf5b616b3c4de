"""The command line in a process of its own that need not start: a fork of one that has everything loaded.

Starting Python and loading the program takes a third of a second, and the tests run it one and a half thousand times.
What is forked has done nothing yet, so that it is as good as new; it has its own arguments, environment and folder.
"""

import array
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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


def run(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float) -> tuple[int, str, str]:
    """Run `snapmirror`; its exit status, output, and messages. Raises TimeoutError, and it is killed then."""
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
    ):
        client.settimeout(timeout)
        client.connect(_server())
        asked = json.dumps({"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}).encode()
        handed = array.array("i", [out.fileno(), err.fileno()])
        client.sendmsg([len(asked).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handed)])
        client.sendall(asked)
        status = int(client.recv(16))  # a timeout closes the connection, which ends the process
        out.seek(0)
        err.seek(0)
        return status, out.read().decode(), err.read().decode()


# In the process that is forked


def _serve(path: str, ready: int, alive: int) -> None:
    import snapmirror.cli
    import snapmirror.remote.store
    import snapmirror.store.signatures
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
                _handle(client, snapmirror.cli.main)
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
    client.setblocking(False)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            client.setblocking(True)
            client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        try:
            if client.recv(1) == b"":  # nobody waits for it any more
                os.kill(child, signal.SIGKILL)
        except BlockingIOError:
            time.sleep(0.002)


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
