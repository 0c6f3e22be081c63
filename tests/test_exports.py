"""What each module offers, and that a light import stays light."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import nertune

MODULES = sorted(
    ["nertune", *(found.name for found in pkgutil.walk_packages(nertune.__path__, "nertune."))]
)


def rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_modules_are_found() -> None:
    assert len(MODULES) > 30
    assert {
        "nertune.cli.commands",
        "nertune.models.heads.crf",
        "nertune.data.formats.conll",
    } <= set(MODULES)


@pytest.mark.parametrize("name", [m for m in MODULES if m != "nertune.__main__"])
def test_all_is_complete_and_sorted(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert module.__doc__, "a module says what it is for"
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        # Commands are reached through their app.
        and not (name == "nertune.cli.commands" and node.decorator_list)
    }
    exported = getattr(module, "__all__", None)
    if exported is None:
        assert not defined, "public names without an __all__"
        return
    assert list(exported) == sorted(set(exported), key=rank)
    assert defined <= set(exported)
    for public in exported:
        assert getattr(module, public) is not None
        assert not public.startswith("_") or public == "__version__"


@pytest.mark.parametrize("name", nertune.__all__)
def test_what_is_imported_late_is_there(name: str) -> None:
    assert name in dir(nertune)
    assert getattr(nertune, name).__doc__


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nertune' has no attribute 'Taggger'"):
        nertune.Taggger  # noqa: B018


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(nertune.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


HEAVY = "{'torch', 'transformers', 'peft', 'accelerate', 'tokenizers', 'numpy', 'matplotlib'}"


@pytest.mark.parametrize(
    "code",
    [
        "import nertune; from nertune import Document, Entity, NertuneError",
        "import nertune.config.run, nertune.storage.encoders, nertune.labels.align",
        "from nertune.data.corpus import load_corpus",
    ],
)
def test_light_modules_stay_light(code: str) -> None:
    """Types, settings, labels and data are usable without torch."""
    heavy = HEAVY if "import nertune;" in code else "{'torch', 'transformers', 'peft'}"
    result = run(
        f"{code}; import sys; loaded = {heavy} & set(sys.modules); assert not loaded, loaded"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["train", "--help"], ["data", "inspect", "--help"]]
)
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    result = run(
        f"import sys; sys.argv = ['nertune', *{arguments!r}]\n"
        "from nertune.cli.commands import main\n"
        "try:\n    main()\nfinally:\n"
        f"    loaded = {HEAVY} & set(sys.modules)\n"
        "    assert not loaded, loaded\n"
    )
    assert result.returncode == 0, result.stderr
    assert "nertune" in result.stdout
