"""Many adapters of one encoder in the same batch."""

from nertune.inference.mixed.models import ServedModel
from nertune.inference.mixed.predictor import MultiPredictor

__all__ = ["MultiPredictor", "ServedModel"]
