"""nertune: named-entity recognition by fine-tuning.

    >>> import nertune
    >>> nertune.train("lora.toml")                             # doctest: +SKIP
    >>> predictor = nertune.load("runs/lora")                  # doctest: +SKIP
    >>> predictor.tag("王小明昨天到了北京。").entities           # doctest: +SKIP

Names below are imported when first used, so that `import nertune` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nertune.errors import NertuneError
from nertune.types import Document, Entity

if TYPE_CHECKING:
    from nertune.api import evaluate, load, read, train, view, write
    from nertune.comparison.compare import compare
    from nertune.config.run import Settings, load_settings, parse_settings
    from nertune.data.corpus import Corpus, load_corpus
    from nertune.data.tables import from_pandas, to_pandas
    from nertune.evaluation.metrics import Scores, score
    from nertune.inference.predictor import Predictor
    from nertune.training.observer import Observer

__version__ = "0.1.0"

__all__ = [
    "Corpus",
    "Document",
    "Entity",
    "NertuneError",
    "Observer",
    "Predictor",
    "Scores",
    "Settings",
    "compare",
    "evaluate",
    "from_pandas",
    "load",
    "load_corpus",
    "load_settings",
    "parse_settings",
    "read",
    "score",
    "to_pandas",
    "train",
    "view",
    "write",
]

_HOME = {
    "Corpus": "nertune.data.corpus",
    "Observer": "nertune.training.observer",
    "Predictor": "nertune.inference.predictor",
    "Scores": "nertune.evaluation.metrics",
    "Settings": "nertune.config.run",
    "compare": "nertune.comparison.compare",
    "evaluate": "nertune.api",
    "from_pandas": "nertune.data.tables",
    "load": "nertune.api",
    "load_corpus": "nertune.data.corpus",
    "load_settings": "nertune.config.run",
    "parse_settings": "nertune.config.run",
    "read": "nertune.api",
    "score": "nertune.evaluation.metrics",
    "to_pandas": "nertune.data.tables",
    "train": "nertune.api",
    "view": "nertune.api",
    "write": "nertune.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'nertune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
