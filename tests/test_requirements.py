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
