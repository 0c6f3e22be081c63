"""A head of somebody else's: one class and one line, and every command works with it.

The head below finds entities that overlap: for each label it decides by itself where that label's
entities are. It is the example of `nertune.models.heads.base`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.commands import run
from helpers.tiny import SENTENCES, make_settings, tiny_rates, write_jsonl
from nertune.config.heads import HEAD_ENTRY_POINTS, HEAD_NAMES
from nertune.errors import ConfigError, NertuneError
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor
from nertune.labels.align import UNKNOWN, LostEntity, align_entities
from nertune.labels.schemes import TokenSpan
from nertune.labels.tagset import TagSet
from nertune.models.build import build_tagger
from nertune.models.heads import base
from nertune.models.heads.base import Head, Targets, build_head, register_head
from nertune.models.heads.decoder import ScoreArrays
from nertune.models.heads.transfer import read_head_weights
from nertune.types import Document, Entity


class LayeredHead(nn.Module, Head):
    """A yes or no for every tag of every unit, so that entities of different labels may overlap."""

    def __init__(self, tagset: TagSet):
        super().__init__()
        self.tagset = tagset
        self.bias_K = nn.Parameter(torch.zeros(len(tagset)))

    def targets(self, document: Document, units: Sequence[tuple[int, int]]) -> Targets:
        """`[U, K]`, 1 where a unit has the tag."""
        values_UK = np.zeros((len(units), len(self.tagset)), dtype=np.int64)
        lost: list[LostEntity] = []
        trimmed: list[LostEntity] = []
        for label in self.tagset.labels:
            entities = [e for e in document.entities if e.label == label]
            alignment = align_entities(document.with_entities(entities), units)
            for unit, tag in enumerate(alignment.tags):
                if tag is None:
                    values_UK[unit] = UNKNOWN
                elif tag != "O":
                    values_UK[unit, self.tagset.tags.index(tag)] = 1
            lost += alignment.lost
            trimmed += alignment.trimmed
        return Targets(values_UK, lost, trimmed)

    def loss(self, logits_BUK: Tensor, targets_BU: Tensor, mask_BU: Tensor, *_: Tensor) -> Tensor:
        """Binary cross-entropy, summed over the tags of known units."""
        known_BUK = mask_BU.unsqueeze(2) & (targets_BU != UNKNOWN)
        return functional.binary_cross_entropy_with_logits(
            (logits_BUK.float() + self.bias_K)[known_BUK],
            targets_BU[known_BUK].float(),
            reduction="sum",
        )

    def scores(self, logits_BUK: Tensor) -> Tensor:
        """Log-probabilities of the tags, each on its own."""
        return functional.logsigmoid(logits_BUK.float() + self.bias_K)

    def spans(self, scores: ScoreArrays) -> list[list[TokenSpan]]:
        """For each label where its `B-` is likelier than not, and on while its `I-` is."""
        return [sorted(self._find(np.exp(scores_UK) > 0.5)) for scores_UK in scores]

    def _find(self, is_on_UK: np.ndarray) -> Iterator[TokenSpan]:
        for label in self.tagset.labels:
            begin, inside = (self.tagset.tags.index(f"{p}-{label}") for p in "BI")
            for first in np.flatnonzero(is_on_UK[:, begin]):
                last = int(first) + 1
                while last < len(is_on_UK) and is_on_UK[last, inside]:
                    last += 1
                yield TokenSpan(int(first), last, label)

    def probabilities(
        self, scores: ScoreArrays, spans: Sequence[Sequence[TokenSpan]]
    ) -> list[list[float]]:
        """That of the span's tags, as if they were independent."""
        return [
            [float(np.exp(self._log_probability(scores_UK, span))) for span in found]
            for scores_UK, found in zip(scores, spans, strict=True)
        ]

    def _log_probability(self, scores_UK: np.ndarray, span: TokenSpan) -> float:
        begin, inside = (self.tagset.tags.index(f"{p}-{span.label}") for p in "BI")
        own = scores_UK[span.first, begin] + scores_UK[span.first + 1 : span.last, inside].sum()
        return float(min(own, 0.0))


NESTED = [
    Document("陈先生去香港大学了。", (Entity(4, 6, "LOCATION"), Entity(4, 8, "ORGANIZATION"))),
    Document("北京大学很大。", (Entity(0, 2, "LOCATION"), Entity(0, 4, "ORGANIZATION"))),
    *SENTENCES,
]


@pytest.fixture
def layered() -> Iterator[str]:
    register_head("layered", LayeredHead)
    yield "layered"
    base._HEADS.pop("layered")
    HEAD_NAMES.discard("layered")


def keys(documents: Sequence[Document]) -> list[list[tuple[int, int, str]]]:
    return [sorted(e.key for e in document.entities) for document in documents]


def test_every_command_works_with_it(layered: str, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl", NESTED)
    settings = make_settings(tmp_path, "full", {
        "model": {"decoder": layered},
        "train": {"epochs": 100, "patience": 0, "batch_tokens": 250, **tiny_rates(0.02, {})},
    })  # fmt: skip
    record = train(settings)
    f1 = record["dev"]["micro"]["f1"]
    assert f1 > 0.9
    model = settings.run.dir / "model"
    assert (model / "layered.safetensors").is_file()
    assert "layered" in (model / "README.md").read_text(encoding="utf-8")

    predictor = Predictor.load(model, device="cpu")
    found = list(predictor.tag_documents(NESTED))
    assert {*keys(found)[0]} >= {*keys(NESTED)[0]}  # both of two overlapping entities
    assert all(0 < (e.score or 0) <= 1 for document in found for e in document.entities)

    shown = run("evaluate", model, data, "--json")
    assert shown.code == 0, shown.stderr
    assert json.loads(shown.stdout)["micro"]["f1"] == f1
    shown = run("data", "inspect", data, "--model", model)
    assert shown.code == 0, shown.stderr
    assert "which was kept" not in shown.stdout  # nothing overlapping is lost with this head

    shown = run("predict", model, NESTED[0].text, "--format", "jsonl")
    written = [(e["start"], e["end"], e["label"]) for e in json.loads(shown.stdout)["entities"]]
    assert sorted(written) == keys(found)[0]
    shown = run("predict", model, NESTED[0].text, "--format", "conll")
    assert "entities overlap others, which format conll cannot hold" in shown.stderr
    shown = run("predict", model, NESTED[0].text)
    assert "[[香港](LOCATION" in shown.stdout, shown.stdout

    pytest.importorskip("onnxruntime")
    shown = run("export", model, "--to", "onnx", "--dev", data)
    assert shown.code == 0, shown.stderr
    exported = Predictor.load(model, device="cpu", backend="onnx")
    assert keys(list(exported.tag_documents(NESTED))) == keys(found)
    shown = run("export", model, "--to", "transformers")
    assert shown.code == 0, shown.stderr
    assert "transformers has no place for the head 'layered'" in shown.stderr
    merged = Predictor.load(f"{model}-transformers", device="cpu")
    assert keys(list(merged.tag_documents(NESTED))) == keys(found)


def test_a_flat_head_loses_what_overlaps(tmp_path: Path) -> None:
    """The counterpart: the same data under softmax, and the loss is said."""
    data = write_jsonl(tmp_path / "data.jsonl", NESTED)
    shown = run("data", "inspect", data, "--model", "mini-zh")
    assert shown.code == 0, shown.stderr
    assert "which was kept" in shown.stdout


def test_its_model_needs_it(layered: str, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "lstm", {"model": {"decoder": layered}})
    train(settings)
    base._HEADS.pop(layered)
    HEAD_NAMES.discard(layered)
    with pytest.raises(NertuneError, match=r"no head is named 'layered'; there are crf, softmax"):
        Predictor.load(settings.run.dir, device="cpu")
    with pytest.raises(ConfigError, match=r"model\.decoder"):
        make_settings(tmp_path, "lstm", {"model": {"decoder": layered}})
    register_head(layered, LayeredHead)


def test_names(layered: str) -> None:
    with pytest.raises(ValueError, match="there is a head named 'crf' already"):
        register_head("crf", LayeredHead)
    for name in ("", "Big", "../x", "model"):
        with pytest.raises(ValueError, match="cannot be the name"):
            register_head(name, LayeredHead)
    register_head(layered, LayeredHead)  # the same again is no mistake
    with pytest.raises(ConfigError, match="no head is named 'lyered'"):
        build_head("lyered", TagSet.from_labels(["A"]))


def test_a_half_written_head_is_refused() -> None:
    """A method that is missing would give `None` for a loss."""

    class Half(nn.Module, Head):
        def __init__(self, tagset: TagSet):
            super().__init__()
            self.tagset = tagset

    with pytest.raises(TypeError, match="abstract"):
        Half(TagSet.from_labels(["A"]))  # type: ignore[abstract]


def test_built_in_heads_are_those_that_recipes_may_name() -> None:
    assert build_tagger  # importing it registers them
    assert base._HEADS.keys() == HEAD_NAMES


def test_a_head_of_an_installed_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It needs no import; and what its model learned is kept where that is trained further."""
    point = EntryPoint("theirs", f"{__name__}:LayeredHead", HEAD_ENTRY_POINTS)
    monkeypatch.setattr(point.__class__, "load", lambda self: LayeredHead)
    for module in ("nertune.config.heads", "nertune.models.heads.base"):
        monkeypatch.setattr(f"{module}.entry_points", lambda group: [point])
    try:
        first = make_settings(tmp_path, "full", {"model": {"decoder": "theirs"}})
        train(first)
        base._HEADS.pop("theirs")  # as in another process
        HEAD_NAMES.discard("theirs")
        model = {"decoder": "theirs", "start_from": str(first.run.dir)}
        more = make_settings(tmp_path, "full", {
            "model": model, "run": {"dir": str(tmp_path / "more")}, "train": {"epochs": 1},
        })  # fmt: skip
        weights = read_head_weights(first.run.dir / "model")
        assert weights.keys() == {"theirs"}
        train(more)
    finally:
        base._HEADS.pop("theirs", None)
        HEAD_NAMES.discard("theirs")
