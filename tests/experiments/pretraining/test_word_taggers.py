"""Which tagger the settings name, and what the loss and the record say of its tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.raw_text import MadeUpTagger, make_pretrain_settings, write_text
from helpers.tiny import make_predictor, make_settings, save_predictor
from nertune.errors import ConfigError
from nertune.experiments.pretraining.word_taggers import TaggingTask, build_tagging_task
from nertune.storage.files import hash_file


class Three(MadeUpTagger):
    tags = ("a", "PER", "b")


def test_two_outputs_a_tag_of_which_entities_weigh_more() -> None:
    task = TaggingTask(Three(), (1,))
    assert task.weights(3.0) == [1.0, 1.0, 3.0, 3.0, 1.0, 1.0]
    assert task.weights(1.0) == [1.0] * 6
    assert task.to_dict() == {
        "tagger": "made up 1",
        "fingerprint": "made up 1",
        "tags": ["a", "PER", "b"],
        "entity_tags": ["PER"],
    }


def task_of(folder: Path, **changes: Any) -> TaggingTask | None:
    settings = make_pretrain_settings(folder, **changes)
    return build_tagging_task(settings, {str(p): hash_file(p) for p in settings.word_tags})


@pytest.fixture
def tagged(tmp_path: Path) -> dict[str, Any]:
    """`files` and `word_tags`, of one line."""
    text = write_text(tmp_path / "a.txt", ["王明在北京"])
    return {"files": [text], "word_tags": [write_text(tmp_path / "a.tags", ["2:PER 1:p 2:LOC"])]}


def test_without_a_tagger_there_is_no_task(tmp_path: Path) -> None:
    assert task_of(tmp_path) is None


def test_tags_of_a_file(tagged: dict[str, Any], tmp_path: Path) -> None:
    task = task_of(tmp_path, **tagged)
    assert task is not None
    assert task.tagger.tags == ("LOC", "PER", "p")
    assert task.entity_tags == (0, 1)
    chosen = task_of(tmp_path, **tagged, entity_tags=["p"])
    assert chosen is not None
    assert chosen.entity_tags == (2,)
    with pytest.raises(ConfigError, match=r"entity_tags: 'ORG' is no tag of a\.tags"):
        task_of(tmp_path, **tagged, entity_tags=["ORG"])


def test_entities_are_needed_where_they_count(tagged: dict[str, Any], tmp_path: Path) -> None:
    write_text(tagged["word_tags"][0], ["2:n 1:p 2:n"])
    task = task_of(tmp_path, **tagged)
    assert task is not None
    assert task.entity_tags == ()
    for key, value in (("entity_weight", 2.0), ("entity_mask_share", 0.3)):
        with pytest.raises(ConfigError, match="name some of n, p"):
            task_of(tmp_path, **tagged, **{key: value})


def test_a_teachers_fingerprint_is_of_its_weights(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "lstm")
    found = []
    for name, noise in (("one", 0.5), ("same", 0.5), ("other", 0.4)):
        save_predictor(tmp_path / name, make_predictor(settings, noise=noise), settings)
        task = task_of(tmp_path, teacher=str(tmp_path / name))
        assert task is not None
        assert task.tagger.name == name
        found.append(task.tagger.fingerprint)
    assert found[0] == found[1] != found[2]
