"""The package's source as syntax trees, and who imports whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "autoalign"
CODE_FOLDERS = ("autoalign", "ray_jobs", "scripts", "serve", "examples", "benchmarks", "tests")


class Import(NamedTuple):
    """One imported module; `deferred` when it happens inside a function or for type checking only."""

    source: str
    target: str
    line: int
    deferred: bool
    for_types: bool


def python_files(*folders: str) -> list[Path]:
    """Every Python file under the named folders of the repository."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def tree(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def module_files() -> dict[str, Path]:
    """Module name to file, for the whole package."""
    return {_module_name(path): path for path in python_files("autoalign")}


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports() -> tuple[Import, ...]:
    """Every import in the package; `from autoalign import x` is `autoalign.x` where that is a module."""
    found: list[Import] = []
    for name, path in module_files().items():
        for node, deferred, for_types in _walk(tree(path), deferred=False, for_types=False):
            found += [
                Import(name, target, node.lineno, deferred, for_types)
                for target in _targets(name, path, node)
            ]
    return tuple(found)


def _walk(
    node: ast.AST, deferred: bool, for_types: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, deferred or for_types, for_types
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from _walk(child, deferred, for_types=True)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _walk(child, deferred or inside, for_types)


def _targets(module: str, path: Path, node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, *([node.module] if node.module else [])])
    names = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in module_files() else base for name in names]
