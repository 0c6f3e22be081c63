"""No parameter is random without a word: what a checkpoint lacks is refused by name, or said."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, AutoTokenizer

from helpers import shown
from helpers.tiny import make_settings, tiny_bert
from nertune.errors import ModelError
from nertune.inference.predictor import load_model
from nertune.labels.tagset import TagSet
from nertune.models.encoder import load_encoder
from nertune.pretraining.model import load_for_pretraining

FAMILIES = ["bert", "roberta", "distilbert", "electra", "modernbert", "albert", "mpnet", "deberta"]
TAGS = ["O", "B-PER", "I-PER"]


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A copy of the tiny encoder, free to be damaged."""
    return Path(shutil.copytree(tiny_bert(), tmp_path / "encoder"))


@pytest.fixture
def tagger(tmp_path: Path) -> Path:
    """A foreign token-classification folder."""
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_pretrained(
        tiny_bert(), id2label=dict(enumerate(TAGS)), label2id={t: i for i, t in enumerate(TAGS)}
    )
    model.save_pretrained(tmp_path / "tagger")
    AutoTokenizer.from_pretrained(tiny_bert()).save_pretrained(tmp_path / "tagger")
    return tmp_path / "tagger"


def edit(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | values), encoding="utf-8")


def without(part: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {name: t for name, t in weights.items() if part not in name}


def renamed(prefix: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {f"{prefix}{name}": t for name, t in weights.items()}


def refusal(load: Callable[[], Any]) -> str:
    with pytest.raises(ModelError) as caught:
        load()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 900
    return message


def damages() -> dict[str, Callable[[Path], None]]:
    def vocabulary(folder: Path) -> None:
        edit_config(
            folder, vocab_size=json.loads((folder / "config.json").read_text())["vocab_size"] + 5
        )

    return {
        "a layer is missing": lambda f: edit(f, without("layer.1.")),
        "one parameter is missing": lambda f: edit(f, without("layer.0.attention.self.query.bias")),
        "more layers than weights": lambda f: edit_config(f, num_hidden_layers=3),
        "fewer layers than weights": lambda f: edit_config(f, num_hidden_layers=1),
        "another vocabulary": vocabulary,
        "other positions": lambda f: edit_config(f, max_position_embeddings=80),
        "an unknown prefix": lambda f: edit(f, renamed("student.")),
        "another family": lambda f: edit_config(f, model_type="distilbert"),
        "nothing of it": lambda f: edit(f, lambda w: {"something.weight": torch.zeros(2)}),
    }


NAMED = {
    "a layer is missing": "layer.1.attention",
    "one parameter is missing": "1 parameters are not in its weights: "
    "bert.encoder.layer.0.attention.self.query.bias",
    "more layers than weights": "layer.2.attention",
    "fewer layers than weights": "config.json has no place for: encoder.layer.1.attention",
    "another vocabulary": "bert.embeddings.word_embeddings.weight (",
    "other positions": "bert.embeddings.position_embeddings.weight (64×32 instead of 80×32)",
    "an unknown prefix": "they hold instead: student.embeddings",
    "another family": "distilbert.transformer.layer.0",
    "nothing of it": "they hold instead: something.weight",
}


@pytest.mark.parametrize("what", NAMED)
def test_an_encoder_that_does_not_fit_is_refused_at_the_start(what: str, encoder: Path) -> None:
    damages()[what](encoder)
    tagset = TagSet.from_labels(["PER"])
    message = refusal(lambda: load_encoder(str(encoder), tagset))
    assert message.startswith(f"{encoder}: ")
    assert NAMED[what] in message


@pytest.mark.parametrize("what", NAMED)
def test_nor_is_it_trained_further(what: str, encoder: Path) -> None:
    damages()[what](encoder)
    message = refusal(lambda: load_for_pretraining(str(encoder)))
    if what == "fewer layers than weights":
        assert NAMED[what] in message
    else:
        assert "parameters are not in its weights" in message or "another shape" in message


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("classifier", "2 parameters are not in its weights: classifier.bias, classifier.weight"),
        ("classifier.bias", "1 parameters are not in its weights: classifier.bias"),
        ("layer.1.output", "bert.encoder.layer.1.output"),
    ],
)
def test_a_foreign_model_is_whole_or_refused(part: str, named: str, tagger: Path) -> None:
    load_model(tagger, device="cpu")
    edit(tagger, without(part))
    assert named in refusal(lambda: load_model(tagger, device="cpu"))


def test_a_foreign_head_of_another_size_is_named(tagger: Path) -> None:
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    edit_config(tagger, id2label={str(i): n for i, n in enumerate(names)})
    message = refusal(lambda: load_model(tagger, device="cpu"))
    assert "classifier.weight (3×32 instead of 5×32)" in message


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module.model.", "model.encoder.", "backbone."]
)
def test_names_that_a_wrapper_gave_are_translated(
    prefix: str, encoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = load_encoder(str(encoder), TagSet.from_labels(["PER"]))
    edit(encoder, renamed(prefix))
    model = load_encoder(str(encoder), TagSet.from_labels(["PER"]))
    for name, parameter in whole.bert.named_parameters():
        assert torch.equal(parameter, model.bert.get_parameter(name)), name
    assert f"weights are named {prefix}" in caplog.text
    mlm, _ = load_for_pretraining(str(encoder))
    assert torch.equal(
        mlm.bert.embeddings.word_embeddings.weight, whole.bert.embeddings.word_embeddings.weight
    )


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_a_wrapped_tagger_keeps_its_head(prefix: str, tagger: Path, tmp_path: Path) -> None:
    expected = load_encoder(str(tagger)).state_dict()
    edit(tagger, renamed(prefix))
    model = load_encoder(str(tagger))
    for name, tensor in expected.items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    model.save_pretrained(tmp_path / "again")  # under the names that everybody knows
    assert set(load_file(tmp_path / "again" / "model.safetensors")) == set(expected)


def test_a_lightning_checkpoint_with_an_encoder_of_another_name(tagger: Path) -> None:
    expected = load_encoder(str(tagger)).state_dict()
    edit(
        tagger,
        lambda weights: (
            {f"model.{n.replace('bert.', 'encoder.', 1)}": t for n, t in weights.items()}
            | {"loss.weight": torch.ones(3)}
        ),
    )
    model = load_encoder(str(tagger))
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in expected.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_checkpoint_may_lack_or_hold_besides(
    family: str,
    make_model: Callable[..., Any],
    save_encoder: Callable[..., Path],
    tagset: TagSet,
    tmp_path: Path,
) -> None:
    """A head that is new, a pooler and the heads of other tasks are no faults."""
    load_encoder(str(save_encoder(family)), tagset)
    make_model(family).save_pretrained(tmp_path / "tagger")
    load_encoder(str(tmp_path / "tagger"))
    load_encoder(str(tmp_path / "tagger"), tagset)
    load_for_pretraining(str(tmp_path / "tagger"))
    mlm, is_new = load_for_pretraining(str(save_encoder(family)))
    assert is_new
    mlm.save_pretrained(tmp_path / "mlm")
    load_encoder(str(tmp_path / "mlm"), tagset)
    assert not load_for_pretraining(str(tmp_path / "mlm"))[1]


def test_buffers_of_older_versions_are_no_faults(encoder: Path) -> None:
    edit(encoder, lambda w: w | {"embeddings.position_ids": torch.arange(64)[None]})
    load_encoder(str(encoder), TagSet.from_labels(["PER"]))


def test_a_new_head_is_said(encoder: Path, tagger: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nertune"):
        load_encoder(str(encoder), TagSet.from_labels(["PER"]))
    assert "the classifier is new: classifier.bias, classifier.weight" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "nertune"):
        load_encoder(str(tagger), TagSet(TAGS))
    assert caplog.text == ""


def test_a_run_says_that_the_classifier_is_new(tmp_path: Path) -> None:
    output, handlers = io.StringIO(), list(logging.getLogger("nertune").handlers)
    settings = make_settings(tmp_path, "full", {"train": {"epochs": 1}})
    shown.train(settings, console=Console(file=output, width=200))
    line = f"{tiny_bert()}: the classifier is new: classifier.bias, classifier.weight\n"
    assert line in output.getvalue()
    assert logging.getLogger("nertune").handlers == handlers  # nothing is left behind
