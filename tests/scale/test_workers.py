"""Worker processes: what they answer, and what happens when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from helpers.annotation import InProcess, contents, make_work, tiny_model, write_texts
from helpers.commands import environment_of_children
from nertune.scale.annotate import Progress, annotate
from nertune.scale.tasks import Tagging
from nertune.scale.workers import LocalWorkers, WorkerError, default_workers
from nertune.types import Document

POISON = "毒"
# What a worker imports first; it dies of certain texts.
SITE = f"""
import os, signal
import nertune.scale.tagging as tagging
tag = tagging.ChunkTagger.tag
def deadly(self, documents):
    if any("{POISON}" in document.text for document in documents):
        os.kill(os.getpid(), signal.SIGKILL)
    return tag(self, documents)
tagging.ChunkTagger.tag = deadly
"""


def child_processes() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [p for p in found if "nertune.scale.worker" in " ".join(p.cmdline())]


def test_workers_that_are_killed(tmp_path: Path) -> None:
    """At whatever moment: no document is lost or doubled, and the bytes are the same."""
    texts = write_texts(tmp_path / "texts.txt", 4000)
    work = make_work(tmp_path / "out", texts, shard_documents=300)
    expected = make_work(tmp_path / "expected", texts, shard_documents=300)
    annotate(expected, workers=InProcess(expected.tagging))
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if len(killed) < 3 and progress.done > 800 * (1 + len(killed)):
            victims = child_processes()
            victim = victims[len(killed) % len(victims)]
            killed.append(victim.pid)
            victim.kill()

    annotate(work, workers=LocalWorkers(work.tagging, 2), observer=kill)
    assert len(set(killed)) == 3
    assert contents(work.output) == contents(expected.output)
    assert not child_processes()


def test_the_parent_is_killed(tmp_path: Path) -> None:
    """Its workers end with it, and another start goes on."""
    texts = write_texts(tmp_path / "texts.txt", 6000)
    work = make_work(tmp_path / "out", texts, shard_documents=200)
    command = [
        sys.executable, "-m", "nertune", "annotate", str(texts), "-o", str(work.output),
        "--model", str(tiny_model()), "--workers", "2", "--shard-size", "200", "--device",
        "cpu", "--resume",
    ]  # fmt: skip
    for wanted in (1, 8):
        process = subprocess.Popen(
            command, env=environment_of_children(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        shards = work.output / "shards"
        until = time.monotonic() + 120
        while len(list(shards.glob("shard-*"))) < wanted and time.monotonic() < until:
            time.sleep(0.02)
        workers = [
            p for p in psutil.Process(process.pid).children(recursive=True) if p.is_running()
        ]
        process.kill()
        process.wait()
        assert len(workers) == 2
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive
        assert wanted <= len(list(shards.glob("shard-*"))) < 30
    annotate(work, workers=InProcess(work.tagging), resume=True)
    expected = make_work(tmp_path / "expected", texts, shard_documents=200)
    annotate(expected, workers=InProcess(expected.tagging))
    assert contents(work.output) == contents(expected.output)


@pytest.mark.slow
def test_a_document_that_kills_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    workers = LocalWorkers(Tagging(str(tiny_model()), device="cpu"), 1)
    texts = ["王小明在北京。", f"{POISON}。", "李华。"]
    try:
        workers.submit(0, [Document(text, id=text) for text in texts])
        tagged = workers.wait().tagged
    finally:
        workers.close()
    assert tagged.num_documents == 2
    assert [reject.id for reject in tagged.rejects] == [f"{POISON}。"]
    assert "died 3 times (signal 9" in tagged.rejects[0].reason


def test_workers_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = LocalWorkers(Tagging(str(tmp_path / "none")), 2)
    with pytest.raises(WorkerError, match="no such folder"):
        workers.wait()
    workers.close()
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    workers = LocalWorkers(Tagging(str(tiny_model())), 1)
    with pytest.raises(WorkerError, match=r"ended while it loaded the model \(exit code 7\)"):
        workers.wait()
    workers.close()


def test_one_worker_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nertune.scale.workers.num_cores", lambda: 8)
    tagging = Tagging("m", threads=2)
    assert default_workers(replace(tagging, device="cpu")) == 4
    monkeypatch.setattr("nertune.models.device.choose_device", lambda name: torch.device("cuda"))
    assert default_workers(tagging) == 1
    assert default_workers(tagging, on_ray=True) == 4
    assert default_workers(replace(tagging, backend="onnx")) == 4


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 6000)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "nertune", "annotate", str(texts), "-o", str(out), "--model",
         str(tiny_model()), "--workers", "2", "--shard-size", "200", "--device", "cpu"],
        env=environment_of_children(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not list((out / "shards").glob("shard-*")) and time.monotonic() < until:
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    for one in (process, *workers):  # as a terminal does
        one.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.rstrip().endswith("interrupted; --resume continues it")
    assert "Traceback" not in told
    assert not psutil.wait_procs(workers, timeout=30)[1]
