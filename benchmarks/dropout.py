"""What our dropout saves of a training step on a CPU, against PyTorch's.

    python benchmarks/dropout.py

Steps of both take turns; nothing else should run. Prints the median seconds of each, and the share
of a step that is saved.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import BertConfig, BertForTokenClassification

from nertune.config.run import LoraSettings
from nertune.labels.tagset import TagSet
from nertune.models.dropout import quicken_dropout
from nertune.models.encoder import load_encoder
from nertune.models.peft.tuning import add_lora

TAGSET = TagSet.from_labels(["PER", "LOC", "ORG"])
BATCHES = {"mini-zh": (64, 48), "bert-base, 4 layers": (16, 48)}


def make_model(shape: str, *, lora: bool) -> Any:
    torch.manual_seed(0)
    model: Any = (
        load_encoder(shape, TAGSET, announce=False)
        if shape == "mini-zh"
        else BertForTokenClassification(BertConfig(num_labels=len(TAGSET), num_hidden_layers=4))
    )
    return add_lora(model, LoraSettings()) if lora else model


def make_step(shape: str, *, lora: bool, own: bool) -> Callable[[], None]:
    model = make_model(shape, lora=lora).train()
    if own:
        quicken_dropout(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    ids_BL = torch.randint(5, 5000, BATCHES[shape])
    labels_BL = torch.randint(0, len(TAGSET), BATCHES[shape])

    def step() -> None:
        attention_BL = torch.ones_like(ids_BL)
        model(input_ids=ids_BL, attention_mask=attention_BL, labels=labels_BL).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    for shape in BATCHES:
        for lora in (False, True):
            steps = {own: make_step(shape, lora=lora, own=own) for own in (False, True)}
            seconds: dict[bool, list[float]] = {False: [], True: []}
            for number in range(rounds + 1):
                for own, step in steps.items():
                    started = time.perf_counter()
                    step()
                    if number:  # the first one warms up
                        seconds[own].append(time.perf_counter() - started)
            plain, quick = (statistics.median(seconds[own]) for own in (False, True))
            print(
                f"{shape}, {'LoRA' if lora else 'full'}: PyTorch {plain:.3f} s a step, ours "
                f"{quick:.3f} s: {1 - quick / plain:.1%} saved",
                flush=True,
            )


if __name__ == "__main__":
    main()
