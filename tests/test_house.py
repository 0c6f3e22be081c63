"""The bounds within which the house is kept: rooms, functions, parameters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "nertune"
MOST_MODULES, MOST_LINES, MOST_PARAMETERS = 15, 60, 7


def count_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


MODULES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_functions_fit_a_screen(path: Path) -> None:
    """Commands may have as many options as they need, and a long list of them."""
    is_cli = "cli" in path.relative_to(SOURCE).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_cli:
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MOST_LINES, f"{path.name}: {node.name} has {lines} lines"
            found = count_parameters(node)
            assert found <= MOST_PARAMETERS, f"{path.name}: {node.name} has {found} parameters"


def test_no_room_is_crowded() -> None:
    folders = [SOURCE, *(p for p in SOURCE.rglob("*") if (p / "__init__.py").is_file())]
    crowded = {f.name: n for f in folders if (n := len(list(f.glob("*.py")))) > MOST_MODULES}
    assert not crowded


def described_in(node: ast.AST, section: str) -> Iterator[str]:
    """The names that a section of a docstring, `Args` or `Attributes`, describes."""
    docstring = ast.get_docstring(node) or ""  # type: ignore[arg-type]
    found = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", docstring, re.MULTILINE)
    for names in re.findall(r"^    ([\w, ]+): ", found[1] if found else "", re.MULTILINE):
        yield from names.split(", ")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_docstrings_describe_what_there_is(path: Path) -> None:
    """A parameter or attribute that was renamed or removed is so in its docstring too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            known = {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
            described = described_in(node, "Args")
        elif isinstance(node, ast.ClassDef):
            names = (n for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute))
            known = {n.id if isinstance(n, ast.Name) else n.attr for n in names}
            known |= {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            described = described_in(node, "Attributes")
        else:
            continue
        assert not set(described) - known, f"{path.name}: {node.name}"


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports a test file by its name: the second one of a name would not run."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
