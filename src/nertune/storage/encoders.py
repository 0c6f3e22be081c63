"""Where an encoder lives: in a folder, bundled with nertune, or on the hub."""

from __future__ import annotations

import json
import logging
import re
import time
from functools import cache
from pathlib import Path

from nertune.errors import ModelError
from nertune.storage.paths import user_path

__all__ = [
    "BUNDLED_ENCODERS",
    "bundled_folder",
    "encoder_folder",
    "encoder_weights",
    "reach_hub",
    "resolve_encoder",
    "weight_files",
]

_LOG = logging.getLogger("nertune")
_FOLDER = Path(__file__).parents[1] / "models" / "bundled"
_PAUSE_SECONDS = 1.0  # before the hub is asked once more
_reached: set[str] = set()  # hub names that need not be asked for again in this process

BUNDLED_ENCODERS: tuple[str, ...] = tuple(
    sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))
)
"""Names of the encoders that come with nertune."""


def bundled_folder(name: str) -> Path:
    """Where a bundled encoder is."""
    return _FOLDER / name


def resolve_encoder(name: str) -> str:
    """Turn an encoder's name into what transformers' `from_pretrained` takes.

    An existing folder gives itself; a bundled name its folder; anything that looks like a hub name
    (`owner/model` or `model`) is passed on. A model's folder of the user's with a bundled name
    comes before the bundled encoder; this is logged.

    Raises:
        ModelError: the name is a path that does not exist or holds no model.
    """
    path = user_path(name)
    holds_model = any((path / file).is_file() for file in ("config.json", "adapter_config.json"))
    if name in BUNDLED_ENCODERS:
        if not holds_model:
            return str(bundled_folder(name))
        _say_hidden(name, path.resolve())
    if path.is_dir():
        if not holds_model:
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


@cache
def _say_hidden(name: str, folder: Path) -> None:
    _LOG.warning("%s: the folder %s is taken, not the bundled encoder of that name", name, folder)


def reach_hub(name: str) -> None:
    """Refuse at once a model that is neither here nor in the hub's cache if there is no connection.

    Without a connection, huggingface_hub asks for each file of a model six times within 23 seconds,
    so that a folder's name with a slip in it would be refused after more than a minute.

    Args:
        name: what `resolve_encoder` has let through; nothing is asked about a folder.

    Raises:
        ModelError: the hub cannot be reached, and the model is nowhere else.
    """
    if name in _reached or Path(name).is_dir():
        return
    if reason := _no_connection(name):
        raise ModelError(
            f"{name}: no folder of that name is here, and the hub cannot be reached ({reason}); "
            "check the name, or the connection"
        )
    _reached.add(name)


def _no_connection(name: str) -> str:
    """Why the hub cannot be asked for a model; empty if it can, or need not be."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    files = ("config.json", "nertune.json")
    reason = ""
    for pause in (0.0, _PAUSE_SECONDS):  # one failure may be a moment's
        time.sleep(pause)
        try:
            if constants.HF_HUB_OFFLINE or any(try_to_load_from_cache(name, f) for f in files):
                return ""
            get_hf_file_metadata(hf_hub_url(name, files[0]))
        except (HfHubHTTPError, ValueError):  # it answered, or refuses the name: the loader tells
            return ""
        except Exception as error:  # of an HTTP client that differs between the library's versions
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        else:
            return ""
    return reason


def encoder_folder(name: str) -> Path:
    """The folder that holds an encoder: its own, or that of a hub name in the hub's cache.

    Raises:
        ModelError: there is none, or it cannot be fetched.
    """
    location = resolve_encoder(name)
    if Path(location).is_dir():
        return Path(location)
    from transformers.utils.hub import cached_file

    reach_hub(location)
    try:
        return Path(str(cached_file(location, "config.json"))).parent
    except OSError as error:
        raise ModelError(
            f"{name}: no such folder, and it cannot be fetched from the hub "
            f"({' '.join(str(error).split())[:200]})"
        ) from error


def encoder_weights(name: str) -> list[Path]:
    """The safetensors files of an encoder, fetched where they are not in the hub's cache yet.

    Raises:
        ModelError: there is no such encoder.
    """
    folder = encoder_folder(name)
    if (found := weight_files(folder)) or Path(resolve_encoder(name)).is_dir():
        return found
    from transformers.utils.hub import cached_file

    def fetch(file: str) -> object:
        return cached_file(
            name,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )

    if fetch("model.safetensors") is None and fetch("model.safetensors.index.json") is not None:
        for shard in weight_files(folder):
            fetch(shard.name)
    return [file for file in weight_files(folder) if file.is_file()]


def weight_files(folder: Path) -> list[Path]:
    """Those that transformers loads: one cache may hold others beside them, another not."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [folder / Path(name).name for name in sorted(names)]
    return sorted(folder.glob("*.safetensors"))
