"""The error tree: one page, and messages that say where."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from nertune import errors
from nertune.errors import (
    ArtifactError,
    DataError,
    MissingDependencyError,
    ModelError,
    NertuneError,
)


def test_every_error_is_in_the_tree_and_on_the_page() -> None:
    """The drawing at the top of the module names each class, and each has a docstring."""
    defined = {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert set(defined) == set(errors.__all__)
    for name, value in defined.items():
        assert issubclass(value, NertuneError)
        assert value.__doc__
        assert errors.__doc__ is not None
        assert name in errors.__doc__
    assert issubclass(ArtifactError, ModelError)


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("train.conll", 412, "train.conll:412: bad"),
        (Path("a/b"), None, "a/b: bad"),
        (None, None, "bad"),
        (None, 3, "bad"),
    ],
)
def test_a_data_error_says_where(path: str | None, line: int | None, expected: str) -> None:
    error = DataError("bad", path=path, line=line)
    assert str(error) == expected
    assert error.line == line
    assert error.path == (None if path is None else Path(path))


def test_a_missing_library_is_named_with_what_installs_it() -> None:
    assert str(MissingDependencyError("peft", purpose="LoRA")) == (
        "LoRA needs peft, which is not installed: pip install peft"
    )
    assert str(MissingDependencyError("matplotlib", extra="report", purpose="A report")) == (
        'A report needs matplotlib, which is not installed: pip install "nertune[report]"'
    )
