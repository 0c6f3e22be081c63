"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# A loaded machine is no fault of the code: time is measured in benchmarks, not here.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public data sets, which are read in place and never copied.

    `$NERTUNE_DATA`, or `../shared/data` beside the project.
    """
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NERTUNE_DATA") or default)
    if not (folder / "peoples" / "test").is_file():
        pytest.skip(f"the public data sets are not in {folder} (set NERTUNE_DATA)")
    return folder
