"""The commands: what stands on stdout, what on stderr, and with which exit code they end."""

from __future__ import annotations

import errno
import gzip
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from safetensors import SafetensorError

from helpers.commands import Outcome, environment_of_children, run, run_process
from helpers.tiny import (
    SENTENCES,
    make_settings,
    session_folder,
    tiny_bert,
    tiny_rates,
    write_jsonl,
)
from nertune import __version__
from nertune.cli.commands import app
from nertune.data.corpus import load_corpus
from nertune.experiments.train import train
from nertune.inference.predictor import Predictor

TEXT = SENTENCES[0].text


@cache
def trained() -> Path:
    """A run that has learned `SENTENCES`."""
    folder = session_folder() / "cli"
    folder.mkdir()
    values = {"epochs": 40, "patience": 0, "batch_tokens": 80, **tiny_rates(0.02, {})}
    # Without dev the last epoch is kept: the first with an F1 of 1 would just be good enough.
    settings = make_settings(folder, "full", {"train": values, "data": {"dev": ""}})
    assert train(settings, score_test=True)["test"]["micro"]["f1"] == 1.0
    return settings.run.dir


@pytest.fixture
def model() -> Path:
    return trained() / "model"


def recipe(folder: Path, **sections: dict[str, Any]) -> Path:
    """A recipe of a tiny LSTM that trains in a moment."""
    if not (folder / "data.jsonl").exists():
        write_jsonl(folder / "data.jsonl")
    values: dict[str, dict[str, Any]] = {
        "run": {"dir": str(folder / "run"), "device": "cpu", "threads": 1},
        "data": {"train": str(folder / "data.jsonl"), "dev": str(folder / "data.jsonl")},
        "model": {"emitter": "lstm"},
        "lstm": {"embedding_size": 8, "hidden_size": 8, "layers": 1},
        "train": {"epochs": 1},
    }
    for name, changes in sections.items():
        values.setdefault(name, {}).update(changes)
    lines = []
    for name, content in values.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in content.items())]
    path = folder / "tiny.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(outcome: Outcome, *fragments: str) -> None:
    """A user's error: exit code 2, one line on stderr, nothing on stdout."""
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert outcome.error.startswith("error: ")
    assert outcome.stderr == outcome.error + "\n"
    for fragment in fragments:
        assert fragment in outcome.error


# train


def test_train_as_json_in_a_process_of_its_own(tmp_path: Path) -> None:
    """stdout holds one JSON document and nothing else, whatever libraries say."""
    path = recipe(
        tmp_path, model={"emitter": "encoder", "encoder": str(tiny_bert()), "tuning": "lora"}
    )
    done = run_process("train", path, "--json")
    assert done.code == 0, done.stderr
    record = json.loads(done.stdout)
    assert record == json.loads((tmp_path / "run" / "record.json").read_text(encoding="utf-8"))
    assert record["name"] == "tiny"
    assert "epoch 1/1" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "Writing model shards" not in done.stderr
    assert "Warning" not in done.stderr


def test_train_for_a_reader(tmp_path: Path) -> None:
    done = run("train", recipe(tmp_path), "--set", "train.epochs=2", "--set", "run.seed=7")
    assert done.code == 0
    assert "best epoch" in done.stdout
    assert "micro" in done.stdout
    assert f"model: {tmp_path}/run/model" in done.stdout
    assert "epoch 2/2" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text(encoding="utf-8"))
    assert record["seed"] == 7


def test_train_again(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    first = run("train", path, "--json")
    refused(run("train", path), "holds a finished run; use --overwrite")
    resumed = run("train", path, "--resume", "--json")
    assert (resumed.code, json.loads(resumed.stdout)) == (0, json.loads(first.stdout))
    assert "finished before, nothing to do" in resumed.stderr
    assert run("train", path, "--overwrite", "--json").code == 0
    refused(run("train", path, "--overwrite", "--resume"), "exclude each other")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--set", "train.epoch=3"], ["unknown key train.epoch; did you mean epochs?"]),
        (["--set", "trian.epochs=3"], ["unknown section [trian]; did you mean train?"]),
        (["--set", "epochs=3"], ["expected section.key=value"]),
        (["--set", "train.epochs=0"], ["train.epochs", "greater than or equal to 1, got 0"]),
        (["--set", "train.learning_rate=fast"], ["train.learning_rate", "got 'fast'"]),
        (["--set", "model.emitter=gru"], ["model.emitter", "'encoder' or 'lstm'"]),
        (["--set", "data.train=absent.jsonl"], ["absent.jsonl: no such file"]),
        (["--set", "data.train="], ["data.train is empty"]),
        (["--set", "model.emitter=encoder", "--set", "model.encoder=./absent"], ["./absent: no"]),
        (["--set", "run.device=tpu"], ["run.device"]),
        (["--set", "model.tuning=lora"], ['emitter "lstm" is trained in full']),
        (["--set", "lstm.chars=absent.txt"], ["absent.txt"]),
        (["--set", "run.dir=/proc/run"], ["cannot be written to"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_train_refuses(arguments: list[str], fragments: list[str], tmp_path: Path) -> None:
    refused_run = run("train", recipe(tmp_path), *arguments)
    if "chars" in arguments[-1] or "encoder" in arguments[-1]:  # found behind what is said on data
        assert refused_run.code == 2
        assert all(fragment in refused_run.error for fragment in fragments)
        assert "Traceback" not in refused_run.stderr
    else:
        refused(refused_run, *fragments)
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "record.json").exists()


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    refused(run("train", tmp_path / "absent.toml"), "absent.toml: cannot read the recipe")
    refused(run("train", tmp_path), "cannot read the recipe")
    for text, line in (("[run", ""), ("a = ", ""), ("\x00", "1:")):  # "" where the text ends
        (tmp_path / "bad.toml").write_text(text)
        refused(run("train", tmp_path / "bad.toml"), f"bad.toml:{line} not a TOML file")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    refused(run("train", tmp_path / "bad.toml"), "not a TOML file")
    (tmp_path / "bad.toml").write_text("")
    refused(run("train", tmp_path / "bad.toml"), "data.train is missing")


# evaluate


def test_evaluate_as_json(model: Path) -> None:
    done = run("evaluate", model, trained().parent / "data.jsonl", "--json")
    assert done.code == 0
    scores = json.loads(done.stdout)
    assert scores["types"].keys() == {"LOCATION", "ORGANIZATION", "PERSON", "TIME"}
    for row in (scores["micro"], scores["macro"], *scores["types"].values()):
        assert row["precision"] == row["recall"] == row["f1"] == 1.0
        assert row["support"] > 0
    assert scores["micro"]["support"] == sum(len(d.entities) for d in SENTENCES)
    record = json.loads((trained() / "record.json").read_text(encoding="utf-8"))
    assert {key: scores[key] for key in record["test"]} == record["test"]


def test_evaluate_for_a_reader(model: Path) -> None:
    done = run("evaluate", model.parent, trained().parent / "data.jsonl")
    assert done.code == 0
    assert "PERSON" in done.stdout
    assert "1.0000" in done.stdout
    assert "\x1b" not in done.stdout


def test_evaluate_on_gold_that_was_never_learned(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("王 B-ANIMAL\n小 I-ANIMAL\n", encoding="utf-8")
    done = run("evaluate", model, tmp_path / "a.conll", "--json")
    assert done.code == 0
    scores = json.loads(done.stdout)
    assert scores["types"]["ANIMAL"]["support"] == 1
    assert scores["types"]["ANIMAL"]["recall"] == 0
    assert scores["types"]["LOCATION"]["f1"] is None or scores["types"]["LOCATION"]["f1"] == 0
    assert "scheme BIO recognised" in done.stderr


def test_evaluate_refuses(model: Path, tmp_path: Path) -> None:
    data = trained().parent / "data.jsonl"
    refused(run("evaluate", model, tmp_path / "absent"), "absent: no such file")
    refused(run("evaluate", tmp_path / "absent", data), "absent: no such folder")
    refused(run("evaluate", data, data), "is a file; expected a model's folder")
    refused(run("evaluate", model, data, "--format", "csv"), "'csv'")
    refused(run("evaluate", model, data, "--device", "tpu"), "'tpu' is not available")
    refused(run("evaluate", tiny_bert(), data), "is not a trained tagger")


# predict


def records_of(done: Outcome) -> list[dict[str, Any]]:
    assert done.code == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.split("\n")[:-1]]


def test_predict_jsonl_from_arguments(model: Path) -> None:
    texts = [TEXT, "", " ", "李华在上海。"]
    records = records_of(run("predict", model, *texts, "--format", "jsonl"))
    assert [record["text"] for record in records] == texts
    for record in records:
        assert record.keys() == {"text", "entities"}
        for entity in record["entities"]:
            assert entity.keys() == {"start", "end", "label", "text", "score"}
            assert entity["text"] == record["text"][entity["start"] : entity["end"]]
            assert 0 < entity["score"] <= 1
    found = [(e["start"], e["end"], e["label"]) for e in records[0]["entities"]]
    assert found == [e.key for e in SENTENCES[0].entities]


def test_predict_from_stdin_line_by_line(model: Path) -> None:
    stdin = f"\ufeff{TEXT}\n\n  \r\n李华\n".encode()
    records = records_of(run("predict", model, "--format", "jsonl", stdin=stdin))
    assert [record["text"] for record in records] == [TEXT, "", "  ", "李华"]
    assert records_of(run("predict", model, "--format", "jsonl", stdin=b"")) == []
    assert run("predict", model, stdin=b"").stdout == ""
    assert run("predict", model, "--format", "conll", stdin=b"\n\n").stdout == ""


def test_predict_text_in_a_pipe(model: Path) -> None:
    done = run("predict", model, TEXT, "今天没有新闻。")
    assert done.code == 0
    lines = done.stdout.split("\n")
    assert lines[0].startswith("[王小明](PERSON ")
    assert lines[1] == "今天没有新闻。"
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_predict_conll(model: Path) -> None:
    done = run("predict", model, "--format", "conll", stdin="李华在 上海\n\n北京。\n".encode())
    assert done.code == 0
    rows = [line.split("\t") for line in done.stdout.split("\n")]
    assert [row[0] for row in rows] == [*"李华在上海", "", *"北京。", "", ""]
    assert rows[0] == ["李", "B-PERSON"]
    assert rows[1] == ["华", "I-PERSON"]
    assert rows[2] == ["在", "O"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", f"{TEXT}\n李华在上海。\n"),
        ("a.conll", "\n\n".join("\n".join(f"{c} O" for c in t) for t in (TEXT, "李华在上海。"))),
        ("a.jsonl", f'{{"text": "{TEXT}"}}\n{{"text": "李华在上海。", "entities": []}}\n'),
    ],
)
def test_predict_from_files(
    name: str, content: str, packed: bool, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(content.encode(), mtime=0) if packed else content.encode())
    records = records_of(run("predict", model, "--file", path, "--format", "jsonl"))
    assert [record["text"] for record in records] == [TEXT, "李华在上海。"]
    assert records[0]["entities"]
    tokens = [record.pop("tokens", None) for record in records]
    of_characters = [[[i, i + 1] for i in range(len(record["text"]))] for record in records]
    assert tokens == (of_characters if name == "a.conll" else [None, None])
    assert records == records_of(run("predict", model, TEXT, "李华在上海。", "--format", "jsonl"))


def test_lines_on_a_pipe_are_answered_one_by_one(model: Path) -> None:
    """D15: the next line is written only when the last one was answered."""
    for format in ("jsonl", "conll"):  # the start takes seconds, and text is written as jsonl is
        command = [sys.executable, "-m", "nertune", "predict", str(model), "--format", format]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            watchdog = threading.Timer(120, process.kill)
            watchdog.start()
            for text in ("李华在上海。", "北京。", "王小明昨天到了北京。"):
                process.stdin.write(f"{text}\n".encode())
                process.stdin.flush()
                answer = process.stdout.readline().decode()
                while format == "conll" and answer and not answer.endswith("\n\n"):
                    answer += process.stdout.readline().decode()
                assert answer.startswith("{" if format == "jsonl" else text[0])
            process.stdin.close()
            assert process.stdout.read() == b""
            watchdog.cancel()
        assert process.returncode == 0


def test_predict_on_several_files(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(
        '{"id": 7, "text": "李华在上海。", "label": [], "meta": {"page": 1}}\n', encoding="utf-8"
    )
    (tmp_path / "in" / "b.txt").write_text("北京。\n王小明\n", encoding="utf-8")
    (tmp_path / "in" / "c.png").write_bytes(b"x")
    out = tmp_path / "out.jsonl"
    done = run("predict", model, "-f", tmp_path / "in", "-f", tmp_path / "in" / "*.txt", "-o", out)
    assert (done.code, done.stdout) == (0, "")
    assert "1 files left out" in done.stderr
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    b = f"{tmp_path}/in/b.txt"
    assert [r["id"] for r in records] == [7, f"{b}:1", f"{b}:2", f"{b}:1", f"{b}:2"]
    assert records[0]["meta"] == {"page": 1}
    assert "label" not in records[0]
    out.write_text("old")
    (tmp_path / "in" / "b.txt").write_bytes(b"ok\n\xff\n")
    (tmp_path / "in" / "c.png").unlink()
    refused(run("predict", model, "-f", tmp_path / "in", "-o", out), "b.txt:2: not UTF-8")
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out.jsonl"]


def test_predict_whole_by_sentence_and_above_a_score(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("李华在上海。\n王小明昨天到了北京。\n", encoding="utf-8")
    lines = records_of(run("predict", model, "-f", path, "--format", "jsonl"))
    (whole,) = records_of(
        run("predict", model, "-f", path, "--format", "jsonl", "--whole", "--sentences")
    )
    assert whole["text"] == path.read_text(encoding="utf-8")
    assert [e["text"] for e in whole["entities"]] == [
        e["text"] for line in lines for e in line["entities"]
    ]
    for entity in whole["entities"]:
        assert whole["text"][entity["start"] : entity["end"]] == entity["text"]
    least = max(e["score"] for line in lines for e in line["entities"])
    above = run("predict", model, "-f", path, "--format", "jsonl", "--min-score", least)
    kept = [e["score"] for line in records_of(above) for e in line["entities"]]
    assert kept == [least] * len(kept) != []
    assert run("predict", model, TEXT, "--min-score", "1.5").code == 2


def test_predict_and_python_agree(model: Path) -> None:
    """One decoder: the very scores, and those of a model loaded by its run's folder."""
    records = records_of(run("predict", model.parent, TEXT, "--format", "jsonl"))
    entities = Predictor.load(model, device="cpu").tag(TEXT).entities
    assert [e["score"] for e in records[0]["entities"]] == [e.score for e in entities]


def test_transformers_pipeline_agrees(model: Path) -> None:
    """Plain transformers finds in the saved folder what nertune finds."""
    from transformers import pipeline

    tagger = pipeline("token-classification", model=str(model), aggregation_strategy="simple")
    predictor = Predictor.load(model, device="cpu")
    num_compared = 0
    for document in SENTENCES:
        windows = predictor.segmenter.segment(document)[1]
        ids = predictor._emit(1, windows)[0].argmax(axis=1)
        # The pipeline takes the best tag of each piece, legal or not, and reads a digit run or a
        # word as one piece; elsewhere both must find the same.
        if any(c.isascii() for c in document.text) or not is_legal(predictor, ids.tolist()):
            continue
        found = [(e["start"], e["end"], e["entity_group"]) for e in tagger(document.text)]
        assert found == [e.key for e in predictor.tag(document.text).entities]
        num_compared += 1
    assert num_compared >= 2


def is_legal(predictor: Predictor, ids: list[int]) -> bool:
    tagset = predictor.tagset
    return bool(tagset.legal_start_K[ids[0]]) and all(
        tagset.legal_KK[a, b] for a, b in pairwise(ids)
    )


def test_predict_refuses(model: Path, tmp_path: Path) -> None:
    refused(run("predict", tmp_path / "absent", TEXT), "absent: no such folder")
    refused(run("predict", TEXT * 20), "cannot be a model's folder or hub name")  # model forgotten
    refused(run("predict", model, "--file", tmp_path / "absent"), "absent: no such file")
    refused(run("predict", model, "--file", tmp_path), "this folder holds no text")
    refused(
        run("predict", model, TEXT, "--format", "xml"),
        "'xml': expected text, conll, jsonl, predictions",
    )
    refused(run("predict", model, TEXT, "--file", "x"), "not both")
    refused(run("predict", model, "--input-format", "csv", "--file", "x"), "'csv': expected auto")
    refused(run("predict", model, "--format", "jsonl", stdin=b"\xff"), "stdin:1: not UTF-8")
    refused(run("predict", model, "a\udcffb"), "not UTF-8")
    refused(run("predict", "nobody/nothing-here", TEXT), "neither a bundled encoder nor a folder")
    refused(run("predict", model, TEXT, "--device", "cuda:7"), "is not available here")


def test_what_was_right_before_an_error_is_printed(model: Path) -> None:
    """A bad line far behind: what came before stands on stdout, the exit code says the rest."""
    done = run("predict", model, "--format", "jsonl", stdin=("北京\n" * 600).encode() + b"\xff\n")
    assert done.code == 2
    assert done.stdout.count("\n") == 600
    assert all(json.loads(line) for line in done.stdout.splitlines())
    assert done.error.startswith("error: stdin:601: not UTF-8")


# data inspect


def test_inspect_as_json(tmp_path: Path) -> None:
    (tmp_path / "b.conll").write_text("王 B-PER\n在 O\n京 I-LOC\n", encoding="utf-8")
    done = run("data", "inspect", write_jsonl(tmp_path / "a.jsonl"), tmp_path / "b.conll", "--json")
    assert done.code == 0
    inspection = json.loads(done.stdout)
    assert [file["name"] for file in inspection["files"]] == ["a.jsonl", "b.conll"]
    assert len(inspection["files"][1]["repairs"]) == 1
    with_model = run("data", "inspect", tmp_path / "a.jsonl", "--model", tiny_bert(), "--json")
    assert json.loads(with_model.stdout)["files"][0]["fit"]["unit"] == "char"
    assert done.stderr == with_model.stderr == ""


def test_inspect_for_a_reader(tmp_path: Path) -> None:
    done = run("data", "inspect", write_jsonl(tmp_path / "a.jsonl"))
    assert done.code == 0
    assert "PERSON" in done.stdout
    assert "\x1b" not in done.stdout


def test_inspect_refuses(tmp_path: Path) -> None:
    refused(run("data", "inspect", tmp_path / "absent", "--json"), "no such file")
    (tmp_path / "a.conll").write_text("a O\nb I-X\nc O\nd B-X\n")
    refused(run("data", "inspect", tmp_path / "a.conll", "--strict"), "a.conll:2: tag 'I-X'")
    refused(run("data", "inspect", tmp_path / "a.conll", "--scheme", "XYZ"), "scheme='XYZ'")
    refused(run("data", "inspect", tmp_path / "a.conll", "--join", "maybe"), "join='maybe'")
    refused(run("data", "inspect", tmp_path / "a.conll", "--model", "./absent"), "no such folder")
    arguments = ["data", "inspect", tmp_path / "a.conll", "--model", tiny_bert()]
    refused(run(*arguments, "--unit", "kanji"), "'kanji': expected auto, char or word")


# The program


def test_version_and_help() -> None:
    assert run("--version").stdout == f"nertune {__version__}\n"
    for arguments in (["--help"], ["-h"], ["train", "--help"], ["data", "inspect", "-h"]):
        done = run(*arguments)
        assert done.code == 0
        assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["train"], ["train", "x", "--nonsense"], ["predict"], ["data", "x"]]
)
def test_usage_errors(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Usage:" in done.stderr


def test_processes_exit_with_the_same_codes(model: Path, tmp_path: Path) -> None:
    """What the tests above see in this process is what a shell sees."""
    refused(run_process("train", tmp_path / "absent.toml"), "cannot read the recipe")
    # A locale that knows no Chinese, and a pipe on both sides.
    done = run_process(
        "predict",
        model,
        "--format",
        "text",
        stdin=f"{TEXT}\n".encode(),
        environment={"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("[王小明](PERSON ")
    assert done.stderr == ""


def test_a_reader_that_goes_away(model: Path) -> None:
    """`nertune predict … | head -1` ends without a traceback."""
    command = f'"{sys.executable}" -m nertune predict "{model}" --format jsonl | head -1'
    done = subprocess.run(
        ["bash", "-c", command],
        input=("北京\n" * 3000).encode(),
        capture_output=True,
        env=environment_of_children(),
        timeout=240,
        check=False,
    )
    assert json.loads(done.stdout)["text"] == "北京"
    assert done.stderr == b""


@pytest.mark.usefixtures("interruptible")
def test_control_c_says_how_to_go_on(tmp_path: Path) -> None:
    values = {"epochs": 100_000, "patience": 0, "checkpoint_minutes": 0}
    path = recipe(tmp_path, train=values)
    process = subprocess.Popen(
        [sys.executable, "-m", "nertune", "train", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment_of_children(),
    )
    checkpoints = tmp_path / "run" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == b""
    assert stderr.decode().endswith("\ninterrupted; --resume continues it\n")
    assert b"Traceback" not in stderr
    assert list(checkpoints.glob("step-*"))
    refused(run("train", path), "holds an unfinished run; use --resume")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [("ten", "expected percentages, e.g. 10,25,50,100"), ("0,100", "above 0"), ("120", "up to 1")],
)
def test_sizes_that_cannot_be_are_named(tmp_path: Path, sizes: str, message: str) -> None:
    done = run("compare", str(recipe(tmp_path)), "--sizes", sizes, "-o", str(tmp_path / "report"))
    assert done.code == 2
    assert message in done.stderr
    assert not (tmp_path / "report").exists()


def test_advise_needs_its_minutes_and_names_what_it_cannot_use(tmp_path: Path) -> None:
    assert run("advise", "sample").code == 2
    done = run("advise", str(tmp_path), "--minutes", "1", "-o", str(tmp_path / "out"))
    assert done.code == 2
    assert "holds no file named train" in done.stderr
    done = run("advise", "sample", "--minutes", "0", "-o", str(tmp_path / "out"))
    assert "expected more than 0" in done.stderr
    done = run("advise", "sample", "--minutes", "1", "--set", "lora.rank=4")
    assert "advise chooses lora.rank itself" in done.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "full"), "error: No space left on device: make room, or name"),
        (PermissionError(errno.EACCES, "no", "runs/a"), "error: runs/a: Permission denied: name"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "make room"),
    ],
)
def test_a_disk_that_cannot_be_written_is_told(
    error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("nertune.training.checkpoint.CheckpointStore.save", fail)
    done = run("train", recipe(tmp_path), "--set", "train.checkpoint_minutes=0")
    assert done.code == 2
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_other_errors_of_the_system_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EBADF, "a bug")

    monkeypatch.setattr("nertune.training.checkpoint.CheckpointStore.save", fail)
    with pytest.raises(OSError, match="a bug"):
        run("train", recipe(tmp_path), "--set", "train.checkpoint_minutes=0")


@pytest.mark.parametrize(
    ("command", "place", "hint"),
    [
        (
            "compare",
            "nertune.comparison.sizes.compare_sizes",
            "the same command (without --fresh) continues it",
        ),
        ("sweep", "nertune.comparison.search.sweep.sweep", "--resume continues it"),
        ("advise", "nertune.comparison.search.advise.advise", "--resume continues it"),
        ("pretrain", "nertune.experiments.pretraining.pretrain.pretrain", "--resume continues it"),
    ],
)
def test_an_interrupt_says_how_to_go_on(
    command: str, place: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupted)
    more = {
        "advise": ["--minutes", "1"],
        "pretrain": ["--encoder", "mini-zh", "--minutes", "1"],
    }.get(command, [])
    done = run(command, recipe(tmp_path), "-o", tmp_path / "out", *more)
    assert done.code == 130
    assert done.stderr.count("interrupted") == 1
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_files_are_joined_as_in_training(tmp_path: Path) -> None:
    """Characters in training, many Latin words in the test file, which alone looks like words."""
    context = list("我们好吗呢吧了")
    before = [f"{c} iPhone {' '.join(context)}" for c in context]
    texts = {"train": before, "dev": before, "test": [f"{c} iPhone 我" for c in context]}
    files = {}
    for split, found in texts.items():
        tagged = [
            [f"{t} {'B-X' if t == 'iPhone' else 'O'}" for t in text.split()] for text in found
        ]
        blocks = ["\n".join(lines) for lines in tagged]
        (tmp_path / f"{split}.conll").write_text("\n\n".join(blocks), encoding="utf-8")
        files[split] = str(tmp_path / f"{split}.conll")
    shape = {"hidden_size": 32, "dropout": 0.0, "unknown": 0.0}
    longer = {"epochs": 40, "learning_rate": 0.02, "patience": 0}
    path = recipe(tmp_path, data=files, lstm=shape, train=longer)
    record = json.loads(run("train", path, "--test", "--json").stdout)
    scores = record["test"]["micro"]
    assert scores["f1"]  # so that how the text is read makes a difference
    test = files["test"]
    evaluated = json.loads(run("evaluate", tmp_path / "run", test, "--json").stdout)
    assert evaluated["micro"]["f1"] == scores["f1"]
    answers = records_of(run("predict", tmp_path / "run", "--file", test, "--format", "jsonl"))
    assert [answer["text"] for answer in answers] == [f"{c}iPhone我" for c in context]
    inspected = json.loads(
        run("data", "inspect", test, "--model", tmp_path / "run", "--json").stdout
    )
    assert inspected["files"][0]["join"] == ""
    spaced = run("evaluate", tmp_path / "run", test, "--join", "space", "--json")
    assert json.loads(spaced.stdout)["micro"] != evaluated["micro"]


def test_help_is_shown_whole() -> None:
    """Square brackets are markup to rich, which drops what it does not know: `[space]`."""

    def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from commands(inner, (*path, name))

    def letters(text: str) -> str:
        return "".join(c for c in text if not c.isspace() and c not in "│╭╮╰╯─")

    found = 0
    for path, command in commands(typer.main.get_command(app), ()):
        shown = letters(run(*path, "--help").stdout)
        texts = [command.help or "", *(getattr(p, "help", "") or "" for p in command.params)]
        for text in texts:
            # As it is meant: a bracket that is escaped is one that is shown.
            assert letters(text.replace("\\[", "[").split("\f")[0]) in shown, (path, text)
            found += 1
    assert found > 50
    assert "section [space]" in " ".join(run("sweep", "--help").stdout.split()).replace("│ ", "")


def test_options_of_formats(model: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.tsv"
    wide.write_text("1\tx\t王\tB-PER\n2\tx\t明\tI-PER\n", encoding="utf-8")
    columns = ("--option", "columns=2,3")
    outcome = run("evaluate", model, wide, "--json", *columns)
    assert outcome.code == 0, outcome.error
    assert "columns 3 (token) and 4 (tag) of 4 are read" in json.loads(outcome.stdout)["notices"]
    outcome = run("predict", model, "--file", wide, "--format", "jsonl", *columns)
    assert json.loads(outcome.stdout)["text"] == "王明"
    refused(run("evaluate", model, wide, "--option", "columns"), "expected KEY=VALUE")
    refused(run("predict", model, "--file", wide, *columns, *columns), "columns is given twice")
    refused(run("predict", model, "-f", wide, "--option", "x=1"), "has no option 'x'; it has:")


def test_predictions_in_files_that_are_no_text(model: Path, tmp_path: Path) -> None:
    sentence = "王明在北京。"
    outcome = run("predict", model, sentence, "--format", "brat", "-o", tmp_path / "out")
    assert (outcome.code, outcome.stdout) == (0, "")
    (found,) = load_corpus(tmp_path / "out").documents
    shown = json.loads(run("predict", model, sentence, "--format", "jsonl").stdout)
    assert found.text == sentence
    assert [[e.start, e.end, e.label] for e in found.entities] == [
        [e["start"], e["end"], e["label"]] for e in shown["entities"]
    ]
