"""The order of the code: imports go downwards only, and what touches the outside world has one place each.

Everything is read from the source, also inside functions and under `if TYPE_CHECKING`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "snapmirror"
ROOT = PACKAGE.parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

#: a row of the table in docs/architecture.md: layer, the layers that it may import from, its modules
_ROW = re.compile(r"\| `(\w+)` \|(.*)\|(.*)\|")


def named(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`(\w+)`", text)


TABLE = {row[1]: (named(row[2]), named(row[3])) for row in _ROW.finditer((ROOT / "docs/architecture.md").read_text())}
ALLOWED = {name: {name, *below} for name, (below, _) in TABLE.items()}
#: single imports that the rule above does not allow, each with its reason
EXCEPTIONS = {
    ("__main__.py", "cli/__init__.py"): "python -m snapmirror",
}

#: calls that change the file system
WRITES_OS = {
    "rename", "renames", "replace", "link", "symlink", "unlink", "remove", "removedirs", "rmdir", "mkdir", "makedirs",
    "fsync", "fdatasync", "truncate", "ftruncate", "write", "pwrite", "chmod", "fchmod", "chown", "utime", "mknod",
}  # fmt: skip
WRITES_PATH = {
    "rename", "unlink", "symlink_to", "hardlink_to", "link_to", "rmdir", "touch", "write_bytes", "write_text", "mkdir", "chmod",
}  # fmt: skip
#: (module, call) -> why it may
WRITERS = {
    ("store/blobs.py", "os.chmod"): "mode 0444 of a finished file, before it gets its name",
    ("store/documents.py", "os.chmod"): "mode 0444 of a finished file, before it gets its name",
    ("store/trees.py", "os.makedirs"): "folders below a temporary name",
    ("store/published.py", "Path.mkdir"): "folders below a temporary name",
    ("transfer/partials.py", "open"): "the partial file, locked while it is written",
    ("transfer/partials.py", "os.fchmod"): "the partial file, when it may be written to again",
    ("serve/access.py", "open"): "the access log, which is not of the store",
    ("cli/bisect.py", "Path.mkdir"): "a temporary folder",
    ("cli/bisect.py", "Path.write_text"): "settings of clients, in a temporary folder",
    ("cli/init.py", "open"): "a new configuration, which is not of the store",
    ("cli/init.py", "Path.mkdir"): "the folder of a new configuration, which is not of the store",
}
#: (module, call) -> why it may ask for the time
CLOCKS = {
    ("clock.py", "datetime.now"): "the one source",
    ("store/syncing.py", "time.time"): "the age of a file, against its mtime",
    ("store/snapshots.py", "time.time_ns"): "the age of a folder, against its mtime",
    ("remote/far.py", "time.time"): "the age of a file, against its mtime",
    ("serve/respond.py", "time.time"): "the Date field, once for each of thousands of answers a second",
    ("serve/access.py", "time.time"): "the access log, likewise",
}
#: modules that may be longer than the rest, with the reason
LONG: dict[str, str] = {}
LONGEST = 420


def layer(module: str) -> str:
    """The layer of a module given by its path."""
    return module.split("/")[0] if "/" in module else "base"


def tree(module: str) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def module_of(parts: list[str]) -> str | None:
    """The path of the module that dotted parts below the package name, None if they name none."""
    joined = "/".join(parts)
    for candidate in (f"{joined}.py", f"{joined}/__init__.py" if joined else "__init__.py"):
        if (PACKAGE / candidate).is_file():
            return candidate
    return None


def imports(module: str) -> Iterator[tuple[str, str]]:
    """Every import in a module: ("ours", path of the module) or ("other", dotted name)."""
    package = module.split("/")[:-1]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            for name in node.names:
                parts = name.name.split(".")
                yield ("ours", module_of(parts[1:]) or name.name) if parts[0] == "snapmirror" else ("other", name.name)
        elif isinstance(node, ast.ImportFrom):
            stated = (node.module or "").split(".") if node.module else []
            if node.level == 0 and stated[:1] != ["snapmirror"]:
                yield "other", node.module or ""
                continue
            base = stated[1:] if node.level == 0 else [*package[: len(package) - node.level + 1], *stated]
            for name in node.names:
                found = module_of([*base, name.name]) or module_of(base)
                assert found, f"{module}, line {node.lineno}: imports nothing that is there"
                yield "ours", found


def calls(module: str) -> Iterator[tuple[str, int]]:
    """Every use of an attribute as `object.name`, with its line; `Path.name` where the object is no plain module."""
    aliases = {
        name.asname or name.name: name.name
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute):
            known = node.value.id if isinstance(node.value, ast.Name) else ""
            yield f"{aliases.get(known, known) or '?'}.{node.attr}", node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "time", "shutil"):
            for name in node.names:
                yield f"{node.module}.{name.name}", node.lineno


def test_the_architecture_names_every_module() -> None:
    there = [f"{name}/{one}.py" if name != "base" else f"{one}.py" for name, (_, modules) in TABLE.items() for one in modules]
    assert sorted(there) == [module for module in MODULES if not module.endswith("__init__.py")]


def test_layers_lie_above_those_that_they_import_from() -> None:
    for place, name in enumerate(TABLE):
        assert ALLOWED[name] <= set(list(TABLE)[: place + 1])


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    wrong = [
        found
        for kind, found in imports(module)
        if kind == "ours"
        and layer(found) not in ALLOWED[layer(module)]
        and found != "__init__.py"  # the version
        and (module, found) not in EXCEPTIONS
    ]
    assert not wrong, f"{module} ({layer(module)}) imports {', '.join(wrong)}"


def test_what_conda_sees_of_the_store() -> None:
    seen = {found for module in MODULES if layer(module) == "conda" for kind, found in imports(module) if kind == "ours"}
    assert {found for found in seen if layer(found) == "store"} == {"store/directories.py"}


def test_exceptions_are_needed() -> None:
    every = {(module, found) for module in MODULES for kind, found in imports(module) if kind == "ours"}
    assert not set(EXCEPTIONS) - every
    used = {(module, call) for module in MODULES for call, _ in [*file_system_calls(module), *clock_calls(module)]}
    assert not (set(WRITERS) | set(CLOCKS)) - used


#: library -> its importers: of py-rattler three, for what records say, for environments, and for what is in archives
IMPORTERS = {"lmdb": {"store/index.py"}, "rattler": {"conda/specs.py", "conda/solving.py", "conda/packages.py"}}


@pytest.mark.parametrize(("library", "where"), IMPORTERS.items())
def test_few_importers(library: str, where: set[str]) -> None:
    importers = {
        module for module in MODULES for kind, name in imports(module) if kind == "other" and name.split(".")[0] == library
    }
    assert importers == where


def file_system_calls(module: str) -> Iterator[tuple[str, int]]:
    """Calls that change the file system, as `os.x`, `shutil.x`, `Path.x` or `open` for writing."""
    for call, line in calls(module):
        owner, _, name = call.rpartition(".")
        if (owner == "os" and name in WRITES_OS) or (owner == "shutil" and name not in ("disk_usage", "which")):
            yield call, line
        elif owner not in ("os", "shutil", "fs", "self") and name in WRITES_PATH:
            yield f"Path.{name}", line
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "open":
            texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            if any(re.fullmatch("[rbt]*[wax+][wax+bt]*", text) for text in texts):
                yield "open", node.lineno


@pytest.mark.parametrize("module", [module for module in MODULES if module != "store/fs.py"])
def test_only_fs_changes_files(module: str) -> None:
    wrong = [f"{call} in line {line}" for call, line in file_system_calls(module) if (module, call) not in WRITERS]
    assert not wrong, f"{module}: {', '.join(wrong)}; that is for store/fs.py"


def clock_calls(module: str) -> Iterator[tuple[str, int]]:
    """Calls that read the clock on the wall."""
    for call, line in calls(module):
        if call in (
            "time.time",
            "time.time_ns",
            "time.gmtime",
            "time.localtime",
            "datetime.now",
            "datetime.utcnow",
            "date.today",
        ):
            yield call, line


@pytest.mark.parametrize("module", MODULES)
def test_only_clock_knows_the_time(module: str) -> None:
    wrong = [f"{call} in line {line}" for call, line in clock_calls(module) if (module, call) not in CLOCKS]
    assert not wrong, f"{module}: {', '.join(wrong)}; that is for clock.py"


@pytest.mark.parametrize("module", [module for module in MODULES if layer(module) != "cli"])
def test_only_cli_prints_and_reads_the_environment(module: str) -> None:
    names = [
        (node.func.id, node.lineno)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    wrong = [f"{name} in line {line}" for name, line in names if name in ("print", "input")]
    wrong += [
        f"{call} in line {line}"
        for call, line in calls(module)
        if call in ("os.environ", "os.getenv", "os.environb", "os.putenv", "sys.argv", "sys.stdout", "sys.stderr", "sys.stdin")
    ]
    assert not wrong, f"{module}: {', '.join(wrong)}"


@pytest.mark.parametrize(
    "path",
    sorted(path.relative_to(ROOT) for folder in ("snapmirror", "examples", "bench") for path in (ROOT / folder).rglob("*.py")),
    ids=str,
)
def test_modules_are_short(path: Path) -> None:
    length = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    assert length <= LONGEST or path.as_posix() in LONG, f"{path} has {length} lines"
