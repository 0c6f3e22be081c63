"""A commented recipe for the data that a user has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from nertune.config.run import parse_settings
from nertune.data.formats.values import counted
from nertune.data.splits import load_splits
from nertune.storage.encoders import BUNDLED_ENCODERS

__all__ = ["Decoder", "Method", "make_recipe"]

Method = Literal["lora", "full", "lstm"]
"""What of a model trains."""

Decoder = Literal["softmax", "crf"]
"""How a model's output becomes entities."""

_MODEL: dict[Method, str] = {
    "lora": """\
encoder = {encoder}     # bundled name, folder or hub name: "google-bert/bert-base-chinese"
tuning = "lora"         # or "full": train all weights
decoder = {decoder:<14}# or {other}

[lora]
rank = 8
""",
    "full": """\
encoder = {encoder}     # bundled name, folder or hub name: "google-bert/bert-base-chinese"
tuning = "full"         # or "lora": train a small adapter
decoder = {decoder:<14}# or {other}
""",
    "lstm": """\
emitter = "lstm"        # a BiLSTM that learns from the training data alone
decoder = {decoder:<14}# or {other}
""",
}

_DECODERS: dict[Method, Decoder] = {"lora": "softmax", "full": "softmax", "lstm": "crf"}

_RATES: dict[Method, tuple[str, str]] = {
    "lora": ("1e-3", "5e-4"),
    "full": ("2e-4", "5e-5"),
    "lstm": ("2e-3", "2e-3"),
}
"""The default learning rate with the bundled encoder, and with one of BERT-base's width."""


def make_recipe(
    files: Mapping[str, str],
    *,
    method: Method = "lora",
    decoder: Decoder | None = None,
    encoder: str = "mini-zh",
    name: str = "my",
) -> str:
    """The text of a recipe; the files are read first, so that it can be trained.

    Args:
        files: `train`, and perhaps `dev` and `test`.
        method: what trains.
        decoder: by default a CRF for `lstm`, else softmax.
        encoder: which encoder; without meaning for `lstm`.
        name: of the run, whose folder is `runs/NAME`.

    Raises:
        DataError: a file or a line of it cannot be used.
    """
    data = parse_settings({"data": dict(files)}).data
    corpora = load_splits(data, [split for split in ("train", "dev", "test") if split in files])
    lines = [f"[run]\ndir = {json.dumps(f'runs/{name}', ensure_ascii=False)}\n", "[data]"]
    for split, corpus in corpora.items():
        counts = (
            f"{counted(len(corpus.documents), 'document')}, "
            f"{counted(corpus.num_entities, 'entity')}"
        )
        lines.append(f"{split} = {json.dumps(files[split], ensure_ascii=False)}  # {counts}")
    if "dev" not in files:
        lines.append('# dev = "dev.conll"     # chooses the best epoch; recommended')
    if "test" not in files:
        lines.append('# test = "test.conll"   # read by `nertune train --test` and `compare` only')
    labels = ", ".join(corpora["train"].labels)
    chosen = decoder or _DECODERS[method]
    model = _MODEL[method].format(
        encoder=json.dumps(encoder, ensure_ascii=False),
        decoder=json.dumps(chosen),
        other=json.dumps("crf" if chosen == "softmax" else "softmax"),
    )
    lines += [f"# labels: {labels}", "", "[model]", model.rstrip(), "", "[train]", "epochs = 10"]
    rate = _RATES[method][encoder not in BUNDLED_ENCODERS]
    lines += [f"# learning_rate = {rate}   # by default that of the encoder and the method"]
    lines += ["# patience = 3           # stop after so many epochs without a better dev score, if"]
    lines += ["#                        # these are 500 steps or more (patience_steps)"]
    return "\n".join(lines) + "\n"
