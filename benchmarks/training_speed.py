"""Training with LoRA: nertune against transformers' Trainer with peft, in turn.

    python benchmarks/training_speed.py bundled|6x384|bert-base [--sentences 96] [--rounds 3]
    python benchmarks/training_speed.py bert-base --memory      # full, LoRA, LoRA on the top third
    python benchmarks/training_speed.py bert-base --cache       # top third, frozen layers run once
    python benchmarks/training_speed.py bert-base --precision auto    # both as they are by default
    python benchmarks/training_speed.py bert-base --device cuda --precision bf16 --sentences 2000

The Trainer is set up as transformers' run_ner.py does it (batches of 16 sentences, each padded to
its longest), once with its random batches and once with `train_sampling_strategy =
"group_by_length"`. The same LoRA (rank 8 on query, key and value), the same sentences of peoples'
training file, the same threads and precision (float32 unless said; with `auto` the Trainer computes
in float32 and nertune in bfloat16 where the processor has it). On a GPU nertune is timed
compiled too. nertune's batches hold as many pieces as 16 sentences of mean length.
Tokens are pieces without padding and without [CLS] and [SEP]. With `--cache` ten
epochs count, the first pass over the frozen layers among them, against ten epochs of the Trainer,
taken as ten times its one: with LoRA in all layers, as users have it, and in the same top layers.
The "top third" is half of the bundled encoder's four layers. Writes
benchmarks/results/training-SHAPE[-memory|-cache][-auto][-cuda].json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from machine import (
    SHAPES,
    describe_machine,
    load_documents,
    matrix_rate,
    prepare_encoder,
    rates,
    settings_for,
    take_turns,
    wait,
    write_result,
)

from nertune.experiments.record import peak_memory_bytes
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.build import build_segmenter, build_tagger, build_tokenizer
from nertune.models.device import choose_device
from nertune.training.accelerator import build_accelerator, computed_precision
from nertune.training.batches import TrainingBatches
from nertune.training.examples import Examples, prepare_examples
from nertune.training.optimizer import build_optimizer
from nertune.training.stores.hidden_state_cache import StateStore, store_states
from nertune.training.trainer import Trainer
from nertune.types import Document

BATCH = 16
EPOCHS_WITH_CACHE = 10
TOP_THIRD = {"bundled": "top-2", "6x384": "top-2", "bert-base": "top-4"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LORA = {"rank": 8, "alpha": 32, "dropout": 0.1, "targets": ["query", "key", "value"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=("bundled", *SHAPES))
    parser.add_argument("--sentences", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "auto"))
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one case in a process of its own
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        encoder = prepare_encoder(arguments.shape, Path(folder))
        documents = load_documents("train", arguments.sentences)
        if arguments.only:
            print(json.dumps(measure_memory(encoder, documents, arguments)))
        elif arguments.memory:
            write_result(f"training-{arguments.shape}-memory", memory(arguments))
        else:
            name = f"training-{arguments.shape}{'-cache' if arguments.cache else ''}"
            name += "-auto" if arguments.precision == "auto" else ""
            name += "" if arguments.device == "cpu" else f"-{arguments.device}"
            write_result(name, speeds(encoder, documents, arguments))


def speeds(
    encoder: str, documents: list[Document], arguments: argparse.Namespace
) -> dict[str, Any]:
    _, examples = prepare(encoder, documents, "lora")
    tokens = sum(len(window.piece_ids) - 2 for window in examples.windows)
    epochs = EPOCHS_WITH_CACHE if arguments.cache else 1
    top = TOP_THIRD[arguments.shape]
    where = {"device": arguments.device, "precision": arguments.precision}
    cases: dict[str, Callable[[], object]] = {
        "trainer": trainer_case(encoder, documents, "random", **where),
        "trainer, grouped by length": trainer_case(encoder, documents, "group_by_length", **where),
    }
    if arguments.cache:
        cases["trainer, the same top layers"] = trainer_case(
            encoder, documents, "random", top=int(top.partition("-")[2]), **where
        )
        cases["nertune, the same top layers, not kept"] = nertune_case(
            encoder, documents, "lora", layers=top, **where
        )
        cases["nertune, frozen layers run once"] = nertune_case(
            encoder, documents, "lora", layers=top, epochs=epochs, stored=True, **where
        )
        cases["nertune, all layers"] = nertune_case(encoder, documents, "lora", **where)
    else:
        cases["nertune"] = nertune_case(encoder, documents, "lora", **where)
        if arguments.device != "cpu":
            cases["nertune, compiled"] = nertune_case(
                encoder, documents, "lora", compiled=True, **where
            )
    found = rates(take_turns(cases, arguments.rounds), tokens)
    if arguments.cache:
        row = found["nertune, frozen layers run once"]
        found["nertune, frozen layers run once"] = {k: v * epochs for k, v in row.items()}
    for row in found.values():
        for peer in ("trainer", "trainer, grouped by length"):
            row[f"against {peer}"] = round(
                row["tokens_per_second"] / found[peer]["tokens_per_second"], 2
            )
    result: dict[str, Any] = {
        "shape": arguments.shape, "sentences": len(documents), "tokens": tokens,
        "rounds": arguments.rounds, "epochs": epochs, "machine": describe_machine(), "rates": found,
    }  # fmt: skip
    if arguments.shape in SHAPES and not arguments.cache:
        layers, width, _, inner = SHAPES[arguments.shape]
        device = torch.device(arguments.device)
        own = computed_precision(build_accelerator(device, arguments.precision, project_dir=Path()))
        peers = "bf16" if arguments.precision == "bf16" else "fp32"
        ceilings = {
            precision: matrix_rate(width, inner, device=arguments.device, dtype=DTYPES[precision])
            for precision in sorted({own, peers})
        }
        # Forward, and the gradients of the inputs; frozen weights have none. Attention left out.
        work = 2 * 2 * layers * (4 * width * width + 2 * width * inner)
        result["matrix_gflops_per_second"] = {p: round(c / 1e9, 1) for p, c in ceilings.items()}
        for name, row in found.items():
            ceiling = ceilings[own if name.startswith("nertune") else peers]
            row["share_of_matrix_rate"] = round(row["tokens_per_second"] * work / ceiling, 3)
    return result


def prepare(
    encoder: str, documents: list[Document], tuning: str, *, layers: str = "all", **train: Any
) -> tuple[Predictor, Examples]:
    """A tagger ready to be trained, and what it is trained on."""
    mean = sum(len(document.text) for document in documents) / len(documents)
    budget = {"batch_tokens": int(BATCH * (mean + 2)), "epochs": 1, "patience": 0}
    settings = settings_for(encoder, tuning, lora={**LORA, "layers": layers},
                            train={**budget, **train})  # fmt: skip
    torch.manual_seed(1)
    tokenizer = build_tokenizer(settings, tuple(documents), "char")
    tagset = TagSet.from_labels(e.label for d in documents for e in d.entities)
    tagger = build_tagger(settings, tagset, tokenizer)
    predictor = Predictor(tagger, build_segmenter(tagger, tokenizer, "char"), tagset)
    predictor.settings = settings  # type: ignore[attr-defined]
    return predictor, prepare_examples(documents, predictor.segmenter, tagger.head)


def fit(
    predictor: Predictor,
    examples: Examples,
    accelerator: Accelerator,
    states: StateStore | None = None,
) -> None:
    """Train to the end."""
    settings = predictor.settings.train  # type: ignore[attr-defined]
    batches = TrainingBatches(
        examples, budget_tokens=settings.batch_tokens, seed=1, pad_id=0, states=states
    )
    Trainer(predictor.tagger, batches, settings, accelerator).fit()


def nertune_case(
    encoder: str,
    documents: list[Document],
    tuning: str,
    *,
    layers: str = "all",
    epochs: int = 1,
    stored: bool = False,
    compiled: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
) -> Callable[[], object]:
    """Training as `nertune train` does it, without evaluation and checkpoints."""
    predictor, examples = prepare(
        encoder, documents, tuning, layers=layers, epochs=epochs, compile=compiled
    )
    place = choose_device(device)
    predictor.tagger.to(place)

    def run() -> None:
        accelerator = build_accelerator(place, precision, project_dir=Path(tempfile.gettempdir()))
        states = None
        if stored:
            states = store_states(
                predictor.tagger, examples.windows, pad_id=0, accelerator=accelerator,
                folder=Path(tempfile.gettempdir()),
            )  # fmt: skip
        fit(predictor, examples, accelerator, states)
        wait(device)

    return run


def trainer_case(
    encoder: str,
    documents: list[Document],
    strategy: str,
    *,
    top: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
) -> Callable[[], object]:
    """transformers' Trainer with peft, an epoch each time that it is called.

    Args:
        top: LoRA in so many layers from the top only; 0: in all.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
    )

    from nertune.storage.encoders import resolve_encoder

    location = resolve_encoder(encoder)
    tokenizer = AutoTokenizer.from_pretrained(location)
    tags = TagSet.from_labels(e.label for d in documents for e in d.entities)
    rows = [features(document, tokenizer, tags) for document in documents]
    model = AutoModelForTokenClassification.from_pretrained(
        location,
        num_labels=len(tags),
        dtype=torch.float32,  # or weights kept in float16 stay so
    )
    bert = any(name.endswith("attention.self.query") for name, _ in model.named_modules())
    targets = ["query", "key", "value"] if bert else ["Wqkv"]
    layers = int(model.config.num_hidden_layers)
    chosen = list(range(layers - top, layers)) if top else None
    config = LoraConfig(task_type="TOKEN_CLS", r=8, lora_alpha=32, lora_dropout=0.1,
                        target_modules=targets, layers_to_transform=chosen)  # fmt: skip
    folder = tempfile.mkdtemp()  # nothing is written there
    settings = TrainingArguments(
        output_dir=folder, num_train_epochs=1, per_device_train_batch_size=BATCH,
        learning_rate=1e-3, use_cpu=device == "cpu", bf16=precision == "bf16", report_to="none",
        save_strategy="no", logging_strategy="no", disable_tqdm=True,
        train_sampling_strategy=strategy,
    )  # fmt: skip
    trainer = Trainer(
        get_peft_model(model, config), settings, train_dataset=rows,
        data_collator=DataCollatorForTokenClassification(tokenizer),
    )  # fmt: skip

    def run() -> None:
        # accelerate keeps one precision a process, and nertune's may be another.
        AcceleratorState._reset_state(reset_partial_state=True)
        trainer.create_accelerator_and_postprocess()
        trainer.train()
        assert trainer.accelerator.mixed_precision == ("bf16" if precision == "bf16" else "no")

    return run


def features(document: Document, tokenizer: Any, tags: TagSet) -> dict[str, list[int]]:
    """Characters as words, their tags on their pieces, as run_ner.py aligns them."""
    names = ["O"] * len(document.text)
    for entity in document.entities:
        names[entity.start : entity.end] = [f"I-{entity.label}"] * (entity.end - entity.start)
        names[entity.start] = f"B-{entity.label}"
    longest = min(512, tokenizer.model_max_length)
    encoded = tokenizer(
        list(document.text), is_split_into_words=True, truncation=True, max_length=longest
    )
    ids = tags.encode(names)
    labels = [-100 if word is None else ids[word] for word in encoded.word_ids()]
    return {**encoded, "labels": labels}


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Each kind of tuning in a process of its own."""
    found = {}
    for name in ("nothing", "full", "lora", f"lora {TOP_THIRD[arguments.shape]}"):
        command = [sys.executable, __file__, arguments.shape, "--only", name]
        command += ["--sentences", str(arguments.sentences)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        found[name] = json.loads(done.stdout)
    return {"shape": arguments.shape, "sentences": arguments.sentences,
            "machine": describe_machine(), "tuning": found}  # fmt: skip


def measure_memory(
    encoder: str, documents: list[Document], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Peak memory of an epoch, and what optimizer and checkpoint hold."""
    started = time.perf_counter()
    tuning, _, layers = arguments.only.partition(" ")
    predictor, examples = prepare(
        encoder, documents, "full" if tuning == "nothing" else tuning, layers=layers or "all"
    )
    loaded = peak_memory_bytes("cpu")
    trainable = [p for p in predictor.tagger.parameters() if p.requires_grad]
    if tuning != "nothing":
        fit(predictor, examples, Accelerator(cpu=True))
        build_optimizer(predictor.tagger, predictor.settings.train)  # type: ignore[attr-defined]
    weights = sum(p.numel() * p.element_size() for p in trainable)
    return {
        "peak_mib": round(peak_memory_bytes("cpu") / 2**20),
        "loaded_mib": round(loaded / 2**20),
        "trainable_parameters": sum(p.numel() for p in trainable),
        "weights_mib": round(weights / 2**20, 1),
        "optimizer_mib": round(2 * weights / 2**20, 1),  # AdamW: two values for each weight
        "seconds": round(time.perf_counter() - started, 1),
    }


if __name__ == "__main__":
    main()
