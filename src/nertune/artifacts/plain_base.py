"""What plain peft and plain transformers need beside an adapter: its base encoder with its labels.

They build the model from the base encoder's own config.json, which knows nothing of the labels, so
that the adapter's classifier does not fit. `base/` in the adapter's folder is the base encoder with
a config.json that has them; the weights are links, not copies.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nertune.errors import ModelError
from nertune.storage.encoders import encoder_weights

__all__ = ["BASE_FOLDER", "write_base"]

BASE_FOLDER = "base"


def write_base(draft: Path, folder: Path, model: Any, encoder: str, *, is_hub: bool) -> None:
    """Write `base/` into an adapter's folder, and name it in adapter_config.json.

    A hub name stays the adapter's base there, since it is the same everywhere.

    Args:
        draft: the folder as it is written, with adapter and tokenizer.
        folder: where it will be.
        model: peft's model.
        encoder: the base encoder's name.
        is_hub: whether that is a hub name.
    """
    plain = model.get_base_model()
    base = draft / BASE_FOLDER
    base.mkdir()
    plain.config.save_pretrained(base)
    path = base / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["architectures"] = [type(plain).__name__]
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    if not _link_weights(base, plain, encoder) or not _link_tokenizer(base) or is_hub:
        return
    path = draft / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = str(folder.resolve() / BASE_FOLDER)
    settings["revision"] = None
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _link_tokenizer(base: Path) -> bool:
    """The adapter's own, for a pipeline, which reads it where the base is."""
    try:
        for file in base.parent.iterdir():
            if file.suffix in (".json", ".txt", ".model") and not file.name.startswith("adapter"):
                (base / file.name).symlink_to(Path("..") / file.name)
    except OSError:
        return False
    return True


def _link_weights(base: Path, plain: Any, encoder: str) -> bool:
    """Whether weights that plain transformers reads could be linked to."""
    from safetensors import safe_open

    try:
        files = encoder_weights(encoder)
    except ModelError:  # it is gone since training began
        return False
    own = {name for name, _ in plain.named_parameters()}
    names: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names |= set(opened.keys())
    if not own & (names | {f"{plain.base_model_prefix}.{name}" for name in names}):
        return False  # a wrapper's names, which nertune alone translates
    if files and files[0].name != "model.safetensors":
        files = [*files, files[0].with_name("model.safetensors.index.json")]
    try:
        for file in files:
            (base / file.name).symlink_to(file.resolve())
    except OSError:  # a file system without links
        return False
    return bool(files)
