"""nertune: named-entity recognition by fine-tuning.

    >>> from nertune import Predictor
    >>> predictor = Predictor.load("runs/lora/model")         # doctest: +SKIP
    >>> predictor.tag("王小明昨天到了北京。").entities           # doctest: +SKIP

Names below are imported when first used, so that `import nertune` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nertune.errors import NertuneError
from nertune.types import Document, Entity

if TYPE_CHECKING:
    from nertune.data.corpus import Corpus, load_corpus
    from nertune.evaluation.metrics import Scores, score
    from nertune.experiments.train import train
    from nertune.inference.predictor import Predictor

__version__ = "0.1.0"

__all__ = [
    "Corpus",
    "Document",
    "Entity",
    "NertuneError",
    "Predictor",
    "Scores",
    "load_corpus",
    "score",
    "train",
]

_HOME = {
    "Corpus": "nertune.data.corpus",
    "Predictor": "nertune.inference.predictor",
    "Scores": "nertune.evaluation.metrics",
    "load_corpus": "nertune.data.corpus",
    "score": "nertune.evaluation.metrics",
    "train": "nertune.experiments.train",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'nertune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
