"""Folders of taggers that are not trained, and what tests do to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.tiny import make_predictor, make_settings, save_predictor
from nertune.inference.predictor import Predictor

__all__ = ["edit_json", "names_in", "one_line", "saved"]


def saved(folder: Path, variant: str, **sections: dict[str, Any]) -> tuple[Predictor, Path]:
    """A shaken tagger and where it was saved."""
    settings = make_settings(folder, variant, sections)
    predictor = make_predictor(settings)
    save_predictor(folder / "model", predictor, settings)
    return predictor, folder / "model"


def one_line(error: Exception) -> str:
    """The message as the command line prints it; it must be short and hold no traceback."""
    message = str(error)
    assert len(message) < 600
    assert "Traceback" not in message
    return message


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
