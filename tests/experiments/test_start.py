"""A run that goes on from a finished one begins with what that one learned, tag by tag."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from helpers import shown
from helpers.commands import run
from helpers.tiny import (
    SENTENCES,
    make_predictor,
    make_settings,
    save_predictor,
    tiny_bert,
    write_jsonl,
)
from nertune.artifacts.manifest import hash_encoder, read_manifest
from nertune.config.run import Settings
from nertune.errors import CheckpointError, ConfigError
from nertune.experiments.start import open_start
from nertune.inference.predictor import Predictor, load_model
from nertune.models.encoder import EncoderEmitter
from nertune.types import Document, Entity

STILL = {"epochs": 1, "optimizer": "sgd", "learning_rate": 1e-12, "head_learning_rate": 1e-12,
         "crf_learning_rate": 1e-12, "momentum": 0.0, "weight_decay": 0.0}  # fmt: skip
"""Training that changes nothing: what comes out is what the run began with."""


def renamed(names: Mapping[str, str]) -> list[Document]:
    """`SENTENCES` with other labels; those without a new name go."""
    return [
        Document(d.text, tuple(
            Entity(e.start, e.end, names[e.label]) for e in d.entities if e.label in names
        ))
        for d in SENTENCES
    ]  # fmt: skip


def earlier(folder: Path, variant: str, **sections: dict[str, Any]) -> tuple[Predictor, Path]:
    """A shaken tagger as a finished run leaves it."""
    folder.mkdir(exist_ok=True)
    settings = make_settings(folder, variant, sections)
    predictor = make_predictor(settings)
    save_predictor(folder / "model", predictor, settings)
    return predictor, folder / "model"


def further(
    folder: Path, start: Path, variant: str, sections: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """A run that goes on from there; the encoder is not named."""
    still = {k: v for k, v in STILL.items() if "lstm" not in variant or k[:4] != "head"}
    changes = {"train": still, **(sections or {})}
    settings = make_settings(folder, variant, changes)
    asked = (sections or {}).get("model", {})
    model = settings.model.model_copy(
        update={"start_from": str(start), "unit": "auto", "encoder": "mini-zh", **asked}
    )
    return settings.model_copy(update={"model": model})


def go(settings: Settings, **options: Any) -> tuple[dict[str, Any], str]:
    """The record, and what was said."""
    stream = io.StringIO()
    record = shown.train(settings, console=Console(file=stream, width=250), **options)
    return record, stream.getvalue()


def emissions(predictor: Predictor) -> list[Tensor]:
    return [torch.tensor(e) for e in predictor.emissions(SENTENCES)[1]]


def assert_same(one: Sequence[Tensor], other: Sequence[Tensor], **tolerance: float) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 1e-4, "atol": 1e-4}))


KINDS = [
    ("full", "full"), ("full-crf", "full-crf"), ("full", "frozen"), ("full", "lora"),
    ("lora", "lora"), ("lora-crf", "lora-crf"), ("lora", "full"), ("lora-crf", "full-crf"),
    ("lstm", "lstm"), ("lstm-crf", "lstm-crf"), ("full-crf", "full"), ("full", "full-crf"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now"), KINDS)
def test_it_begins_with_what_was_learned(before: str, now: str, tmp_path: Path) -> None:
    start, folder = earlier(tmp_path / "first", before)
    record, said = go(further(tmp_path, folder, now))
    loaded = load_model(tmp_path / "run" / "model", device="cpu")
    assert loaded.tagset.tags == start.tagset.tags
    assert loaded.segmenter.unit == "char"
    assert loaded.segmenter.max_pieces == start.segmenter.max_pieces
    if ("crf" in before) == ("crf" in now):
        assert_same(emissions(loaded), emissions(start))
        found = [[e.key for e in d.entities] for d in loaded.tag_documents(SENTENCES)]
        assert found == [[e.key for e in d.entities] for d in start.tag_documents(SENTENCES)]
        assert any(found)
    assert f"started from {folder}" in said
    assert "9 of 9 rows kept" in said
    crf = {"full-crf>full": "left out", "full>full-crf": "the head crf is new"}
    if "crf" in before + now:
        assert crf.get(f"{before}>{now}", "transitions between 9 tags kept") in said
    manifest = read_manifest(tmp_path / "run" / "model")
    assert manifest.start_from == record["start_from"]["folder"] == str(folder)
    assert manifest.start_sha256 == record["start_from"]["sha256"]
    # An adapter that goes on stays on its own base; anything else is on the start model.
    encoder = {"lora>lora": str(tiny_bert()), "lora-crf>lora-crf": str(tiny_bert())}
    expected = "" if "lstm" in now else encoder.get(f"{before}>{now}", str(folder))
    assert manifest.encoder == expected


@pytest.mark.parametrize("variant", ["full-crf", "lora-crf", "lstm-crf"])
def test_other_labels_keep_the_rows_of_the_same(variant: str, tmp_path: Path) -> None:
    start, folder = earlier(tmp_path / "first", variant)
    names = {"PERSON": "PERSON", "TIME": "DATE", "LOCATION": "LOCATION", "ORGANIZATION": "COMPANY"}
    write_jsonl(tmp_path / "data.jsonl", renamed(names))
    _, said = go(further(tmp_path, folder, variant))
    assert "5 of 9 rows kept (O, B-LOCATION, I-LOCATION, B-PERSON, I-PERSON), 4 new" in said
    assert "transitions between 5 tags kept" in said
    loaded = load_model(tmp_path / "run" / "model", device="cpu")
    shared = [tag for tag in start.tagset.tags if tag in loaded.tagset.tags]
    assert len(shared) == 5
    old_ids, new_ids = start.tagset.encode(shared), loaded.tagset.encode(shared)
    for old_UK, new_UK in zip(emissions(start), emissions(loaded), strict=True):
        torch.testing.assert_close(new_UK[:, new_ids], old_UK[:, old_ids], rtol=1e-4, atol=1e-4)
    old_KK, new_KK = (p.tagger.head.chain().transition_KK for p in (start, loaded))
    for i, j in zip(old_ids, new_ids, strict=True):
        assert new_KK[j, new_ids].tolist() == pytest.approx(old_KK[i, old_ids].tolist(), abs=1e-5)


def test_a_whole_run_on_other_labels_learns_them(tmp_path: Path) -> None:
    """As a user does it: the run's folder is named, and the encoder is not."""
    (tmp_path / "first").mkdir()
    first = make_settings(tmp_path / "first", "full", {"train": {"epochs": 8}})
    go(first)
    names = {"PERSON": "PERSON", "TIME": "DATE", "LOCATION": "LOCATION"}
    write_jsonl(tmp_path / "data.jsonl", renamed(names))
    rates = {"learning_rate": 2e-3, "head_learning_rate": 1e-2}
    settings = further(
        tmp_path, tmp_path / "first" / "run", "full", {"train": {"epochs": 20, **rates}}
    )
    record, _ = go(settings)
    assert record["dev"]["micro"]["f1"] > 0.9
    assert record["encoder_sha256"] == hash_encoder(str(tmp_path / "first" / "run" / "model"))


@pytest.mark.parametrize(
    ("before", "now", "sections", "message"),
    [
        ("full", "lstm", {}, r"model\.emitter = \"lstm\", but model\.start_from is an encoder"),
        ("lstm", "full", {}, r"model\.emitter = \"encoder\", but model\.start_from is an LSTM"),
        ("full", "full", {"model": {"unit": "word"}}, r"model\.unit = \"word\", but"),
        ("full", "full", {"model": {"encoder": "other/bert"}}, r"model\.encoder: other/bert, but"),
        ("lora", "lora", {"lora": {"rank": 4}}, r"lora\.rank = 4, but .* trained with 8"),
        ("lora", "lora", {"lora": {"targets": ["query"]}}, r"lora\.targets = \[\"query\"\]"),
        ("lstm", "lstm", {"lstm": {"hidden_size": 8, "embedding_size": 16, "layers": 1}},
         r"lstm\.hidden_size = 8, but .* trained with 16"),
        ("lstm", "lstm", {"lstm": {"embedding_size": 16, "hidden_size": 16, "layers": 1,
                                   "chars": "x.txt"}}, r"lstm\.chars: the vocabulary is that"),
    ],
)  # fmt: skip
def test_what_contradicts_is_refused_by_its_key(
    before: str, now: str, sections: dict[str, Any], message: str, tmp_path: Path
) -> None:
    _, folder = earlier(tmp_path / "first", before)
    with pytest.raises(ConfigError, match=message):
        open_start(further(tmp_path, folder, now, sections))


def test_what_does_not_contradict_is_taken(tmp_path: Path) -> None:
    _, folder = earlier(tmp_path / "first", "lora")
    for encoder in (str(tiny_bert()), str(folder), "mini-zh"):
        settings = further(tmp_path, folder, "lora", {"model": {"encoder": encoder, "unit": "char"},
                                                      "lora": {"dropout": 0.3}})  # fmt: skip
        settings = settings.model_copy(
            update={"lora": settings.lora.model_copy(update={"targets": _targets(folder)})}
        )
        start = open_start(settings)
        assert start is not None
        assert start.goes_on
        assert start.encoder == str(tiny_bert())


def _targets(folder: Path) -> tuple[str, ...]:
    return tuple(read_manifest(folder).settings["lora"]["targets"])


def test_what_is_no_model_of_nertune_is_refused(tmp_path: Path) -> None:
    for name in (tiny_bert(), tmp_path / "nothing"):
        with pytest.raises(ConfigError, match=r"model\.start_from: .* named with model\.encoder"):
            open_start(further(tmp_path, name, "full"))
    assert open_start(make_settings(tmp_path, "full")) is None


def test_another_adapter_is_put_on_the_merged_one(tmp_path: Path) -> None:
    """Of the same kind but of another method: the old one is merged, with a line."""
    start, folder = earlier(tmp_path / "first", "lora")
    model = {"tuning": "peft"}
    settings = further(tmp_path, folder, "full", {"model": model, "peft": {"method": "ia3"}})
    _, said = go(settings)
    assert "the adapter is merged into" in said
    loaded = load_model(tmp_path / "run" / "model", device="cpu")
    assert_same(emissions(loaded), emissions(start))
    emitter = loaded.tagger.emitter
    assert isinstance(emitter, EncoderEmitter)
    assert "ia3" in str(emitter.model.peft_config["default"].peft_type).lower()


def test_the_adapter_goes_on_training(tmp_path: Path) -> None:
    start, folder = earlier(tmp_path / "first", "lora")
    record, _ = go(further(tmp_path, folder, "lora", {"train": {"epochs": 2}}))
    loaded = load_model(tmp_path / "run" / "model", device="cpu")
    changed = [
        (a - b).abs().max() for a, b in zip(emissions(loaded), emissions(start), strict=True)
    ]
    assert max(changed) > 1e-3
    assert record["parameters"]["trainable"] < record["parameters"]["total"] / 2


def test_a_killed_run_resumes_from_the_same_start_only(tmp_path: Path) -> None:
    _, folder = earlier(tmp_path / "first", "lora")
    settings = further(tmp_path, folder, "full", {"train": {"epochs": 4}})

    class Killer:
        def __getattr__(self, name: str) -> Any:
            def on(*arguments: Any, **named: Any) -> None:
                log = tmp_path / "run" / "log.jsonl"
                if log.is_file() and log.read_text(encoding="utf-8").count('"epoch"') > 2:
                    raise KeyboardInterrupt

            return on

    with pytest.raises(KeyboardInterrupt):
        go(settings, observers=[Killer()])
    assert (tmp_path / "run" / "checkpoints").exists()
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    shutil.rmtree(folder)
    earlier(tmp_path / "first", "lora", run={"seed": 3})
    with pytest.raises(CheckpointError, match=r"cannot resume: (encoder|start_from)"):
        go(settings, resume=True)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    record, _ = go(settings, resume=True)
    whole = settings.model_copy(
        update={"run": settings.run.model_copy(update={"dir": tmp_path / "whole"})}
    )
    assert record["dev"] == go(whole)[0]["dev"]
    # A finished one, too, knows where it started.
    shutil.rmtree(folder)
    earlier(tmp_path / "first", "lora", run={"seed": 3})
    with pytest.raises(CheckpointError, match="started from another model"):
        go(settings, resume=True)
    shutil.rmtree(folder)
    assert go(settings, resume=True)[0]["dev"] == record["dev"]


def test_compare_trains_again_from_another_start(tmp_path: Path) -> None:
    from nertune.comparison.runs import encoder_hash

    _, folder = earlier(tmp_path / "first", "full")
    settings = further(tmp_path, folder, "full")
    before = encoder_hash(settings)
    assert before == go(settings)[0]["start_from"]["sha256"]
    shutil.rmtree(folder)
    earlier(tmp_path / "first", "full", run={"seed": 3})
    assert encoder_hash(settings) != before


def test_the_command(tmp_path: Path) -> None:
    _, folder = earlier(tmp_path / "first", "full")
    data = json.dumps(str(tmp_path / "first" / "data.jsonl"))
    recipe = tmp_path / "more.toml"
    recipe.write_text(
        f"[data]\ntrain = {data}\ndev = {data}\n[run]\ndir = {json.dumps(str(tmp_path / 'run'))}\n"
        f'device = "cpu"\n[model]\nstart_from = {json.dumps(str(folder))}\n[train]\nepochs = 1\n',
        encoding="utf-8",
    )
    done = run("train", recipe)
    assert done.code == 0, done.stderr
    assert "started from" in done.stderr


def test_a_base_encoder_that_moved_is_found_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter names it relative to another working folder."""
    (tmp_path / "bases").mkdir()
    shutil.copytree(tiny_bert(), tmp_path / "bases" / "bert")
    monkeypatch.chdir(tmp_path)
    model = {"encoder": "bases/bert", "tuning": "lora", "unit": "char"}
    start, folder = earlier(tmp_path / "first", "lora", model=model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    go(further(tmp_path, folder, "lora"))
    loaded = load_model(tmp_path / "run" / "model", device="cpu")
    assert_same(emissions(loaded), emissions(start))
