"""Where an encoder lives: bundled with nertune, in a folder, or on the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nertune.errors import ModelError
from nertune.paths import user_path

__all__ = ["BUNDLED_ENCODERS", "encoder_folder", "resolve_encoder", "weight_files"]

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


def encoder_folder(name: str) -> Path:
    """The folder that holds an encoder: its own, or that of a hub name in the hub's cache.

    Raises:
        ModelError: there is none, or it cannot be fetched.
    """
    location = resolve_encoder(name)
    if Path(location).is_dir():
        return Path(location)
    from transformers.utils.hub import cached_file

    try:
        return Path(str(cached_file(location, "config.json"))).parent
    except OSError as error:
        raise ModelError(f"{name}: cannot be fetched from the hub ({error})") from error


def weight_files(folder: Path) -> list[Path]:
    """Those that transformers loads: one cache may hold others beside them, another not."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [folder / Path(name).name for name in sorted(names)]
    return sorted(folder.glob("*.safetensors"))
