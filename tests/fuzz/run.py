"""Runs the targets under atheris, each in a process of its own: `python tests/fuzz/run.py SECONDS SEED [TARGET …]`.

They are forks of one that has instrumented the program, which takes four seconds. What libFuzzer finds (`crash-…`, `timeout-…`,
`oom-…`) is left in build/fuzz/<target>, and ends the run with status 1. An input that lasts over a second is a hang; a process
that takes over a gigabyte is stopped.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NoReturn

import atheris

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "fuzz"
_RSS_MB = 1024


def run(name: str, found: Any, options: list[str]) -> tuple[int, str]:
    """Fuzz one target in a fork: its exit status, negative for a signal, and what it has said."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            _fuzz(name, found, options)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return status, said.read().decode(errors="replace")


def _fuzz(name: str, found: Any, options: list[str]) -> NoReturn:
    corpus = FOLDER / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(found.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = FOLDER / name / "words"
    quoted = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in found.words)
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    options = [*options, f"-dict={words}"] if found.words else options  # libFuzzer refuses an empty one
    warnings.simplefilter("ignore")
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={FOLDER / name}/", str(corpus)], found.run)
    atheris.Fuzz()
    os._exit(0)


def main(seconds: int, seed: int, names: list[str]) -> int:
    """Run targets one after the other for so many seconds each, and print what came of it; the exit status. seed: 0 for any"""
    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["snapmirror"]):  # it names every module
        from fuzz.targets import TARGETS, folder
    folder()
    total = failed = 0
    print(f"{'target':20} {'executions':>11} {'exec/s':>8} {'corpus':>7} {'crashes':>8} {'hangs':>6}", flush=True)
    for name in names or sorted(TARGETS):
        options = [
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            "-timeout=1",
            f"-rss_limit_mb={_RSS_MB}",
            "-print_final_stats=1",
            "-max_len=4096",
        ]
        status, said = run(name, TARGETS[name], options)
        count = _number(r"stat::number_of_executed_units:\s*(\d+)", said)
        speed = _number(r"stat::average_exec_per_sec:\s*(\d+)", said)
        kinds = [kind for kind in ("crash", "timeout", "oom") if list((FOLDER / name).glob(f"{kind}-*"))]
        corpus = len(list((FOLDER / name / "corpus").iterdir()))
        crashes = int("crash" in kinds or "oom" in kinds or (status != 0 and "timeout" not in kinds))
        print(f"{name:20} {count:11,} {speed:8,} {corpus:7,} {crashes:8} {int('timeout' in kinds):6}", flush=True)
        if status or kinds:
            failed += 1
            print(said[-3000:], file=sys.stderr)
        total += count
    print(f"{'all':20} {total:11,}; {failed} targets failed, see {FOLDER}" if failed else f"{'all':20} {total:11,}")
    return int(failed > 0)


def _number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
