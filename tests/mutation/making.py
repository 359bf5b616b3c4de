"""What can be made wrong in a module.

cosmic-ray says what a mutant can be; here one is made for each place and kind, not for each of ten other operators, and
one for each call that is left out.
"""

import ast
import collections
import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

#: cosmic-ray's operators, but for those that need arguments
LEFT_OUT = (
    "VariableInserter",
    "VariableReplacer",
    "RemoveDecorator",
    "ReplaceUnaryOperator_Invert",
    "ReplaceUnaryOperator_UAdd",
)


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
