"""Models come and go while others are used, and what fails, fails alone."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from helpers.mixed import MIXED, PEOPLE, make_model
from helpers.tiny import SENTENCES, tiny_bert
from nertune.artifacts.manifest import MANIFEST, manifest_text, parse_manifest
from nertune.artifacts.save import save_calibration
from nertune.errors import ArtifactError, ModelError, NertuneError, NotFiniteError
from nertune.inference.mixed import MultiPredictor
from nertune.inference.predictor import Predictor
from nertune.models.heads.calibration import Calibration
from nertune.storage.files import hash_file
from nertune.types import Document, Scope

TEXTS = tuple(d.text for d in SENTENCES)
LORA = {"model": {"tuning": "lora"}}


def keys(found: Sequence[Document | NertuneError]) -> list[Any]:
    return [[e.key for e in f.entities] if isinstance(f, Document) else f for f in found]


def assert_close(one: Document | NertuneError, other: Document, *, within: float = 1e-5) -> None:
    assert isinstance(one, Document), one
    assert [e.key for e in one.entities] == [e.key for e in other.entities]
    for a, b in zip(one.entities, other.entities, strict=True):
        assert a.score == pytest.approx(b.score, abs=within)


@pytest.fixture(scope="module")
def predictors(mixed: Mapping[str, Path]) -> dict[str, Predictor]:
    return {name: Predictor.load(folder, device="cpu") for name, folder in mixed.items()}


@pytest.fixture(scope="module")
def few_slots(base: Path, mixed: Mapping[str, Path]) -> MultiPredictor:
    """Of seven models six have an adapter, and two fit in memory."""
    return MultiPredictor.load(base, mixed, device="cpu", slots=2)


TEXT = st.one_of(st.sampled_from(TEXTS), st.text("王小明京北 .,aNew大学\n", max_size=90))


@settings(max_examples=30)
@given(jobs=st.lists(st.tuples(st.sampled_from(list(MIXED)), TEXT), max_size=14))
def test_any_batch_gives_what_each_model_finds_alone(
    few_slots: MultiPredictor, predictors: Mapping[str, Predictor], jobs: list[tuple[str, str]]
) -> None:
    documents = [Document(text, id=str(i)) for i, (_, text) in enumerate(jobs)]
    found = few_slots.tag(documents, [name for name, _ in jobs])
    for one, document, (name, _) in zip(found, documents, jobs, strict=True):
        # A plain predictor differs from itself by 1.6e-5 between batches of such random texts.
        assert_close(one, next(predictors[name].tag_documents([document])), within=5e-5)
        assert isinstance(one, Document)
        assert one.id == document.id


def test_counted_tokens_are_those_of_the_windows(
    few_slots: MultiPredictor, predictors: Mapping[str, Predictor]
) -> None:
    document = Document("".join(TEXTS) * 2)
    for name, predictor in predictors.items():
        _, windows = predictor.segmenter.segment(document)
        assert few_slots.count_tokens(document, name) == sum(len(w.piece_ids) for w in windows)
        assert_close(few_slots.tag([document], name)[0], predictor.tag(document.text))
    with pytest.raises(ModelError, match="no model is named 'other'"):
        few_slots.count_tokens(document, "other")


def test_a_wrong_name_is_an_error_in_its_place(
    few_slots: MultiPredictor, predictors: Mapping[str, Predictor]
) -> None:
    found = few_slots.tag([SENTENCES[0]] * 3, ["plain", "plian", "crf"])
    assert_close(found[0], predictors["plain"].tag(SENTENCES[0].text))
    assert_close(found[2], predictors["crf"].tag(SENTENCES[0].text))
    assert "no model is named 'plian'; there are plain, crf" in str(found[1])
    with pytest.raises(ValueError, match="2 names of models for 1 documents"):
        few_slots.tag([SENTENCES[0]], ["plain", "crf"])
    with pytest.raises(ModelError, match="no model is named 'plian'"):
        few_slots.describe("plian")


def test_models_come_and_go(base: Path, mixed: Mapping[str, Path]) -> None:
    served = MultiPredictor.load(base, {"a": mixed["plain"], "b": mixed["crf"]}, device="cpu")
    wanted = {n: keys([Predictor.load(mixed[n]).tag(t) for t in TEXTS]) for n in MIXED}
    served.add("c", mixed["io"])
    assert served.names == ("a", "b", "c")
    assert keys(served.tag(SENTENCES, "c")) == wanted["io"]
    served.remove("a")
    assert served.names == ("b", "c")
    assert all(isinstance(found, ModelError) for found in served.tag(SENTENCES, "a"))
    served.add("b", mixed["many"])  # in the place of another
    assert set(served.describe("b").labels) == set(MIXED["many"][0])
    assert keys(served.tag(SENTENCES, "b")) == wanted["many"]
    with pytest.raises(ModelError, match="no model is named 'a'"):
        served.remove("a")


@pytest.mark.timeout(120)
def test_models_may_come_and_go_while_others_are_used(
    base: Path, mixed: Mapping[str, Path], predictors: Mapping[str, Predictor]
) -> None:
    served = MultiPredictor.load(
        base, {n: mixed[n] for n in ("plain", "crf", "io")}, device="cpu", slots=2
    )
    wanted = {name: keys([predictors[name].tag(t) for t in TEXTS]) for name in MIXED}
    stop = threading.Event()
    wrong: list[Any] = []

    def use(names: list[str]) -> None:
        while True:
            found = {name: keys(served.tag(SENTENCES, name)) for name in names}
            wrong.extend((n, answers) for n, answers in found.items() if answers != wanted[n])
            if stop.is_set():
                return

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(use, names) for names in (["plain", "crf"], ["io"])]
        try:
            for _ in range(4):
                for name in ("many", "rslora", "adalora", "frozen"):
                    served.add(name, mixed[name])
                    assert keys(served.tag(SENTENCES, name)) == wanted[name]
                for name in ("adalora", "many", "rslora", "frozen"):
                    served.remove(name)
        finally:
            stop.set()
        for one in asked:
            one.result()
    assert not wrong


def test_a_model_whose_folder_goes_fails_alone(
    base: Path, mixed: Mapping[str, Path], tmp_path: Path
) -> None:
    """In memory it goes on; dropped from there, it is refused by name."""
    for name in ("plain", "crf", "io"):
        shutil.copytree(mixed[name], tmp_path / name)
    served = MultiPredictor.load(
        base, {n: tmp_path / n for n in ("plain", "crf", "io")}, device="cpu", slots=1
    )
    before = keys(served.tag(SENTENCES, "plain"))
    shutil.rmtree(tmp_path / "plain")
    assert keys(served.tag(SENTENCES, "plain")) == before
    found = served.tag([SENTENCES[0]] * 3, ["crf", "io", "crf"])
    assert all(isinstance(one, Document) for one in found)
    found = served.tag([SENTENCES[0]] * 3, ["crf", "plain", "crf"])
    assert isinstance(found[1], ArtifactError)
    assert str(tmp_path / "plain") in str(found[1])
    assert isinstance(found[0], Document)
    assert isinstance(found[2], Document)


def test_another_model_in_the_same_folder_is_not_taken_for_it(
    base: Path, mixed: Mapping[str, Path], tmp_path: Path
) -> None:
    for name in ("plain", "io"):
        shutil.copytree(mixed[name], tmp_path / name)
    served = MultiPredictor.load(
        base, {n: tmp_path / n for n in ("plain", "io")}, device="cpu", slots=1
    )
    shutil.rmtree(tmp_path / "plain")
    shutil.copytree(mixed["crf"], tmp_path / "plain")
    found = served.tag([SENTENCES[0]] * 2, ["io", "plain"])
    assert isinstance(found[0], Document)
    assert "holds another model than the one that was loaded" in str(found[1])
    served.add("plain", tmp_path / "plain")
    wanted = keys([Predictor.load(mixed["crf"]).tag(t) for t in TEXTS])
    assert keys(served.tag(SENTENCES, "plain")) == wanted


CALIBRATIONS = {
    "cool": Calibration(temperature=3.0, slope=0.7, bias=-0.5, labels={"PERSON": 0.4}),
    "warm": Calibration(temperature=0.6, slope=1.5, bias=0.3, length=0.2),
    "none": None,
}


def calibrated(folder: Path, mixed: Mapping[str, Path]) -> dict[str, Path]:
    """Copies of one adapter, whose scores differ."""
    for name, calibration in CALIBRATIONS.items():
        shutil.copytree(mixed["plain"], folder / name)
        if calibration is not None:
            save_calibration(folder / name, calibration)
    return {name: folder / name for name in CALIBRATIONS}


def test_each_row_of_a_batch_is_calibrated_as_its_model_is(
    base: Path, mixed: Mapping[str, Path], tmp_path: Path
) -> None:
    folders = calibrated(tmp_path, mixed)
    served = MultiPredictor.load(base, folders, device="cpu")
    assert all(served.describe(name).mixes for name in folders)
    names = [*folders] * len(SENTENCES)
    documents = [document for document in SENTENCES for _ in folders]
    found = served.tag(documents, names)
    alone = {name: Predictor.load(folder, device="cpu") for name, folder in folders.items()}
    for one, document, name in zip(found, documents, names, strict=True):
        # A slope and a temperature that sharpen multiply what rounding makes, here by 2.5.
        assert_close(one, next(alone[name].tag_documents([document])), within=5e-5)
    scores = {
        name: [e.score for d, n in zip(found, names, strict=True) if n == name for e in d.entities]  # type: ignore[union-attr]
        for name in folders
    }
    assert len(scores["none"]) > 5
    assert scores["none"] != pytest.approx(scores["cool"], abs=0.01)
    assert scores["cool"] != pytest.approx(scores["warm"], abs=0.01)


def test_a_model_that_was_calibrated_again_is_loaded_again(
    base: Path, mixed: Mapping[str, Path], tmp_path: Path
) -> None:
    """The weights are the same, but its scores would be others in the midst of a service."""
    folders = calibrated(tmp_path, mixed)
    served = MultiPredictor.load(base, folders, device="cpu", slots=1)
    save_calibration(folders["cool"], Calibration(temperature=2.0))
    found = served.tag([SENTENCES[0]] * 2, ["warm", "cool"])
    assert isinstance(found[0], Document)
    assert "holds another model than the one that was loaded" in str(found[1])
    served.add("cool", folders["cool"])
    again = Predictor.load(folders["cool"], device="cpu")
    assert_close(served.tag(SENTENCES, "cool")[0], again.tag(TEXTS[0]))


def test_what_the_gold_says_of_a_text_is_not_in_the_answer(
    base: Path, mixed: Mapping[str, Path]
) -> None:
    """Its scope is that of other entities; nor did this model abstain."""
    meta = {"source": "news", "abstained": True, "confidence": 0.1}
    document = Document(TEXTS[0], id="a", meta=meta, scope=Scope(("LAW",)))
    (found,) = MultiPredictor.load(base, {"plain": mixed["plain"]}, device="cpu").tag(
        [document], "plain"
    )
    expected = Predictor.load(mixed["plain"], device="cpu").tag(TEXTS[0])
    assert_close(found, expected)
    assert isinstance(found, Document)
    assert (found.scope, found.meta, found.id) == (Scope(), {"source": "news"}, "a")
    for tagged in (
        next(Predictor.load(mixed["plain"], device="cpu").tag_documents([document])),
        next(Predictor.load(mixed["plain"], device="cpu").tag_sentences([document])),
    ):
        assert (tagged.scope, tagged.meta) == (Scope(), {"source": "news"})


def rewrite(folder: Path, change: Any) -> None:
    """Change an adapter's weights, and the hash that the manifest has of them."""
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    manifest = parse_manifest(folder / MANIFEST)
    files = {**manifest.files, path.name: hash_file(path)}
    text = manifest_text(manifest.model_copy(update={"files": files}))
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def test_logits_that_are_not_finite_are_said_of_their_own_texts(
    base: Path, mixed: Mapping[str, Path], tmp_path: Path, predictors: Mapping[str, Predictor]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(mixed["plain"], broken)
    rewrite(broken, lambda w: [t.fill_(3e38) for k, t in w.items() if "classifier.bias" in k])
    models = {"plain": mixed["plain"], "broken": broken, "crf": mixed["crf"]}
    rewrite(broken, lambda w: [t.fill_(1e38) for k, t in w.items() if "classifier.weight" in k])
    served = MultiPredictor.load(base, models, device="cpu")
    names = ["plain", "broken", "crf", "broken"]
    found = served.tag(SENTENCES[:4], names)
    for one, document, name in zip(found, SENTENCES, names, strict=False):
        if name == "broken":
            assert isinstance(one, NotFiniteError)
            assert "broken" in str(one)
        else:
            assert_close(one, predictors[name].tag(document.text))


def test_a_text_that_cannot_be_computed_fails_alone(
    base: Path,
    mixed: Mapping[str, Path],
    predictors: Mapping[str, Predictor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = MultiPredictor.load(base, {n: mixed[n] for n in ("plain", "crf")}, device="cpu")
    encoder = served._reader.base
    assert encoder is not None
    logits, poisoned = encoder.logits, SENTENCES[4]
    _, (window,) = predictors["plain"].segmenter.segment(poisoned)

    def fail(ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if any(row[: len(window.piece_ids)] == window.piece_ids for row in ids.tolist()):
            raise RuntimeError("secret text")
        return logits(ids, *rest)

    monkeypatch.setattr(encoder, "logits", fail)
    found = served.tag(SENTENCES, ["plain", "crf"] * 4)
    for i, (one, document) in enumerate(zip(found, SENTENCES, strict=True)):
        if document is poisoned:
            assert isinstance(one, ModelError)
            assert "plain: could not tag this text (RuntimeError)" in str(one)
        else:
            assert_close(one, predictors[["plain", "crf"][i % 2]].tag(document.text))


def drop_one(weights: dict[str, torch.Tensor]) -> None:
    del weights[next(key for key in weights if "lora_A" in key)]


def drop_module(weights: dict[str, torch.Tensor]) -> None:
    name = next(key for key in weights if "lora_A" in key).removesuffix(".lora_A.weight")
    for key in [key for key in weights if key.startswith(name)]:
        del weights[key]


def drop_head(weights: dict[str, torch.Tensor]) -> None:
    del weights["base_model.model.classifier.bias"]


def add_module(weights: dict[str, torch.Tensor]) -> None:
    key = next(key for key in weights if "query.lora_A" in key)
    other = key.replace("attention.self.query", "attention.output.dense")
    weights[other] = weights[key].clone()
    weights[other.replace("lora_A", "lora_B")] = torch.zeros(32, 8)


def spoil(weights: dict[str, torch.Tensor]) -> None:
    next(tensor for key, tensor in weights.items() if "query.lora_B" in key)[0, 0] = float("nan")


def shrink(weights: dict[str, torch.Tensor]) -> None:
    for key in [key for key in weights if "query.lora_A" in key]:
        weights[key] = weights[key][:3].clone()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_one, "are not complete"),
        (drop_module, "lacks the matrices of 1 modules"),
        (drop_head, "lacks 1 parameters of this tagger: classifier.bias"),
        (add_module, "holds matrices of 1 modules that its config does not name"),
        (spoil, r"query\.lora_B\.weight holds NaN or infinity"),
        (shrink, r"have the shapes \(3, 32\) and \(32, 8\), expected \(8, 32\) and \(32, 8\)"),
    ],
)
def test_a_damaged_folder_is_refused(
    base: Path, mixed: Mapping[str, Path], tmp_path: Path, change: Any, message: str
) -> None:
    served = MultiPredictor.load(base, {"crf": mixed["crf"]}, device="cpu")
    shutil.copytree(mixed["plain"], tmp_path / "plain")
    rewrite(tmp_path / "plain", change)
    with pytest.raises(ArtifactError, match=message):
        served.add("plain", tmp_path / "plain")
    assert served.names == ("crf",)
    assert isinstance(served.tag(SENTENCES, "crf")[0], Document)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("weights", "its sha256 differs"),
        ("config", "its sha256 differs"),
        ("manifest", "cannot be read"),
        ("missing", "no such folder"),
    ],
)
def test_a_damaged_file_is_refused(
    base: Path, mixed: Mapping[str, Path], tmp_path: Path, damage: str, message: str
) -> None:
    folder = tmp_path / "plain"
    if damage != "missing":
        shutil.copytree(mixed["plain"], folder)
        file = {"weights": "adapter_model.safetensors", "config": "adapter_config.json"}
        path = folder / file.get(damage, MANIFEST)
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError, match=message):
        MultiPredictor.load(base, {"plain": folder}, device="cpu")


def test_a_setting_that_is_not_known_is_not_passed_over(
    base: Path, mixed: Mapping[str, Path], tmp_path: Path
) -> None:
    """peft, which knows it, finds that its weights are missing."""
    folder = tmp_path / "plain"
    shutil.copytree(mixed["plain"], folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"lora_bias": True}
    path.write_text(json.dumps(config), encoding="utf-8")
    manifest = parse_manifest(folder / MANIFEST)
    files = {**manifest.files, path.name: hash_file(path)}
    text = manifest_text(manifest.model_copy(update={"files": files}))
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"lacks 10 parameters .*lora_B\.bias"):
        MultiPredictor.load(base, {"plain": folder}, device="cpu")


def test_an_adapter_of_another_base_computes_on_its_own(
    base: Path, mixed: Mapping[str, Path], tmp_path: Path
) -> None:
    sections = {"model": {"tuning": "lora", "encoder": str(tiny_bert(seed=5))}}
    other = make_model(tmp_path / "other", PEOPLE, sections)
    served = MultiPredictor.load(base, {"plain": mixed["plain"], "other": other}, device="cpu")
    told = served.describe("other")
    assert not told.mixes
    assert "its base encoder" in told.why_not
    found = served.tag(SENTENCES, ["other", "plain"] * 4)
    alone = {n: Predictor.load(f) for n, f in (("plain", mixed["plain"]), ("other", other))}
    for i, (one, document) in enumerate(zip(found, SENTENCES, strict=True)):
        assert_close(one, alone[["other", "plain"][i % 2]].tag(document.text))


def test_the_bare_base_with_its_own_head_mixes(tmp_path: Path) -> None:
    """Adapters that were trained on a tagger share batches with that tagger."""
    base = make_model(tmp_path / "base", PEOPLE, {}, seed=3)
    sections = {"model": {"tuning": "lora", "encoder": str(base)}}
    adapter = make_model(tmp_path / "adapter", ("LAW",), sections, seed=4)
    served = MultiPredictor.load(None, {"base": base, "law": adapter}, device="cpu")
    assert served.names == ("base", "law")
    assert [served.describe(n).method for n in served.names] == ["base", "lora"]
    assert all(served.describe(n).mixes for n in served.names)
    found = served.tag(SENTENCES, ["base", "law"] * 4)
    alone = {"base": Predictor.load(base), "law": Predictor.load(adapter)}
    for i, (one, document) in enumerate(zip(found, SENTENCES, strict=True)):
        assert_close(one, alone[["base", "law"][i % 2]].tag(document.text))


def test_a_base_that_moved_is_named(mixed: Mapping[str, Path], tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny_bert(), moved)
    served = MultiPredictor.load(moved, {"plain": mixed["plain"]}, device="cpu")
    assert served.describe("plain").mixes
    wanted = keys([Predictor.load(mixed["plain"]).tag(t) for t in TEXTS])
    assert keys(served.tag(SENTENCES, "plain")) == wanted
    with pytest.raises(ModelError, match="no such folder"):
        MultiPredictor.load(tmp_path / "not-there", {"plain": mixed["plain"]}, device="cpu")


def test_slots_are_one_or_more(base: Path, mixed: Mapping[str, Path]) -> None:
    with pytest.raises(ModelError, match="slots = 0"):
        MultiPredictor.load(base, mixed, device="cpu", slots=0)
