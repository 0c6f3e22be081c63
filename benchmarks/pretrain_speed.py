"""How much of the machine's matrix rate pre-training uses.

    python benchmarks/pretrain_speed.py [--layers 6] [--hidden 384] [--device auto] [--rounds 5]

Times whole training steps (forward, backward, optimizer) on random tokens, alternating with the
bare matrix products of the same sizes, and takes the medians. Counted are the products of the
layers, the attention, and the prediction of masked tokens, three times for forward and backward.
Writes benchmarks/results/pretrain-speed-DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from nertune.config.pretrain import parse_pretrain_settings
from nertune.models.device import choose_device
from nertune.pretraining.batches import TokenIds, collate_rows
from nertune.pretraining.loop import forward_losses
from nertune.pretraining.model import PretrainingModel, Shape, build_encoder
from nertune.pretraining.optimizers import build_optimizers
from nertune.pretraining.packing import Block
from nertune.training.accelerator import build_accelerator

VOCABULARY = 6000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    settings = parse_pretrain_settings(
        {
            "files": ["none"],
            "output": "none",
            "from_scratch": "small",
            "tokens": 1,
            "length": arguments.length,
            "batch_tokens": arguments.batch_tokens,
            "optimizer": arguments.optimizer,
            "precision": arguments.precision,
        }
    )
    device = choose_device(arguments.device)
    accelerator = build_accelerator(device, settings.precision, project_dir=Path())
    shape = Shape(arguments.layers, arguments.hidden, arguments.hidden // 64, VOCABULARY)
    encoder = build_encoder(
        shape, VOCABULARY, architecture="bert", max_tokens=settings.length, seed=1
    )
    model = PretrainingModel(encoder).to(device).eval()
    step = make_step(model, settings, accelerator)
    product = make_product(arguments, accelerator)
    step(), product()
    flops = step_flops(arguments, settings.mask_share)
    rates, ceilings = [], []
    for _ in range(arguments.rounds):
        rates.append(flops / timed(step, device))
        ceilings.append(max(work / timed(run, device) for run, work in product()))
    rate, ceiling = statistics.median(rates), statistics.median(ceilings)
    num_rows = arguments.batch_tokens // arguments.length
    result = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": accelerator.mixed_precision,
        "shape": f"{arguments.layers} x {arguments.hidden}",
        "batch": f"{num_rows} x {arguments.length}",
        "tokens_per_second": rate / flops * num_rows * arguments.length,
        "step_gflops_per_second": rate / 1e9,
        "product_gflops_per_second": ceiling / 1e9,
        "share": rate / ceiling,
        "rounds": arguments.rounds,
    }
    print(json.dumps(result, indent=1))
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"pretrain-speed-{device.type}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def make_step(model, settings, accelerator):
    """A whole training step on random tokens, always with the same number of masked ones."""
    rng = np.random.default_rng(0)
    num_rows, length = settings.batch_tokens // settings.length, settings.length - 2
    rows = Block(
        rng.integers(5, VOCABULARY, (num_rows, length)).astype(np.int32),
        np.ones((num_rows, length), dtype=bool),
        np.zeros((num_rows, length), dtype=np.uint8),
    )
    token_ids = TokenIds((2,), (3,), 4, VOCABULARY)
    optimizers = build_optimizers(model, settings)
    wants_compile = accelerator.device.type == "cuda"
    compiled = torch.compile(model, dynamic=True) if wants_compile else model

    def step() -> None:
        rng = np.random.default_rng(1)
        batch = collate_rows(rows, token_ids, settings, rng, accelerator.device)
        losses = forward_losses(compiled, batch, accelerator)
        accelerator.backward(losses.masked)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def make_product(arguments, accelerator):
    """The products of a layer's widest matrices, over all tokens of a batch."""
    precise = {"bf16": torch.bfloat16}.get(accelerator.mixed_precision, torch.float32)
    h, tokens = arguments.hidden, arguments.batch_tokens
    pairs = []
    for inner, outer in ((h, h), (h, 4 * h), (4 * h, h)):
        a = torch.randn(tokens, inner, dtype=precise, device=accelerator.device)
        b = torch.randn(inner, outer, dtype=precise, device=accelerator.device)
        pairs.append((a, b, 10 * 2 * tokens * inner * outer))

    def products():
        return [
            (lambda a=a, b=b: [torch.mm(a, b) for _ in range(10)], work) for a, b, work in pairs
        ]

    return products


def step_flops(arguments, mask_share: float) -> float:
    """Floating-point operations of a step: 2 for each multiplication, 3 passes."""
    h, length = arguments.hidden, arguments.length
    layer = 12 * h * h + 2 * length * h
    head = mask_share * (h * h + VOCABULARY * h)
    num_rows = arguments.batch_tokens // length
    return 3 * 2 * num_rows * length * (arguments.layers * layer + head)


def timed(run, device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
