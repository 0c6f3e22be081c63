"""Mixed batches: what 16 adapters in one batch cost against one merged model, and against peft.

    python benchmarks/mixed_adapters.py [--shapes bundled bert-base] [--threads 1 2] [--rounds 15]

LoRA of rank 8 on all linear layers, random weights, every row of a batch with an adapter of its
own; sentences of peoples' test file. All cases of a shape take turns; medians. What is timed:

- forward: one batch of token ids to logits.
- texts: from texts to entities, through `Predictor.tag_documents` and `MultiPredictor.tag`.
- alone: each text through its own adapter's merged model, a forward each; brief: so with short
  texts.
- few: four adapters, four rows each.
- peft: peft's `adapter_names` with 32 adapters and short texts. peft refuses adapters with a head
  of their own there, so its adapters have none and it computes less.

The mixed logits are compared with each merged model's first. Writes
benchmarks/results/mixed_adapters.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import (
    describe_machine,
    load_documents,
    prepare_encoder,
    settings_for,
    take_turns,
    write_result,
)
from torch import Tensor

from nertune.artifacts.save import Description, save_model
from nertune.inference.mixed import MultiPredictor
from nertune.inference.mixed.stacks import Rows, Segment
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer
from nertune.types import Document

LABELS = ("PERSON", "LOCATION", "ORGANIZATION", "TIME")
ROWS, FEW, ADAPTERS_OF_PEFT = 16, 4, 32
RANK = 8
LENGTH, SHORT = 30, 8  # characters
BARS = {"bundled": 1.25, "bert-base": 1.08, "alone": 3.0, "peft": 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["bundled", "bert-base"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    documents = [d for d in load_documents("test", 2000) if len(d.text) >= LENGTH]
    texts = [Document(d.text[:LENGTH]) for d in documents[:ADAPTERS_OF_PEFT]]
    found: dict[str, Any] = {}
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(shape, Path(folder), arguments.device)
            for threads in arguments.threads:
                torch.set_num_threads(threads)
                found[f"{shape}, {threads} threads"] = bench.run(texts, arguments.rounds)
    result = {"rank": RANK, "rows": ROWS, "characters": LENGTH, "short": SHORT,
              "rounds": arguments.rounds, "machine": describe_machine(), "bars": BARS,
              "found": found}  # fmt: skip
    suffix = "" if arguments.device == "cpu" else f"-{arguments.device}"
    write_result(f"mixed_adapters{suffix}", result)


class Bench:
    """Adapters of one shape, mixed, merged, and in peft's hands."""

    def __init__(self, shape: str, folder: Path, device: str):
        self.shape, self.device = shape, device
        self.encoder = prepare_encoder(shape, folder / "encoder")
        self.folders = make_adapters(self.encoder, folder, ADAPTERS_OF_PEFT)
        self.served = MultiPredictor.load(
            self.encoder, {f.name: f for f in self.folders}, device=device, slots=ADAPTERS_OF_PEFT
        )
        is_small = shape == "bundled"  # or so many merged models do not fit in memory
        self.merged = [
            Predictor.load(f, device=device) for f in self.folders[: ROWS * is_small or 1]
        ]
        self.peft = load_in_peft(self.folders).to(device) if is_small else None

    def run(self, texts: Sequence[Document], rounds: int) -> dict[str, Any]:
        """Medians in milliseconds, and their ratios."""
        rows, names = list(texts[:ROWS]), list(self.served.names)
        merged = self.merged[0]
        # One batch, whatever the number of threads.
        merged.batch_tokens = 1 << 20
        ids, attention = self.batch(rows)
        mixed = self.forward(ids, attention, names[:ROWS])
        same = self.forward(ids, attention, names[:1] * ROWS)
        check(merged, same(), ids, attention)
        cases: dict[str, Callable[[], object]] = {
            "merged forward": lambda: logits(merged, ids, attention),
            "mixed forward": mixed,
            "few forward": self.forward(ids, attention, names[:FEW] * (ROWS // FEW)),
            "merged texts": lambda: [list(merged.tag_documents(rows))],
            "mixed texts": lambda: self.served.tag(rows, names[:ROWS]),
        }
        if len(self.merged) == ROWS:
            singles = [self.batch([row]) for row in rows]
            cases["alone forward"] = lambda: self.alone(singles)
            brief = [Document(row.text[:SHORT]) for row in rows]
            brief_singles = [self.batch([row]) for row in brief]
            cases["alone brief"] = lambda: self.alone(brief_singles)
            cases["mixed brief"] = self.forward(*self.batch(brief), names[:ROWS])
        if self.peft is not None:
            short = self.batch([Document(text.text[:SHORT]) for text in texts])
            cases["mixed short"] = self.forward(*short, names)
            cases["peft short"] = self.forward_in_peft(*short, names)
        seconds = take_turns(cases, rounds)
        middle = {name: statistics.median(taken) * 1e3 for name, taken in seconds.items()}
        ratios = {
            "mixed against merged, forward": middle["mixed forward"] / middle["merged forward"],
            "few against merged, forward": middle["few forward"] / middle["merged forward"],
            "mixed against merged, texts": middle["mixed texts"] / middle["merged texts"],
        }
        if "alone forward" in middle:
            ratios["alone against mixed"] = middle["alone forward"] / middle["mixed forward"]
            ratios["alone against mixed, short"] = middle["alone brief"] / middle["mixed brief"]
            ratios["peft against mixed"] = middle["peft short"] / middle["mixed short"]
        found = {
            "milliseconds": {name: round(value, 3) for name, value in middle.items()},
            "ratios": {name: round(value, 3) for name, value in ratios.items()},
        }
        print(self.shape, torch.get_num_threads(), found["ratios"], file=sys.stderr)
        return found

    def alone(self, singles: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Every text through its own merged model."""
        return [logits(p, *single) for p, single in zip(self.merged, singles, strict=True)]

    def batch(self, documents: Sequence[Document]) -> tuple[Tensor, Tensor]:
        """The token ids of a batch, and where they are."""
        segmenter = self.merged[0].segmenter
        rows = [segmenter.segment(document)[1][0].piece_ids for document in documents]
        width = max(map(len, rows))
        pad = segmenter.tokenizer.pad_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
        attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return ids.to(self.device), attention.to(self.device)

    def forward(self, ids: Tensor, attention: Tensor, names: Sequence[str]) -> Callable[[], Tensor]:
        """One batch through the shared encoder, the rows of each adapter beside each other."""
        served = self.served
        assert served._slots is not None
        base = served._reader.base
        assert base is not None
        models = [served._find(name) for name in dict.fromkeys(names)]

        def run() -> Tensor:
            with served._slots.hold(models) as held:  # type: ignore[union-attr, arg-type]
                segments: list[Segment] = []
                for model in models:
                    start = segments[-1].end if segments else 0
                    end = start + names.count(model.served.name)
                    segments.append(Segment(start, end, held.slots[model]))  # type: ignore[index]
                rows = Rows(segments, held.pairs, held.heads, base.device)
                return base.logits(ids, attention, rows)

        return run

    def forward_in_peft(
        self, ids: Tensor, attention: Tensor, names: Sequence[str]
    ) -> Callable[[], object]:
        @torch.inference_mode()
        def run() -> object:
            return self.peft(input_ids=ids, attention_mask=attention, adapter_names=list(names))

        return run


def make_adapters(encoder: str, folder: Path, number: int) -> list[Path]:
    """Folders of adapters whose weights are random."""
    settings = settings_for(
        encoder, "lora", lora={"rank": RANK, "targets": ["all-linear"], "dropout": 0.0}
    )
    tokenizer = build_tokenizer(settings, (), "char")
    tagset = TagSet.from_labels(LABELS)
    tagger = build_tagger(settings, tagset, tokenizer).eval()
    predictor = Predictor(tagger, build_segmenter(tagger, tokenizer, "char"), tagset)
    folders = []
    for i in range(number):
        torch.manual_seed(i)
        with torch.no_grad():
            for name, parameter in tagger.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.01)
            head = tagger.emitter.model.get_base_model().classifier  # type: ignore[union-attr, operator]
            head.modules_to_save["default"].bias[tagset.tags.index("O")] = 2.0
        target = folder / f"adapter{i:02}"
        save_model(target, predictor, Description.from_settings(settings, encoder))
        folders.append(target)
    return folders


def load_in_peft(folders: Sequence[Path]) -> Any:
    """The adapters without their heads, in one model of peft's."""
    import json

    from peft import LoraConfig, PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForTokenClassification

    def config_of(folder: Path) -> LoraConfig:
        values = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        kept = ("r", "lora_alpha", "target_modules")
        return LoraConfig(**{key: values[key] for key in kept}, inference_mode=True)

    base = AutoModelForTokenClassification.from_pretrained(folders[0] / "base")
    model = PeftModel(base, config_of(folders[0]), adapter_name=folders[0].name)
    for folder in folders[1:]:
        model.add_adapter(folder.name, config_of(folder))
    own = model.state_dict()
    with torch.no_grad():
        for folder in folders:
            for key, tensor in load_file(folder / "adapter_model.safetensors").items():
                if ".lora_" in key:
                    own[key.replace(".weight", f".{folder.name}.weight")].copy_(tensor)
    return model.eval()


@torch.inference_mode()
def logits(predictor: Predictor, ids: Tensor, attention: Tensor) -> Tensor:
    found: Tensor = predictor.tagger.emitter(ids, attention)
    return found


def check(merged: Predictor, found: Tensor, ids: Tensor, attention: Tensor) -> None:
    """Rows of one adapter must be the merged model's."""
    wanted = logits(merged, ids, attention)
    apart = float((found - wanted)[attention.bool()].abs().max())
    if apart > 1e-3:
        sys.exit(f"the mixed logits are not those of the merged model: {apart:.1e} nats apart")


if __name__ == "__main__":
    main()
