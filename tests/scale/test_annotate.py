"""Annotation: every document once, in order, whatever dies in between."""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.annotation import InProcess, contents, make_work, tiny_model, write_texts
from helpers.artifacts import edit_json
from helpers.commands import environment_of_children, run
from helpers.tiny import SENTENCES, write_jsonl
from nertune.errors import CheckpointError, ConfigError, DataError, NertuneError
from nertune.inference.predictor import Predictor
from nertune.scale.annotate import Annotation, Progress, Work, annotate
from nertune.scale.chunks import Reading, cut_chunks
from nertune.scale.tasks import Reject, Tagging
from nertune.scale.workers import LocalWorkers
from nertune.types import Document


def annotated(work: Work, *, num_workers: int = 3, **options: Any) -> Annotation:
    return annotate(work, workers=InProcess(work.tagging, num_workers), **options)


def records(folder: Path) -> list[dict[str, Any]]:
    """All tagged documents, in the order of the shards."""
    paths = sorted((folder / "shards").glob("shard-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def rejects(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


def test_every_document_once_and_as_predict_says(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 1234)
    work = make_work(tmp_path / "out", texts, shard_documents=1024)
    done = annotated(work)
    found = records(work.output)
    assert [r["text"] for r in found] == texts.read_text().splitlines()
    assert [r["id"] for r in found] == [f"{texts}:{n}" for n in range(1, 1235)]
    predictor = Predictor.load(tiny_model(), device="cpu")
    expected = list(predictor.tag_texts(r["text"] for r in found))
    keys = ("start", "end", "label", "score")
    assert [[tuple(e[key] for key in keys) for e in r["entities"]] for r in found] == [
        [(e.start, e.end, e.label, e.score) for e in d.entities] for d in expected
    ]
    manifest = json.loads((work.output / "manifest.json").read_text())
    assert manifest == json.loads(json.dumps(done.manifest))
    assert [s["documents"] for s in manifest["shards"]] == [1024, 210]
    assert manifest["complete"]
    assert manifest["documents"] == 1234
    assert sum(manifest["entities"].values()) == sum(len(d.entities) for d in expected) > 1000
    assert manifest["units"] == sum(len("".join(r["text"].split())) for r in found)
    assert rejects(work.output) == []


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 1300)
    made = []
    for number in (1, 2, 7):
        work = make_work(tmp_path / str(number), texts, shard_documents=300)
        annotated(work, num_workers=number)
        made.append(contents(work.output))
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 5 + 3


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_stopped_at_any_moment(format: str, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 1500)
    texts.write_bytes(texts.read_bytes().replace("第9号".encode(), b"\xff"))
    whole = make_work(tmp_path / "whole", texts, format=format)
    annotated(whole)
    work = make_work(tmp_path / "out", texts, format=format)

    class Stopped(Exception):
        pass

    def num_shards() -> int:
        return sum(1 for _ in (work.output / "shards").glob("shard-*"))

    def stop(progress: Progress) -> None:
        if num_shards() > before:
            raise Stopped

    starts = 0
    while starts < 20:
        before = num_shards()
        starts += 1
        try:
            annotated(work, observer=stop, resume=starts > 1, num_workers=1)
            break
        except Stopped:
            assert not list((work.output / "shards").glob(".shard-*"))
            assert not (work.output / "rejects.jsonl").exists()
            # What a kill in the midst of writing leaves.
            (work.output / "shards" / ".shard-00007.jsonl.part").write_bytes(b"half")
            with (work.output / "journal.jsonl").open("a") as journal:
                journal.write('{"shard": 3, "fi')
    assert starts > 4
    assert contents(work.output) == contents(whole.output)


def test_a_shard_that_was_changed_is_made_again(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 350)
    work = make_work(tmp_path / "out", texts)
    annotated(work)
    before = contents(work.output)
    (work.output / "shards" / "shard-00002.jsonl").write_text("other\n")
    (work.output / "shards" / "shard-00004.jsonl").unlink()
    done = annotated(work, resume=True)
    assert contents(work.output) == before
    assert 0 < done.units < done.manifest["units"]
    assert annotated(work, resume=True).units == 0  # nothing is left to do
    assert contents(work.output) == before


def test_what_is_not_gone_on_with(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 20)
    work = make_work(tmp_path / "out", texts)
    annotated(work)
    before = contents(work.output)
    with pytest.raises(CheckpointError, match="holds an annotation: use --resume"):
        annotated(work)
    with pytest.raises(CheckpointError, match=r"min_score was 0\.0, is 0\.5"):
        annotated(make_work(work.output, texts, min_score=0.5), resume=True)
    with pytest.raises(CheckpointError, match="shard_documents was 100, is 7"):
        annotated(make_work(work.output, texts, shard_documents=7), resume=True)
    with pytest.raises(ConfigError, match="exclude each other"):
        annotated(work, resume=True, overwrite=True)
    write_texts(texts, 21)
    with pytest.raises(CheckpointError, match="other input"):
        annotated(work, resume=True)
    assert contents(work.output) == before
    annotated(work, overwrite=True)
    assert len(records(work.output)) == 21
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds other files \(e\.g\. mine\.txt\)"):
        annotated(make_work(other, texts))
    assert contents(other) == {"mine.txt": b"mine"}


def test_a_start_that_failed_at_once_is_no_annotation(tmp_path: Path) -> None:
    """What was wrong can be put right without another option."""
    texts = write_texts(tmp_path / "texts.txt", 20)
    work = make_work(tmp_path / "out", texts)
    with pytest.raises(ConfigError, match="nope"):
        annotated(replace(work, reading=Reading("nope")))
    annotated(work)
    assert len(records(work.output)) == 20
    manifest = work.output / "manifest.json"
    for content, message in (("{", "is damaged"), ("{}", "is not of an annotation")):
        manifest.write_text(content)
        with pytest.raises(CheckpointError, match=message):
            annotated(work, resume=True)


def test_another_model_is_refused_but_not_another_score(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 20)
    model = Path(shutil.copytree(tiny_model(), tmp_path / "model"))
    work = make_work(tmp_path / "out", texts)
    own = Work(work.files, work.output, type(work.tagging)(str(model), device="cpu"))
    annotated(own)
    path = model / "nertune.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "metrics": {"test": {"f1": 0.5}}}))
    annotated(own, resume=True)
    path.write_text(json.dumps({**values, "calibration": {"temperature": 2.0}}))
    with pytest.raises(CheckpointError, match=r"another model.*model\.sha256 was"):
        annotated(own, resume=True)


def test_what_cannot_be_read_is_rejected_with_its_reason(tmp_path: Path) -> None:
    lines = tmp_path / "a.txt"
    lines.write_bytes("一\n".encode() + b"\xff\xfe\n" + "二\n".encode() + "a\0b\n三".encode())
    spans = tmp_path / "b.jsonl"
    spans.write_text(
        '{"text": "王小明", "id": "x", "n": 1}\n{"text": 5}\nno json\n{"text": "李华", "id": "y"}\n'
        '{"text": "\\ud800", "id": "half"}\n{"text": "北京", "entities": [[0, 9, "X"]]}\n'
    )
    columns = tmp_path / "c.conll"
    columns.write_text("王\tO\n明\tO\n\n在\n")
    damaged = tmp_path / "d.txt.gz"
    damaged.write_bytes(gzip.compress("四\n五\n".encode() * 99)[:-9])
    (tmp_path / "e.txt").write_bytes(b"")
    files = (lines, spans, columns, damaged, tmp_path / "e.txt")
    work = make_work(tmp_path / "out", *files)
    done = annotated(work)
    found = {r["id"]: r for r in records(work.output)}
    told = {r["id"]: r["reason"] for r in rejects(work.output)}
    assert [r["text"] for r in found.values()][:7] == [
        "一", "二", "三", "王小明", "李华", "北京", "四",
    ]  # fmt: skip
    assert found["x"]["n"] == 1
    assert list(told)[:5] == [f"{lines}:2", f"{lines}:4", f"{spans}:2", f"{spans}:3", f"{spans}:5"]
    assert "not UTF-8" in told[f"{lines}:2"]
    assert "NUL" in told[f"{lines}:4"]
    assert "surrogate" in told[f"{spans}:5"]
    assert f"{columns}:4" in told
    assert "cut short or damaged" in told[str(damaged)]
    assert done.manifest["rejected"] == len(told) == 7
    assert done.manifest["documents"] == len(found)


def test_a_document_that_the_model_cannot_tag(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 40)
    work = make_work(tmp_path / "out", texts)
    workers = InProcess(work.tagging)
    predictor = workers._tagger._predictor
    tag = predictor.tag_batches

    def fail(batches: Any, **options: Any) -> Any:
        (documents,) = batches
        if any("第7号" in document.text for document in documents):
            raise NertuneError("the model gives NaN")
        return tag([documents], **options)

    predictor.tag_batches = fail  # type: ignore[method-assign]
    done = annotate(work, workers=workers)
    assert rejects(work.output) == [{"id": f"{texts}:8", "reason": "the model gives NaN"}]
    assert done.manifest["documents"] == 39
    assert [r["id"] for r in records(work.output)] == [
        f"{texts}:{n}" for n in range(1, 41) if n != 8
    ]


def test_warnings_of_workers_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("".join("王" * n + "\n" for n in range(60, 70)))
    model = Path(shutil.copytree(tiny_model(), tmp_path / "model"))
    edit_json(model / "nertune.json", lambda v: v["data"].update(train={"p95_characters": 9}))
    work = make_work(tmp_path / "out", texts)
    work = replace(work, tagging=replace(work.tagging, model=str(model)))
    with caplog.at_level("WARNING", logger="nertune"):
        annotate(work, workers=LocalWorkers(work.tagging, 1))
    assert [r.getMessage() for r in caplog.records if "95 % of" in r.getMessage()] == [
        "a text of 69 characters, while 95 % of the training texts have 9 or fewer: --sentences "
        "tags a sentence at a time"
    ]


def test_ids_and_metadata_come_back(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow import parquet

    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(
            json.dumps({"text": d.text, "id": n, "source": {"page": n}}) + "\n"
            for n, d in enumerate(SENTENCES)
        )
    )
    work = make_work(tmp_path / "out", path, shard_documents=5, format="parquet")
    annotated(work)
    table = parquet.read_table(work.output / "shards")
    assert table.num_rows == len(SENTENCES)
    rows = parquet.read_table(work.output / "shards" / "shard-00001.parquet").to_pylist()
    plain = make_work(tmp_path / "plain", path)
    annotated(plain)
    for row, record in zip(rows, records(plain.output), strict=False):
        assert row["text"] == record["text"]
        assert row["id"] == str(record["id"])
        assert json.loads(row["metadata"]) == {"source": record["source"]}
        assert row["entities"] == record["entities"]
    assert sum(len(row["entities"]) for row in rows) > 0


def test_labelled_files_are_read_without_their_labels(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "gold.jsonl")
    work = make_work(tmp_path / "out", path, min_score=1.0)
    annotated(work)
    assert [r["entities"] for r in records(work.output)] == [[]] * len(SENTENCES)


def test_input_that_changes_meanwhile(tmp_path: Path) -> None:
    """Its hash was taken before: the manifest would name what was not tagged."""
    texts = write_texts(tmp_path / "texts.txt", 1500)
    work = make_work(tmp_path / "out", texts)

    def change(progress: Progress) -> None:
        with texts.open("a", encoding="utf-8") as stream:
            stream.write("王小明。\n")

    with pytest.raises(CheckpointError, match=r"texts\.txt was changed while it was annotated"):
        annotated(work, observer=change)
    assert not json.loads((work.output / "manifest.json").read_text())["complete"]


def test_what_is_not_its_own_stays(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 20)
    work = make_work(tmp_path / "out", texts)
    annotated(work)
    own = {"shards/shard-notes.jsonl": b"mine", "shards/.shard-mine.part": b"too"}
    for name, content in own.items():
        (work.output / name).write_bytes(content)
    annotated(work, overwrite=True)
    assert contents(work.output).items() >= own.items()
    other = tmp_path / "other"
    other.mkdir()
    for content in ('{"version": 3, "name": "an extension"}', "no json"):
        (other / "manifest.json").write_text(content)
        for options in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(CheckpointError, match="use another folder"):
                annotated(make_work(other, texts), **options)
            assert (other / "manifest.json").read_text() == content


def test_workers_that_are_given_are_closed(tmp_path: Path) -> None:
    """Also where nothing is to be done, or where it cannot begin."""
    texts = write_texts(tmp_path / "texts.txt", 20)
    work = make_work(tmp_path / "out", texts)

    class Counted(InProcess):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    annotated(work)
    workers = Counted(work.tagging)
    annotate(work, workers=workers, resume=True)
    assert workers.closed
    for options in ({}, {"resume": True, "overwrite": True}):
        workers = Counted(work.tagging)
        with pytest.raises(NertuneError):
            annotate(work, workers=workers, **options)  # type: ignore[arg-type]
        assert workers.closed


def test_long_documents_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be many chunks of few documents."""
    path = tmp_path / "long.jsonl"
    text = "王小明在北京。" * 150_000
    path.write_text("".join(json.dumps({"text": text, "id": n}) + "\n" for n in range(6)))
    work = make_work(tmp_path / "out", path)
    numbers: list[int] = []

    def opened(tagging: Tagging, number: int) -> InProcess:
        numbers.append(number)
        raise NertuneError("enough")

    monkeypatch.setattr("nertune.scale.annotate.LocalWorkers", opened)
    with pytest.raises(NertuneError, match="enough"):
        annotate(replace(work, workers=2))
    assert numbers == [2]


def test_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    work = make_work(tmp_path / "out", tmp_path / "a.txt")
    assert annotated(work).manifest["documents"] == 0
    assert json.loads((work.output / "manifest.json").read_text())["complete"]
    (tmp_path / "b.txt").write_bytes(b"\xff\n")
    work = make_work(tmp_path / "all", tmp_path / "b.txt")
    assert annotated(work).manifest["rejected"] == 1
    assert not list((work.output / "shards").glob("shard-0*"))
    assert annotated(work, resume=True).manifest["rejected"] == 1


def test_chunks_and_shards() -> None:
    documents = [Document("a" * 10)] * 2000 + [Document("b" * 1_500_000)] * 3
    rejected: list[Reject] = []
    chunks = list(cut_chunks(iter(documents), rejected, shard_documents=1100))
    assert [len(c.documents) for c in chunks] == [512, 512, 76, 512, 390, 1]  # 388 short and 2 long
    assert [c.shard for c in chunks] == [0, 0, 0, 1, 1, 1]
    assert [c.is_last for c in chunks] == [False, False, True, False, False, True]
    assert [c.number for c in chunks] == list(range(6))
    assert list(cut_chunks(iter(()), rejected, shard_documents=5)) == []


def test_a_full_disk_is_told_and_gone_on_with(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 3000)
    command = [
        sys.executable, "-m", "nertune", "annotate", str(texts), "-o", str(tmp_path / "out"),
        "--model", str(tiny_model()), "--workers", "1", "--shard-size", "1000",
    ]  # fmt: skip

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = subprocess.run(
        command, capture_output=True, text=True, env=environment_of_children(), preexec_fn=limit,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "shard-00001.jsonl: cannot be written: File too large; --resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out" / "shards").glob("*shard-0*"))
    again = run(*command[3:], "--resume")
    assert again.code == 0, again.stderr
    assert len(records(tmp_path / "out")) == 3000


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 3)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        annotated(make_work(tmp_path / "file" / "out", texts))
