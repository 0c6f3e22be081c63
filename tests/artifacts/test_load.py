"""Loaded is what was saved; anybody's models are read; what does not fit is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from helpers.artifacts import edit_json, one_line, saved
from helpers.tiny import (
    SENTENCES,
    VARIANTS,
    make_predictor,
    make_settings,
    save_predictor,
    tiny_bert,
)
from nertune.errors import ArtifactError, ModelError, TokenizerError
from nertune.inference.predictor import Predictor, load_model
from nertune.models.heads.decoding import viterbi
from nertune.tokens.batching import collate
from nertune.types import Document

TEXTS = [d.text for d in SENTENCES] + ["", " ", "🙂 1998年 Tom", "字" * 150]


def logits(predictor: Predictor) -> list[NDArray[np.float32]]:
    """The scores of all windows of `TEXTS`, window by window."""
    found = []
    for text in TEXTS:
        _, windows = predictor.segmenter.segment(Document(text))
        for window in windows:
            batch = collate([window], pad_id=predictor.segmenter.tokenizer.pad_id)
            found += predictor.tagger.emit(batch)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_equals_loaded(variant: str, tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, variant, model={"max_pieces": 40, "stride": 9})
    loaded = load_model(folder, device="cpu")
    before, after = logits(predictor), logits(loaded)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    tagged = list(predictor.tag_texts(TEXTS))
    assert list(loaded.tag_texts(TEXTS)) == tagged  # entities with their scores, bit for bit
    assert sum(len(document.entities) for document in tagged) > 20
    assert loaded.tagset.tags == predictor.tagset.tags
    assert (loaded.segmenter.unit, loaded.segmenter.max_pieces, loaded.segmenter.stride) == (
        "char",
        40,
        9,
    )


def test_word_unit_and_crf_survive(tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, "full-crf", model={"unit": "word"})
    loaded = load_model(folder, device="cpu")
    text = "Tom likes newsing in 北京"
    assert loaded.tag(text) == predictor.tag(text)
    assert loaded.segmenter.unit == "word"


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("variant", ["full", "lora"])
def test_loading_and_saving_say_nothing(
    variant: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What libraries print to each other is no business of who runs `nertune predict`."""
    settings = make_settings(tmp_path, variant)
    capfd.readouterr()
    save_predictor(tmp_path / "model", make_predictor(settings), settings)
    load_model(tmp_path / "model", device="cpu")
    assert capfd.readouterr() == ("", "")


# Foreign models


def foreign(folder: Path, tags: list[str], bias: list[float] | None = None) -> Path:
    """What somebody else's `save_pretrained` leaves."""
    from transformers import AutoTokenizer, BertConfig, BertForTokenClassification

    config = BertConfig.from_pretrained(
        tiny_bert(), num_labels=len(tags), id2label=dict(enumerate(tags))
    )
    torch.manual_seed(1)
    model = BertForTokenClassification(config)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor(bias or [0.0] * len(tags)))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("tags", "scheme", "labels"),
    [
        (["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], "BIO", ("LOC", "PER")),
        (["I-PER", "O", "I-LOC", "B-LOC"], "IOB1", ("LOC", "PER")),
        (["O", "B-X", "M-X", "E-X", "S-X"], "BMES", ("X",)),
        (["O", "PER", "LOC"], "IO", ("LOC", "PER")),
    ],
)
def test_a_foreign_model(tags: list[str], scheme: str, labels: tuple[str, ...], tmp_path: Path):
    predictor = load_model(foreign(tmp_path / "m", tags), device="cpu")
    assert (predictor.tagset.scheme, predictor.tagset.labels) == (scheme, labels)
    assert predictor.segmenter.max_pieces == 64
    document = predictor.tag("王小明在北京 Tom newsing")
    assert {e.label for e in document.entities} <= set(labels)
    starts = {start for start, _ in predictor.visible_units(document)}
    assert {e.start for e in document.entities} <= starts


@pytest.mark.parametrize(
    ("tags", "scheme", "labels", "outside"),
    [
        ("B I O", "BIO", ("ENTITY",), 2),
        ("O I", "IOB1", ("ENTITY",), 0),
        ("o b-per i-per", "BIO", ("per",), 0),
        ("O PER-B PER-I LOC-B LOC-I", "BIO", ("LOC", "PER"), 0),
        ("O PER_B PER_I", "BIO", ("PER",), 0),
        ("O PER/B PER/M PER/E PER/S", "BMES", ("PER",), 0),
        ("O B/PER I/PER", "BIO", ("PER",), 0),
        ("O B-PER I-PER X", "BIO", ("PER",), 0),
        ("[PAD] O B-PER I-PER [CLS] [SEP]", "BIO", ("PER",), 1),
        ("<pad> O PER LOC", "IO", ("LOC", "PER"), 1),
        ("IGNORE O B I", "BIO", ("ENTITY",), 1),
    ],
)
def test_other_spellings_of_tags(
    tags: str, scheme: str, labels: tuple[str, ...], outside: int, tmp_path: Path
) -> None:
    """Special labels win every unit by far, and yet none is an entity."""
    names = tags.split()
    special = [n for n in names if n[0] in "[<" or n in ("X", "IGNORE")]
    bias = [50.0 if n in special else -1.0 if i == outside else 0.0 for i, n in enumerate(names)]
    predictor = Predictor.load(foreign(tmp_path / "m", names, bias), device="cpu")
    assert (predictor.tagset.scheme, predictor.tagset.labels) == (scheme, labels)
    document = predictor.tag("王小明在北京 Tom newsing")
    assert document.entities
    assert {e.label for e in document.entities} <= set(labels)
    _, found = predictor.emissions([document])
    chain = predictor.tagger.head.chain()
    (ids,) = viterbi(found, chain)
    assert not {names[i] for i in ids} & set(special)
    assert chain.tagset.legal_start_K[ids[0]]
    assert chain.tagset.legal_end_K[ids[-1]]
    assert chain.tagset.legal_KK[ids[:-1], ids[1:]].all()


def test_a_foreign_model_is_read_after_the_advice_was_followed(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "m", ["LABEL_0", "LABEL_1", "LABEL_2"])
    with pytest.raises(ModelError, match=r'its config.json .*"id2label": {"0": "O", "1"'):
        load_model(folder, device="cpu")
    names = {"0": "O", "1": "B-PER", "2": "I-PER"}
    edit_json(folder / "config.json", lambda c: c.update(id2label=names))
    assert load_model(folder, device="cpu").tagset.labels == ("PER",)


def test_a_foreign_iob1_model_finds_what_its_tags_say(tmp_path: Path) -> None:
    """All words I-PER: in IOB1 one entity, although nothing says B-."""
    folder = foreign(tmp_path / "m", ["I-PER", "O", "B-PER"], bias=[50.0, 0.0, 0.0])
    document = load_model(folder, device="cpu").tag("王小明")
    assert [(e.start, e.end, e.label) for e in document.entities] == [(0, 3, "PER")]


def test_a_foreign_bios_model_ends_entities_where_they_end(tmp_path: Path) -> None:
    """Its entities have no last tag, so nothing may wait for one."""
    folder = foreign(tmp_path / "m", ["O", "B-PER", "I-PER", "S-PER"], bias=[0.0, 40.0, 50.0, 0.0])
    document = load_model(folder, device="cpu").tag("王小明")
    assert [(e.start, e.end, e.label) for e in document.entities] == [(0, 3, "PER")]


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (["LABEL_0", "LABEL_1", "LABEL_2"], "named LABEL_0, LABEL_2"),
        (["O", "B-X", "B-Y", "S-X", "U-Y"], "mixes schemes"),
        (["O", "B-X", "Y"], "has no prefix, others do"),
    ],
)
def test_outputs_that_are_no_tags(tags: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        load_model(foreign(tmp_path / "m", tags), device="cpu")
    assert "id2label" in one_line(caught.value)


def test_a_foreign_model_with_holes_in_its_labels(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "m", ["O", "B-X", "I-X"])
    edit_json(
        folder / "config.json", lambda c: c.update(id2label={"0": "O", "1": "B-X", "7": "I-X"})
    )
    with pytest.raises(ModelError) as caught:
        load_model(folder, device="cpu")
    assert "id2label" in one_line(caught.value)


def test_a_foreign_head_of_another_size(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "m", ["O", "B-X", "I-X"])
    edit_json(folder / "config.json", lambda c: c.update(id2label={"0": "O", "1": "B-X"}))
    with pytest.raises(ModelError) as caught:
        load_model(folder, device="cpu")
    one_line(caught.value)


def test_a_foreign_tokenizer_with_more_tokens_than_embeddings(tmp_path: Path) -> None:
    """Else the first such token is an index error, on CUDA an assert that kills the process."""
    from transformers import AutoTokenizer

    folder = foreign(tmp_path / "m", ["O", "B-X", "I-X"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["龘"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="embeddings"):
        load_model(folder, device="cpu")


def test_a_foreign_tokenizer_whose_ids_have_holes(tmp_path: Path) -> None:
    """It has fewer tokens than the model embeddings, but one with an id beyond them."""
    folder = foreign(tmp_path / "m", ["O", "B-X", "I-X"])

    def push_last(values: dict[str, Any]) -> None:
        vocabulary = values["model"]["vocab"]
        vocabulary[list(vocabulary)[-1]] = 500

    edit_json(folder / "tokenizer.json", push_last)
    with pytest.raises(ModelError, match="embeddings"):
        load_model(folder, device="cpu")


def test_a_foreign_model_without_a_tokenizer(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "m", ["O", "B-X", "I-X"])
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises((TokenizerError, ModelError)) as caught:
        load_model(folder, device="cpu")
    one_line(caught.value)


def test_an_encoder_is_no_tagger() -> None:
    with pytest.raises(ModelError, match=r"is not a trained tagger.*BertModel"):
        load_model(tiny_bert(), device="cpu")
    with pytest.raises(ModelError, match="is not a trained tagger"):
        load_model("mini-zh", device="cpu")


# No pickle


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.load` reads pickles, with `weights_only` or not: it must not be called."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"a pickle was read: {args}")

    monkeypatch.setattr(torch, "load", refuse)


@pytest.mark.usefixtures("no_pickle")
def test_a_foreign_pickle_is_refused(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "m", ["O", "B-X", "I-X"])
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="loads no pickle"):
        load_model(folder, device="cpu")


@pytest.mark.usefixtures("no_pickle")
@pytest.mark.parametrize(
    ("variant", "weights", "pickle"),
    [
        ("lora", "adapter_model.safetensors", "adapter_model.bin"),
        ("full", "model.safetensors", "pytorch_model.bin"),
        ("lstm", "model.safetensors", "pytorch_model.bin"),
    ],
)
def test_a_pickle_slipped_into_an_own_folder(
    variant: str, weights: str, pickle: str, tmp_path: Path
) -> None:
    """Even if the manifest was edited, so that the missing file is not missed."""
    _, folder = saved(tmp_path, variant)
    torch.save(load_file(folder / weights), folder / pickle)
    (folder / weights).unlink()
    edit_json(folder / "nertune.json", lambda m: m["files"].pop(weights))
    with pytest.raises(ModelError) as caught:
        load_model(folder, device="cpu")
    one_line(caught.value)


@pytest.mark.usefixtures("no_pickle")
def test_a_plain_peft_folder_with_a_pickle(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lora")
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "nertune.json").unlink()
    with pytest.raises(ModelError, match="holds a plain peft adapter"):
        load_model(folder, device="cpu")


# Damage


def test_another_base_encoder_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_bert(), base)
    predictor, folder = saved(tmp_path, "lora", model={"encoder": str(base)})
    assert load_model(folder, device="cpu").tag("王小明") == predictor.tag("王小明")
    shutil.copy(tiny_bert(seed=1) / "model.safetensors", base)
    with pytest.raises(ArtifactError, match="is not the one that this adapter was trained on"):
        load_model(folder, device="cpu")
    weights = load_file(tiny_bert() / "model.safetensors")
    weights["embeddings.LayerNorm.bias"][0] += 1e-6  # a single number is enough
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="is not the one"):
        load_model(folder, device="cpu")
    shutil.rmtree(base)
    with pytest.raises(ArtifactError, match="needs its base encoder"):
        load_model(folder, device="cpu")


def test_a_full_model_needs_no_base(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_bert(), base)
    predictor, folder = saved(tmp_path, "full", model={"encoder": str(base)})
    shutil.rmtree(base)
    assert load_model(folder, device="cpu").tag("王小明") == predictor.tag("王小明")


@pytest.mark.parametrize("variant", ["full", "lora"])
def test_edited_tags_do_not_fit_the_outputs(variant: str, tmp_path: Path) -> None:
    _, folder = saved(tmp_path, variant)
    edit_json(folder / "nertune.json", lambda m: m.update(tags=["O", "B-X", "I-X"]))
    with pytest.raises(ModelError) as caught:
        load_model(folder, device="cpu").tag("王小明在北京")
    one_line(caught.value)


def test_folders_that_hold_no_tagger(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "config.json").write_text('{"model_type": "no-such-thing"}')
    names = ["empty", "file", "broken", "strange", "absent"]
    for name in [str(tmp_path / name) for name in names] + ["", "a b", "x" * 5000, "王" * 100]:
        with pytest.raises(ModelError) as caught:
            load_model(name, device="cpu")
        assert "Traceback" not in str(caught.value)


def test_a_hub_name_without_a_connection() -> None:
    with pytest.raises(ModelError, match="neither a bundled encoder nor a folder"):
        load_model("nobody/such-a-model-there-is-not", device="cpu")
