"""The commands that change a corpus or show it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.commands import run
from helpers.tiny import SENTENCES, write_jsonl
from nertune.data.corpus import load_corpus
from nertune.types import Document, Entity

COMMANDS = ("split", "merge", "map", "dedupe", "view")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "a.jsonl")


def test_split(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("data", "split", "sample:train", out, "--seed", "1", "--check")
    assert done.code == 0
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert rows["documents"] == ["324", "80.0", "41", "10.1", "40", "9.9"]
    assert rows["PERSON"][::2] != ["0", "0", "0"]
    assert "405 texts, of which no two are nearly equal\n" in done.stdout
    assert "train.jsonl: 324 documents" in done.stderr
    assert "checked: what is read again is the same" in done.stderr
    held = [load_corpus(out / f"{name}.jsonl").documents for name in ("train", "dev", "test")]
    assert [len(documents) for documents in held] == [324, 41, 40]
    again = run("data", "split", "sample:train", out, "--seed", "1")
    assert (again.code, "exists already" in again.error) == (2, True)
    done = run("data", "split", "sample:train", out, "--sizes", "dev=9,rest=9", "--json",
               "--overwrite")  # fmt: skip
    assert done.code == 0
    found = json.loads(done.stdout)
    assert (found["left_out"], found["seed"]) == (387, 0)
    assert found["written"]["rest"]["target"].endswith("rest.jsonl")
    assert len(load_corpus(out / "dev.jsonl").documents) == 9


def test_split_holds_copies_together(tmp_path: Path) -> None:
    copies = [d.text + "！" * (i == 0) for i, d in enumerate(SENTENCES[:2])]
    source = write_jsonl(tmp_path / "a.jsonl", [*SENTENCES, *map(Document, copies)])
    done = run("data", "split", source, tmp_path / "out", "--near", "0.7", "--seed", "2")
    assert done.stdout.endswith(
        "10 texts: 1 repeat an earlier one, 2 are nearly equal to another one; they are held "
        "together in 2 groups\n"
    )
    assert "groups" in done.stdout.splitlines()[4]


def test_split_that_loses_something(tmp_path: Path) -> None:
    nested = [
        Document(f"北京大学{i}", (Entity(0, 4, "ORG"), Entity(0, 2, "LOC"))) for i in range(9)
    ]
    source = write_jsonl(tmp_path / "a.jsonl", nested)
    done = run("data", "split", source, tmp_path / "out", "--to", "conll")
    assert done.code == 1
    assert not (tmp_path / "out").exists()
    assert "train.conll is not written: conll cannot hold" in done.stderr
    assert run("data", "split", source, tmp_path / "out", "--to", "conll", "--allow-loss").code == 0
    wrong = run("data", "split", source, tmp_path / "o", "--group", "site")
    assert "--group site: document a.jsonl:1 has no such key" in wrong.error


def test_merge(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.conll"
    other.write_text("王\tB-PER\n明\tI-PER\n来\tO\n", encoding="utf-8")
    target = tmp_path / "c.jsonl"
    without = ("--to-option", "tokens=no")
    done = run("data", "merge", source, other, target, "--labels", "PER=PERSON", *without)
    assert done.code == 1  # the tokens of columns
    assert "lost: b.conll:1: tokens: 3 source tokens" in done.stderr
    assert not target.exists()
    done = run("data", "merge", source, other, source, target, "--labels", "PER=PERSON",
               "--allow-loss", *without)  # fmt: skip
    assert done.code == 0
    assert "8 documents repeat the text of an earlier one, 0 of them with other" in done.stderr
    assert "1 entity renamed (PER 1)" in done.stderr
    assert "2-b.conll: 1 document\n" in done.stderr
    found = load_corpus(target)
    assert len(found.documents) == 17
    assert "PER" not in found.labels
    assert "expected IN... OUT" in run("data", "merge", source).error
    assert "same file" in run("data", "merge", other, source, source, "--overwrite").error


def test_map(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.jsonl"
    done = run("data", "map", source, target, "--labels", "TIME=,PERSON=ORGANIZATION")
    assert done.code == 0
    assert "entities renamed (PERSON " in done.stderr
    assert load_corpus(target).labels == ("LOCATION", "ORGANIZATION")
    wrong = run("data", "map", source, tmp_path / "c.jsonl", "--labels", "PER=X")
    assert wrong.code == 2
    assert "there is LOCATION, ORGANIZATION, PERSON, TIME; did you mean 'PERSON'?" in wrong.error
    clash = write_jsonl(
        tmp_path / "d.jsonl", [Document("王明来", (Entity(0, 2, "A"), Entity(0, 2, "B")))]
    )
    done = run("data", "map", clash, tmp_path / "e.jsonl", "--labels", "A=B", "--json")
    assert json.loads(done.stdout)["clashes"][0]["surface"] == "王明"
    done = run("data", "map", clash, tmp_path / "f.jsonl", "--labels", "A=B")
    assert "d.jsonl:1: A [0, 2) and B [0, 2) '王明' are the same now as B" in done.stderr


def test_dedupe(tmp_path: Path) -> None:
    first = SENTENCES[0]
    other = first.with_entities((*first.entities[:1], Entity(7, 9, "ORGANIZATION")))
    source = write_jsonl(tmp_path / "a.jsonl", [*SENTENCES, first, other])
    done = run("data", "dedupe", source, tmp_path / "b.jsonl")
    assert done.code == 0
    assert "2 documents dropped, the first of each text is kept\n" in done.stderr
    assert (
        "1 repeat is annotated otherwise than the first; --keep-conflicts keeps it" in done.stderr
    )
    told = "only in a.jsonl:10, not in a.jsonl:1: ORGANIZATION [7, 9) '北京'"
    assert told in done.stderr
    assert len(load_corpus(tmp_path / "b.jsonl").documents) == 8
    kept = run("data", "dedupe", source, tmp_path / "c.jsonl", "--keep-conflicts", "--json")
    assert json.loads(kept.stdout)["dropped"] == 1
    near = write_jsonl(tmp_path / "n.jsonl", [first, Document(first.text + " ！")])
    done = run("data", "dedupe", near, tmp_path / "d.jsonl", "--near", "0.7")
    assert "1 document dropped, the first of each text is kept: 0 equal, 1 nearly" in done.stderr
    assert "n.jsonl:2: '王小明昨天到了北京。 ！' is nearly equal to n.jsonl:1" in done.stderr
    wrong = run("data", "dedupe", near, tmp_path / "e.jsonl", "--near", "0.1")
    assert (wrong.code, "expected a similarity from 0.5 to 1" in wrong.error) == (2, True)


def test_view(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("data", "view", source)
    assert (done.code, done.stdout) == (0, "a.html: 8 documents, 17 entities\n")
    assert "王小明" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "exists already" in run("data", "view", source).error
    assert run("data", "view", source, "--overwrite", "--page-size", "3").code == 0
    assert "const PAGE_SIZE = 3;" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert run("data", "view", "sample:dev", "-o", "x.html").code == 0
    assert run("data", "view", source, "--page-size", "0").code == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_not_there(command: str, tmp_path: Path) -> None:
    more = ["--labels", "A=B"] if command == "map" else []
    target = ["-o", tmp_path / "x"] if command == "view" else [tmp_path / "x"]
    done = run("data", command, tmp_path / "absent.jsonl", *target, *more)
    assert (done.code, "no such file" in done.error) == (2, True)
    assert not (tmp_path / "x").exists()


def test_how_a_file_is_read_is_said_once(tmp_path: Path) -> None:
    source = tmp_path / "a.conll"
    source.write_text(SENTENCES[0].text.join(['{"text": "', '", "entities": []}\n']), "utf-8")
    done = run("data", "view", source, "-o", tmp_path / "a.html")
    assert done.code == 0
    assert done.stderr.count("read as jsonl: its first line") == 1
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert html.lower().count("read as jsonl: its first line") == 1
