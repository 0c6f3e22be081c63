"""Where an encoder lives: bundled with nertune, in a folder, or on the hub."""

from __future__ import annotations

import re
from pathlib import Path

from nertune.errors import ModelError
from nertune.paths import user_path

__all__ = ["BUNDLED_ENCODERS", "resolve_encoder"]

_FOLDER = Path(__file__).parent / "models" / "encoders"

BUNDLED_ENCODERS: tuple[str, ...] = tuple(
    sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))
)
"""Names of the encoders that come with nertune."""


def resolve_encoder(name: str) -> str:
    """Turn an encoder's name into what transformers' `from_pretrained` takes.

    A bundled name gives its folder; an existing folder itself; anything that looks like a hub
    name (`owner/model` or `model`) is passed on.

    Raises:
        ModelError: the name is a path that does not exist or holds no model.
    """
    if name in BUNDLED_ENCODERS:
        return str(_FOLDER / name)
    path = user_path(name)
    if path.is_dir():
        if not any((path / file).exists() for file in ("config.json", "adapter_config.json")):
            raise ModelError(f"{name}: the folder holds no config.json, so no model")
        return str(path)
    if path.exists():
        raise ModelError(f"{name}: is a file; expected a model's folder or a hub name")
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if looks_like_path or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII):
        raise ModelError(
            f"{name}: no such folder; expected a model's folder, a hub name like "
            f"google-bert/bert-base-chinese, or a bundled encoder ({', '.join(BUNDLED_ENCODERS)})"
        )
    return name
