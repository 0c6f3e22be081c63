"""Actors of Ray in the place of processes: the same bytes, and they may die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers.annotation import InProcess, contents, make_work, tiny_model, write_texts
from helpers.tiny import SENTENCES
from nertune.scale.annotate import Progress, annotate
from nertune.scale.ray_workers import RayWorkers
from nertune.scale.tasks import Tagging
from nertune.scale.workers import WorkerError

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def actor_processes() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [p for p in found if "_Actor" in " ".join(p.cmdline())]


def test_actors_that_are_killed(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 3000)
    expected = make_work(tmp_path / "expected", texts, shard_documents=300)
    annotate(expected, workers=InProcess(expected.tagging))
    work = make_work(tmp_path / "out", texts, shard_documents=300)
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if len(killed) < 2 and progress.done > 800 * (1 + len(killed)):
            victim = actor_processes()[0]
            killed.append(victim.pid)
            victim.kill()

    annotate(work, workers=RayWorkers(work.tagging, 2), observer=kill)
    assert len(set(killed)) == 2
    assert contents(work.output) == contents(expected.output)


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"worker 1 cannot start: .*no such folder"):
        RayWorkers(Tagging(str(tmp_path / "none")), 1)


def test_in_a_pipeline_of_ray_data(tmp_path: Path) -> None:
    """The example of docs/scale.md."""
    import ray.data

    from nertune.scale import RayTagger

    rows = [{"id": n, "text": document.text} for n, document in enumerate(SENTENCES * 20)]
    dataset = ray.data.from_items(rows)
    found = dataset.map_batches(
        RayTagger,
        fn_constructor_kwargs={"model": str(tiny_model()), "device": "cpu"},
        batch_size=64,
        batch_format="pyarrow",
        concurrency=1,
    ).take_all()
    from nertune.inference.predictor import Predictor

    predictor = Predictor.load(tiny_model(), device="cpu")
    expected = [
        [(e.start, e.end, e.label) for e in document.entities]
        for document in predictor.tag_texts(row["text"] for row in rows)
    ]
    assert [row["id"] for row in sorted(found, key=lambda row: row["id"])] == list(range(160))
    assert [
        [(e["start"], e["end"], e["label"]) for e in row["entities"]]
        for row in sorted(found, key=lambda row: row["id"])
    ] == expected
    assert sum(map(len, expected)) > 100
