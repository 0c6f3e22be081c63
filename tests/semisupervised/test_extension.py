"""An extended model finds what it found before, to the last bit, and new types besides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nertune
from helpers.artifacts import edit_json
from helpers.commands import run
from helpers.mixed import make_model
from helpers.shown import logged
from helpers.tiny import SENTENCES, VARIANTS, make_settings, tiny_bert, write_jsonl
from nertune.artifacts.extended import Addition, find_parts, save_extended
from nertune.artifacts.manifest import parse_manifest, read_manifest, trained_reading
from nertune.artifacts.parts import Overlap, parse_extended
from nertune.artifacts.save import save_calibration
from nertune.config.run import Settings
from nertune.data.corpus import save_documents
from nertune.errors import ArtifactError, CheckpointError, ConfigError, ModelError
from nertune.inference.mixed import MultiPredictor
from nertune.inference.predictor import Predictor
from nertune.models import hub
from nertune.models.heads.calibration import Calibration
from nertune.semisupervised.extension import Extension, extend
from nertune.types import Document, Entity, Scope

OLD = ("LOCATION", "PERSON")
NEW = ("ORGANIZATION", "TIME")
LONG = Document("".join(d.text for d in SENTENCES) * 3)
"""Longer than the window of the tiny encoder, which has 64 tokens."""
TEXTS = (*(Document(d.text) for d in SENTENCES), LONG, Document(""), Document("新闻" * 40))

IA3 = {"model": {"tuning": "peft"}, "peft": {"method": "ia3", "targets": ["key", "value"]}}
KINDS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    **{name: {"model": values} for name, values in VARIANTS.items() if "lstm" not in name},
    "ia3": IA3,
    "short-windows": {"model": {"tuning": "lora", "max_pieces": 16, "decoder": "crf"}},
}
"""Models that are extended."""


def new_part(folder: Path, variant: str = "lora", **sections: Mapping[str, Any]) -> Settings:
    """Settings of a new part's run."""
    folder.mkdir(parents=True, exist_ok=True)
    return make_settings(folder, variant, {"train": {"epochs": 1}, **sections})


def entities(predictor: Predictor, documents: Sequence[Document] = TEXTS) -> list[list[Entity]]:
    return [[*d.entities] for d in predictor.tag_documents(documents)]


def of(found: list[list[Entity]], labels: Sequence[str]) -> list[list[Entity]]:
    return [[e for e in row if e.label in labels] for row in found]


def join(
    folder: Path, model: Path, labels: Sequence[str], variant: str, overlap: Overlap = "keep"
) -> Path:
    """A model extended by a part that was not trained, but shaken: it finds many entities."""
    old = find_parts(model)
    sections = {"model": {**VARIANTS[variant], "encoder": old.locate_base()}}
    part = make_model(folder / "part", labels, sections, seed=5)
    save_extended(folder / "larger", old, Addition(part, overlap), check=lambda _: None)
    return folder / "larger"


def extended(
    folder: Path,
    sections: Mapping[str, Mapping[str, Any]],
    variant: str = "lora",
    overlap: Overlap = "keep",
) -> tuple[Path, Path]:
    """The folders of a model and of what it was extended to."""
    model = make_model(folder / "old", OLD, sections, seed=3)
    return model, join(folder / "new", model, NEW, variant, overlap)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["lora-crf", "frozen"])
def test_old_answers_are_the_same_to_the_bit(tmp_path: Path, kind: str, variant: str) -> None:
    model, larger = extended(tmp_path, KINDS[kind], variant)
    before = Predictor.load(model, device="cpu")
    after = Predictor.load(larger, device="cpu")
    assert after.labels == (*before.labels, *NEW)
    expected, found = entities(before), entities(after)
    assert of(found, OLD) == expected  # an entity's score is compared too
    assert sum(map(len, expected)) > 20
    assert sum(map(len, of(found, NEW))) > 5
    # One by one, and in another order: the same batches for both.
    for documents in ([TEXTS[1]], TEXTS[::-1], [LONG]):
        assert of(entities(after, documents), OLD) == entities(before, documents)


def test_select_draws_at_random_for_an_extended_model(tmp_path: Path) -> None:
    """The texts get the entities of both parts; a measure of uncertainty has to name a part."""
    _, larger = extended(tmp_path, KINDS["full-crf"])
    write_jsonl(tmp_path / "pool.jsonl", TEXTS)
    asked = ("select", tmp_path / "pool.jsonl", "--documents", 4, "--json", "--model")
    found = json.loads(run(*asked, larger, "--strategy", "random").stdout)
    assert found["documents"] == 4
    assert {*OLD} & found["entities"].keys()
    assert {*NEW} & found["entities"].keys()
    assert "name the folder parts/0" in run(*asked, larger).error
    assert run(*asked, larger / "parts" / "1").code == 0


def test_a_new_part_answers_as_it_does_alone(tmp_path: Path) -> None:
    for name, variant in (("a", "lora"), ("b", "frozen")):
        _, larger = extended(tmp_path / name, KINDS["full-crf"], variant)
        alone = Predictor.load(larger.parent / "part", device="cpu")
        part = Predictor.load(larger / "parts" / "1", device="cpu")
        expected = entities(alone)
        assert entities(part) == expected
        assert of(entities(Predictor.load(larger, device="cpu")), NEW) == expected
        assert any(expected)


def test_the_files_of_the_old_model_are_copied_as_they_are(tmp_path: Path) -> None:
    model, larger = extended(tmp_path, KINDS["lora-crf"])
    copied = larger / "parts" / "0"
    names = [*read_manifest(model).files, "nertune.json", "README.md"]
    assert "crf.safetensors" in names
    for name in names:
        assert (copied / name).read_bytes() == (model / name).read_bytes()


def test_a_frozen_part_holds_no_encoder(tmp_path: Path) -> None:
    _, larger = extended(tmp_path, KINDS["full"], "frozen")
    part = larger / "parts" / "1"
    assert not (part / "model.safetensors").exists()
    assert (part / "head.safetensors").stat().st_size < 4000
    encoder = tmp_path / "new" / "part" / "model" / "model.safetensors"
    assert encoder.stat().st_size > 20 * (part / "head.safetensors").stat().st_size


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_extended_twice(tmp_path: Path, kind: str) -> None:
    model = make_model(tmp_path / "old", ("PERSON",), KINDS[kind], seed=3)
    once = join(tmp_path / "once", model, ["TIME"], "lora-crf")
    twice = new_part(tmp_path / "twice", "frozen")
    middle = entities(Predictor.load(once, device="cpu"))
    extend(Extension(str(once)), twice)
    shutil.rmtree(once)
    first = Predictor.load(model, device="cpu")
    last = Predictor.load(twice.run.dir, device="cpu")
    assert last.labels == ("PERSON", "TIME", "LOCATION", "ORGANIZATION")
    assert of(entities(last), ["PERSON"]) == entities(first)
    assert of(entities(last), ["PERSON", "TIME"]) == middle
    assert any(of(middle, ["TIME"]))
    assert [p.name for p in sorted((twice.run.dir / "model" / "parts").iterdir())] == [
        "0",
        "1",
        "2",
    ]


def test_a_folder_that_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, larger = extended(tmp_path, KINDS["full"])
    expected = entities(Predictor.load(model, device="cpu"))
    elsewhere = tmp_path / "elsewhere" / "tagger"
    shutil.copytree(larger, elsewhere)
    shutil.rmtree(tmp_path / "old")
    shutil.rmtree(tmp_path / "new")
    # A folder of the same relative name in the working folder is not the base encoder.
    (tmp_path / "parts").mkdir()
    shutil.copytree(tiny_bert(seed=1), tmp_path / "parts" / "0")
    monkeypatch.chdir(tmp_path)
    found = entities(Predictor.load(elsewhere, device="cpu"))
    assert of(found, OLD) == expected
    assert any(of(found, NEW))


def test_a_base_encoder_that_is_elsewhere(tmp_path: Path) -> None:
    base = tmp_path / "encoder"
    shutil.copytree(tiny_bert(), base)
    sections = {"model": {"tuning": "lora", "encoder": str(base)}}
    model, larger = extended(tmp_path, sections)
    expected = entities(Predictor.load(model, device="cpu"))
    base.rename(tmp_path / "moved")
    with pytest.raises(ArtifactError, match="parts/0: this adapter needs its base encoder"):
        Predictor.load(larger, device="cpu")
    found = Predictor.load(larger, device="cpu", encoder=tmp_path / "moved")
    assert of(entities(found), OLD) == expected
    with pytest.raises(ArtifactError, match="is not the one that this adapter was trained on"):
        Predictor.load(larger, device="cpu", encoder=tiny_bert(seed=1))


def test_a_model_with_its_own_encoder_takes_no_other(tmp_path: Path) -> None:
    _, larger = extended(tmp_path, KINDS["full"])
    with pytest.raises(ConfigError, match="holds its own encoder"):
        Predictor.load(larger, encoder=tiny_bert())


DAMAGES = {
    "parts/0/model.safetensors": "is not the file that was saved",
    "parts/1/adapter_model.safetensors": "is not the file that was saved",
    "parts/1/crf.safetensors": "is not the file that was saved",
    "parts/1/nertune.json": "is not the part that was saved",
    "parts/0/nertune.json": "is not the part that was saved",
}


def test_damaged_and_replaced_parts_are_refused(tmp_path: Path) -> None:
    _, larger = extended(tmp_path, KINDS["full"], "lora-crf")
    for name, message in DAMAGES.items():
        file = larger / name
        content = file.read_bytes()
        file.write_bytes(content[:-2] + b" \n")
        with pytest.raises(ArtifactError, match=message):
            Predictor.load(larger)
        file.unlink()
        with pytest.raises(ArtifactError, match="missing"):
            Predictor.load(larger)
        file.write_bytes(content)
    # A whole model in the place of a part, itself not damaged.
    other = make_model(tmp_path / "other", NEW, KINDS["lora"], seed=9)
    shutil.rmtree(larger / "parts" / "1")
    shutil.copytree(other, larger / "parts" / "1")
    with pytest.raises(ArtifactError, match="is not the part that was saved"):
        Predictor.load(larger)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["parts"].pop(), "parts: "),
        (lambda v: v.update(format=4), "format version 4"),
        (lambda v: v["parts"].reverse(), "part 0 is 'parts/1'"),
        (lambda v: v["parts"][1].update(labels=["PERSON"]), "two parts find the same label"),
        (lambda v: v["parts"][1].update(labels=["X"]), "says another thing about parts/1"),
        (lambda v: v["parts"][1].update(overlap="maybe"), "overlap"),
        (lambda v: v.update(unit="word"), "says another thing about parts/0"),
    ],
)
def test_a_description_that_is_wrong(tmp_path: Path, change: Any, message: str) -> None:
    _, larger = extended(tmp_path, KINDS["lora"])
    edit_json(larger / "nertune.json", change)
    with pytest.raises(ArtifactError, match=message):
        Predictor.load(larger)


def test_what_needs_one_model_refuses_several(tmp_path: Path) -> None:
    """Readers of earlier versions refuse format 3; here whatever takes one model says which."""
    _, larger = extended(tmp_path, KINDS["lora"])
    assert json.loads((larger / "nertune.json").read_text())["format"] == 3
    with pytest.raises(ArtifactError, match=r"name .*parts/0 \(LOCATION, PERSON\) or .*parts/1"):
        parse_manifest(larger / "nertune.json")
    start = new_part(tmp_path / "start", model={"tuning": "lora", "start_from": str(larger)})
    with pytest.raises(ArtifactError, match="was extended"):
        nertune.train(start)
    for backend in ("onnx", "onnx-int8"):
        with pytest.raises(ArtifactError, match="parts/0: was not exported"):
            Predictor.load(larger, backend=backend)  # type: ignore[arg-type]
    for form in ("onnx", "transformers"):
        refused = run("export", larger, "--to", form)
        assert refused.code == 2
        assert "was extended" in refused.error
    refused = run("predict", larger, "--abstain", "0.5", "--format", "jsonl", "王")
    assert "it cannot abstain" in refused.error
    with pytest.raises(ArtifactError, match="is a part of the extended model"):
        save_calibration(larger / "parts" / "1", Calibration())
    data = write_jsonl(tmp_path / "data.jsonl")
    for place in (larger, larger / "parts" / "1"):
        refused = run("calibrate", place, data)
        assert "calibrate a model before it is extended" in refused.error
        assert "not calibrated" not in refused.stderr  # before anything is computed
    predictor = Predictor.load(larger)
    for name in ("tagger", "segmenter", "tagset"):
        with pytest.raises(ModelError, match="has 2 parts"):
            getattr(predictor, name)
    with pytest.raises(ModelError, match="has 2 parts"):
        predictor.emissions(SENTENCES)


def test_what_cannot_be_extended(tmp_path: Path) -> None:
    lstm = make_model(tmp_path / "lstm", OLD, {"model": {"emitter": "lstm"}})
    settings = new_part(tmp_path / "new")
    with pytest.raises(ConfigError, match="is a BiLSTM"):
        extend(Extension(str(lstm)), settings)
    with pytest.raises(ConfigError, match="nor of a model that nertune"):
        extend(Extension(str(tiny_bert())), settings)
    _, larger = extended(tmp_path / "x", KINDS["lora"])
    with pytest.raises(ConfigError, match="is one part of the extended model"):
        extend(Extension(str(larger / "parts" / "1")), settings)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"tuning": "full"}}, "trains all of the encoder's weights"),
        ({"model": {"tuning": "top"}}, "trains weights of the encoder"),
        ({"model": {"tuning": "bitfit"}}, "trains biases"),
        ({"model": {"emitter": "lstm"}}, "is an encoder"),
        ({"model": {"tuning": "lora", "start_from": "x"}}, "leave model.start_from out"),
        ({"model": {"tuning": "lora", "unit": "word"}}, "leave model.unit out"),
    ],
)
def test_settings_that_do_not_fit(
    tmp_path: Path, sections: Mapping[str, Mapping[str, Any]], message: str
) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"])
    with pytest.raises(ConfigError, match=message):
        extend(Extension(str(model)), new_part(tmp_path / "new", "full", **sections))
    assert not (tmp_path / "new" / "run").exists()


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"])
    other = new_part(tmp_path / "a", model={"tuning": "lora", "encoder": str(tiny_bert(seed=1))})
    with pytest.raises(ConfigError, match="shares the encoder of"):
        extend(Extension(str(model)), other)
    same = tmp_path / "copy"
    shutil.copytree(tiny_bert(), same)
    copied = new_part(tmp_path / "b", model={"tuning": "lora", "encoder": str(same)})
    extend(Extension(str(model)), copied)


def test_labels_that_clash(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"])
    settings = new_part(tmp_path / "new")
    with pytest.raises(ConfigError, match="finds PERSON already"):
        extend(Extension(str(model), ("TIME", "PERSON")), settings)
    with pytest.raises(ConfigError, match="did you mean TIME"):
        extend(Extension(str(model), ("TIMES",)), settings)
    known = make_model(tmp_path / "all", (*OLD, *NEW), KINDS["lora"])
    with pytest.raises(ConfigError, match="has no label that"):
        extend(Extension(str(known)), settings)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"])
    with logged() as lines:
        record = extend(Extension(str(model), ("TIME",)), new_part(tmp_path / "new"))
    told = "  left out of what the new part learns: 5 LOCATION, 3 ORGANIZATION, 6 PERSON"
    assert told in lines
    assert record["labels"] == {"old": [*OLD], "new": ["TIME"]}
    assert record["data"]["train"]["entities"] == 3
    assert Predictor.load(tmp_path / "new" / "run").labels == (*OLD, "TIME")


def test_a_scope_loses_the_old_labels(tmp_path: Path) -> None:
    from nertune.semisupervised.extension import _restrict

    document = Document("王在", (Entity(0, 1, "PERSON"),), scope=Scope(("PERSON", "TIME")))
    corpus = nertune.Corpus.from_documents([document])
    (restricted,) = _restrict(corpus, {"TIME"}).documents
    assert restricted == Document("王在", scope=Scope(("TIME",)))


def test_scores_and_sizes_are_reported(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"], seed=3)
    test = write_jsonl(tmp_path / "test.jsonl")
    settings = new_part(tmp_path / "new", data={"test": str(test)})
    record = extend(Extension(str(model)), settings)
    dev = record["dev"]
    assert dev["old"] == dev["old_before"]
    assert dev["old"]["micro"]["support"] == 11
    assert dev["new"]["micro"]["support"] == 6
    assert dev["all"]["micro"]["support"] == 17
    assert record["test"] is None
    part = settings.run.dir / "model" / "parts" / "1"
    files = [part / name for name in (*read_manifest(part).files, "nertune.json")]
    assert record["bytes"]["added"] == sum(file.stat().st_size for file in files)
    assert record["parameters"]["trainable"] < record["parameters"]["total"] / 2
    assert record["compared"]["old_entities"] > 0
    # Then on test, once: the same file here.
    scored = extend(Extension(str(model)), settings, resume=True, score_test=True)
    assert scored["test"] == dev
    assert scored["data"]["test"]["sha256"] == record["data"]["dev"]["sha256"]
    assert extend(Extension(str(model)), settings, resume=True, score_test=True) == scored
    write_jsonl(test, SENTENCES[:4])
    with pytest.raises(CheckpointError, match="was scored on a test file of other content"):
        extend(Extension(str(model)), settings, resume=True, score_test=True)
    card = (settings.run.dir / "model" / "README.md").read_text()
    assert "## Scores on test" in card
    assert "| `parts/1` | ORGANIZATION, TIME |" in card
    assert nertune.evaluate(settings.run.dir, settings.data.dev).to_dict() == dev["all"]


def test_data_with_new_labels_alone(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"], seed=3)
    folder = tmp_path / "new"
    folder.mkdir()
    documents = [d.with_entities(e for e in d.entities if e.label in NEW) for d in SENTENCES]
    write_jsonl(folder / "data.jsonl", documents)
    record = extend(Extension(str(model)), new_part(folder))
    assert record["dev"]["old"] is None
    assert record["dev"]["all"] is None
    assert record["dev"]["new"]["micro"]["support"] == 6
    assert record["compared"]["old_entities"] > 0


def test_an_old_label_that_dev_was_not_labelled_for_is_no_error(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"], seed=3)
    folder = tmp_path / "new"
    folder.mkdir()
    known = (*NEW, "LOCATION")
    documents = [d.with_entities(e for e in d.entities if e.label in known) for d in SENTENCES]
    write_jsonl(folder / "data.jsonl", documents)
    with logged() as told:
        record = extend(Extension(str(model)), new_part(folder))
    assert record["dev"]["old"]["types"].keys() == {"LOCATION"}
    assert record["dev"]["all"]["types"].keys() == set(known)
    assert "dev has no entity of PERSON: what is found of them is not scored" in told
    # A scope that names the label says that there is none.
    scope = Scope((*known, "PERSON"))
    named = [replace(d, scope=scope) for d in documents]
    save_documents(folder / "data.jsonl", named, format="jsonl")
    other = new_part(folder, run={"dir": str(tmp_path / "other")})
    with logged() as told:
        extend(Extension(str(model)), other)
    assert not any("is not scored" in line and "dev has" in line for line in told)


def test_overlaps_are_kept_unless_old_ones_win(tmp_path: Path) -> None:
    _, keeping = extended(tmp_path / "a", KINDS["lora"])
    _, winning = extended(tmp_path / "b", KINDS["lora"], overlap="old-wins")
    kept = entities(Predictor.load(keeping, device="cpu"))
    won = entities(Predictor.load(winning, device="cpu"))
    assert of(kept, OLD) == of(won, OLD)
    left = [
        [e for e in row if e.label in OLD or not any(meet(e, o) for o in row if o.label in OLD)]
        for row in kept
    ]
    assert won == left
    assert 0 < sum(map(len, of(won, NEW))) < sum(map(len, of(kept, NEW)))


def meet(one: Entity, other: Entity) -> bool:
    return one.start < other.end and other.start < one.end


def test_resumes_after_a_kill(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"], seed=3)
    whole = new_part(tmp_path / "whole", train={"epochs": 4, "checkpoint_minutes": 0})
    extend(Extension(str(model)), whole)

    class Killed(Exception):
        pass

    class Kill(nertune.Observer):
        def on_epoch(self, report: Any, *, is_best: bool) -> None:
            if report.epoch == 3:
                raise Killed

    settings = new_part(tmp_path / "new", train={"epochs": 4, "checkpoint_minutes": 0})
    with pytest.raises(Killed):
        extend(Extension(str(model)), settings, observers=[Kill()])
    with pytest.raises(ConfigError, match="--resume"):
        extend(Extension(str(model)), settings)
    extend(Extension(str(model)), settings, resume=True)
    expected = entities(Predictor.load(whole.run.dir, device="cpu"))
    assert entities(Predictor.load(settings.run.dir, device="cpu")) == expected


def test_a_finished_extension(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"], seed=3)
    settings = new_part(tmp_path / "new")
    record = extend(Extension(str(model)), settings)
    with pytest.raises(ConfigError, match="holds a finished run"):
        extend(Extension(str(model)), settings)
    assert extend(Extension(str(model)), settings, resume=True) == record
    with pytest.raises(CheckpointError, match="--overlap"):
        extend(Extension(str(model), overlap="old-wins"), settings, resume=True)
    other = make_model(tmp_path / "other", OLD, KINDS["lora"], seed=4)
    with pytest.raises(CheckpointError, match="the model"):
        extend(Extension(str(other)), settings, resume=True)
    with pytest.raises(ConfigError, match="would be replaced"):
        extend(Extension(str(settings.run.dir)), settings, overwrite=True)
    extend(Extension(str(other)), settings, overwrite=True)
    found = Predictor.load(settings.run.dir, device="cpu")
    assert of(entities(found), OLD) == entities(Predictor.load(other, device="cpu"))


def test_a_kill_between_training_and_writing(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"], seed=3)
    settings = new_part(tmp_path / "new")
    record = extend(Extension(str(model)), settings)
    (settings.run.dir / "record.json").unlink()
    shutil.rmtree(settings.run.dir / "model")
    with pytest.raises(ConfigError, match="unfinished extension; use --resume"):
        extend(Extension(str(model)), settings)
    again = extend(Extension(str(model)), settings, resume=True)
    assert again["dev"] == record["dev"]


def test_an_answer_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can make them differ but a fault: here the file of a part, exchanged as it loads."""
    from nertune.inference import predictor

    model = make_model(tmp_path / "old", OLD, KINDS["lora"], seed=3)
    other = make_model(tmp_path / "other", OLD, KINDS["lora"], seed=4)
    load = predictor.load_model

    def exchanged(name: Any, **options: Any) -> Predictor:
        is_part = str(name).endswith("parts/0")
        return load(other if is_part else name, **options)

    monkeypatch.setattr(predictor, "load_model", exchanged)
    settings = new_part(tmp_path / "new")
    with pytest.raises(ArtifactError, match="would answer otherwise"):
        extend(Extension(str(model)), settings)
    assert not (settings.run.dir / "model").exists()
    assert not (settings.run.dir / "record.json").exists()
    assert not [*settings.run.dir.glob(".model-*")]


def test_the_command(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"], seed=3)
    data = write_jsonl(tmp_path / "data.jsonl")
    recipe = tmp_path / "new.toml"
    recipe.write_text(
        f'[data]\ntrain = "{data}"\ndev = "{data}"\n[model]\ntuning = "lora"\n'
        f'[run]\ndir = "{tmp_path}/larger"\ndevice = "cpu"\n[train]\nepochs = 1\n'
    )
    done = run("extend", model, recipe)
    assert done.code == 0, done.stderr
    assert "extended by ORGANIZATION, TIME" in done.stdout
    assert "all the same to the last bit" in done.stdout
    before = run("predict", model, SENTENCES[0].text, "--format", "jsonl", "--device", "cpu")
    after = run("predict", tmp_path / "larger", SENTENCES[0].text, "--format", "jsonl",
                "--device", "cpu")  # fmt: skip
    old = [e for e in json.loads(after.stdout)["entities"] if e["label"] in OLD]
    assert old == json.loads(before.stdout)["entities"]
    scored = run("evaluate", tmp_path / "larger", data, "--json", "--device", "cpu")
    assert sorted(json.loads(scored.stdout)["types"]) == sorted((*OLD, *NEW))
    assert run("extend", model, recipe, "--resume").code == 0
    tested = run("extend", model, recipe, "--resume", "--test", "--set", f"data.test={data}")
    assert tested.code == 0, tested.stderr
    assert f"test: {data}" in tested.stdout.replace("\n", "")
    assert "expected keep or old-wins" in run("extend", model, recipe, "--overlap", "x").error
    inspected = run("data", "inspect", data, "--model", tmp_path / "larger")
    assert "every entity can be expressed" in inspected.stdout, inspected.error


def test_a_flat_format_says_what_it_cannot_hold(tmp_path: Path) -> None:
    _, larger = extended(tmp_path, KINDS["lora"])
    data = write_jsonl(tmp_path / "data.jsonl")
    flat = run("predict", larger, "--file", data, "--format", "conll", "--device", "cpu")
    assert flat.code == 0
    assert "overlap others, which format conll cannot hold" in flat.stderr


@pytest.mark.parametrize("kind", ["lora", "lora-crf", "full", "ia3"])
def test_served_answers_are_the_same_to_the_bit(tmp_path: Path, kind: str) -> None:
    """Beside another model, and with a new part of a larger rank and more tags."""
    model, larger = extended(tmp_path, KINDS[kind], "frozen" if kind == "lora" else "lora-crf")
    other = make_model(tmp_path / "other", ("LAW",), KINDS["lora"], seed=9)
    asked = ["model", "other"] * len(TEXTS)
    documents = [d for d in TEXTS for _ in range(2)]
    answers = []
    for folder in (model, larger):
        served = MultiPredictor.load(None, {"model": folder, "other": other}, device="cpu")
        answers.append([[*d.entities] for d in served.tag(documents, asked)])  # type: ignore[union-attr]
    before, after = answers
    assert of(after, (*OLD, "LAW")) == before
    assert any(of(before, OLD))
    new = of(after, NEW)
    assert any(new)
    assert not any(new[1::2])
    told = served.describe("model")
    assert told.labels == (*OLD, *NEW)
    assert told.method == "extended"
    one, other_part = (Predictor.load(larger / f"parts/{n}").segmenter for n in (0, 1))
    expected = sum(len(w.piece_ids) for s in (one, other_part) for w in s.segment(LONG)[1])
    assert served.count_tokens(LONG, "model") == expected
    served.add("model", model)
    assert served.describe("model").labels == OLD


def test_from_the_hub_all_files_of_the_parts_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's cache without a connection, as in tests/models/test_hub.py."""
    _, larger = extended(tmp_path, KINDS["full-crf"], "frozen")
    revision = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "cache" / "models--somebody--larger"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(revision)
    snapshot = Path(shutil.copytree(larger, repo / "snapshots" / revision))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_not_ours", set())
    fetched: set[str] = set()
    fetch = hub._fetch

    def noted(name: str, file: str, revision: str) -> None:
        fetched.add(file)
        fetch(name, file, revision)

    monkeypatch.setattr(hub, "_fetch", noted)
    found = entities(Predictor.load("somebody/larger", device="cpu"))
    assert found == entities(Predictor.load(larger, device="cpu"))
    there = {str(f.relative_to(larger)) for f in larger.rglob("*") if f.is_file()}
    cards = {name for name in there if name.endswith("README.md")}
    assert fetched == there - cards - {"nertune.json"}
    (snapshot / "parts" / "1" / "head.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"parts/1/head.safetensors, .* cannot be fetched"):
        Predictor.load("somebody/larger")


def test_parts_are_calibrated_each_as_it_was(tmp_path: Path) -> None:
    model = make_model(tmp_path / "old", OLD, KINDS["lora"], seed=3)
    raw = entities(Predictor.load(model, device="cpu"))
    save_calibration(model, Calibration(temperature=2.5, bias=-1.0))
    larger = join(tmp_path / "new", model, NEW, "lora-crf")
    new = entities(Predictor.load(larger.parent / "part", device="cpu"))
    expected = entities(Predictor.load(model, device="cpu"))
    after = Predictor.load(larger, device="cpu")
    found = entities(after)
    assert after.is_calibrated
    assert of(found, OLD) == expected != raw
    assert of(found, NEW) == new
    served = MultiPredictor.load(None, {"model": larger}, device="cpu").tag(TEXTS, "model")
    scores = [[e.score for d in part for e in d] for part in (found, [d.entities for d in served])]  # type: ignore[union-attr]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_how_files_are_read(tmp_path: Path) -> None:
    """As all parts were trained, where they agree."""
    _, larger = extended(tmp_path, KINDS["lora"])
    assert parse_extended(larger / "nertune.json") == find_parts(larger).extended
    for number, offsets in enumerate(("utf16", "codepoint")):
        described = {"join": "none", "offsets": offsets}
        edit_json(
            larger / "parts" / str(number) / "nertune.json",
            lambda values, described=described: values["data"].update(train=described),
        )
    read = trained_reading(str(larger))
    assert (read.join, read.offsets, read.scheme) == ("none", "auto", "auto")
