"""Trying mutants: their tests run in a fork of a process that has everything loaded, with the code of the mutated function put
in its place. A mutant takes seconds that way, and a minute with a new process for every test.
"""

import collections
import contextlib
import gc
import importlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from covering import Plan, environment, modules
from making import Mutant, mutants_of

#: seconds that the tests of one mutant may take together when all is well: those that noticed others of its module come first
BUDGET = 25.0


def run(folder: Path, names: Sequence[str], jobs: int, most: int | None) -> None:
    """Try mutants of some modules that were not tried yet: at most so many of all, taken at random."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that the workers go
    for number in range(jobs):
        shutil.rmtree(folder / f"worker{number}", ignore_errors=True)
        shutil.copytree(folder / "base", folder / f"worker{number}", symlinks=True)
    workers = [
        subprocess.Popen([sys.executable, "-P", str(Path(__file__).parent), "work", str(folder), f"{number}/{jobs}",
                          *(["--most", str(most)] if most else []), *names],
                         env=environment(folder / f"worker{number}" / "main"), start_new_session=True)
        for number in range(jobs)
    ]  # fmt: skip
    try:
        for worker in workers:
            worker.wait()
    finally:
        for worker in workers:
            worker.terminate()


def work(folder: Path, names: Sequence[str], share: str, most: int | None) -> None:
    """One worker's share: pytest collects all tests, once, and what it then runs is `Worker`."""
    import pytest

    number, jobs = map(int, share.split("/"))
    os.chdir(folder / f"worker{number}" / "main")
    worker = Worker(folder, names, number, jobs, most)
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--ignore=tests/test_layers.py", "tests"], [worker]))


class Worker:
    """A plugin of pytest that tries mutants with the tests that are collected, each in a fork."""

    def __init__(self, folder: Path, names: Sequence[str], number: int, jobs: int, most: int | None) -> None:
        self._folder = folder
        self._most = most
        self._names = names
        self._own = number
        self._jobs = jobs
        self._plan = Plan(folder)
        self._items: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        #: {module: how often each test has noticed a mutant of it}: these are tried first
        self._keen: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        #: {test: whether it fails without a mutant, run as here: then it says nothing}
        self._unsound: dict[str, bool] = {}
        #: in a fork: where it says which test has failed
        self._said = -1
        #: of the file of the next mutant, in seconds: Python takes a module's bytecode by time and size
        self._time = 1_000_000_000

    def pytest_runtestloop(self, session: Any) -> bool:
        """Instead of running the tests."""
        self._items = {item.nodeid: item for item in session.items}
        _load()
        done = {row["key"]: row for row in results(self._folder)}
        for row in done.values():
            if row["status"] == "killed":
                self._keen[row["module"]][row["noticed"]] += 1
        mutants = [one for module in modules(Path.cwd(), self._names) for one in mutants_of(module, self._folder)]
        for mutant in sorted(mutants, key=_number)[: self._most]:  # in no order, so that a part is a fair sample
            if _number(mutant) % self._jobs == self._own and mutant.key not in done:
                self._note(mutant)
        return True

    def pytest_runtest_logreport(self, report: Any) -> None:
        """In a fork: the first failure ends it."""
        if report.failed and self._said >= 0:
            os.write(self._said, report.nodeid.encode())
            os._exit(1)

    def _note(self, mutant: Mutant) -> None:
        began = time.monotonic()
        status, noticed = self._try(mutant)
        row = {"key": mutant.key, "module": mutant.module, "line": mutant.line, "kind": mutant.kind, "text": mutant.text,
               "status": status, "noticed": noticed, "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
        with (self._folder / f"results{self._own}.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")

    def _try(self, mutant: Mutant) -> tuple[str, str]:
        """What becomes of one mutant: killed, survived, or covered by no test; and the test that noticed."""
        tests = [test for test in self._plan.tests(mutant.module, mutant.line) if not self._unsound.get(test)]
        if not tests:
            return "uncovered", ""
        tests = list(dict.fromkeys([*self._keen_on(mutant, tests), *tests]))
        chosen = self._plan.chosen(tests, BUDGET)
        told = f"{len(chosen)} of {len(tests)} tests"
        while chosen:
            noticed = self._mutated(mutant, chosen)
            if noticed and not self._fails_anyway(noticed):
                self._keen[mutant.module][noticed] += 1
                return "killed", noticed
            chosen = chosen[chosen.index(noticed) + 1 :] if noticed else []
        return "survived", told

    def _keen_on(self, mutant: Mutant, tests: Sequence[str]) -> Iterator[str]:
        """Of these tests, those that noticed others of its module, and then those that speak of its module or function."""
        covering = set(tests)
        yield from (test for test, _ in self._keen[mutant.module].most_common() if test in covering)
        words = [Path(mutant.module).stem, *(name.strip("_") for name in self._plan.functions(mutant.module, mutant.line))]
        for word in reversed(words):
            yield from (test for test in tests if word in self._spoken(test))

    def _spoken(self, test: str) -> str:
        if test not in self._texts and test in self._items:
            self._texts[test] = test + inspect.getsource(self._items[test].function)
        return self._texts.get(test, "")

    def _mutated(self, mutant: Mutant, tests: Sequence[str]) -> str:
        path = Path(mutant.module)
        original = path.read_text()
        self._write(path, mutant.source)
        try:
            return self._run(mutant, tests)
        finally:
            self._write(path, original)

    def _write(self, path: Path, source: str) -> None:
        path.write_text(source)
        self._time += 1
        os.utime(path, (self._time, self._time))

    def _fails_anyway(self, test: str) -> bool:
        if test not in self._unsound:
            self._unsound[test] = test in self._items and bool(self._run(None, [test]))
            if self._unsound[test]:
                print("fails without a mutant:", test, flush=True)
        return self._unsound[test]

    def _run(self, mutant: Mutant | None, tests: Sequence[str]) -> str:
        """Run tests in a fork; which of them failed, if one did."""
        until = time.monotonic() + 3 * sum(self._plan.seconds.get(test, 1) for test in tests) + 15
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            heard, said = os.pipe()
            child = os.fork()
            if child == 0:
                os.setsid()
                self._said, status = said, 1
                try:
                    status = self._in_fork(mutant, tests, folder)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            os.close(said)
            ended = status = 0
            while not ended and time.monotonic() < until:
                ended, status = os.waitpid(child, os.WNOHANG)
                time.sleep(0.005)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # with all that it has started
            if not ended:
                os.waitpid(child, 0)
            os.set_blocking(heard, False)
            failed = ""
            with contextlib.suppress(BlockingIOError):  # something else has inherited the other end
                failed = os.read(heard, 4096).decode()
            os.close(heard)
        return "" if ended and status == 0 else failed or ("an import" if ended else "it never ended")

    def _in_fork(self, mutant: Mutant | None, tests: Sequence[str], folder: str) -> int:
        """Make the mutant, and run the tests."""
        items = [self._items[test] for test in tests if test in self._items]
        if mutant and not _replace(mutant):  # not inside a function: whatever has the module is loaded anew
            nodes = [item.nodeid for item in items]
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "--basetemp",
                f"{folder}/tmp",
                *nodes,
            ]
            return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        _fork_forks(f"{folder}/socket")
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        return 0


def _number(mutant: Mutant) -> int:
    return zlib.crc32(mutant.key.encode())


def results(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("results*.jsonl")):
        yield from map(json.loads, path.read_text().splitlines())


def _load() -> None:
    """Import all of the program."""
    import snapmirror.cli

    snapmirror.cli.command_line()
    for path in sorted(Path("snapmirror").rglob("*.py")):
        if path.stem not in ("__main__", "__init__"):
            importlib.import_module(".".join(path.with_suffix("").parts))


def _fork_forks(path: str) -> None:
    """Let tests run the command line in forks of this process, with its mutant, instead of one that is made for that."""
    import forks

    ready, alive = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(ready[0])
        os.close(alive[1])
        warnings.simplefilter("error")
        forks._serve(path, ready[1], alive[0])
    os.close(ready[1])
    os.close(alive[0])
    os.read(ready[0], 1)
    forks._server = lambda: path  # type: ignore[assignment]


def _replace(mutant: Mutant) -> bool:
    """Put the mutant's code into the functions that are loaded. False if no function has changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = str(Path.cwd() / mutant.module)
        codes = dict(_codes(compile(mutant.source, file, "exec")))
    replaced = False
    for function in [one for one in gc.get_objects() if isinstance(one, types.FunctionType)]:
        code = function.__code__
        new = codes.get((code.co_qualname, code.co_firstlineno)) if code.co_filename == file else None
        if new is not None and new != code:
            function.__code__ = new
            replaced = True
    return replaced


def _codes(code: types.CodeType) -> Iterator[tuple[tuple[str, int], types.CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield (constant.co_qualname, constant.co_firstlineno), constant
            yield from _codes(constant)
