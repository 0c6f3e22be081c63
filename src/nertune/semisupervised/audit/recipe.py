"""How the models of an audit are trained where no recipe says it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nertune.config.run import Settings, apply_override, parse_settings, read_toml

__all__ = ["DEFAULT_RECIPE", "audit_settings"]

DEFAULT_RECIPE: dict[str, dict[str, Any]] = {
    "model": {"encoder": "mini-zh", "tuning": "full"},
    "train": {"epochs": 8, "batch_tokens": 512, "patience": 0},
}
"""Fine-tuning of the bundled encoder. No epoch is chosen: that would need labels of the fold."""


def audit_settings(data: str, recipe: Path | None, overrides: Sequence[str] = ()) -> Settings:
    """The settings of an audit's models.

    Args:
        data: the audited file, which takes the place of the recipe's training file.
        recipe: a TOML file; `None` takes `DEFAULT_RECIPE`.
        overrides: `section.key=value`.

    Raises:
        ConfigError: the recipe or an override cannot be used.
    """
    values = read_toml(recipe) if recipe is not None else dict(DEFAULT_RECIPE)
    values = {section: dict(content) if isinstance(content, dict) else content
              for section, content in values.items()}  # fmt: skip
    for override in overrides:
        apply_override(values, override)
    own = values.setdefault("data", {})
    if isinstance(own, dict):
        own |= {"train": data, "dev": "", "test": ""}
    return parse_settings(values, source="the audit's recipe" if recipe is None else str(recipe))
