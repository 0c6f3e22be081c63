"""What a trained head learned for a tag stays with that tag under other labels; the rest is new."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from nertune.config.run import Settings
from nertune.labels.tagset import TagSet
from nertune.models.build import build_tagger
from nertune.models.heads.crf import Crf
from nertune.models.heads.transfer import load_with_head, match_tags
from nertune.tokens.tokenizer import CharTokenizer

Make = Callable[..., Any]
VOCABULARY = CharTokenizer(chr(0x4E00 + i) for i in range(28))


def trained(make_model: Make, folder: Path, tags: Sequence[str], family: str = "bert") -> Any:
    """A tagger of such tags, each row of whose head is marked by its number."""
    model = make_model(family, num_labels=len(tags), id2label=dict(enumerate(tags)))
    with torch.no_grad():
        model.classifier.weight.copy_(100.0 + torch.arange(len(tags))[:, None])
        model.classifier.bias.copy_(200.0 + torch.arange(len(tags)))
    model.save_pretrained(folder)
    return model


def rows(classifier: Any) -> list[int | None]:
    """Which old row each row is; `None` for a new one, which is small."""
    found: list[int | None] = []
    for weight_D, bias in zip(classifier.weight.detach(), classifier.bias.detach(), strict=True):
        old = round(float(weight_D[0])) - 100
        if old >= 0:
            assert bool((weight_D == 100 + old).all())
            assert float(bias) == 200 + old
        else:
            assert float(weight_D.abs().max()) < 3
            assert abs(float(bias)) < 1
        found.append(old if old >= 0 else None)
    return found


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert"])
@pytest.mark.parametrize(
    ("old", "labels", "expected"),
    [
        # The same labels, in another order.
        ("O B-LOC I-LOC B-PER I-PER", "PER LOC", [0, 1, 2, 3, 4]),
        ("I-PER B-PER O I-LOC B-LOC", "PER LOC", [2, 4, 3, 1, 0]),
        # As many, but another: by number, a person's row would be a plant's.
        ("O B-LOC I-LOC B-PER I-PER", "LOC PLANT", [0, 1, 2, None, None]),
        ("O B-LOC I-LOC B-PER I-PER", "ANT PER", [0, None, None, 3, 4]),
        # Fewer, more, none.
        ("O B-LOC I-LOC B-PER I-PER", "PER", [0, 3, 4]),
        ("O B-PER I-PER", "LOC PER", [0, None, None, 1, 2]),
        ("O B-LOC I-LOC", "PER", [None, None, None]),
        ("LABEL_0 LABEL_1 LABEL_2", "PER", [None, None, None]),
        # Other people's spellings and schemes.
        ("o b-PER i-PER X", "PER", [0, 1, 2]),
        ("[PAD] O PER-B PER-I", "PER", [1, 2, 3]),
        ("O B-PER M-PER E-PER S-PER", "PER", [0, 1, 2]),
    ],
)
def test_rows_of_the_same_tags_are_kept(
    old: str, labels: str, expected: list[int | None], family: str, make_model: Make, tmp_path: Path
) -> None:
    trained(make_model, tmp_path / "m", old.split(), family)
    tagset = TagSet.from_labels(labels.split())
    torch.manual_seed(0)
    base = load_with_head(str(tmp_path / "m"), tagset)
    assert rows(base.model.classifier) == expected
    assert base.model.config.num_labels == base.model.num_labels == len(tagset)
    assert [base.model.config.id2label[i] for i in range(len(tagset))] == list(tagset.tags)
    assert base.model.config.label2id == {tag: i for i, tag in enumerate(tagset.tags)}
    ids = torch.tensor([[1, 5, 6, 2]])
    assert base.model(input_ids=ids).logits.shape == (1, 4, len(tagset))


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_everything_but_the_last_layer_is_what_was_trained(
    family: str, make_model: Make, tmp_path: Path
) -> None:
    model = trained(make_model, tmp_path / "m", ["O", "B-X", "I-X"], family)
    found = load_with_head(str(tmp_path / "m"), TagSet.from_labels(["Y"])).model
    kept = dict(model.named_parameters())
    for name, parameter in found.named_parameters():
        if not name.startswith("classifier."):
            assert torch.equal(parameter, kept[name]), name


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_new_rows_are_drawn_as_a_new_head_is(family: str, make_model: Make, tmp_path: Path) -> None:
    """With the family's own spread, which is not that of torch's layers; biases are zero."""
    trained(make_model, tmp_path / "m", ["O", "B-X", "I-X"], family)
    labels = [f"T{i}" for i in range(40)]
    torch.manual_seed(0)
    new = load_with_head(str(tmp_path / "m"), TagSet.from_labels(labels)).model
    plain = make_model(family, num_labels=81)
    deviation = float(new.classifier.weight.std())
    assert deviation == pytest.approx(float(plain.classifier.weight.std()), rel=0.2)
    assert not new.classifier.bias.any()
    torch.manual_seed(0)
    again = load_with_head(str(tmp_path / "m"), TagSet.from_labels(labels)).model
    assert torch.equal(new.classifier.weight, again.classifier.weight)


def test_a_text_classifier_is_no_tagger(tmp_path: Path) -> None:
    """Its head has the name of a tagger's, and here its size."""
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=20, num_labels=3)  # fmt: skip
    model = BertForSequenceClassification(config)
    torch.nn.init.constant_(model.classifier.weight, 100.0)
    model.save_pretrained(tmp_path / "m")
    base = load_with_head(str(tmp_path / "m"), TagSet.from_labels(["PER"]))
    assert base.kept is None
    assert float(base.model.classifier.weight.abs().max()) < 3


def test_what_is_kept_is_said(
    make_model: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(make_model, tmp_path / "m", ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])
    caplog.set_level(logging.INFO, "nertune")
    load_with_head(str(tmp_path / "m"), TagSet.from_labels(["LOC", "PLANT"]))
    load_with_head(str(tmp_path / "m"), TagSet.from_labels(["ANT", "PLANT"]))
    load_with_head(str(tmp_path / "m"), TagSet.from_labels(["LOC", "PER"]))
    one, other, same = (r.getMessage() for r in caplog.records if "the classifier" in r.message)
    assert "3 of 5 rows kept (O, B-LOC, I-LOC), 2 new (B-PLANT, I-PLANT)" in one
    assert "none of 5 rows kept, all 5 new (O, B-ANT" in other
    assert "5 of 5 rows kept (O, B-LOC, I-LOC, B-PER, I-PER), 0 new" in same


def test_only_what_names_entities_makes_a_match() -> None:
    old, new = TagSet.from_labels(["A", "B"]), TagSet.from_labels(["B", "C"])
    assert match_tags(old, new).ids == {0: 0, 1: 3, 2: 4}
    assert match_tags(old, TagSet.from_labels(["C"])).ids == {}
    assert match_tags(None, new).ids == {}


def scores(crf: Crf) -> dict[tuple[str, ...], float]:
    """A CRF's scores by the tags that they are of."""
    tags = crf.tagset.tags
    found: dict[tuple[str, ...], float] = {}
    for i, tag in enumerate(tags):
        found["start", tag], found["end", tag] = float(crf.start_K[i]), float(crf.end_K[i])
        found |= {(tag, other): float(crf.transition_KK[i, j]) for j, other in enumerate(tags)}
    return found


@pytest.mark.parametrize("labels", ["LOC PLANT", "PER", "ANT LOC PER", "LOC PER"])
def test_transitions_between_the_same_tags_are_kept(
    labels: str, make_model: Make, settings_of: Callable[..., Settings], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    old = TagSet(("I-PER", "O", "B-LOC", "I-LOC", "B-PER"))
    trained(make_model, tmp_path / "m", old.tags)
    crf = Crf(old)
    for i, parameter in enumerate(crf.parameters(), start=1):
        torch.nn.init.normal_(parameter, mean=i)
    weights: dict[str, Tensor] = {k: v.detach() for k, v in crf.state_dict().items()}
    save_file(weights, tmp_path / "m" / "crf.safetensors")
    settings = settings_of(model={"decoder": "crf", "encoder": str(tmp_path / "m")})
    tagger = build_tagger(settings, TagSet.from_labels(labels.split()), VOCABULARY)
    assert isinstance(tagger.head, Crf)
    before, now = scores(crf), scores(tagger.head)
    for key, value in now.items():
        assert value == before.get(key, 0.0), key
    assert set(before) & set(now)


def test_an_artifact_of_another_order_finds_the_same_entities(tmp_path: Path) -> None:
    """The whole way: a run on the same labels begins with what the trained tagger finds."""
    from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor

    settings = make_settings(tmp_path, "full-crf")
    predictor = make_predictor(settings)
    save_predictor(tmp_path / "model", predictor, settings)
    encoder = {"encoder": str(tmp_path / "model")}
    again = make_predictor(make_settings(tmp_path, "full-crf", {"model": encoder}), noise=0.0)
    found = [list(d.entities) for d in predictor.tag_texts(d.text for d in SENTENCES)]
    assert any(found)
    assert [list(d.entities) for d in again.tag_texts(d.text for d in SENTENCES)] == found
    manifest = json.loads((tmp_path / "model" / "nertune.json").read_text(encoding="utf-8"))
    assert list(again.tagset.tags) == manifest["tags"]
