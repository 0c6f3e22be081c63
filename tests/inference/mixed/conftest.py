"""The folders of models, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.mixed import MIXED, OWN, PEOPLE, make_model
from helpers.tiny import tiny_bert


@pytest.fixture(scope="session")
def base() -> Path:
    return tiny_bert()


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of `MIXED`."""
    folder = tmp_path_factory.mktemp("mixed")
    return {
        name: make_model(
            folder / name, labels, sections, seed=i, scheme="IO" if name == "io" else "BIO"
        )
        for i, (name, (labels, sections)) in enumerate(MIXED.items())
    }


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of `OWN`."""
    folder = tmp_path_factory.mktemp("own")
    return {
        name: make_model(folder / name, PEOPLE, sections, seed=20 + i)
        for i, (name, (_, sections)) in enumerate(OWN.items())
    }
