"""Which ratio of units in entities a run keeps to."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from helpers.tiny import SENTENCES, make_predictor, make_settings
from nertune.config.run import TrainSettings
from nertune.errors import ConfigError
from nertune.labels.tagset import TagSet
from nertune.models.heads.allowed import AllowedTags
from nertune.models.heads.softmax import SoftmaxHead
from nertune.tokens.windows import Segmenter
from nertune.training.entity_ratio import choose_entity_ratio, measure_entity_ratio
from nertune.types import Document, Scope

OPEN = [Document("王明", scope=Scope(complete=False))]
NO_SEGMENTER = cast("Segmenter", None)  # nothing is measured where a ratio is asked for


class Own:
    """A head with sets of tags that does not say how many units it expects in entities."""

    allowed = AllowedTags(TagSet.from_labels(["PER"]))


def choose(head: Any, documents: list[Document], ratio: float | None) -> Any:
    settings = TrainSettings(entity_ratio=ratio)
    return choose_entity_ratio(settings, documents, (), NO_SEGMENTER, head)


def test_a_head_that_expects_no_number_of_units_keeps_no_ratio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ConfigError, match="the head keeps no entity ratio; set it to 0"):
        choose(Own(), OPEN, 0.2)
    with caplog.at_level(logging.WARNING, logger="nertune"):
        assert choose(Own(), OPEN, None) is None
    assert "expect far too many entities" in caplog.text


def test_a_ratio_is_kept_where_unmarked_text_is_unknown() -> None:
    head = SoftmaxHead(TagSet.from_labels(["PER"]))
    assert choose(head, OPEN, 0.3).margin == pytest.approx(0.1)
    assert choose(head, [*SENTENCES], 0.3) is None
    assert choose(head, [Document("王明", scope=Scope(("PER",)))], 0.3) is None
    assert choose(head, OPEN, 0.0) is None


def test_a_scope_of_all_that_the_model_finds_is_measured(tmp_path: Path) -> None:
    segmenter = make_predictor(make_settings(tmp_path, "lstm")).segmenter
    labels = {entity.label for document in SENTENCES for entity in document.entities}
    expected = measure_entity_ratio(SENTENCES, segmenter, labels)
    assert expected
    named = [replace(d, scope=Scope((*labels, "X"))) for d in SENTENCES]
    assert measure_entity_ratio(named, segmenter, labels) == expected
    assert measure_entity_ratio(named, segmenter, {*labels, "Y"}) is None
