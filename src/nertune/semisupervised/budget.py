"""A baseline of the same budget: as many optimizer steps, and as many looks at dev."""

from __future__ import annotations

import math

from nertune.config.run import Settings

__all__ = ["same_budget"]


def same_budget(settings: Settings, *, epochs: int, steps: int) -> Settings:
    """The recipe for so many epochs, after each of which dev is scored, and so many steps.

    It does not stop early. Where the steps cannot be shared out evenly, it takes up to one an epoch
    more, never fewer.

    Args:
        settings: of the recipe.
        epochs, steps: what the other training took, at least 1.
    """
    batches = math.ceil(steps / epochs) * settings.train.accumulate
    loop = settings.train.model_copy(
        update={"epochs": epochs, "epoch_batches": batches, "patience": 0}
    )
    return settings.model_copy(update={"train": loop})
