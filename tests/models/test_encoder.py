"""The encoder emitter is plain transformers, and what cannot be loaded is said in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification

from nertune.errors import ModelError
from nertune.labels.tagset import TagSet
from nertune.models.encoder import EncoderEmitter, load_encoder, loading_errors, position_limit

IDS = torch.tensor([[1, 5, 6, 7, 8, 2], [1, 9, 2, 0, 0, 0]])
ATTENTION = torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_logits_equal_plain_transformers(
    family: str, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    make_model(family).save_pretrained(tmp_path / "m")
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "m").eval()
    ours = EncoderEmitter(load_encoder(str(tmp_path / "m")).eval())
    with torch.inference_mode():
        expected_BLK = plain(input_ids=IDS, attention_mask=ATTENTION).logits
        emissions_BLK = ours(IDS, ATTENTION)
        alone_BLK = ours(IDS[1:, :3], ATTENTION[1:, :3])
    assert emissions_BLK.shape == (2, 6, 5)
    torch.testing.assert_close(emissions_BLK, expected_BLK, rtol=0, atol=0)
    torch.testing.assert_close(emissions_BLK[1, :3], alone_BLK[0], rtol=1e-4, atol=1e-5)


def test_a_model_that_answers_in_tuples(make_model: Callable[..., Any], tmp_path: Path) -> None:
    plain = make_model("bert")
    plain.save_pretrained(tmp_path / "plain")
    plain.config.return_dict = False
    plain.config.output_hidden_states = True
    plain.save_pretrained(tmp_path / "tuples")
    outputs = [
        EncoderEmitter(load_encoder(str(tmp_path / name)).eval())(IDS, ATTENTION)
        for name in ("plain", "tuples")
    ]
    torch.testing.assert_close(*outputs, rtol=0, atol=0)


def test_a_tag_set_gives_a_new_head(save_encoder: Callable[..., Path], tagset: TagSet) -> None:
    torch.manual_seed(3)
    model = load_encoder(str(save_encoder("bert")), tagset)
    assert model.classifier.weight.shape == (5, 16)
    assert [model.config.id2label[i] for i in range(5)] == list(tagset.tags)
    assert model.config.label2id == {tag: i for i, tag in enumerate(tagset.tags)}
    assert model.classifier.weight.std() > 0


def test_a_head_of_another_size_is_replaced(
    make_model: Callable[..., Any], tagset: TagSet, tmp_path: Path
) -> None:
    other = make_model("bert", num_labels=3)
    other.save_pretrained(tmp_path / "m")
    model = load_encoder(str(tmp_path / "m"), tagset)
    assert model.classifier.weight.shape == (5, 16)
    kept = dict(other.bert.named_parameters())
    for name, parameter in model.bert.named_parameters():
        assert torch.equal(parameter, kept[name]), name
    assert load_encoder(str(tmp_path / "m")).classifier.weight.shape == (3, 16)


def test_weights_are_loaded_in_single_precision(
    make_model: Callable[..., Any], tmp_path: Path
) -> None:
    make_model("bert").bfloat16().save_pretrained(tmp_path / "m")
    model = load_encoder(str(tmp_path / "m"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("family", "expected"),
    [("bert", 24), ("roberta", 22), ("distilbert", 24), ("electra", 24), ("mpnet", 22)],
)
def test_the_position_limit_is_what_the_model_can_read(
    family: str, expected: int, make_model: Callable[..., Any]
) -> None:
    """RoBERTa and its kin begin to count behind the id of padding."""
    model = make_model(family)
    assert position_limit(model) == expected
    with torch.inference_mode():
        for length in (expected, expected + 1):
            ids = torch.full((1, length), 5)
            call = lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids))  # noqa: E731, B023
            if length == expected:
                assert torch.isfinite(call().logits).all()
            else:
                with pytest.raises((RuntimeError, IndexError)):
                    call()


def refused(name: Path | str) -> str:
    with pytest.raises(ModelError) as caught:
        load_encoder(str(name))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_pickled_weights_are_not_read(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = make_model("bert")
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    message = refused(tmp_path / "m")
    assert "safetensors" in message
    assert "save_pretrained" in message


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, None])
def test_damaged_weights(
    content: bytes | None, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    make_model("bert").save_pretrained(tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] if content is None else content)
    assert str(tmp_path / "m") in refused(tmp_path / "m")


@pytest.mark.parametrize(
    "config", ["{", "{}", '{"model_type": "no-such"}', '{"model_type": "vit"}', "[]", "7"]
)
def test_a_config_that_names_no_tagger(
    config: str, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    make_model("bert").save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(config)
    refused(tmp_path / "m")


def test_names_that_are_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "no such folder" in refused(tmp_path / "nowhere")
    assert "could not be fetched from the hub" in refused("nobody-here/no-such-model")


def test_what_transformers_says_is_cut_at_its_words() -> None:
    name = "nobody/nothing"
    for said, told in (("No file. See 'https://", "No file"), ("word " * 60, "word word …")):
        with pytest.raises(ModelError) as caught, loading_errors(name, name, "BERT"):
            raise OSError(said)
        assert str(caught.value).endswith(told)
