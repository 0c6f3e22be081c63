"""A whole pre-training run: what it leaves, who can load it, how it survives, what it refuses."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from helpers import shown
from helpers.commands import Outcome, environment_of_children
from helpers.commands import run as run_command
from helpers.raw_text import TINY, made_up_lines, make_pretrain_settings, write_text
from helpers.tiny import (
    SENTENCES,
    make_predictor,
    make_settings,
    save_predictor,
    session_folder,
    tiny_bert,
)
from nertune.config.pretrain import PretrainSettings, parse_pretrain_settings
from nertune.errors import CheckpointError, ConfigError, DataError, ModelError, NertuneError
from nertune.experiments.progress import PretrainLog
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.labels.tagset import TagSet
from nertune.models.encoder import load_encoder
from nertune.pretraining.batches import TokenIds
from nertune.pretraining.loop import Pretrainer
from nertune.pretraining.model import PretrainingModel, load_for_pretraining
from nertune.pretraining.packing import LineEncoder, LineSelection, PreparedText
from nertune.storage.files import hash_file
from nertune.tokens.tokenizer import load_tokenizer
from nertune.training.accelerator import build_accelerator


def run(
    settings: PretrainSettings, *, resume: bool = False, overwrite: bool = False
) -> tuple[dict[str, Any], str]:
    """The record, and what was said on the way."""
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    return shown.pretrain(settings, console=console, resume=resume, overwrite=overwrite), (
        stream.getvalue()
    )


def settings_in(folder: Path, **changes: Any) -> PretrainSettings:
    """A run in `folder/run` that looks at its losses every other step."""
    folder.mkdir(parents=True, exist_ok=True)
    return make_pretrain_settings(folder, **{"checkpoint_steps": 2, **changes})


@cache
def finished() -> tuple[PretrainSettings, dict[str, Any], str]:
    """A run from scratch that nothing disturbed."""
    settings = settings_in(session_folder() / "pretrained")
    return settings, *run(settings)


def base() -> Path:
    """The encoder that it left."""
    return finished()[0].output / "model"


def copied(folder: Path) -> PretrainSettings:
    """That run again, somewhere else."""
    settings = finished()[0]
    shutil.copytree(settings.output, folder / "run")
    return settings.model_copy(update={"output": folder / "run"})


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def weight_bytes(settings: PretrainSettings) -> bytes:
    return (settings.output / "model" / "model.safetensors").read_bytes()


class Killed(Exception):
    pass


DieAt = Callable[[int], None]


@pytest.fixture
def die_at(monkeypatch: pytest.MonkeyPatch) -> DieAt:
    """`die_at(step)` lets the next run die when this step is shown; `die_at(0)` no more."""
    show = PretrainLog.on_steps
    dies: list[int] = [0]

    def on_steps(self: PretrainLog, progress: Any, *rest: Any) -> None:
        show(self, progress, *rest)
        if progress.step == dies[0]:
            raise Killed

    monkeypatch.setattr(PretrainLog, "on_steps", on_steps)
    return lambda step: dies.__setitem__(0, step)


def kill(settings: PretrainSettings, die_at: DieAt, step: int, *, resume: bool = False) -> None:
    die_at(step)
    with pytest.raises(Killed):
        run(settings, resume=resume)
    die_at(0)


# What a run leaves


def test_what_a_run_leaves() -> None:
    settings, record, said = finished()
    folder = settings.output
    assert {p.name for p in folder.iterdir()} == {"model", "prepared", "record.json", "log.jsonl"}
    assert {p.name for p in (folder / "model").iterdir()} >= {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md",
    }  # fmt: skip
    assert {p.stat().st_mode & 0o777 for p in (folder / "model").iterdir()} == {0o644}
    assert not [p for p in folder.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]
    assert json.loads((folder / "record.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(record)
    )
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert log == record["history"]
    assert [line["step"] for line in log] == [2, 4, 6, 8]
    assert "learning the vocabulary" in said
    assert "unit char" in said
    assert "step 8" in said
    assert "\x1b" not in said


def test_the_record() -> None:
    settings, record, _ = finished()
    assert record["status"] == "finished"
    assert record["settings"] == settings.to_dict()
    assert (record["steps"], record["tokens"], record["epochs"]) == (8, 2048, 0)
    assert record["text_share"] == pytest.approx(30 / 32)
    assert record["unit"] == "char"
    assert 150 < record["vocabulary"] <= 300
    assert record["parameters"]["trainable"] == record["parameters"]["total"]
    assert record["parameters"]["total"] == sum(t.numel() for t in weights(base()).values())
    assert record["device"] == "cpu"
    assert record["seconds"] > 0
    assert record["tokens_per_second"] == pytest.approx(2048 / record["seconds"])
    assert record["peak_memory_bytes"] > 2**20
    assert [len(digest) for digest in record["files"].values()] == [64]
    assert record["excluded"]["lines"] == 0
    assert record["excluded"]["lines_seen"] == len(made_up_lines())
    before, after = record["held_out"]["before"], record["held_out"]["after"]
    assert before["pieces"] == after["pieces"] > 50
    assert after["loss"] < before["loss"]


def test_the_model_card() -> None:
    card = (base() / "README.md").read_text(encoding="utf-8")
    after = finished()[1]["held_out"]["after"]
    for part in ("from scratch (tiny)", "text.txt", "2,048 tokens in 8 steps", "beyond 32",
                 f"perplexity {after['perplexity']:.1f}"):  # fmt: skip
        assert part in card


# Who can load it


def test_plain_transformers_loads_it() -> None:
    from transformers import AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer

    saved = weights(base())
    masked, info = AutoModelForMaskedLM.from_pretrained(base(), output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(
        masked.get_input_embeddings().weight, saved["bert.embeddings.word_embeddings.weight"]
    )
    tagger, info = AutoModelForTokenClassification.from_pretrained(
        base(), num_labels=3, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    state = tagger.state_dict()
    shared = [name for name in saved if name.startswith("bert.")]
    assert shared
    assert all(torch.equal(state[name], saved[name]) for name in shared)
    tokenizer = AutoTokenizer.from_pretrained(base())
    assert tokenizer.model_max_length == 32
    ids = tokenizer("北京天气", return_tensors="pt")["input_ids"]
    assert ids.tolist()[0][0] == tokenizer.cls_token_id
    assert tokenizer.unk_token_id not in ids
    assert tagger(ids).logits.isfinite().all()


def test_nertune_loads_it_and_fine_tunes_it(tmp_path: Path) -> None:
    model = load_encoder(str(base()), TagSet.from_labels(["PERSON"]))
    saved = weights(base())
    for name, tensor in model.state_dict().items():
        if name.startswith("bert."):
            assert torch.equal(tensor, saved[name])
    overrides = {
        "model": {"encoder": str(base()), "max_pieces": 32, "stride": 8},
        "train": {"epochs": 1},
    }
    assert train(make_settings(tmp_path, "full", overrides))["status"] == "finished"


def held_out_loss(settings: PretrainSettings, model: Any) -> float:
    """Measured anew on the prepared text that the run left."""
    tokenizer = load_tokenizer(settings.output / "model")
    mask = tokenizer.backend.mask_token_id
    token_ids = TokenIds(
        tuple(tokenizer.prefix_ids), tuple(tokenizer.suffix_ids), mask, tokenizer.vocabulary_size
    )
    text = PreparedText(
        settings.output / "prepared", lambda skip: [], LineEncoder(tokenizer, "char"),
        block_tokens=settings.block_pieces, selection=LineSelection(settings.held_out),
    )  # fmt: skip
    accelerator = build_accelerator(torch.device("cpu"), "fp32", project_dir=settings.output)
    pretrainer = Pretrainer(PretrainingModel(model), settings, token_ids, accelerator)
    return pretrainer.measure(text.held_out())["loss"]


def test_what_is_saved_is_what_was_measured() -> None:
    settings, record, _ = finished()
    model, has_new_head = load_for_pretraining(str(base()))
    assert not has_new_head
    found = held_out_loss(settings, model)
    assert found == pytest.approx(record["held_out"]["after"]["loss"], abs=1e-6)


@pytest.mark.parametrize(("storage", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_is_read_as_single(storage: str, dtype: torch.dtype, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, storage=storage, encoder=str(base()), tokens=500)
    record, _ = run(settings)
    assert {t.dtype for t in weights(settings.output / "model").values()} == {dtype}
    model, _ = load_for_pretraining(str(settings.output / "model"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    tagger = load_encoder(str(settings.output / "model"), TagSet.from_labels(["X"]))
    assert {p.dtype for p in tagger.parameters()} == {torch.float32}
    expected = record["held_out"]["after"]["loss"]
    assert held_out_loss(settings, model) == pytest.approx(expected, abs=0.01)


# Other ways to begin


def test_continuing_with_an_encoder(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, encoder=str(base()), tokens=1000)
    record, said = run(settings)
    assert not (settings.output / "prepared" / "tokenizer").exists()
    assert "learning the vocabulary" not in said
    # The same text is held out, and it begins where the other ended.
    before = finished()[1]["held_out"]["after"]
    assert record["held_out"]["before"]["loss"] == pytest.approx(before["loss"], abs=1e-6)
    assert record["held_out"]["after"]["loss"] < before["loss"]
    old, new = weights(base()), weights(settings.output / "model")
    assert old.keys() == new.keys()
    assert {name for name in old if torch.equal(old[name], new[name])} <= {
        "bert.embeddings.token_type_embeddings.weight"
    }
    tokenizers = [load_tokenizer(folder) for folder in (base(), settings.output / "model")]
    assert tokenizers[0].fingerprint() == tokenizers[1].fingerprint()


def test_an_encoder_without_its_head(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, encoder=str(tiny_bert()), tokens=1000)
    record, said = run(settings)
    assert "came without its prediction head: a new one is learned" in said
    assert record["parameters"]["trainable"] == record["parameters"]["total"]
    _, has_new_head = load_for_pretraining(str(settings.output / "model"))
    assert not has_new_head


def test_a_lora_adapter_is_merged(tmp_path: Path) -> None:
    settings = settings_in(
        tmp_path,
        encoder=str(base()),
        lora=True,
        adapter={"rank": 4, "dropout": 0.0, "targets": ["query", "output"]},
        rate=0.01,
    )
    record, _ = run(settings)
    assert 0 < record["parameters"]["trainable"] < record["parameters"]["total"] / 10
    folder = settings.output / "model"
    assert not (folder / "adapter_config.json").exists()
    old, new = weights(base()), weights(folder)
    assert old.keys() == new.keys()
    assert {name for name in old if not torch.equal(old[name], new[name])} == {
        "bert.encoder.layer.0.attention.self.query.weight",
        "bert.encoder.layer.0.output.dense.weight",
    }
    model, has_new_head = load_for_pretraining(str(folder))
    assert not has_new_head
    expected = record["held_out"]["after"]["loss"]
    assert held_out_loss(settings, model) == pytest.approx(expected, abs=1e-4)
    assert record["held_out"]["after"]["loss"] < record["held_out"]["before"]["loss"]


def test_a_lora_adapter_and_a_new_head(tmp_path: Path) -> None:
    """There is nothing to adapt in a new head, so it is learned in full; the embeddings are not."""
    settings = settings_in(tmp_path, encoder=str(tiny_bert()), lora=True, tokens=1000)
    run(settings)
    old, new = weights(tiny_bert()), weights(settings.output / "model")
    changed = {
        name
        for name, tensor in old.items()
        if f"bert.{name}" in new and not torch.equal(tensor, new[f"bert.{name}"])
    }
    assert len(changed) == 12  # six matrices of two layers
    assert all(".layer." in name and name.endswith(".weight") for name in changed)
    assert not [name for name in new if "lora" in name or "base_model" in name]
    bias = new["cls.predictions.transform.dense.bias"]
    assert bias.abs().max() > 0  # it began as zeros


def test_modernbert(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, architecture="modernbert", tokens=1000)
    record, _ = run(settings)
    model, has_new_head = load_for_pretraining(str(settings.output / "model"))
    assert model.config.model_type == "modernbert"
    assert not has_new_head
    expected = record["held_out"]["after"]["loss"]
    assert held_out_loss(settings, model) == pytest.approx(expected, abs=1e-5)


def test_words_of_jieba(tmp_path: Path) -> None:
    pytest.importorskip("jieba", reason="the extra `words` is not installed")
    settings = settings_in(tmp_path, encoder=str(base()), words="jieba", rate=0.01)
    record, said = run(settings)
    before, after = record["held_out"]["before"], record["held_out"]["after"]
    assert after["tag_loss"] < before["tag_loss"]
    assert "tags " in said
    assert record["versions"]["words"].startswith("jieba ")
    assert weights(settings.output / "model").keys() == weights(base()).keys()


def tag_line(raw: str) -> str:
    """Two characters a word; `PER` where it begins with 王 or 李, else `n`."""
    words = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    return " ".join(
        f"{len(word)}:{'PER' if word.strip()[:1] in ('王', '李') else 'n'}" for word in words
    )


def tagged_text(folder: Path) -> dict[str, Any]:
    """`files` and `word_tags`: two files of text with spaces around lines, and their tags."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = [f" {line} " if i % 5 == 0 else line for i, line in enumerate(made_up_lines())]
    raw[20:20] = ["", "  "]
    halves = (raw[:130], raw[130:])
    return {
        "files": [write_text(folder / f"{i}.txt", part) for i, part in enumerate(halves)],
        "word_tags": [
            write_text(folder / f"{i}.tags", map(tag_line, part)) for i, part in enumerate(halves)
        ],
    }


SILVER: dict[str, Any] = {
    "block_pieces": 1000, "sample": 0.9, "entity_mask_share": 0.4, "entity_weight": 2.0,
    "long_length": 64, "long_share": 0.3, "tokens": 3000, "rate": 0.01, "word_share": 0.0,
}  # fmt: skip
"""Several blocks, a sample, entities, and long rows at the end, all together."""


def silver_settings(folder: Path, **changes: Any) -> PretrainSettings:
    return settings_in(folder, **tagged_text(folder), **{**SILVER, **changes})


@cache
def finished_with_tags() -> tuple[PretrainSettings, dict[str, Any], str]:
    """A run with word tags from files that nothing disturbed."""
    settings = silver_settings(session_folder() / "silver")
    return settings, *run(settings)


def test_word_tags_of_a_file() -> None:
    settings, record, said = finished_with_tags()
    before, after = record["held_out"]["before"], record["held_out"]["after"]
    assert after["tag_loss"] < before["tag_loss"]
    assert "word tags: 0.tags, 1.tags, 2 tags, of entities: PER" in said
    assert record["versions"]["words"] == "0.tags, 1.tags"
    hashes = [hash_file(path) for path in settings.word_tags]
    assert record["word_tags"] == {
        "tagger": "0.tags, 1.tags",
        "fingerprint": "tags " + " ".join(hashes),
        "tags": ["PER", "n"],
        "entity_tags": ["PER"],
    }
    assert [record["files"][str(path)] for path in settings.word_tags] == hashes
    card = (settings.output / "model" / "README.md").read_text(encoding="utf-8")
    for part in ("the word tags of 0.tags, 1.tags (2 tags; of entities: PER)", "another tagger's",
                 "whole entities, 40%", "Positions beyond 64 were not trained"):  # fmt: skip
        assert part in card
    assert not [name for name in weights(settings.output / "model") if "tag" in name]


def test_prepared_tags_are_those_of_the_file() -> None:
    """Read back from the blocks: each token of 王 or 李 at a word's start is a PER, no other."""
    settings = finished_with_tags()[0]
    backend = load_tokenizer(settings.output / "model").backend
    names = [int(backend.convert_tokens_to_ids(character)) for character in "王李"]
    num_names = 0
    blocks = list((settings.output / "prepared").glob("block-*.safetensors"))
    assert len(blocks) > 2
    for path in blocks:
        block = load_file(path)
        is_name = torch.isin(block["ids"].to(torch.int64), torch.tensor(names))
        begins = block["starts"].bool()
        assert torch.equal(block["tags"] == 0, is_name & begins)
        assert torch.equal(block["tags"] % 2 == 0, begins)
        num_names += int((is_name & begins).sum())
    assert num_names > 20


def test_long_rows_of_a_whole_run() -> None:
    settings, record, _ = finished_with_tags()
    config = json.loads((settings.output / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["max_position_embeddings"] == 64
    assert load_tokenizer(settings.output / "model").backend.model_max_length == 64
    steps = [line["tokens"] for line in record["history"]]
    assert steps[-1] == 3072  # twelve steps: nine of rows of 32, three of rows of 64
    assert record["text_share"] == pytest.approx((9 * 30 / 32 + 3 * 62 / 64) / 12)


@pytest.mark.parametrize("step", [4, 10])
def test_a_run_with_word_tags_resumes_exactly(step: int, tmp_path: Path, die_at: DieAt) -> None:
    """Killed among rows of the usual length, and among the long ones."""
    settings = silver_settings(tmp_path)
    kill(settings, die_at, step)
    record, _ = run(settings, resume=True)
    expected, before, _ = finished_with_tags()
    assert weight_bytes(settings) == weight_bytes(expected)
    assert without_times(record["history"]) == without_times(before["history"])
    assert record["held_out"] == before["held_out"]


def test_other_word_tags_are_refused(tmp_path: Path, die_at: DieAt) -> None:
    settings = silver_settings(tmp_path)
    kill(settings, die_at, 4)
    moved = tuple(p.rename(tmp_path / f"moved-{p.name}") for p in settings.word_tags)
    last = moved[1].read_text(encoding="utf-8")
    write_text(moved[1], last.replace("PER", "LOC", 1).splitlines())
    with pytest.raises(CheckpointError, match="cannot resume: words was 'tags "):
        run(settings.model_copy(update={"word_tags": moved}), resume=True)
    moved[1].write_text(last, encoding="utf-8")
    run(settings.model_copy(update={"word_tags": moved}), resume=True)
    assert weight_bytes(settings) == weight_bytes(finished_with_tags()[0])


def test_word_tags_that_do_not_fit(tmp_path: Path) -> None:
    """Said with file and line before anything is made."""
    settings = silver_settings(tmp_path)
    lines = settings.word_tags[1].read_text(encoding="utf-8").splitlines()
    write_text(settings.word_tags[1], [*lines[:99], f"{lines[99]} 1:n", *lines[100:]])
    arguments = ["--word-tags", *map(str, settings.word_tags[:1]),
                 "--word-tags", *map(str, settings.word_tags[1:])]  # fmt: skip
    message = refused(*command(settings, *arguments))
    assert_matches(message, r"1\.tags:100: the words have \d+ characters, .* line 100 of .*1\.txt")
    assert not (settings.output / "prepared").exists()
    assert "word_tags names 1 files, but there are 2" in refused(*command(settings, *arguments[:2]))


def test_a_text_shorter_than_its_last_rows(tmp_path: Path) -> None:
    """Said at the start, not after nine tenths of a run."""
    write_text(tmp_path / "text.txt", made_up_lines()[:6])
    settings = settings_in(tmp_path, encoder=str(tiny_bert()), long_length=64, held_out=0.0,
                           word_share=0.0)  # fmt: skip
    write_text(tmp_path / "text.txt", ["北京天气" * 12])
    with pytest.raises(DataError, match="shorter than one row of 62 tokens"):
        run(settings)
    assert not (settings.output / "checkpoints").exists()


def test_entity_tags_that_the_tagger_does_not_give(tmp_path: Path) -> None:
    settings = silver_settings(tmp_path, entity_tags=["ORG"])
    with pytest.raises(ConfigError, match=r"entity_tags: 'ORG' is no tag of .*it gives PER, n"):
        run(settings)
    for path in settings.word_tags:
        path.write_text(path.read_text(encoding="utf-8").replace("PER", "x"), encoding="utf-8")
    settings = settings.model_copy(update={"entity_tags": ()})
    with pytest.raises(
        ConfigError, match=r"no tag of .* is known to name entities; name some of n"
    ):
        run(settings)
    record, _ = run(settings.model_copy(update={"entity_tags": ("x",), "tokens": 500}))
    assert record["word_tags"]["entity_tags"] == ["x"]


TEACHERS = {"full": 0.2, "lora": 0.05, "lstm-crf": 0.5}
"""How much the weights are shaken, so that entities of several types and lengths are found."""


def teacher_folder(variant: str, folder: Path) -> tuple[Path, Predictor]:
    """A small tagger that finds many entities."""
    folder.mkdir()
    settings = make_settings(folder, variant)
    predictor = make_predictor(settings, noise=TEACHERS[variant])
    save_predictor(folder / "model", predictor, settings)
    return folder / "model", predictor


@pytest.mark.parametrize("variant", TEACHERS)
def test_a_teacher(variant: str, tmp_path: Path) -> None:
    """What stands in the blocks is what the tagger finds in the lines."""
    folder, predictor = teacher_folder(variant, tmp_path / "teacher")
    text = write_text(tmp_path / "lines.txt", [d.text for d in SENTENCES] * 20)
    settings = settings_in(
        tmp_path, files=[text], encoder=str(tiny_bert()), teacher=str(folder), tokens=500,
        held_out=0.0, word_share=0.0, entity_mask_share=0.3,
    )  # fmt: skip
    record, said = run(settings)
    labels = list(predictor.tagset.labels)
    assert record["word_tags"]["tags"] == ["O", *labels]
    assert record["word_tags"]["entity_tags"] == labels
    assert "word tags: model, 5 tags" in said
    expected: list[int] = []
    for document in predictor.tag_texts(d.text for d in SENTENCES):
        tags = [0] * len(document.text)
        for i in range(1, len(tags)):
            pair = document.text[i - 1 : i + 1]
            tags[i] = int(pair.isascii() and pair.isalnum())
        for entity in document.entities:
            kind = 2 * (1 + labels.index(entity.label))
            tags[entity.start : entity.end] = [kind, *[kind + 1] * (entity.end - entity.start - 1)]
            if entity.end < len(tags) and tags[entity.end] == 1:
                tags[entity.end] = 0  # the rest of a run of letters is a word of its own
        expected += tags
    assert len(set(expected)) >= 3
    assert any(tag > 1 and tag % 2 for tag in expected)
    block = load_file(settings.output / "prepared" / "block-00000.safetensors")
    assert block["tags"].tolist() == expected * 20


def test_another_teacher_is_refused(tmp_path: Path, die_at: DieAt) -> None:
    folder, predictor = teacher_folder("full", tmp_path / "teacher")
    settings = settings_in(tmp_path, encoder=str(tiny_bert()), teacher=str(folder))
    kill(settings, die_at, 4)
    moved = folder.rename(tmp_path / "elsewhere")
    same = settings.model_copy(update={"teacher": str(moved)})
    other, _ = teacher_folder("lora", tmp_path / "other")
    with pytest.raises(CheckpointError, match="cannot resume: words was 'teacher "):
        run(settings.model_copy(update={"teacher": str(other)}), resume=True)
    record, _ = run(same, resume=True)
    assert record["word_tags"]["tagger"] == "elsewhere"
    (moved / "nertune.json").unlink()  # a folder of anybody's
    config = json.loads((moved / "config.json").read_text(encoding="utf-8"))
    del config["nertune_manifest"]
    (moved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    record, _ = run(same.model_copy(update={"tokens": 500}), overwrite=True)
    assert record["word_tags"]["tags"] == ["O", *predictor.tagset.labels]


def test_a_teacher_that_is_none(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, encoder=str(tiny_bert()))
    assert "is not a trained tagger" in refused(*command(settings, "--teacher", str(tiny_bert())))
    assert "no such folder" in refused(*command(settings, "--teacher", "./nothing"))
    assert "give one of words" in refused(*command(settings, "--teacher", "x", "--words", "jieba"))


def test_nothing_held_out(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, encoder=str(base()), held_out=0, tokens=500)
    record, _ = run(settings)
    assert record["held_out"] == {"before": {}, "after": {}}
    card = (settings.output / "model" / "README.md").read_text(encoding="utf-8")
    assert "No text was held out" in card


def test_evaluation_text_is_left_out(tmp_path: Path) -> None:
    """The test set is made of every tenth of the text's longer lines."""
    lines = made_up_lines()
    test_set = [i for i, line in enumerate(lines) if len(line) >= 24][::10]
    test = tmp_path / "test.jsonl"
    records = [{"text": lines[i], "entities": [[0, 2, "X"]]} for i in test_set]
    test.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    settings = settings_in(tmp_path, encoder=str(base()), exclude=[test], tokens=500)
    record, said = run(settings)
    assert record["excluded"]["lines"] == len(test_set) > 5
    assert record["excluded"]["characters"] == sum(len(lines[i]) for i in test_set)
    assert record["files"].keys() == {str(tmp_path / "text.txt"), str(test)}
    assert f"excluded: {len(test_set)} of {len(lines)} lines" in said
    assert f"text.txt:{test_set[0] + 1}: " in said
    # None of it is in what was prepared, and everything else is.
    backend = load_tokenizer(base()).backend
    prepared = "".join(
        token.removeprefix("##")
        for path in (settings.output / "prepared").glob("*.safetensors")
        for token in backend.convert_ids_to_tokens(load_file(path)["ids"].tolist())
    )
    for i, line in enumerate(lines):
        assert (line.lower() in prepared) == (i not in test_set), line


# Seeds


def test_the_same_seed_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    again = settings_in(tmp_path / "again")
    run(again)
    assert weight_bytes(again) == weight_bytes(finished()[0])
    other = settings_in(tmp_path / "other", seed=1)
    record, _ = run(other)
    assert record["held_out"]["before"] != finished()[1]["held_out"]["before"]  # where it begins
    assert weight_bytes(other) != weight_bytes(finished()[0])


# Dying and resuming


def without_times(value: Any) -> Any:
    clocks = {"seconds", "tokens_per_second", "peak_memory_bytes", "output", "files"}
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in clocks}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def assert_as_undisturbed(settings: PretrainSettings) -> None:
    expected = finished()[0]
    assert weight_bytes(settings) == weight_bytes(expected)
    assert {p.name for p in settings.output.iterdir()} == {
        p.name for p in expected.output.iterdir()
    }
    one, other = (
        without_times(json.loads((s.output / "record.json").read_text(encoding="utf-8")))
        for s in (settings, expected)
    )
    assert one == other
    logs = [
        [json.loads(line) for line in (s.output / "log.jsonl").read_text().splitlines()]
        for s in (settings, expected)
    ]
    assert without_times(logs[0]) == without_times(logs[1])


def test_killed_and_resumed_is_undisturbed(tmp_path: Path, die_at: DieAt) -> None:
    settings = settings_in(tmp_path)
    kill(settings, die_at, 4)
    prepared = {
        p: p.stat().st_mtime_ns for p in (settings.output / "prepared").rglob("*") if p.is_file()
    }
    assert prepared
    with pytest.raises(ConfigError, match="unfinished run; use --resume"):
        run(settings)
    kill(settings, die_at, 6, resume=True)
    _, said = run(settings, resume=True)
    assert "learning the vocabulary" not in said
    assert_as_undisturbed(settings)
    for path, when in prepared.items():
        if path.name != "made-from.json":
            assert path.stat().st_mtime_ns == when, path  # nothing was prepared again


@pytest.mark.parametrize(
    "place",
    [
        # a vocabulary, but nothing said about it
        "nertune.experiments.pretraining.pretrain:read_tokenizer",
        "nertune.pretraining.packing:PreparedText._write",  # the text half prepared
        "nertune.pretraining.loop:Pretrainer.measure",  # prepared, not trained
        "nertune.experiments.pretraining.pretrain:_record",  # trained, not saved
        "nertune.experiments.pretraining.pretrain:encoder_card",  # half a model folder
        "nertune.experiments.folder:write_json",  # a model, but no record
    ],
)
def test_killed_around_the_training(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*args: Any, **kwargs: Any) -> None:
        raise Killed

    settings = settings_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(place.replace(":", "."), explode)
        with pytest.raises(Killed):
            run(settings)
    assert not (settings.output / "record.json").exists()
    run(settings, resume=True)
    assert_as_undisturbed(settings)


def command(settings: PretrainSettings, *more: str) -> list[str]:
    """These settings at the command line."""
    values = {name: getattr(settings, name) for name in (*TINY, "checkpoint_steps")}
    start = (
        ["--encoder", settings.encoder]
        if settings.encoder
        else ["--from-scratch", settings.from_scratch]
    )
    return [
        "pretrain", *map(str, settings.files), "-o", str(settings.output), *start,
        "--tokens", str(settings.tokens),
        *(part for key, value in values.items() for part in ("--set", f"{key}={value}")),
        *more,
    ]  # fmt: skip


def test_kill_minus_9(tmp_path: Path) -> None:
    """A process that gets SIGKILL while it trains, and another that resumes."""
    (whole, killed) = (
        settings_in(tmp_path / name, encoder=str(base()), tokens=6000)
        for name in ("whole", "killed")
    )
    run(whole)
    process = subprocess.Popen(
        [sys.executable, "-m", "nertune", *command(killed)],
        env=environment_of_children(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    checkpoints = killed.output / "checkpoints"
    while not any(checkpoints.glob("step-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert not (killed.output / "record.json").exists()
    assert run_command(*command(killed)).code == 2  # not by mistake
    outcome = run_command(*command(killed, "--resume"))
    assert outcome.code == 0, outcome.stderr
    assert weight_bytes(killed) == weight_bytes(whole)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rate", 0.5), ("seed", 1), ("tokens", 3000), ("length", 16), ("mask_share", 0.5),
        ("batch_tokens", 128), ("optimizer", "muon"), ("hidden", 64),
    ],
)  # fmt: skip
def test_other_settings_are_refused(key: str, value: Any, tmp_path: Path, die_at: DieAt) -> None:
    settings = settings_in(tmp_path)
    kill(settings, die_at, 4)
    with pytest.raises(CheckpointError, match=rf"cannot resume: .*{key}"):
        run(settings.model_copy(update={key: value}), resume=True)
    # Nor is what was prepared lost by the mistake.
    run(settings, resume=True)
    assert_as_undisturbed(settings)


def test_a_refused_resume_leaves_what_was_prepared(tmp_path: Path, die_at: DieAt) -> None:
    """It may have taken an hour."""
    settings = settings_in(tmp_path)
    kill(settings, die_at, 4)
    before = {p.name: p.stat().st_mtime_ns for p in (settings.output / "prepared").iterdir()}
    with pytest.raises(CheckpointError, match="cannot resume"):
        run(settings.model_copy(update={"block_pieces": 1000}), resume=True)
    assert before == {
        p.name: p.stat().st_mtime_ns for p in (settings.output / "prepared").iterdir()
    }


def test_what_does_not_decide_the_weights_may_change(tmp_path: Path, die_at: DieAt) -> None:
    settings = settings_in(tmp_path)
    kill(settings, die_at, 4)
    run(settings.model_copy(update={"checkpoint_minutes": 9.0, "checkpoint_steps": 3}), resume=True)
    assert weight_bytes(settings) == weight_bytes(finished()[0])


def test_another_text_is_refused(tmp_path: Path, die_at: DieAt) -> None:
    settings = settings_in(tmp_path)
    kill(settings, die_at, 4)
    write_text(tmp_path / "text.txt", [*made_up_lines(), "多了一行"])
    with pytest.raises(CheckpointError, match="cannot resume"):
        run(settings, resume=True)


@pytest.mark.parametrize("how", ["another order", "excluded instead", "twice"])
def test_the_same_files_otherwise_are_refused(how: str, tmp_path: Path, die_at: DieAt) -> None:
    lines = made_up_lines()
    one, other = (
        write_text(tmp_path / f"{i}.txt", part) for i, part in enumerate((lines[:150], lines[150:]))
    )
    start: dict[str, Any] = {"encoder": str(base())}
    changed: dict[str, Any] = {"files": (other, one)}
    start["files"] = [one, other]
    if how == "excluded instead":
        start |= {"files": [one], "exclude": [other]}
        changed = {"files": (other,), "exclude": (one,)}
    if how == "twice":
        start["files"], changed = [one], {"files": (one, one)}
    settings = settings_in(tmp_path, **start)
    kill(settings, die_at, 4)
    with pytest.raises(CheckpointError, match="cannot resume"):
        run(settings.model_copy(update=changed), resume=True)


def test_files_that_were_moved_are_the_same(tmp_path: Path, die_at: DieAt) -> None:
    settings = settings_in(tmp_path)
    kill(settings, die_at, 4)
    moved = (tmp_path / "text.txt").rename(tmp_path / "moved.txt")
    run(settings.model_copy(update={"files": (moved,)}), resume=True)
    assert weight_bytes(settings) == weight_bytes(finished()[0])


def test_a_damaged_checkpoint(tmp_path: Path, die_at: DieAt) -> None:
    settings = settings_in(tmp_path)
    kill(settings, die_at, 4)
    (path,) = (settings.output / "checkpoints").glob("step-*/weights.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors.*--overwrite"):
        run(settings, resume=True)
    run(settings, overwrite=True)
    assert_as_undisturbed(settings)


def test_a_budget_in_minutes_becomes_a_plan(
    tmp_path: Path, die_at: DieAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = iter([1000.0])
    monkeypatch.setattr(Pretrainer, "time_steps", lambda *a, **k: next(speeds))
    settings = settings_in(tmp_path, minutes=0.04)  # 2.4 s
    kill(settings, die_at, 4)
    plan = json.loads((settings.output / "plan.json").read_text())
    assert plan == {"tokens": 2400, "tokens_per_second": 1000}
    record, _ = run(settings, resume=True)  # measured once only
    assert record["plan"] == plan
    assert record["tokens"] == 2560  # ten steps
    by_tokens = settings_in(tmp_path / "tokens", tokens=2400)
    run(by_tokens)
    assert weight_bytes(settings) == weight_bytes(by_tokens)


def test_a_run_that_starts_again_is_timed_again(
    tmp_path: Path, die_at: DieAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = iter([1000.0, 500.0])
    monkeypatch.setattr(Pretrainer, "time_steps", lambda *a, **k: next(speeds))
    settings = settings_in(tmp_path, minutes=0.04, encoder=str(base()))
    kill(settings, die_at, 4)
    record, _ = run(settings, overwrite=True)
    assert record["plan"]["tokens"] == 1200


@pytest.mark.parametrize("minutes", [0.003, 1e-9])
def test_minutes_as_measured(minutes: float, tmp_path: Path) -> None:
    """However few, a step is done."""
    settings = settings_in(tmp_path, minutes=minutes, encoder=str(base()), checkpoint_steps=0)
    record, said = run(settings)
    assert record["steps"] >= 1
    assert record["tokens"] >= record["plan"]["tokens"]
    assert "tokens/s" in said


# A folder with a finished run


def test_a_finished_run_is_returned_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = copied(tmp_path)
    with pytest.raises(ConfigError, match=r"output: .* holds a finished run; use --overwrite"):
        run(settings)
    monkeypatch.setattr(Pretrainer, "train", None)
    monkeypatch.setattr("nertune.experiments.pretraining.pretrain.PreparedText", None)
    record, said = run(settings, resume=True)
    assert record == json.loads(json.dumps(finished()[1]))
    assert "finished before, nothing to do" in said
    with pytest.raises(CheckpointError, match=r"pretrain\.seed = 987, not 1"):
        run(settings.model_copy(update={"seed": 1}), resume=True)


def test_a_record_without_the_newest_settings(tmp_path: Path) -> None:
    """Of a version that did not know them: they were off."""
    settings = copied(tmp_path)
    path = settings.output / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    newest = ("word_tags", "teacher", "entity_tags", "entity_weight", "entity_mask_share",
              "long_length", "long_share")  # fmt: skip
    for key in newest:
        del record["settings"]["pretrain"][key]
    path.write_text(json.dumps(record), encoding="utf-8")
    assert run(settings, resume=True)[0] == record
    with pytest.raises(CheckpointError, match=r"pretrain\.long_length = 0, not 64"):
        run(settings.model_copy(update={"long_length": 64}), resume=True)


def test_overwrite_replaces_what_a_run_left(tmp_path: Path) -> None:
    settings = copied(tmp_path)
    (settings.output / "notes.txt").write_text("mine")
    before = weight_bytes(settings)
    changed = settings.model_copy(update={"seed": 1, "tokens": 1000})
    record, _ = run(changed, overwrite=True)
    assert record["steps"] == 4
    assert weight_bytes(changed) != before
    assert (settings.output / "notes.txt").read_text() == "mine"
    log = (settings.output / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [2, 4]
    with pytest.raises(ConfigError, match="exclude each other"):
        run(changed, resume=True, overwrite=True)


def prepared_files(settings: PretrainSettings) -> dict[str, int]:
    """What was prepared, and when."""
    return {
        path.name: path.stat().st_mtime_ns
        for path in (settings.output / "prepared").iterdir()
        if path.suffix == ".safetensors"
    }


def test_a_run_that_starts_again_prepares_anew(tmp_path: Path) -> None:
    settings = copied(tmp_path)
    before = prepared_files(settings)
    changed = settings.model_copy(update={"held_out": 0.3})
    run(changed, overwrite=True)
    after = prepared_files(settings)
    assert before.keys() == after.keys()
    assert all(after[name] != before[name] for name in before)


def test_a_run_that_starts_again_prepares_anew_what_is_damaged(tmp_path: Path) -> None:
    """The message says that --overwrite helps."""
    settings = copied(tmp_path)
    path = settings.output / "prepared" / "block-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    run(settings, overwrite=True)
    assert_as_undisturbed(settings)


def test_another_tokenizer_with_the_same_weights(tmp_path: Path) -> None:
    """What was prepared by the other is not used."""
    folder = tmp_path / "encoder"
    shutil.copytree(base(), folder)
    settings = settings_in(tmp_path, encoder=str(folder), tokens=500)
    run(settings)
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = vocabulary["model"]["vocab"]
    ids["北"], ids["京"] = ids["京"], ids["北"]
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    block = settings.output / "prepared" / "block-00000.safetensors"
    before = load_file(block)["ids"].tolist()
    run(settings, overwrite=True)
    after = load_file(block)["ids"].tolist()
    swapped = {ids["北"]: ids["京"], ids["京"]: ids["北"]}
    assert after == [swapped.get(i, i) for i in before]


# The command line


def test_the_command(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, tokens=500)
    outcome = run_command(*command(settings))
    assert outcome.code == 0, outcome.stderr
    assert "512 tokens in 2 steps" in outcome.stdout
    assert "held-out perplexity" in outcome.stdout
    assert str(settings.output / "model") in outcome.stdout
    assert "learning the vocabulary" in outcome.stderr
    again = run_command(*command(settings, "--resume", "--json"))
    assert again.code == 0, again.stderr
    assert json.loads(again.stdout) == json.loads((settings.output / "record.json").read_text())


def test_an_interrupted_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pretrainer, "train", interrupt)
    outcome = run_command(*command(settings_in(tmp_path, encoder=str(base()))))
    assert outcome.code == 130
    assert "--resume" in outcome.stderr


def refused(*arguments: object) -> str:
    """The message of a command that ends with 2 and one line."""
    outcome: Outcome = run_command(*arguments)
    assert outcome.code == 2, outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert outcome.error.startswith("error: ")
    return outcome.error


TOO_FEW = ("--from-scratch", "tiny", "--tokens", "100")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--tokens", "9"), "give one of encoder"),
        (("--from-scratch", "tiny"), "give one budget: tokens or minutes"),
        ((*TOO_FEW, "--minutes", "1"), "give one budget: tokens or minutes"),
        ((*TOO_FEW, "--encoder", "mini-zh"), "give one of encoder"),
        ((*TOO_FEW, "--lora"), "lora adapts an encoder"),
        (("--from-scratch", "huge", "--tokens", "9"), "from_scratch: .*'tiny'"),
        ((*TOO_FEW, "--words", "pkuseg"), "words: .*'jieba'"),
        ((*TOO_FEW, "--set", "rat=1"), "rat.*did you mean rate"),
        ((*TOO_FEW, "--set", "rate=fast"), "rate: .*got 'fast'"),
        ((*TOO_FEW, "--exclude", "nothing.txt"), "nothing.txt: cannot be read"),
        (("--encoder", "./nothing", "--tokens", "9"), "./nothing: no such folder"),
        ((*TOO_FEW, "--set", "vocabulary=50"), "vocabulary of 50 tokens has no room"),
        ((*TOO_FEW, "--set", "hidden=33", "--set", "heads=2"), "hidden.*33"),
    ],
)  # fmt: skip
def test_what_the_command_refuses(
    arguments: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt", made_up_lines())
    message = refused("pretrain", "text.txt", "-o", "run", "--set", "device=cpu", *arguments)
    assert_matches(message, expected)


def assert_matches(message: str, pattern: str) -> None:
    assert re.search(pattern, message), message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, r"text\.txt: cannot be read: No such file"),
        (b"", "the text is empty"),
        ("一二三\n".encode() * 3, "shorter than one row of 30 tokens"),
        ("一\n二\n".encode() + "天气".encode("gb18030"), r"text\.txt:3: .*not UTF-8"),
        (b"a\0b\n", r"text\.txt:1: .*NUL"),
    ],
    ids=["missing", "empty", "short", "another encoding", "binary"],
)
def test_texts_that_the_command_refuses(data: bytes | None, expected: str, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    (tmp_path / "text.txt").unlink()
    if data is not None:
        (tmp_path / "text.txt").write_bytes(data)
    assert_matches(refused(*command(settings)), expected)


def test_an_empty_text_for_an_encoder(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, encoder=str(base()))
    (tmp_path / "text.txt").write_text("\n\n")
    assert "no line that can be trained on" in refused(*command(settings))


def test_everything_excluded(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, encoder=str(base()))
    text = str(tmp_path / "text.txt")
    assert "no line that can be trained on" in refused(*command(settings, "--exclude", text))


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.output.write_text("mine")
    assert "output: " in refused(*command(settings))
    assert settings.output.read_text() == "mine"


def test_rows_longer_than_the_encoder_reads(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, encoder=str(base()))
    message = refused(*command(settings, "--set", "length=33"))
    assert "length = 33" in message
    assert "reads 32 tokens at most" in message


def test_an_adapter_that_does_not_fit(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, encoder=str(base()))
    message = refused(*command(settings, "--lora", "--set", 'adapter.targets=["nothing"]'))
    assert "'nothing' matches no linear module" in message


def test_an_encoder_with_damaged_weights(tmp_path: Path) -> None:
    shutil.copytree(base(), tmp_path / "encoder")
    path = tmp_path / "encoder" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    settings = settings_in(tmp_path, encoder=str(tmp_path / "encoder"))
    assert str(tmp_path / "encoder") in refused(*command(settings))


def test_an_encoder_that_knows_no_mask(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    shutil.copytree(base(), tmp_path / "encoder")
    backend = PreTrainedTokenizerFast(
        tokenizer_object=load_tokenizer(base()).backend.backend_tokenizer,
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    backend.save_pretrained(tmp_path / "encoder")
    settings = settings_in(tmp_path, encoder=str(tmp_path / "encoder"))
    assert "has no [MASK] token" in refused(*command(settings))


def test_every_refusal_is_a_nertune_error(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, encoder=str(tmp_path / "nothing"))
    with pytest.raises(ModelError):
        run(settings)
    with pytest.raises(NertuneError):
        parse_pretrain_settings({})


def test_rows_longer_than_rotary_positions_were_trained_for(tmp_path: Path) -> None:
    """No position has weights of its own, so the encoder reads them from then on."""
    first = settings_in(tmp_path / "1", architecture="modernbert", tokens=600)
    run(first)
    then = settings_in(
        tmp_path / "2", encoder=str(first.output / "model"), tokens=600, long_length=40,
        long_share=0.5,
    )  # fmt: skip
    run(then)
    config = json.loads((then.output / "model" / "config.json").read_text())
    assert config["max_position_embeddings"] == 40
    assert load_tokenizer(str(then.output / "model")).max_pieces == 40
