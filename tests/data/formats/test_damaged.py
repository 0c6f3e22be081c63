"""Damaged files: every reader gives documents or an error of its own, never a traceback or a hang.

`tools/fuzz_formats.py` runs as many cases as one likes; these are the first ones.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nertune.errors import MissingDependencyError

TOOL = Path(__file__).parents[3] / "tools" / "fuzz_formats.py"


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_formats", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FUZZ = tool()


@pytest.mark.parametrize("format", FUZZ.readable(), ids=lambda format: format.name)
def test_damaged_files_are_read_or_refused(format: object, tmp_path: Path) -> None:
    try:
        found = FUZZ.fuzz(format, tmp_path, range(40))
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert found.failures == []
    assert found.read + found.refused == 40
    assert found.refused > 0
