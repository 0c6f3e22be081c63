"""`nertune data audit`: from a file to the page, the tasks and the fixed file."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.commands import run
from helpers.tiny import SENTENCES, write_jsonl

RECIPE = """
[run]
device = "cpu"
threads = 1
[model]
emitter = "lstm"
[lstm]
embedding_size = 8
hidden_size = 8
layers = 1
[train]
epochs = 1
"""


def test_from_a_file_to_the_fixed_one(tmp_path: Path) -> None:
    source, recipe = write_jsonl(tmp_path / "a.jsonl", SENTENCES), tmp_path / "lstm.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    out, fixed = tmp_path / "out", tmp_path / "fixed.jsonl"
    options = ("--recipe", recipe, "--folds", 2, "-o", out)
    done = run("data", "audit", source, *options, "--to", "label-studio", "--tasks", 3)
    assert (done.code, done.stderr.count("model 2 of 2")) == (0, 1)
    assert "8 documents, 17 entities; 2 folds." in done.stdout
    assert "The models are weak on these data" in done.stdout.replace("\n", " ")
    tasks = out / "to-correct.label-studio.json"
    assert f"to correct:  {tasks} (3 documents)" in done.stdout
    assert f"nertune data audit {source} --apply CORRECTED -o FIXED\n" in done.stdout
    assert "p comes from their probabilities; it ranks places" in done.stdout
    assert "<title>Audit of" in (out / "audit.html").read_text(encoding="utf-8")

    assert "use --resume to continue it" in run("data", "audit", source, *options).error
    held = run("data", "audit", source, *options, "--overwrite", "--to", "label-studio")
    assert "perhaps with corrections: move it away first" in held.error
    again = run("data", "audit", source, *options, "--resume", "--json")
    found = json.loads(again.stdout)
    assert found["tasks"] is None
    rows = (out / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    assert found["suspicions"] == [json.loads(row) for row in rows]

    changed = json.loads(tasks.read_text(encoding="utf-8"))
    for task in changed:
        task["annotations"][0]["result"] = []
    tasks.write_text(json.dumps(changed), encoding="utf-8")
    applied = run("data", "audit", source, "--apply", tasks, "-o", fixed)
    assert applied.code == 0
    assert "3 of 3 corrected documents differ" in applied.stdout
    assert f"{fixed}: 8 documents" in applied.stdout
    assert "exists already" in run("data", "audit", source, "--apply", tasks, "-o", fixed).error


def test_what_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    source, out = write_jsonl(tmp_path / "a.jsonl", SENTENCES), tmp_path / "out"
    for options, message in (
        (("--to", "conll"), "--to 'conll': expected one of label-studio"),
        (("--folds", 1), "--folds 1: expected at least 2"),
        (("--to", "jsonl", "--apply", source), "use one of the two"),
        (("--set", "train.epoch=3"), "unknown key train.epoch"),
        (("--resume", "--overwrite"), "exclude each other"),
    ):
        done = run("data", "audit", source, "-o", out, *options)
        assert done.code == 2
        assert message in done.error
    assert not out.exists()
