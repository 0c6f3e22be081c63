"""A whole audit with tiny models: what it leaves, resuming, tasks there and back, refusals."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers.tiny import SENTENCES, write_jsonl
from nertune.config.run import Settings, parse_settings, with_changes
from nertune.data.corpus import Corpus, load_corpus
from nertune.errors import CheckpointError, ConfigError, DataError
from nertune.experiments.train import train
from nertune.reports.html import to_html
from nertune.reports.semisupervised.audit.page import audit_page, save_page
from nertune.reports.semisupervised.audit.terminal import print_audit
from nertune.semisupervised.audit.audit import Audit, AuditOptions, audit
from nertune.semisupervised.audit.recipe import audit_settings
from nertune.semisupervised.audit.suspicions import Suspicion
from nertune.semisupervised.audit.tasks import (
    Tasks,
    apply_corrections,
    join_files,
    name_documents,
    save_tasks,
)
from nertune.training.observer import Observer
from nertune.types import Document, Entity

RECIPE = """
[run]
device = "cpu"
threads = 1
[model]
emitter = "lstm"
unit = "char"
[lstm]
embedding_size = 16
hidden_size = 16
layers = 1
[train]
epochs = 2
batch_tokens = 40
"""


FAST = "batch_tokens = 160\nlearning_rate = 0.02"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("audit")
    several = [*SENTENCES, *(Document(f"{d.text}{n}", d.entities) for n, d in
                             enumerate(SENTENCES))]  # fmt: skip
    return load_corpus(write_jsonl(folder / "data.jsonl", several))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    path = tmp_path_factory.mktemp("recipe") / "lstm.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return audit_settings("data.jsonl", path)


@pytest.fixture(scope="module")
def found(
    corpus: Corpus, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Audit, Path]:
    output = tmp_path_factory.mktemp("out")
    return audit(corpus, settings, output=output, options=AuditOptions(folds=2, seeds=2)), output


def test_what_an_audit_leaves(found: tuple[Audit, Path], corpus: Corpus) -> None:
    result, output = found
    lines = (output / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows == result.to_dict()["suspicions"]
    assert len(rows) > 10
    chances = [row["probability"] for row in rows]
    assert chances == sorted(chances, reverse=True)
    ids = {d.id: d for d in corpus.documents}
    for row in rows:
        document = ids[row["document"]]
        for entity in (*row["gold"], *row["suggested"]):
            assert document.text[entity["start"] : entity["end"]] == entity["text"]
        gold = {(e["start"], e["end"], e["label"]) for e in row["gold"]}
        assert gold <= {e.key for e in document.entities}
        assert row["reason"]
    record = json.loads((output / "audit.json").read_text(encoding="utf-8"))
    assert record["data"]["documents"] == 16
    assert {p.name for p in (output / "folds" / "fold-2").iterdir()} == {"seed-1", "seed-2"}


class _Killed(Observer):
    """Interrupts when so many runs have begun."""

    def __init__(self, after: int):
        self.begun, self._after = 0, after

    def on_begin(self, name: str, num_epochs: int) -> None:
        self.begun += 1
        if self.begun > self._after:
            raise KeyboardInterrupt


def test_a_killed_audit_resumes_to_the_same(
    corpus: Corpus, settings: Settings, found: tuple[Audit, Path], tmp_path: Path
) -> None:
    options, whole = AuditOptions(folds=2, seeds=2), found[1]
    with pytest.raises(KeyboardInterrupt):
        audit(corpus, settings, output=tmp_path, options=options, observers=[_Killed(2)])
    assert not (tmp_path / "audit.jsonl").exists()
    counter = _Killed(99)
    audit(corpus, settings, output=tmp_path, options=options, resume=True, observers=[counter])
    assert counter.begun == 2  # of four runs two were finished
    assert (tmp_path / "audit.jsonl").read_bytes() == (whole / "audit.jsonl").read_bytes()


def test_what_lies_in_the_folder_is_not_lost(
    corpus: Corpus, settings: Settings, found: tuple[Audit, Path]
) -> None:
    options, output = AuditOptions(folds=2, seeds=2), found[1]
    before = (output / "audit.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="holds an audit: use --resume"):
        audit(corpus, settings, output=output, options=options)
    with pytest.raises(CheckpointError, match="had other --folds"):
        audit(corpus, settings, output=output, options=AuditOptions(folds=3), resume=True)
    other = replace(corpus, sha256="0" * 64)
    with pytest.raises(CheckpointError, match="had other data"):
        audit(other, settings, output=output, options=options, resume=True)
    assert (output / "audit.jsonl").read_bytes() == before


def test_nothing_to_audit(settings: Settings, tmp_path: Path) -> None:
    empty = Corpus.from_documents([Document("没有")] * 4)
    with pytest.raises(DataError, match="nothing to audit"):
        audit(empty, settings, output=tmp_path)
    with pytest.raises(ConfigError, match="--seeds 0"):
        AuditOptions(seeds=0)


def test_another_recipe_takes_nothing_from_a_finished_audit(
    corpus: Corpus, settings: Settings, found: tuple[Audit, Path]
) -> None:
    options, output = AuditOptions(folds=2, seeds=2), found[1]
    other = settings.model_copy(update={"train": settings.train.model_copy(update={"epochs": 3})})
    before = (output / "audit.jsonl").read_bytes()
    with pytest.raises(CheckpointError):
        audit(corpus, other, output=output, options=options, resume=True)
    assert (output / "audit.jsonl").read_bytes() == before


def make_sentence(number: int, draw: random.Random) -> Document:
    """Digits, a person of two characters, a verb, a place of two characters."""
    name = draw.choice("王李张赵陈刘杨黄周吴") + draw.choice("明华强丽芳伟静磊娜军")
    verb = draw.choice(["住在", "去了", "来自", "离开", "想念"])
    place = draw.choice(["北京", "上海", "广州", "天津", "成都", "西安", "大连", "青岛"])
    digits = "".join(draw.choices("零一二三四五六七八九", k=12))
    gold = (Entity(12, 14, "PER"), Entity(16, 18, "LOC"))
    return Document(f"{digits}{name}{verb}{place}。", gold, f"d:{number}")


def test_planted_errors_come_first_with_what_was_there_before(tmp_path: Path) -> None:
    draw = random.Random(1)
    documents = [make_sentence(number, draw) for number in range(80)]
    person, place = documents[0].entities
    wrong = {
        "missed": (person,),
        "spurious": (person, place, Entity(4, 6, "PER")),
        "boundary": (person, replace(place, end=19)),
        "type": (person, replace(place, label="PER")),
    }
    planted = {}
    for number, (kind, entities) in enumerate([*wrong.items()] * 2):
        documents[9 * number] = documents[9 * number].with_entities(entities)
        planted[9 * number] = kind
    recipe = RECIPE.replace("epochs = 2", "epochs = 12").replace("batch_tokens = 40", FAST)
    recipe = recipe.replace("_size = 16", "_size = 24")
    (tmp_path / "lstm.toml").write_text(recipe, encoding="utf-8")
    settings = audit_settings("data", tmp_path / "lstm.toml")
    corpus = Corpus.from_documents(documents)
    found = audit(corpus, settings, output=tmp_path / "out", options=AuditOptions(folds=3))
    assert found.f1 is not None
    assert found.f1 > 0.9
    first = found.suspicions[: len(planted)]
    assert {s.index: s.kind for s in first} == planted
    for suspicion in first:
        expected = () if suspicion.kind == "spurious" else (place,)
        assert [e.key for e in suspicion.suggested] == [e.key for e in expected]
    assert first[-1].probability > 0.5
    record = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    assert record["settings"]["train"]["epochs"] == 12


def suspect(index: int, gold: tuple[Entity, ...], suggested: tuple[Entity, ...]) -> Suspicion:
    return Suspicion(index, "", "missed", 0.9, gold, suggested, 0.1, 0.9, "because")


def make_audit(corpus: Corpus, settings: Settings, suspicions: list[Suspicion]) -> Audit:
    named = [replace(s, document=corpus.documents[s.index].id) for s in suspicions]
    return Audit(corpus, tuple(named), (), 0.8, AuditOptions(), settings, ())


CONLL = "".join(
    f"{c} {t}\n" for c, t in zip("王明在北京", ["B-P", "I-P", "O", "O", "O"], strict=True)
)


@pytest.fixture
def columns(tmp_path: Path) -> Corpus:
    path = tmp_path / "train.conll"
    path.write_text(f"{CONLL}\n{CONLL}\n好 O\n😀 O\n京 B-L\n\n", encoding="utf-8")
    return load_corpus(path)


@pytest.mark.parametrize("format", ["label-studio", "doccano", "jsonl"])
def test_tasks_there_and_back(
    format: str, columns: Corpus, settings: Settings, tmp_path: Path
) -> None:
    missed = suspect(1, (), (Entity(3, 5, "L", 0.9),))
    spurious = suspect(2, (Entity(2, 3, "L", 0.1),), ())
    made = make_audit(columns, settings, [missed, spurious])
    tasks = save_tasks(made, tmp_path, format=format, num_documents=5)
    assert tasks.documents == 2
    before = columns.path.read_bytes()
    same = apply_corrections(columns, tasks.path, tmp_path / "same.conll")
    assert same.changes == ()
    assert (tmp_path / "same.conll").read_bytes() == before

    corrected = tmp_path / "corrected.json"
    corrected.write_text(correct(tasks.path, format), encoding="utf-8")
    applied = apply_corrections(columns, corrected, tmp_path / "fixed.conll")
    assert [(c.document, [x for _, x in c.removed], [x for _, x in c.added])
            for c in applied.changes] == [
        ("train.conll:7", ["王明"], ["北京"]), ("train.conll:13", ["京"], []),
    ]  # fmt: skip
    changed = CONLL.replace("王 B-P\n明 I-P", "王 O\n明 O").replace("北 O\n京 O", "北 B-L\n京 I-L")
    expected = f"{CONLL}\n{changed}\n好 O\n😀 O\n京 O\n\n"
    assert (tmp_path / "fixed.conll").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize(("format", "key"), [("doccano", "label"), ("jsonl", "entities")])
def test_a_suggestion_counts_as_the_labels_beside_it(
    format: str, key: str, settings: Settings, tmp_path: Path
) -> None:
    gold = Entity(1, 3, "P")
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "😀王明在北京", "entities": [[1, 3, "P"]]}\n', encoding="utf-8")
    found = suspect(0, (), (Entity(4, 6, "L", 0.9),))
    made = make_audit(load_corpus(path), settings, [found])
    tasks = save_tasks(made, tmp_path, format=format, num_documents=5)
    row = json.loads(tasks.path.read_text(encoding="utf-8"))
    told = row[key][0]
    start, end = (told["start"], told["end"]) if isinstance(told, dict) else told[:2]
    assert row["nertune_suggested"][0] == [start, end, "P"]
    shift = start - gold.start
    assert shift == (format == "doccano")  # which counts UTF-16 units
    assert row["nertune_suggested"][1] == [4 + shift, 6 + shift, "L"]


def test_every_document_has_a_name_of_its_own() -> None:
    ids = ["a", "a", "a#2", "a", "", "", "#1"]
    names = name_documents([Document("x", id=name) for name in ids])
    assert names == ["a", "a#3", "a#2", "a#4", "#2", "#3", "#1"]


def test_a_copy_that_is_outvoted_gets_the_other_labels(
    columns: Corpus, settings: Settings, tmp_path: Path
) -> None:
    """The models alone would keep the gold, as the probabilities of the readings say."""
    place = Entity(3, 5, "L", 0.2)
    copy = Suspicion(1, "", "copy", 0.9, (), (place,), 0.8, 0.2, "because", "train.conll:1")
    for chance, expected in ((0.9, [[0, 2, "P"], [3, 5, "L"]]), (0.2, [[0, 2, "P"]])):
        made = make_audit(columns, settings, [replace(copy, probability=chance)])
        (output := tmp_path / str(chance)).mkdir()
        path = save_tasks(made, output, format="jsonl", num_documents=5).path
        assert json.loads(path.read_text(encoding="utf-8"))["nertune_suggested"] == expected


def correct(path: Path, format: str) -> str:
    """What an annotator makes of the tasks: 北京 instead of 王明, and nothing in the other one."""
    if format == "label-studio":
        tasks = json.loads(path.read_text(encoding="utf-8"))
        assert [len(t["predictions"][0]["result"]) for t in tasks] == [2, 0]
        assert "because" in tasks[0]["data"]["nertune_audit"]
        region = tasks[0]["annotations"][0]["result"][0]
        region["value"] = {"start": 3, "end": 5, "text": "北京", "labels": ["L"]}
        tasks[1]["annotations"][0]["result"] = []
        for number, task in enumerate(tasks):  # as the tool numbers them anew
            task["id"] = 900 + number
        return json.dumps(tasks)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    key = "label" if format == "doccano" else "entities"
    assert rows[0]["nertune_suggested"] == [[0, 2, "P"], [3, 5, "L"]]
    rows[0][key], rows[1][key] = [[3, 5, "L"]], []
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def label_studio(path: Path, change: Any) -> Path:
    tasks = json.loads(path.read_text(encoding="utf-8"))
    change(tasks[0])
    path.with_name("changed.json").write_text(json.dumps(tasks), encoding="utf-8")
    return path.with_name("changed.json")


def test_tasks_that_nobody_corrected_change_nothing(
    columns: Corpus, settings: Settings, tmp_path: Path
) -> None:
    made = make_audit(columns, settings, [suspect(1, (), (Entity(3, 5, "L", 0.9),))])
    path = save_tasks(made, tmp_path, format="label-studio", num_documents=5).path
    cancelled = [{"was_cancelled": True, "result": []}]
    skipped = [{"skipped": True, "result": []}]
    without: tuple[dict[str, Any], ...] = (
        {}, {"annotations": None}, {"annotations": []}, {"annotations": cancelled},
        {"annotations": skipped}, {"completions": cancelled}, {"completions": skipped},
    )  # fmt: skip
    for number, given in enumerate(without):

        def change(task: dict[str, Any], given: dict[str, Any] = given) -> None:
            del task["annotations"]
            assert task["predictions"]  # which are the model's, and nobody's answer
            task.update(given)

        changed = label_studio(path, change)
        target = tmp_path / f"fixed-{number}.conll"
        applied = apply_corrections(columns, changed, target)
        assert (applied.documents, applied.changes) == (0, ())
        told = "1 task without an annotation: its document stays as it is"
        assert [n for n in applied.notices if "without" in n] == [told]
        assert target.read_bytes() == columns.path.read_bytes()


def test_files_that_do_not_belong_to_the_corpus(
    columns: Corpus, settings: Settings, tmp_path: Path
) -> None:
    made = make_audit(columns, settings, [suspect(1, (), (Entity(3, 5, "L", 0.9),))])
    path = save_tasks(made, tmp_path, format="label-studio", num_documents=5).path
    cases = [
        (lambda task: task["data"].pop("nertune_id"), "has no 'nertune_id'"),
        (lambda task: task["data"].update(nertune_id="b:1"), "b:1: the corpus has no such doc"),
        (lambda task: task["data"].update(nertune_id="train.conll:13"), "its text is '?王明"),
        (lambda task: task["annotations"].append({"result": []}), "has 2 annotations: mark one"),
    ]
    for change, message in cases:
        with pytest.raises(DataError, match=message):
            apply_corrections(columns, label_studio(path, change), tmp_path / "fixed.conll")
        assert not (tmp_path / "fixed.conll").exists()
    twice = path.with_name("twice.json")
    twice.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) * 2))
    with pytest.raises(DataError, match="stands there twice"):
        apply_corrections(columns, twice, tmp_path / "fixed.conll")


def test_overlapping_corrections_are_refused_where_the_format_cannot_hold_them(
    columns: Corpus, settings: Settings, tmp_path: Path
) -> None:
    made = make_audit(columns, settings, [suspect(1, (), (Entity(3, 5, "L", 0.9),))])
    path = save_tasks(made, tmp_path, format="jsonl", num_documents=5).path
    row = json.loads(path.read_text(encoding="utf-8"))
    row["entities"] = [[0, 2, "P"], [1, 5, "L"]]
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    applied = apply_corrections(columns, path, tmp_path / "fixed.conll")
    assert not applied.written.is_written
    assert not (tmp_path / "fixed.conll").exists()
    assert applied.written.losses[0].document == "train.conll:7"


def test_a_file_with_corrections_is_not_overwritten(
    columns: Corpus, settings: Settings, tmp_path: Path
) -> None:
    made = make_audit(columns, settings, [suspect(1, (), (Entity(3, 5, "L", 0.9),))])
    path = save_tasks(made, tmp_path, format="doccano", num_documents=5).path
    save_tasks(made, tmp_path, format="doccano", num_documents=5)  # the same again
    path.write_text("corrected\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="move it away first"):
        save_tasks(made, tmp_path, format="doccano", num_documents=5)
    with pytest.raises(ConfigError, match="--to 'conll': expected one of label-studio, doc"):
        save_tasks(made, tmp_path, format="conll", num_documents=5)


def test_the_page_escapes_what_comes_from_the_data(settings: Settings, tmp_path: Path) -> None:
    text = '<script>alert("x")</script>&<b>北京</b>'
    evil = Corpus.from_documents([Document(text, (), "<img src=x>")], name="<i>name</i>")
    place = Entity(text.index("北"), text.index("北") + 2, "<LOC>", 0.9)
    made = make_audit(evil, settings, [replace(suspect(0, (), (place,)), reason="<u>why</u>")])
    html = save_page(made, tmp_path / "audit.html").read_text(encoding="utf-8")
    for bad in ("<script", "<img", "<i>", "<u>", "<LOC>", "<b>"):
        assert bad not in html
    assert "&lt;LOC&gt;" in html
    assert "http" not in html.replace("http-equiv", "")
    assert "北京" in to_html(audit_page(made))


def test_several_files_are_audited_as_one_and_corrected_apart(
    columns: Corpus, settings: Settings, tmp_path: Path
) -> None:
    other = tmp_path / "b" / "train.conll"  # the same name, and so the same ids
    other.parent.mkdir()
    other.write_bytes(columns.path.read_bytes())
    both = join_files([columns, load_corpus(other)])
    assert [d.text for d in both.documents] == [d.text for d in columns.documents] * 2
    place = suspect(0, (), (Entity(3, 5, "L", 0.9),))
    made = make_audit(both, settings, [place, replace(place, index=3), replace(place, index=4)])
    path = save_tasks(made, tmp_path, format="label-studio", num_documents=5).path
    console = Console(file=StringIO(), width=500)
    print_audit(made, console, page=tmp_path / "a.html", tasks=Tasks(path, "label-studio", 3, ()))
    assert "data audit FILE --apply CORRECTED -o FIXED, for each FILE" in console.file.getvalue()  # type: ignore[attr-defined]
    tasks = json.loads(path.read_text(encoding="utf-8"))
    tasks[1]["annotations"][0]["result"] = []
    tasks[0]["annotations"] = []  # of the first file: nobody saw it
    path.write_text(json.dumps(tasks), encoding="utf-8")
    first = apply_corrections(columns, path, tmp_path / "first.conll")
    assert (first.documents, first.changes) == (0, ())
    assert "2 tasks of other files are left out" in first.notices[-2]
    second = apply_corrections(load_corpus(other), path, tmp_path / "second.conll")
    assert [c.document for c in second.changes] == ["train.conll:1"]
    assert second.documents == 2

    third = tmp_path / "c.conll"
    third.write_bytes(columns.path.read_bytes())
    with pytest.raises(DataError, match=r"no task is of .*c\.conll; they are of"):
        apply_corrections(load_corpus(third), path, tmp_path / "third.conll")
    with pytest.raises(ConfigError, match="is given twice"):
        join_files([columns, columns])


def test_models_that_know_the_labels_do_not_judge_them(
    corpus: Corpus, settings: Settings, tmp_path: Path
) -> None:
    data = {"train": str(corpus.path)}
    first = parse_settings(
        {**settings.to_dict(), "data": data, "run": {"dir": str(tmp_path / "a")}}
    )
    train(first)
    start = str(tmp_path / "a")
    own = parse_settings(with_changes(settings.to_dict(), {"model.start_from": start}))
    with pytest.raises(ConfigError, match="so it knows the labels"):
        audit(corpus, own, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    half = Corpus.from_documents(corpus.documents[:8])
    made = audit(half, own, output=tmp_path / "out", options=AuditOptions(folds=2))
    assert "the models start from" in made.notices[0]
