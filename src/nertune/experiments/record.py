"""What is kept of a run: `record.json`, and what this machine says about itself."""

from __future__ import annotations

import contextlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nertune.config.run import same_settings
from nertune.data.corpus import Corpus
from nertune.data.statistics import summarize_lengths

__all__ = [
    "describe_data",
    "first_difference",
    "forget_peak_memory",
    "peak_memory_bytes",
    "software_versions",
]

_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "numpy")


def first_difference(old: Any, new: Any, where: str = "") -> str:
    """Where two JSON values first differ, for people: `train.epochs was 5, is 9`.

    Empty if they are the same; rates that were translated from an old name may be so to rounding.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if key not in old or key not in new or not same_settings(old[key], new[key]):
                inner = f"{where}.{key}".strip(".")
                return first_difference(old.get(key, ...), new.get(key, ...), inner)
        return ""
    if same_settings(old, new):
        return ""
    was, now = ("absent" if v is ... else json.dumps(v)[:80] for v in (old, new))
    return f"{where} was {was}, is {now}"


def describe_data(corpus: Corpus) -> dict[str, Any]:
    """What a record says about a data file."""
    return {
        "path": str(corpus.path),
        **({"files": [dict(file) for file in corpus.files]} if corpus.files else {}),
        "sha256": corpus.sha256,
        "documents": len(corpus.documents),
        "entities": corpus.num_entities,
        "join": corpus.joined,
        "scheme": corpus.scheme or "auto",
        "offsets": corpus.offsets,
        "p95_characters": summarize_lengths([len(d.text) for d in corpus.documents]).p95,
    }


def software_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def forget_peak_memory() -> None:
    """Let the peak begin anew where the system can (Linux, GPUs): before a run, after others."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_bytes(device: str) -> int | None:
    """The largest memory that this process has held: on the GPU if it computes there, else RAM.

    RAM is the peak resident size of this process alone, libraries included; `None` where the system
    does not say (Windows).
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        # Not ru_maxrss, which on Linux starts at the size of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.split("\n") if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        try:
            import resource
        except ImportError:
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak) if sys.platform == "darwin" else int(peak) * 1024
