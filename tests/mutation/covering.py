"""Which tests run which blocks of code, and which of them to run for a place."""

import ast
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
LAYERS = ("store", "sync")
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
            number, test = line.split("\t", 1)
            tests[int(number)].add(test.rsplit(" (", 1)[0])
    found = [[*block, sorted(tests[number])] for number, block in enumerate(blocks)]
    (folder / "map.json").write_text(json.dumps({"blocks": found, "seconds": seconds}))
    print(f"{len(blocks)} blocks, {sum(1 for number in range(len(blocks)) if not tests[number])} that no test runs")


def environment(target: Path) -> dict[str, str]:
    """With which Python takes the copy for the project."""
    return os.environ | {"PYTHONPATH": f"{target}:{target}/tests:{target}/examples"}


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
