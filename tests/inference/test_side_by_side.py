"""Batches of an exported graph beside each other: the same results, in order, errors passed on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.tiny import SENTENCES, make_predictor, make_settings
from nertune.artifacts.exported import under_head
from nertune.inference.predictor import Predictor
from nertune.models.graphs.onnx import OnnxEmitter
from nertune.models.graphs.tracing import write_onnx


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return make_predictor(make_settings(tmp_path, "full"))


@pytest.fixture
def threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def exported(predictor: Predictor, path: Path, *, quantized: bool = False) -> Predictor:
    predictor.tagger.eval()
    write_onnx(predictor.tagger.emitter, path)
    tagger = under_head(OnnxEmitter(path, quantized=quantized), predictor.tagger.head)
    return Predictor(tagger, predictor.segmenter, predictor.tagset, batch_tokens=12)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("quantized", [False, True])
def test_many_threads_give_what_one_gives(
    predictor: Predictor, tmp_path: Path, quantized: bool
) -> None:
    graph = exported(predictor, tmp_path / "model.onnx", quantized=quantized)
    documents = SENTENCES * 20
    _, expected = predictor.emissions(documents)
    for _ in range(3):
        _, found = graph.emissions(documents)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    assert [d.text for d in graph.tag_documents(documents)] == [d.text for d in documents]


@pytest.mark.usefixtures("threads")
def test_several_users_may_call_at_once(predictor: Predictor, tmp_path: Path) -> None:
    graph = exported(predictor, tmp_path / "model.onnx")
    expected = [[e.key for e in d.entities] for d in graph.tag_documents(SENTENCES)]

    def use() -> None:
        for _ in range(5):
            assert [[e.key for e in d.entities] for d in graph.tag_documents(SENTENCES)] == expected

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(use) for _ in range(4)]:
            future.result()  # raises what went wrong in it


@pytest.mark.usefixtures("threads")
def test_an_error_in_a_worker_is_raised(predictor: Predictor, tmp_path: Path) -> None:
    emitter = exported(predictor, tmp_path / "model.onnx").computer.emitter
    assert isinstance(emitter, OnnxEmitter)

    def fail(item: int) -> int:
        if item == 3:
            raise ZeroDivisionError
        return item

    with pytest.raises(ZeroDivisionError):
        emitter.map_batches(fail, list(range(6)))
    assert emitter.map_batches(str, list(range(40))) == [str(n) for n in range(40)]
    assert emitter.map_batches(str, []) == []


def test_batches_of_any_size_give_the_same(predictor: Predictor) -> None:
    documents = SENTENCES * 3
    _, expected = predictor.emissions(documents)
    for budget in (1, 30, 10_000):
        predictor.batch_tokens = budget
        _, found = predictor.emissions(documents)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
