"""Batches of an exported graph beside each other: the same results, in order, errors passed on."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import nertune.inference.predictor as module
from helpers.tiny import SENTENCES, make_predictor, make_settings
from nertune.artifacts.exported import under_head
from nertune.errors import DataError, NotFiniteError
from nertune.inference.predictor import Predictor
from nertune.models.graphs.onnx import OnnxEmitter
from nertune.models.graphs.tracing import write_onnx
from nertune.tokens.windows import Window
from nertune.types import Document


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


@pytest.mark.usefixtures("threads")
def test_calls_beside_each_other_share_the_workers(predictor: Predictor, tmp_path: Path) -> None:
    emitter = exported(predictor, tmp_path / "model.onnx").computer.emitter
    assert emitter.num_workers == 3
    running, most = 0, 0
    lock = threading.Lock()

    def compute(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return item

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: emitter.map_batches(compute, list(range(9))), range(4)))
    assert found == [list(range(9))] * 4
    assert most == 3


@pytest.mark.usefixtures("threads")
def test_the_workers_end_with_the_emitter(predictor: Predictor, tmp_path: Path) -> None:
    emitter = exported(predictor, tmp_path / "model.onnx").computer.emitter
    before = set(threading.enumerate())
    emitter.map_batches(str, list(range(9)))
    workers = [t for t in threading.enumerate() if t not in before]
    assert workers
    gone = weakref.ref(emitter)
    del emitter
    gc.collect()
    assert gone() is None
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


@pytest.mark.usefixtures("threads")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_starts_workers_of_its_own(predictor: Predictor, tmp_path: Path) -> None:
    emitter = exported(predictor, tmp_path / "model.onnx").computer.emitter
    emitter.map_batches(str, list(range(9)))
    child = multiprocessing.get_context("fork").Process(
        target=emitter.map_batches, args=(str, list(range(9)))
    )
    child.start()
    child.join(20)
    is_hanging = child.is_alive()
    child.kill()
    assert not is_hanging
    assert child.exitcode == 0


def test_batches_of_any_size_give_the_same(predictor: Predictor) -> None:
    documents = SENTENCES * 3
    _, expected = predictor.emissions(documents)
    for budget in (1, 30, 10_000):
        predictor.batch_tokens = budget
        _, found = predictor.emissions(documents)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_first_token_is_computed_before_there_are_threads(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that make the first call of a library's binding together may wait for ever."""
    calls = []
    compute = OnnxEmitter._compute

    def seen(self: OnnxEmitter, opened: object, inputs: dict[str, NDArray[np.int64]]) -> object:
        calls.append((threading.current_thread(), inputs["piece_ids"].shape))
        return compute(self, opened, inputs)

    monkeypatch.setattr(OnnxEmitter, "_compute", seen)
    exported(predictor, tmp_path / "model.onnx")
    assert calls == [(threading.main_thread(), (1, 1))]


def drain(documents: Iterator[Document], into: list[Document]) -> None:
    into.extend(documents)  # keeps what came before an error


class TestAhead:
    """Threads compute two chunks while the caller's cuts and decodes their neighbours."""

    @pytest.fixture
    def graph(
        self, predictor: Predictor, tmp_path: Path, threads: object, monkeypatch: pytest.MonkeyPatch
    ) -> Predictor:
        monkeypatch.setattr(module, "_CHUNK_DOCUMENTS", 4)
        return exported(predictor, tmp_path / "model.onnx")

    @pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9, 23])
    def test_it_gives_what_is_given_without(self, graph: Predictor, count: int) -> None:
        documents = [replace(d, id=str(i)) for i, d in enumerate(SENTENCES * 3)][:count]
        assert graph.computer.computes_beside
        found = list(graph.tag_documents(iter(documents)))
        alone = [graph.tag_documents([document]) for document in documents]
        expected = [next(one) for one in alone]
        assert [d.id for d in found] == [d.id for d in documents]
        assert [[e.key for e in d.entities] for d in found] == [
            [e.key for e in d.entities] for d in expected
        ]
        batches = [documents[i : i + 5] for i in range(0, count, 5)]
        assert list(graph.tag_batches(batches, ahead=True)) == found

    @pytest.mark.parametrize("given", [0, 3, 4, 6, 8, 13])
    def test_what_came_before_an_error_is_given(self, graph: Predictor, given: int) -> None:
        def source() -> Iterator[Document]:
            yield from (SENTENCES * 2)[:given]
            raise DataError("expected this")

        found: list[Document] = []
        with pytest.raises(DataError, match="expected this"):
            drain(graph.tag_documents(source()), found)
        assert [d.text for d in found] == [d.text for d in (SENTENCES * 2)[:given]]

    def test_it_reads_two_chunks_ahead_and_ends_when_it_is_left(self, graph: Predictor) -> None:
        read = []

        def source() -> Iterator[Document]:
            for i, document in enumerate(SENTENCES * 20):
                read.append(i)
                yield document

        tagged = graph.tag_documents(source())
        next(tagged)
        assert len(read) <= 3 * 4
        computing = [t for t in threading.enumerate() if t.name.startswith("nertune-compute")]
        assert computing
        tagged.close()
        for thread in computing:
            thread.join(10)
            assert not thread.is_alive()

    def test_what_is_left_is_not_computed(
        self, graph: Predictor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_CHUNK_DOCUMENTS", 64)
        emit, computed = graph.computer.emit_windows, []

        def slow(windows: Sequence[Window], *, pad_id: int) -> list[NDArray[np.float32]]:
            computed.append(len(windows))
            time.sleep(0.01)
            return emit(windows, pad_id=pad_id)

        monkeypatch.setattr(graph.computer, "emit_windows", slow)
        tagged = graph.tag_documents(SENTENCES * 64)
        next(tagged)
        before = len(computed)
        computing = [t for t in threading.enumerate() if t.name.startswith("nertune-compute")]
        tagged.close()
        for thread in computing:
            thread.join(10)
        assert len(computed) <= before + 40  # of more than a hundred: those that had begun

    def test_logits_that_are_not_finite(
        self, graph: Predictor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        emit = graph._emit
        documents = [*(SENTENCES * 2)[:8], Document("北"), *SENTENCES]

        def broken(
            number: int, windows: Sequence[Window], left: threading.Event
        ) -> list[NDArray[np.float32]]:
            is_third = len(windows[0].piece_ids) == 3  # the lone character and two special tokens
            return [s * (np.nan if is_third else 1) for s in emit(number, windows, left)]

        monkeypatch.setattr(graph, "_emit", broken)
        found: list[Document] = []
        with pytest.raises(NotFiniteError):
            drain(graph.tag_documents(documents), found)
        assert len(found) == 8

    def test_a_source_that_waits_for_answers_gets_them(self, graph: Predictor) -> None:
        answered = 0

        def batches() -> Iterator[list[Document]]:
            for i in range(6):
                assert answered == 3 * i
                yield SENTENCES[:3]

        for _ in graph.tag_batches(batches()):
            answered += 1
        assert answered == 18
