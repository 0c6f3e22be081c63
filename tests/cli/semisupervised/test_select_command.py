"""`nertune select`: texts in, tasks out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.commands import run
from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor, tiny_bert
from nertune.data.corpus import load_corpus
from nertune.data.formats.registry import all_formats


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("select")
    settings = make_settings(folder, "lstm-crf")
    save_predictor(folder / "model", make_predictor(settings), settings)
    return folder / "model"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "pool.txt"
    texts = [d.text for d in SENTENCES] + [SENTENCES[0].text, " "]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_tasks_with_predictions(model: Path, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "tasks.jsonl"
    done = run("select", pool, "--model", model, "--budget", 40, "-o", out)
    assert done.code == 0
    tasks = load_corpus(out).documents
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert rows["documents"] == [str(len(tasks)), "10"]
    assert sum(map(int, (rows[label][0] for label in ("PERSON", "TIME")))) > 0
    assert "chosen by span-entropy\n" in done.stdout
    assert "left out: 1 equal to another one; 1 without text\n" in done.stdout
    assert f"tasks.jsonl: {len(tasks)} documents" in done.stderr
    assert [task.meta["selection_rank"] for task in tasks] == [*range(1, len(tasks) + 1)]
    scores = [task.meta["selection_score"] for task in tasks]
    assert scores == sorted(scores, reverse=True)
    assert all(e.score is not None for task in tasks for e in task.entities)
    again = run("select", pool, "--model", model, "--budget", 40, "-o", out)
    assert (again.code, "exists already" in again.error) == (2, True)
    done = run("select", pool, "--model", model, "--budget", 40, "-o", out, "--overwrite",
               "--no-predictions", "--labelled", out)  # fmt: skip
    assert (done.code, "IN and OUT are the same file" in done.error) == (2, True)
    new = tmp_path / "next.jsonl"
    done = run("select", pool, "--model", model, "--documents", 2, "-o", new, "--no-predictions",
               "--labelled", out, "--json")  # fmt: skip
    said = json.loads(done.stdout)
    assert said["pool"]["labelled"] >= len(tasks)
    assert said["written"]["documents"] == said["documents"] == 2
    later = load_corpus(new).documents
    assert not any(task.entities for task in later)
    assert not {task.text for task in later} & {task.text for task in tasks}


@pytest.mark.parametrize(
    "to", [f.name for f in all_formats() if f.writes and f.holds.entities], ids=str
)
def test_tasks_of_every_format(to: str, model: Path, pool: Path, tmp_path: Path) -> None:
    """What is read again are the chosen texts, with the entities that the format can hold."""
    if to == "spacy":
        pytest.importorskip("spacy", reason="the extra `spacy` is not installed")
    done = run("select", pool, "--model", model, "--documents", 3, "--to", to,
               "-o", tmp_path / "tasks", "--json")  # fmt: skip
    assert done.code == 0
    said = json.loads(done.stdout)
    assert said["written"]["documents"] == 3
    format = next(f for f in all_formats() if f.name == to)
    read = load_corpus(tmp_path / "tasks", format=format.read_as or to).documents
    kept = said["written"]["entities"]
    assert sum(len(d.entities) for d in read) == kept == sum(said["entities"].values())
    assert {"".join(d.text.split()) for d in read} <= {"".join(d.text.split()) for d in SENTENCES}
    if format.holds.metadata:
        assert [d.meta["selection_rank"] for d in read] == [1, 2, 3]


def test_without_a_model(pool: Path, tmp_path: Path) -> None:
    done = run("select", pool, "--strategy", "random", "--budget", 30, "--seed", 3)
    assert done.code == 0
    assert "chosen by random, seed 3\n" in done.stdout
    assert "entities" not in done.stdout
    done = run("select", pool, "--encoder", tiny_bert(), "--budget", 30,
               "-o", tmp_path / "a.json", "--to", "label-studio")  # fmt: skip
    assert done.code == 0
    assert "chosen by diversity\n" in done.stdout
    tasks = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [task["data"]["selection_rank"] for task in tasks] == [*range(1, len(tasks) + 1)]
    assert not any("annotations" in task for task in tasks)  # they are not labelled yet


def test_errors(pool: Path, model: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        done = run("select", pool, *arguments)
        assert done.code == 2
        assert not done.stdout
        return done.error

    assert "say --strategy random, or diversity with --encoder" in refused("--budget", 9)
    assert "mnlp needs --model" in refused("--budget", 9, "--strategy", "mnlp")
    assert "--encoder, e.g. mini-zh" in refused("--budget", 9, "--strategy", "diversity")
    assert "expected least-token" in refused("--budget", 9, "--strategy", "best", "--model", model)
    assert "--budget UNITS or --documents NUMBER" in refused("--strategy", "random")
    assert "the shortest of them has 7 units" in refused("--strategy", "random", "--budget", 3)
    assert "the model labels chars" in refused("--model", model, "--unit", "word", "--budget", 9)
    assert "belongs to --strategy diversity" in refused(
        "--strategy", "random", "--budget", 9, "--encoder", "mini-zh"
    )
    target = ("--strategy", "random", "--budget", 9, "-o", tmp_path / "tasks.xyz")
    assert "its suffix says no format; name one, e.g. --to label-studio" in refused(*target)
    assert "--to 'guess': expected auto" in refused(*target, "--to", "guess")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n", encoding="utf-8")
    assert "holds no text" in run("select", empty, "--strategy", "random", "--budget", 9).error
    assert not list(tmp_path.glob("tasks*"))
