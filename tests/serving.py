"""The real server, in a process of its own, on a free port."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(store: Path, *options: str) -> Iterator[str]:
    """`snapmirror serve` for a store; gives its URL, without a slash at the end."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "snapmirror.toml"
        config.write_text(f'store = "{store}"\n')
        command = [sys.executable, "-m", "snapmirror", "serve", "--port", "0", "-c", config, *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr
                line = process.stderr.readline()
                assert "serving on" in line, line + process.stderr.read()
                yield line.split()[-1].rstrip("/")
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)
