"""Label Studio's JSON and JSON-MIN, on samples written by hand, and beside its own SDK."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nertune.data.convert import convert
from nertune.data.corpus import Corpus, load_corpus, load_with, save_with
from nertune.data.formats import ReadOptions, WriteOptions, find_format
from nertune.errors import ConfigError, DataError
from nertune.types import Document, Entity

PARTY = "🎉王明在京"  # 🎉 is one code point and two UTF-16 units
SENTENCE = "Anna Lee of Acme met Bo in Paris ."


def result(start: Any, end: Any, *labels: str, **more: Any) -> dict[str, Any]:
    value = {"start": start, "end": end, "labels": list(labels)}
    surface = more.pop("text", None)
    value |= {} if surface is None else {"text": surface}
    return {"from_name": "l", "to_name": "text", "type": "labels", "value": value, **more}


TASK = {
    "id": 7,
    "data": {"text": PARTY, "source": "web"},
    "annotations": [
        {"was_cancelled": True, "result": [result(0, 2, "X")]},
        {"result": [result(1, 3, "PER"), result(4, 5, "LOC", "GPE"), {"type": "choices"}]},
        {"result": []},
    ],
}


def load(folder: Path, value: Any, offsets: Any = "auto", **more: str) -> Corpus:
    (folder / "a.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    how = ReadOptions(offsets=offsets, more=more)
    return load_with(folder / "a.json", how, format="label-studio" if more else "auto")


def save(folder: Path, documents: Any, **more: str) -> Any:
    path = folder / "b.json"
    save_with(path, documents, WriteOptions(scores=True, more=more), format="label-studio")
    return json.loads(path.read_text(encoding="utf-8"))


def surfaces(corpus: Corpus) -> list[list[str]]:
    return [[f"{d.surface(e)}/{e.label}" for e in d.entities] for d in corpus.documents]


def test_json(tmp_path: Path) -> None:
    corpus = load(tmp_path, [TASK])
    assert corpus.format == "label-studio"
    (document,) = corpus.documents
    assert surfaces(corpus) == [["王明/PER", "京/GPE", "京/LOC"]]
    assert (document.id, document.meta) == ("7", {"id": 7, "source": "web"})
    assert set(corpus.notices) >= {
        "1 tasks with several annotations, of which the first is read",
        "1 tasks with annotations that were cancelled, which are not read",
        "1 results of type choices, which are not read",
    }
    (task,) = save(tmp_path, corpus.documents)
    assert (task["id"], task["data"]) == (7, TASK["data"])
    first = task["annotations"][0]["result"][0]
    assert first["value"] == {"start": 1, "end": 3, "text": "王明", "labels": ["PER"]}
    assert load(tmp_path, [task]).documents == corpus.documents


@pytest.mark.parametrize(
    ("regions", "found", "offsets"),
    [
        ([result(2, 4, "X", text="王明")], "王明", "utf16"),
        ([result(1, 3, "X", text="王明")], "王明", "codepoint"),
        ([result(2, 4, "X")], "明在", "codepoint"),  # nothing decides: as it is written today
        ([result(2, 4, "X"), result(5, 6, "X")], "王明", "utf16"),
    ],
)
def test_the_texts_of_regions_decide_what_offsets_count(
    regions: Any, found: str, offsets: str, tmp_path: Path
) -> None:
    task = {"data": {"text": PARTY}, "annotations": [{"result": regions}]}
    corpus = load(tmp_path, [task])
    assert (surfaces(corpus)[0][0], corpus.offsets) == (f"{found}/X", offsets)
    says = any("nothing in the file decides" in notice for notice in corpus.notices)
    assert says == (found == "明在")
    assert surfaces(load(tmp_path, [task], "utf16" if offsets == "utf16" else "codepoint")) == (
        surfaces(corpus)
    )


@pytest.mark.parametrize("unit", ["codepoint", "utf16", "grapheme", "byte"])
@pytest.mark.parametrize("layout", ["json", "json-min"])
def test_every_layout_and_unit_comes_back(layout: str, unit: str, tmp_path: Path) -> None:
    entities = (Entity(1, 3, "PER"), Entity(1, 5, "X"))
    document = Document(PARTY, entities, "7", meta={"id": 7, "page": [3], "created_at": "now"})
    written = save(tmp_path, [document], layout=layout, unit=unit, from_name="ner")
    assert ("data" in written[0]) == (layout == "json")
    corpus = load(tmp_path, written, unit=unit, from_name="ner")
    assert corpus.documents == (document,)


def test_tasks_of_one_line_have_ids_of_their_own(tmp_path: Path) -> None:
    tasks = [{"data": {"text": "a"}, "annotations": []}] * 2
    assert [d.id for d in load(tmp_path, tasks).documents] == ["a.json:1", "a.json:1.2"]


def test_what_a_task_says_beside_its_data_comes_back(tmp_path: Path) -> None:
    task = {**TASK, "meta": {"source": "x"}, "project": 3}
    (document,) = load(tmp_path, [task]).documents
    assert document.meta["label_studio_task"] == {"meta": {"source": "x"}, "project": 3}
    (written,) = save(tmp_path, [document])
    assert (written["meta"], written["project"]) == ({"source": "x"}, 3)
    assert set(written["data"]) == {"text", "source"}
    for extra in ({}, {"data": 1}, "x"):  # not of a task: an ordinary value
        odd = Document("a", meta={"label_studio_task": extra})
        assert load(tmp_path, save(tmp_path, [odd])).documents[0].meta == odd.meta


def test_predictions(tmp_path: Path) -> None:
    scored = {"result": [result(1, 3, "PER", score=0.5)], "score": 0.4, "model_version": "m"}
    task = {"data": {"text": PARTY}, "predictions": [scored]}
    corpus = load(tmp_path, [task])
    assert corpus.documents[0].entities == (Entity(1, 3, "PER", 0.5),)
    assert "1 tasks without annotations, of which the first prediction is read" in corpus.notices
    assert "keys of annotations that are not kept: model_version, score" in corpus.notices
    assert "annotations" not in save(tmp_path, corpus.documents)[0]
    assert load(tmp_path, [task], read="annotations").documents[0].entities == ()
    both = {**TASK, "predictions": [scored]}
    assert load(tmp_path, [both]).num_entities == 3
    assert load(tmp_path, [both], read="predictions").num_entities == 1
    (loss,) = (
        find_format("label-studio")
        .fit(corpus.documents[0], WriteOptions(scores=True, more={"layout": "json-min"}))
        .losses
    )
    assert loss.kind == "score"


def test_a_cancelled_annotation_is_not_replaced_by_a_prediction(tmp_path: Path) -> None:
    """Who skipped a task has not accepted what the model says; it is counted as empty."""
    cancelled = {"was_cancelled": True, "result": [result(0, 2, "X")]}
    predictions = [{"result": [result(1, 3, "PER", score=0.5)]}]
    task = {"data": TASK["data"], "annotations": [cancelled], "predictions": predictions}
    corpus = load(tmp_path, [task])
    assert corpus.num_entities == 0
    assert (
        "1 tasks without an annotation to read, which are read without entities" in corpus.notices
    )
    assert load(tmp_path, [task], read="predictions").num_entities == 1


def test_predicted_documents_are_predictions_without_entities_too(tmp_path: Path) -> None:
    """An empty annotation would say that somebody looked and found nothing."""
    documents = [Document("王明在京"), Document("王", (Entity(0, 1, "PER"),))]
    path = tmp_path / "b.json"
    save_with(path, documents, WriteOptions(scores=True, predicted=True), format="label-studio")
    tasks = json.loads(path.read_text(encoding="utf-8"))
    assert [("annotations" in task, "predictions" in task) for task in tasks] == [(False, True)] * 2
    assert [("annotations" in task) for task in save(tmp_path, documents)] == [True, True]


def test_the_ground_truth_is_preferred(tmp_path: Path) -> None:
    gold = {"ground_truth": True, "result": [result(4, 5, "LOC")]}
    task = {**TASK, "annotations": [{"result": []}, gold]}
    corpus = load(tmp_path, [task])
    assert surfaces(corpus) == [["京/LOC"]]
    assert "1 tasks with several annotations, of which the ground truth is read" in corpus.notices
    older = {"data": TASK["data"], "completions": [{"skipped": True, "result": []}, gold]}
    assert surfaces(load(tmp_path, [older], read="annotations")) == [["京/LOC"]]


def test_json_min_reads_the_spans_of_every_control(tmp_path: Path) -> None:
    value = result(1, 3, "PER", "NAME")["value"]
    flat = [
        {"id": 1, "article": PARTY, "who": [value], "lead_time": 3.5, "annotation_id": 2},
        {"id": 2, "article": "a", "sentiment": ["good"], "created_at": "now"},
    ]
    corpus = load(tmp_path, flat)
    assert corpus.format == "label-studio"
    assert surfaces(corpus) == [["王明/NAME", "王明/PER"], []]
    assert corpus.documents[0].meta == {"id": 1, "lead_time": 3.5, "annotation_id": 2}
    assert corpus.documents[1].meta == {"id": 2, "sentiment": ["good"], "created_at": "now"}


def test_where_the_text_is(tmp_path: Path) -> None:
    task = {"data": {"article": PARTY, "n": 1}, "annotations": [{"result": [result(1, 3, "X")]}]}
    corpus = load(tmp_path, [task])
    assert surfaces(corpus) == [["王明/X"]]
    assert "1 texts are read from 'article', the only string in the data" in corpus.notices
    task["data"]["title"] = "t"  # type: ignore[index]
    with pytest.raises(
        DataError, match=r"which key holds the text \(keys: 'article', 'n', 'title'"
    ):
        load(tmp_path, [task])
    corpus = load(tmp_path, [task], text="article")
    assert corpus.documents[0].meta == {"n": 1, "title": "t"}
    written = save(tmp_path, corpus.documents, text="article")
    assert written[0]["data"] == {"article": PARTY, "n": 1, "title": "t"}
    assert load(tmp_path, written, text="article").documents == corpus.documents


def test_white_space_and_line_ends_as_label_studio_shows_them(tmp_path: Path) -> None:
    text = "王明  在\n京"
    task = {
        "data": {"text": text},
        "annotations": [{"result": [result(0, 7, "X", text="王明 在\\n京")]}],
    }
    assert surfaces(load(tmp_path, [task])) == [[f"{text}/X"]]
    task = {"data": {"text": text}, "annotations": [{"result": [result(0, 2, "X", text="小明")]}]}
    with pytest.raises(DataError, match=r"says its text is '小明'.* say the option texts=ignore"):
        load(tmp_path, [task])
    assert surfaces(load(tmp_path, [task], texts="ignore")) == [["王明/X"]]


HTML = {"start": "/p[1]/text()[1]", "end": "/p[1]/text()[1]", "startOffset": 0, "endOffset": 2}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"data": {"x": 1}, "annotations": []}, 'data "text" is not a string'),
        ({**TASK, "annotations": [{"result": [result(0, 99, "X")]}]}, "out of range"),
        ({**TASK, "annotations": [{"result": [result(3, 3, "X")]}]}, "empty or negative"),
        ({**TASK, "annotations": {"a": 1}}, '"annotations" is not a list of objects'),
        ({**TASK, "annotations": [{"result": [result(0, 2, "")]}]}, "is empty"),
        ({**TASK, "annotations": [{"result": [result(0.5, 2, "X")]}]}, "not both integers"),
        (
            {**TASK, "annotations": [{"result": [{"type": "hypertextlabels", "value": HTML}]}]},
            "a span of HTML or of a dialogue (startOffset, endOffset)",
        ),
        ({**TASK, "annotations": [{"result": [result("0", "1", "X")]}]}, "start is a string"),
        ({"text": "a", "label": [{**HTML, "hypertextlabels": ["X"]}]}, "value.globalOffsets as"),
    ],
)
def test_what_is_refused(task: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, [task], read="auto")
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}:1: ")
    assert message in str(caught.value)


def test_labels_are_ignored_where_asked(tmp_path: Path) -> None:
    for task in (TASK, {"text": PARTY, "label": [{"start": 9, "end": 3, "labels": 3}]}):
        (tmp_path / "a.json").write_text(json.dumps([task]), encoding="utf-8")
        corpus = load_corpus(tmp_path / "a.json", ignore_tags=True)
        assert (corpus.format, corpus.documents[0].text) == ("label-studio", PARTY)
        assert not corpus.num_entities
        assert "label" not in corpus.documents[0].meta


def test_unknown_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="layout='xml' is unknown, expected one of json"):
        save(tmp_path, [Document("a")], layout="xml")
    with pytest.raises(ConfigError, match="read='all' is unknown"):
        load(tmp_path, [TASK], read="all")


CONFIG = """
<View><Labels name="label" toName="text" choice="multiple">
  <Label value="PER"/><Label value="ORG"/><Label value="LOC"/>
</Labels><Text name="text" value="$text"/></View>
"""
DOCUMENTS = [
    Document(
        SENTENCE,
        (Entity(0, 8, "PER"), Entity(12, 16, "ORG"), Entity(21, 23, "PER"), Entity(27, 32, "LOC")),
        "1",
        meta={"id": 1, "page": 3},
    ),
    Document("Nobody .", (), "2", meta={"id": 2}),
]


def test_its_own_validation_accepts_what_is_written(tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface(CONFIG)
    for task in save(tmp_path, DOCUMENTS):
        assert interface.validate_annotation(task["annotations"][0])
    scored = [d.with_entities(replace(e, score=0.5) for e in d.entities) for d in DOCUMENTS]
    (task, _) = save(tmp_path, scored)
    assert interface.validate_prediction(task["predictions"][0], return_errors=True) == []
    task["predictions"][0]["result"][0]["value"]["labels"] = ["X"]
    assert interface.validate_prediction(task["predictions"][0], return_errors=True)


def test_its_own_converter_reads_what_is_written(tmp_path: Path) -> None:
    """Its CoNLL has our entities, and its JSON-MIN is read as our JSON is."""
    module = pytest.importorskip("label_studio_sdk.converter")
    converter = module.Converter(CONFIG, str(tmp_path), download_resources=False)
    save(tmp_path, DOCUMENTS)
    converter.convert_to_conll2003(str(tmp_path / "b.json"), str(tmp_path / "conll"), is_dir=False)
    columns = (tmp_path / "conll" / "result.conll").read_text(encoding="utf-8")
    (tmp_path / "two.conll").write_text(columns.replace(" -X- _ ", " "), encoding="utf-8")
    theirs = load_corpus(tmp_path / "two.conll", join="space").documents
    assert [(d.text, d.entities) for d in theirs] == [(d.text, d.entities) for d in DOCUMENTS]
    converter.convert_to_json_min(str(tmp_path / "b.json"), str(tmp_path / "min"), is_dir=False)
    flat = load_corpus(tmp_path / "min" / "result.json")
    assert flat.format == "label-studio"
    assert [(d.text, d.entities, d.id) for d in flat.documents] == [
        (d.text, d.entities, d.id) for d in DOCUMENTS
    ]


def test_a_real_export(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "formats" / "label_studio" / "NER_DEV_PREAMBLE.json"
    corpus = load_corpus(path)
    assert (corpus.format, len(corpus.documents), corpus.num_entities) == (
        "label-studio",
        125,
        1385,
    )
    tasks = json.loads(path.read_text(encoding="utf-8"))
    assert [d.meta["label_studio_task"]["meta"] for d in corpus.documents] == [
        task["meta"] for task in tasks
    ]
    for layout in ("json", "json-min"):
        options = WriteOptions(more={"layout": layout})
        found = convert(corpus, tmp_path / layout, options, to="label-studio", check=True)
        assert (found.losses, found.differences) == ((), ())
