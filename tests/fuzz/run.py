"""Runs the targets under atheris, each in a process of its own: `python tests/fuzz/run.py SECONDS SEED [TARGET …]`.

What libFuzzer finds (`crash-…`, `timeout-…`, `oom-…`) is left in build/fuzz/<target>, and ends the run with status 1. An input
that lasts over a second is a hang; a process that takes over a gigabyte is stopped.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "fuzz"
_RSS_MB = 1024


def fuzz(name: str, options: list[str]) -> None:
    """Run one target in this process; it does not return."""
    import atheris

    with atheris.instrument_imports(include=["snapmirror"]):
        from fuzz.targets import TARGETS
    found = TARGETS[name]
    corpus = FOLDER / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(found.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = FOLDER / name / "words"
    quoted = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in found.words)
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    options += [f"-dict={words}"] if found.words else []  # libFuzzer refuses an empty one
    arguments = [sys.argv[0], *options, f"-artifact_prefix={FOLDER / name}/", str(corpus)]
    atheris.Setup(arguments, _quiet(found.run))
    atheris.Fuzz()


def _quiet(run: Callable[[bytes], None]) -> Callable[[bytes], Any]:
    import warnings

    warnings.simplefilter("ignore")
    return run


def main(seconds: int, seed: int, names: list[str]) -> int:
    """Run targets one after the other for so many seconds each, and print what came of it; the exit status. seed: 0 for any"""
    from fuzz.targets import TARGETS

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
        command = [sys.executable, __file__, "--one", name, *options]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        count = _number(r"stat::number_of_executed_units:\s*(\d+)", ended.stderr)
        speed = _number(r"stat::average_exec_per_sec:\s*(\d+)", ended.stderr)
        kinds = [kind for kind in ("crash", "timeout", "oom") if list((FOLDER / name).glob(f"{kind}-*"))]
        corpus = len(list((FOLDER / name / "corpus").iterdir()))
        crashes = int("crash" in kinds or "oom" in kinds or (ended.returncode != 0 and "timeout" not in kinds))
        print(f"{name:20} {count:11,} {speed:8,} {corpus:7,} {crashes:8} {int('timeout' in kinds):6}", flush=True)
        if ended.returncode or kinds:
            failed += 1
            print(ended.stderr[-3000:], file=sys.stderr)
        total += count
    print(f"{'all':20} {total:11,}; {failed} targets failed, see {FOLDER}" if failed else f"{'all':20} {total:11,}")
    return int(failed > 0)


def _number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if sys.argv[1] == "--one":
        fuzz(sys.argv[2], sys.argv[3:])
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
