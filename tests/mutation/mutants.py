"""Finds where each reason is detected in the source, and turns that detection off, one place at a time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "operator" / "backendhealth"
ROOMS = ("core", "engine", "probes", "kube", "cli")
_NOT_DETECTION = {"core/reasons.py"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One place where a reason is detected, and the source with that detection turned off."""

    reason: str
    file: str
    line: int
    how: str
    source: str


def mutants() -> Iterator[Mutant]:
    """All mutants of the package; `file` is relative to it."""
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = str(path.relative_to(PACKAGE))
            if name not in _NOT_DETECTION:
                yield from _mutants_of(name, path.read_text())


def _mutants_of(name: str, source: str) -> Iterator[Mutant]:
    places = [
        index
        for index, node in enumerate(ast.walk(ast.parse(source)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    ]
    for place in places:
        tree = ast.parse(source)
        node = list(ast.walk(tree))[place]
        assert isinstance(node, ast.Attribute)
        reason, line = node.attr, node.lineno
        how = _turn_off(tree, node)
        if how:
            yield Mutant(reason, name, line, how, ast.unparse(ast.fix_missing_locations(tree)))


def _turn_off(tree: ast.AST, node: ast.Attribute) -> str:
    """Change `tree` so that what leads to `node` no longer does; says how, or nothing where it is no detection."""
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    if node.attr == "PROBE_SUCCEEDED" or _only_looked_at(node, parents):
        return ""
    child: ast.AST = node
    while child in parents:
        parent = parents[child]
        how = _turn_off_at(parent, child, parents)
        if how:
            return how
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module | ast.ClassDef):
            break
        child = parent
    node.attr = "PROBE_SUCCEEDED"
    return "called healthy"


def _only_looked_at(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether the reason is only looked at here: in a comparison, a set, a key, or a bare list such as an order."""
    if isinstance(parents[node], ast.Tuple | ast.List) and _is_table(parents.get(parents[node]), parents):
        return True
    child = node
    while child in parents and isinstance(parents[child], ast.expr | ast.keyword):
        parent = parents[child]
        if isinstance(parent, ast.Compare | ast.Set) or (isinstance(parent, ast.Dict) and child in parent.keys):
            return True
        child = parent
    return False


def _turn_off_at(parent: ast.AST, child: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    match parent:
        case ast.Dict() if child in parent.values:
            at = parent.values.index(child)
            del parent.keys[at], parent.values[at]
            return "entry removed"
        case ast.Tuple() | ast.List() if _is_table(parents.get(parent), parents):
            parent.elts.remove(child)  # type: ignore[arg-type]
            return "row removed"
        case ast.IfExp() if child is not parent.test:
            parent.test = ast.Constant(child is parent.orelse)
            return "other branch taken"
        case ast.If() if child is not parent.test:
            parent.test = ast.Constant(child in parent.orelse)
            return "branch not taken"
        case ast.match_case() if child in parent.body:
            parent.guard = ast.Constant(False)
            return "case not taken"
        case ast.ExceptHandler() if child in parent.body:
            parent.body = [ast.Raise()]
            return "exception let through"
    return ""


def _is_table(owner: ast.AST | None, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether `owner` is a module's assignment, so that its tuple or list is a table of rows."""
    return isinstance(owner, ast.Assign | ast.AnnAssign) and isinstance(parents.get(owner), ast.Module)
