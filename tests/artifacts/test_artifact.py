"""Saved is loaded, through plain peft and transformers too; what is damaged is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import nertune.artifacts.save
from helpers.tiny import (
    SENTENCES,
    VARIANTS,
    make_predictor,
    make_settings,
    save_predictor,
    tiny_bert,
)
from nertune.artifacts.manifest import hash_encoder, read_manifest
from nertune.errors import ArtifactError, ModelError, TokenizerError
from nertune.inference.predictor import Predictor, load_model
from nertune.models.heads.decoding import viterbi
from nertune.tokens.batching import collate
from nertune.types import Document

TEXTS = [d.text for d in SENTENCES] + ["", " ", "🙂 1998年 Tom", "字" * 150]


def emissions(predictor: Predictor) -> list[NDArray[np.float32]]:
    """The scores of all windows of `TEXTS`, window by window."""
    found = []
    for text in TEXTS:
        _, windows = predictor.segmenter.segment(Document(text))
        for window in windows:
            batch = collate([window], pad_id=predictor.segmenter.tokenizer.pad_id)
            found += predictor.tagger.emit(batch)
    return found


def saved(folder: Path, variant: str, **sections: dict[str, Any]) -> tuple[Predictor, Path]:
    """A shaken tagger and where it was saved."""
    settings = make_settings(folder, variant, sections)
    predictor = make_predictor(settings)
    save_predictor(folder / "model", predictor, settings)
    return predictor, folder / "model"


def one_line(error: Exception) -> str:
    """The message as the command line prints it; it must be short and hold no traceback."""
    message = str(error)
    assert len(message) < 600
    assert "Traceback" not in message
    return message


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_equals_loaded(variant: str, tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, variant, model={"max_pieces": 40, "stride": 9})
    loaded = load_model(folder, device="cpu")
    before, after = emissions(predictor), emissions(loaded)
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


def test_saving_again_changes_no_byte(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lora-crf")
    first = read_manifest(folder)
    loaded = load_model(folder, device="cpu")
    second = save_predictor(tmp_path / "again", loaded, make_settings(tmp_path, "lora-crf"))
    assert {n: h for n, h in second.files.items() if n != "adapter_config.json"} == {
        n: h for n, h in first.files.items() if n != "adapter_config.json"
    }
    assert second.tokenizer_sha256 == first.tokenizer_sha256


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


def test_a_run_folder_is_its_model(tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, "lstm")
    assert load_model(folder.parent, device="cpu").tag("王小明") == predictor.tag("王小明")


def test_what_a_folder_holds(tmp_path: Path) -> None:
    _, full = saved(tmp_path, "full")
    names = {path.name for path in full.iterdir()}
    assert {"nertune.json", "README.md", "config.json", "model.safetensors"} <= names
    (tmp_path / "b").mkdir()
    _, lora = saved(tmp_path / "b", "lora-crf")
    names = {path.name for path in lora.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "crf.safetensors"} <= names
    assert "model.safetensors" not in names  # the base is not copied
    for folder in (full, lora):
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        assert {p.suffix for p in files} <= {".json", ".md", ".safetensors", ".txt"}  # no pickle
        assert all(p.stat().st_mode & 0o777 == 0o644 for p in files if not p.is_symlink())
        manifest = json.loads((folder / "nertune.json").read_text())
        assert set(manifest["files"]) == {p.name for p in folder.iterdir()} - {
            "README.md",
            "nertune.json",
            "base",  # for plain peft; its weights are links
        }
        assert manifest["encoder_sha256"] == hash_encoder(str(tiny_bert()))
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "LOCATION, ORGANIZATION, PERSON, TIME" in card
        assert card.startswith("---\nlibrary_name: nertune")


# Plain peft and transformers


def plain_logits(model: Any, predictor: Predictor, text: str) -> torch.Tensor:
    _, windows = predictor.segmenter.segment(Document(text))
    batch = collate(windows, pad_id=0)
    model.eval()
    with torch.no_grad():
        output = model(input_ids=batch.piece_ids_BL, attention_mask=batch.attention_BL)
    return output.logits


@pytest.mark.parametrize("variant", ["lora", "lora-crf"])
def test_plain_peft_loads_the_adapter(variant: str, tmp_path: Path) -> None:
    from peft import AutoPeftModelForTokenClassification, PeftModel
    from transformers import AutoModelForTokenClassification

    predictor, folder = saved(tmp_path, variant)
    expected = plain_logits(predictor.tagger.emitter.model, predictor, SENTENCES[0].text)
    torch.manual_seed(99)  # the head must come from the adapter, not from luck
    base = AutoModelForTokenClassification.from_pretrained(str(tiny_bert()), num_labels=9)
    plain = PeftModel.from_pretrained(base, str(folder))
    assert torch.equal(plain_logits(plain, predictor, SENTENCES[0].text), expected)
    auto = AutoPeftModelForTokenClassification.from_pretrained(str(folder), num_labels=9)
    assert torch.equal(plain_logits(auto, predictor, SENTENCES[0].text), expected)


@pytest.mark.parametrize("variant", ["full", "frozen"])
def test_plain_transformers_loads_the_model(variant: str, tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    predictor, folder = saved(tmp_path, variant)
    plain = AutoModelForTokenClassification.from_pretrained(str(folder))
    expected = plain_logits(predictor.tagger.emitter.model, predictor, SENTENCES[0].text)
    assert torch.equal(plain_logits(plain, predictor, SENTENCES[0].text), expected)
    assert plain.config.id2label == dict(enumerate(predictor.tagset.tags))
    pieces = AutoTokenizer.from_pretrained(str(folder))("北京")["input_ids"]
    assert [[piece] for piece in pieces[1:-1]] == predictor.segmenter.tokenizer.encode_units("北京")


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
    _, emissions = predictor.emissions([document])
    chain = predictor.tagger.chain()
    (ids,) = viterbi(emissions, chain)
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


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


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


def test_a_foreign_tokenizer_with_more_pieces_than_embeddings(tmp_path: Path) -> None:
    """Else the first such piece is an index error, on CUDA an assert that kills the process."""
    from transformers import AutoTokenizer

    folder = foreign(tmp_path / "m", ["O", "B-X", "I-X"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["龘"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="embeddings"):
        load_model(folder, device="cpu")


def test_a_foreign_tokenizer_whose_ids_have_holes(tmp_path: Path) -> None:
    """It has fewer pieces than the model embeddings, but one with an id beyond them."""
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


def files_of(variant: str) -> list[str]:
    own = {
        "lstm-crf": ["chars.txt", "model.safetensors", "crf.safetensors"],
        "full": ["config.json", "model.safetensors", "tokenizer.json"],
        "lora": ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"],
    }
    return own[variant]


@pytest.mark.parametrize("variant", ["lstm-crf", "full", "lora"])
def test_damaged_files_are_refused_by_name(variant: str, tmp_path: Path) -> None:
    _, folder = saved(tmp_path, variant)
    for name in files_of(variant):
        path = folder / name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for data in (whole[:-7], whole + b"\n", bytes(flipped), b""):
            path.write_bytes(data)
            with pytest.raises(ArtifactError, match=f"{name}: is not the file that was saved"):
                load_model(folder, device="cpu")
        path.unlink()
        with pytest.raises(ArtifactError, match=f"{name}: missing"):
            load_model(folder, device="cpu")
        path.write_bytes(whole)
    load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "format version None"),
        ("null", "format version None"),
        ('{"format": 3, "nertune": "9.9"}', "format version 3.*use the nertune that wrote it .9.9"),
        ('{"format": 1}', "nertune: Field required"),
        ('{"format": "1"}', "format version '1'"),
    ],
)
def test_a_broken_manifest(text: str, reason: str, tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lstm")
    (folder / "nertune.json").write_text(text)
    with pytest.raises(ArtifactError, match=reason) as caught:
        load_model(folder, device="cpu")
    one_line(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"tags": ["O", "B-X", "B-X"]},
        {"tags": ["O", "nonsense"]},
        {"tags": []},
        {"tags": ["O", "B-X", "I-X"]},
        {"scheme": "BMES"},
        {"lstm": None},
        {"max_pieces": 0},
        {"stride": 600},
        {"stride": -1},
        {"unit": "sentence"},
        {"emitter": "encoder"},
        {"decoder": "crf"},
        {"tokenizer_sha256": "0"},
        {"files": {"../data.jsonl": "0"}},
        {"files": []},
        {"lstm": {"hidden_size": 8}},
    ],
    ids=str,
)
def test_an_edited_manifest_is_no_traceback(change: dict[str, Any], tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "lstm")
    edit_json(folder / "nertune.json", lambda m: m.update(change))
    with pytest.raises(ModelError) as caught:
        load_model(folder, device="cpu").tag("王小明在北京")
    one_line(caught.value)


@pytest.mark.parametrize("variant", ["full", "lora"])
def test_edited_tags_do_not_fit_the_outputs(variant: str, tmp_path: Path) -> None:
    _, folder = saved(tmp_path, variant)
    edit_json(folder / "nertune.json", lambda m: m.update(tags=["O", "B-X", "I-X"]))
    with pytest.raises(ModelError) as caught:
        load_model(folder, device="cpu").tag("王小明在北京")
    one_line(caught.value)


def test_keys_of_the_future_are_ignored(tmp_path: Path) -> None:
    predictor, folder = saved(tmp_path, "lstm")
    edit_json(folder / "nertune.json", lambda m: m.update(novelty=1))
    assert load_model(folder, device="cpu").tag("王小明") == predictor.tag("王小明")


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


# All or nothing


@pytest.mark.parametrize("step", ["_write_weights", "model_card", "hash_encoder"])
@pytest.mark.parametrize("has_old", [False, True])
def test_a_failed_save_leaves_the_old_model_or_none(
    step: str, has_old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path, "lora-crf")
    folder = tmp_path / "out" / "model"
    old = make_predictor(settings, noise=0.1)
    if has_old:
        save_predictor(folder, old, settings)

    def fail(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nertune.artifacts.save, step, fail)
    with pytest.raises(OSError, match="No space left"):
        save_predictor(folder, make_predictor(settings), settings)
    monkeypatch.undo()
    assert names_in(tmp_path / "out") == ["model"] * has_old
    if has_old:
        assert load_model(folder, device="cpu").tag("王小明") == old.tag("王小明")


def test_an_older_model_is_replaced_whole(tmp_path: Path) -> None:
    saved(tmp_path, "full-crf")
    (tmp_path / "model" / "leftover.safetensors").write_bytes(b"")
    predictor, folder = saved(tmp_path, "lstm")
    assert not (folder / "crf.safetensors").exists()
    assert not (folder / "leftover.safetensors").exists()
    assert load_model(folder, device="cpu").tag("王小明") == predictor.tag("王小明")
    assert names_in(tmp_path) == ["data.jsonl", "model"]


def test_an_older_model_survives_until_the_new_one_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing must not go through a half-removed folder."""
    old, folder = saved(tmp_path, "lora")
    settings = make_settings(tmp_path, "lora")

    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if target == folder and not path.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    monkeypatch.setattr("nertune.storage.atomic._swap", lambda first, second: False)
    with pytest.raises(OSError, match="Input/output"):
        save_predictor(folder, make_predictor(settings, noise=0.1), settings)
    monkeypatch.undo()
    assert load_model(folder, device="cpu").tag("王小明") == old.tag("王小明")
    assert names_in(tmp_path) == ["data.jsonl", "model"]


def test_a_kill_while_a_model_is_replaced_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends when the older folder has made room and the newer one is not there yet."""
    old, folder = saved(tmp_path, "lora")
    settings = make_settings(tmp_path, "lora")
    rename = Path.rename

    def kill(path: Path, target: Path) -> Path:
        if target == folder:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr("nertune.storage.atomic._swap", lambda first, second: False)
    newer = make_predictor(settings, noise=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", kill)
        with pytest.raises(KeyboardInterrupt):
            save_predictor(folder, newer, settings)
    assert load_model(folder, device="cpu").tag("王小明") == old.tag("王小明")
