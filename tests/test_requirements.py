"""The versions that pyproject.toml asks for have what is used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What came late into a library, and the version that it came with.
LATE = {("torch", r"torch\.optim\.Muon"): (2, 9)}


def test_lower_bounds_have_what_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds: dict[str, tuple[int, ...]] = {}
    for requirement in project["dependencies"]:
        found = re.match(r"([\w-]+)>=([\d.]+)", requirement)
        assert found, requirement
        bounds[found[1]] = tuple(map(int, found[2].split(".")))
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py"))
    for (library, use), version in LATE.items():
        assert re.search(use, source), f"{use} is used no more: take it out of LATE"
        assert bounds[library] >= version, f"{use} needs {library} {version}"


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    package = ROOT / "src" / "nertune"
    shipped = {
        file
        for pattern in settings["setuptools"]["package-data"]["nertune"]
        for file in package.glob(pattern)
    }
    left_out = {
        file
        for file in package.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc") and file not in shipped
    }
    assert not left_out
