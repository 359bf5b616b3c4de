"""Mutation testing: whether the tests notice when a line of the program is made wrong. `make mutants` runs it.

Three steps, each in a copy of the project below a folder of its own, so that nothing here is ever changed:

    python tests/mutants.py map FOLDER              which tests run which blocks of code: the whole suite, once
    python tests/mutants.py run FOLDER [MODULE]...  make mutants of modules, and run the tests of the block that each is in
    python tests/mutants.py report FOLDER           the score of every module, and the mutants that nobody noticed

cosmic-ray says what a mutant can be; here one is made for each place and kind, not for each of ten other operators, and
one for each call that is left out. Tests of a mutant run in a fork of a process that has everything loaded, with the code
of the mutated function put in its place: a mutant takes seconds that way, and a minute with a new process for every test.
"""

import argparse
import ast
import collections
import contextlib
import gc
import hashlib
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
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("store", "sync")
#: seconds that the tests of one mutant may take together when all is well: those that noticed others of its module come first
BUDGET = 25.0
#: cosmic-ray's operators, but for those that need arguments
LEFT_OUT = (
    "VariableInserter",
    "VariableReplacer",
    "RemoveDecorator",
    "ReplaceUnaryOperator_Invert",
    "ReplaceUnaryOperator_UAdd",
)

_HIT = """
import os
_seen = set()
def hit(block):
    test = os.environ.get("PYTEST_CURRENT_TEST")
    if test and (test, block) not in _seen:
        _seen.add((test, block))
        with open(f"{FOLDER}/{os.getpid()}", "a") as log:
            log.write(f"{block}\\t{test}\\n")
"""


def modules(base: Path, names: Sequence[str] = ()) -> list[str]:
    """Modules of the project at `base`, all of the layers if none is named."""
    found = [
        path.relative_to(base).as_posix() for layer in LAYERS for path in sorted((base / "snapmirror" / layer).glob("*.py"))
    ]
    return [name for name in found if not names or any(name.endswith(f"{asked.removesuffix('.py')}.py") for asked in names)]


def checkout(folder: Path) -> Path:
    """The project as it was last committed, in a folder, with what lies beside it."""
    target = folder / "main"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryFile() as archive:
        subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], stdout=archive, check=True)
        archive.seek(0)
        subprocess.run(["tar", "-x", "-C", str(target)], stdin=archive, check=True)
    if not (folder / "shared").exists() and (ROOT.parent / "shared").exists():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return target


# Which tests run which blocks


class Block(NamedTuple):
    """Lines that run together, but for what goes wrong: the body of a function, a branch, a loop."""

    module: str
    first: int
    last: int


def blocks_of(module: str, tree: ast.Module) -> Iterator[tuple[Block, list[ast.stmt]]]:
    """Every block inside a function."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for inner in ast.walk(node):
            for name in ("body", "orelse", "finalbody"):
                body = getattr(inner, name, None)
                if isinstance(body, list) and body and not isinstance(inner, ast.ClassDef):
                    yield Block(module, body[0].lineno, body[-1].end_lineno or 0), body


def make_map(folder: Path) -> None:
    """Run the tests with every block noting who runs it. Writes FOLDER/map.json: {block: tests}, and how long they take."""
    base, target, notes = checkout(folder / "base"), checkout(folder / "map"), folder / "map" / "notes"
    shutil.rmtree(notes, ignore_errors=True)
    notes.mkdir()
    (target / "snapmirror" / "_hit.py").write_text(_HIT.replace("{FOLDER}", str(notes)))
    blocks: list[Block] = []
    for module in modules(base):
        tree = ast.parse((target / module).read_text())
        seen = set()
        for block, body in list(blocks_of(module, tree)):
            if block in seen:
                continue
            seen.add(block)
            docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
            body.insert(int(docstring), ast.parse(f"__import__('snapmirror._hit')._hit.hit({len(blocks)})").body[0])
            blocks.append(block)
        (target / module).write_text(ast.unparse(ast.fix_missing_locations(tree)))
    command = [sys.executable, "-m", "pytest", "--numprocesses", "2", "-m", "not long", "--durations=0", "--durations-min=0",
               "-vv", "--timeout=900", "--ignore=tests/test_layers.py", "tests"]  # fmt: skip
    done = subprocess.run(command, cwd=target, env=environment(target), stdout=subprocess.PIPE, text=True)
    (folder / "map.log").write_text(done.stdout)
    seconds: dict[str, float] = collections.defaultdict(float)
    for line in done.stdout.splitlines():
        parts = line.split(maxsplit=2)
        if len(parts) == 3 and parts[0].endswith("s") and parts[1] in ("call", "setup", "teardown"):
            seconds[parts[2]] += float(parts[0][:-1])
    tests: dict[int, set[str]] = collections.defaultdict(set)
    for note in notes.iterdir():
        for line in note.read_text().splitlines():
            block, test = line.split("\t", 1)
            tests[int(block)].add(test.rsplit(" (", 1)[0])
    found = [[*block, sorted(tests[number])] for number, block in enumerate(blocks)]
    (folder / "map.json").write_text(json.dumps({"blocks": found, "seconds": seconds}))
    print(f"{len(blocks)} blocks, {sum(1 for number in range(len(blocks)) if not tests[number])} that no test runs")


def environment(target: Path) -> dict[str, str]:
    """With which Python takes the copy for the project."""
    return os.environ | {"PYTHONPATH": f"{target}:{target}/tests:{target}/examples"}


# Mutants


class Mutant(NamedTuple):
    """One change of one module."""

    module: str
    kind: str
    line: int
    column: int
    source: str
    #: the line before and after
    text: str
    #: which it is of those with the same text
    number: int = 0

    @property
    def key(self) -> str:
        """Names it for as long as its line does not change."""
        return f"{self.module}|{self.kind}|{self.text}|{self.number}"


def mutants_of(module: str, folder: Path) -> list[Mutant]:
    """All mutants of a module, in the order of its lines. They are kept: to make one takes 60 ms."""
    source = (folder / "base" / "main" / module).read_text()
    kept = folder / "mutants" / hashlib.sha256(source.encode()).hexdigest()
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        found, counts = [], collections.Counter[str]()
        for mutant in sorted(_make_mutants(module, source)):
            found.append(mutant._replace(number=counts[mutant.key]))
            counts[mutant.key] += 1
        kept.write_text(json.dumps(found))
    return [Mutant(*one) for one in json.loads(kept.read_text())]


def _make_mutants(module: str, source: str) -> Iterator[Mutant]:
    import cosmic_ray.plugins as plugins
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    types_at = _types(ast.parse(source))
    families: dict[tuple[str, int, int], list[tuple[str, int]]] = collections.defaultdict(list)
    for name in sorted(plugins.operator_names()):
        if any(part in name for part in LEFT_OUT):
            continue
        count = 0
        operator = plugins.get_operator(name)()
        for node in ast_nodes(get_ast(source)):
            for start, _ in operator.mutation_positions(node):
                if not any(first <= start <= last for first, last in types_at):
                    families[(name.split("/")[1].split("_")[0], *start)].append((name, count))
                count += 1
    lines = source.splitlines()
    for (kind, line, column), choices in families.items():
        seed = int(hashlib.sha256(f"{module}{kind}{lines[line - 1].strip()}".encode()).hexdigest(), 16)
        name, count = choices[seed % len(choices)]
        mutated = None
        with contextlib.suppress(AttributeError):  # its ExceptionReplacer knows no tuples
            mutated = mutate_code(source, plugins.get_operator(name)(), count)
        if mutated and _compiles(mutated):
            yield Mutant(module, name.split("/")[1], line, column, mutated, _changed(lines, mutated.splitlines()))
    for mutant in _left_out(module, source):
        if _compiles(mutant.source):
            yield mutant._replace(text=_changed(lines, mutant.source.splitlines()))


def _changed(old: Sequence[str], new: Sequence[str]) -> str:
    return next((f"{was.strip()}  ->  {now.strip()}" for was, now in zip(old, new, strict=False) if was != now), "")


def _types(tree: ast.Module) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Places whose change changes nothing: annotations. First and last, each a line and a column."""
    places = []
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if isinstance(part := getattr(node, name, None), ast.expr):
                places.append(((part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)))
    return places


def _left_out(module: str, source: str) -> Iterator[Mutant]:
    """Each statement that is a call, an assignment to something's part, or a deletion, left out."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        part = isinstance(node, ast.Assign) and all(isinstance(one, ast.Attribute | ast.Subscript) for one in node.targets)
        if not (call or part or isinstance(node, ast.Delete | ast.AugAssign | ast.Raise)):
            continue
        assert isinstance(node, ast.stmt)
        first, last = node.lineno - 1, node.end_lineno or 0
        rest = lines[last - 1][node.end_col_offset :]
        text = "".join(lines[:first]) + lines[first][: node.col_offset] + "pass" + rest + "\n" * (last - 1 - first)
        yield Mutant(module, f"LeaveOut{type(node).__name__}", node.lineno, node.col_offset, text + "".join(lines[last:]), "")


def _compiles(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class Plan:
    """Which tests to run for a place."""

    def __init__(self, folder: Path) -> None:
        read = json.loads((folder / "map.json").read_text())
        self.seconds: dict[str, float] = read["seconds"]
        self._blocks: dict[str, list[tuple[int, int, list[str]]]] = collections.defaultdict(list)
        for module, first, last, tests in read["blocks"]:
            self._blocks[module].append((first, last, tests))

    def tests(self, module: str, line: int) -> list[str]:
        """Those that run the innermost block around a line, the shortest first and of every module of tests some.

        For a line in no block, all that run anything of the module.
        """
        around = [(last - first, tests) for first, last, tests in self._blocks[module] if first <= line <= last]
        tests = min(around)[1] if around else sorted({one for _, _, some in self._blocks[module] for one in some})
        queues = collections.defaultdict(list)
        for test in sorted(tests, key=lambda test: self.seconds.get(test, 1.0)):
            queues[test.split("::")[0]].append(test)
        ordered = []
        while queues:
            for name in sorted(queues, key=lambda name: self.seconds.get(queues[name][0], 1.0)):
                ordered.append(queues[name].pop(0))
                if not queues[name]:
                    del queues[name]
        return ordered

    def functions(self, module: str, line: int) -> list[str]:
        """Names of the functions around a line, the innermost last."""
        defined = [node for node in ast.walk(ast.parse(Path(module).read_text())) if isinstance(node, ast.FunctionDef)]
        return [node.name for node in defined if node.lineno <= line <= (node.end_lineno or 0)]

    def chosen(self, tests: Sequence[str], budget: float) -> list[str]:
        """As many as a budget of seconds allows, at least one."""
        found: list[str] = []
        for test in tests:
            if (cost := self.seconds.get(test, 1.0) + 0.02) <= budget or not found:
                found.append(test)
                budget -= cost
        return found


# Running


def run(folder: Path, names: Sequence[str], jobs: int, most: int | None) -> None:
    """Try mutants of some modules that were not tried yet: at most so many of all, taken at random."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that the workers go
    for number in range(jobs):
        shutil.rmtree(folder / f"worker{number}", ignore_errors=True)
        shutil.copytree(folder / "base", folder / f"worker{number}", symlinks=True)
    workers = [
        subprocess.Popen([sys.executable, "-P", __file__, "work", str(folder), f"{number}/{jobs}",
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
        done = {row["key"]: row for row in _results(self._folder)}
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


def _results(folder: Path) -> Iterator[dict[str, Any]]:
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


def report(folder: Path) -> None:
    """The score of every module, and the mutants that live."""
    wanted = {mutant.key for module in modules(folder / "base" / "main") for mutant in mutants_of(module, folder)}
    rows = {row["key"]: row for row in _results(folder) if row["key"] in wanted}
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in sorted(rows.values(), key=lambda row: (row["module"], row["line"])):
        counts[row["module"]][row["status"]] += 1
        if row["status"] != "killed":
            print(f"{row['module']}:{row['line']}: {row['status']} {row['kind']}: {row['text']}  [{row['noticed']}]")
    counts["all"] = sum(counts.values(), collections.Counter())
    for module, count in counts.items():
        print(f"{module:40} {count['killed']:5} of {count.total():5} noticed, {count['killed'] / count.total():.0%}; "
              f"{count['survived']} lived, {count['uncovered']} run by no test")  # fmt: skip
    print(f"{len(rows)} of {len(wanted)} mutants tried")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("map", "run", "work", "report"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--most", type=int, metavar="N", help="try N of them, taken at random and the same each time")
    asked = parser.parse_intermixed_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if asked.step == "map":
        make_map(folder)
    elif asked.step == "run":
        run(folder, asked.names, asked.jobs, asked.most)
    elif asked.step == "work":
        work(folder, asked.names[1:], asked.names[0], asked.most)
    else:
        report(folder)


if __name__ == "__main__":
    main()
