"""Predictions on a terminal, as JSONL and as CoNLL: what is written can be read again."""

from __future__ import annotations

import io
import json
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from helpers.tiny import SENTENCES, make_predictor, make_settings
from nertune.data.corpus import load_corpus
from nertune.inference.output import highlight, save_tagged, write_predictions, write_tagged
from nertune.inference.predictor import Predictor
from nertune.types import Document, Entity

TEXTS = ["王小明在北京", "", "  ", "🙂 Tom\u3000北京", "在1998年", "\t王\u200b小明 ", "\u2028北京"]


@pytest.fixture(params=["char", "word"])
def predictor(request: pytest.FixtureRequest, tmp_path: Path) -> Predictor:
    overrides = {"model": {"unit": request.param}}
    return make_predictor(make_settings(tmp_path, "lstm", overrides), noise=1.0)


def written(predictor: Predictor, documents: list[Document], format: str) -> str:
    stream, screen = io.StringIO(), io.StringIO()
    write_predictions(predictor, documents, format, stream, Console(file=screen, width=30))
    assert not (stream.getvalue() and screen.getvalue())
    return stream.getvalue() + screen.getvalue()


def test_jsonl_has_these_keys_and_a_line_per_text(predictor: Predictor) -> None:
    lines = written(predictor, list(map(Document, TEXTS)), "jsonl").split("\n")
    assert lines.pop() == ""
    for line, document in zip(lines, predictor.tag_texts(TEXTS), strict=True):
        record = json.loads(line)
        assert record.keys() == {"text", "entities"}
        assert record["text"] == document.text
        for found, entity in zip(record["entities"], document.entities, strict=True):
            assert found == {
                "start": entity.start,
                "end": entity.end,
                "label": entity.label,
                "text": document.surface(entity),
                "score": entity.score,
            }


def test_jsonl_can_be_read_again(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(written(predictor, list(map(Document, TEXTS)), "jsonl"), encoding="utf-8")
    again = load_corpus(path).documents
    for document, found in zip(predictor.tag_texts(TEXTS), again, strict=True):
        assert (found.text, found.entities) == (document.text, document.entities)


def test_conll_holds_every_visible_unit_and_every_entity(
    predictor: Predictor, tmp_path: Path
) -> None:
    """White space has no line of its own; an entity is cut to what can be seen of it."""
    path = tmp_path / "a.conll"
    path.write_text(written(predictor, list(map(Document, TEXTS)), "conll"), encoding="utf-8")
    again = load_corpus(path, scheme="BIO").documents
    tagged = [d for d in predictor.tag_texts(TEXTS) if predictor.visible_units(d)]
    assert len(tagged) == 5
    for document, found in zip(tagged, again, strict=True):
        units = predictor.visible_units(document)
        assert [found.text[a:b] for a, b in found.tokens or ()] == [
            document.text[a:b] for a, b in units
        ]
        expected = {
            (e.label, "".join(document.surface(e).split()))
            for e in document.entities
            if not document.surface(e).isspace()
        }
        surfaces = {(e.label, "".join(found.surface(e).split())) for e in found.entities}
        assert surfaces == expected


@pytest.mark.parametrize("variant", ["lstm", "full"])
def test_conll_of_documents_with_tokens_of_their_own(variant: str, tmp_path: Path) -> None:
    """A character model on word-level data: its entities are widened to the words."""
    predictor = make_predictor(make_settings(tmp_path, variant), noise=1.0)
    text = "Tom newsing 北京 likes 上海 IBM"
    starts = [0, 4, 12, 15, 21, 24]
    tokens = tuple((a, text.find(" ", a) if " " in text[a:] else len(text)) for a in starts)
    documents = [Document(text, tokens=tokens)] * 2
    path = tmp_path / "a.conll"
    path.write_text(written(predictor, documents, "conll"), encoding="utf-8")
    again = load_corpus(path, scheme="BIO").documents
    assert [d.tokens for d in again] == [tokens, tokens]
    borders = {start for start, _ in tokens}, {end for _, end in tokens}
    document = next(predictor.tag_documents(documents[:1]))
    found = [e for e in document.entities if not document.surface(e).isspace()]
    likeliest = max(found, key=lambda e: e.score or 0)
    assert again[0].entities
    assert {e.start for e in again[0].entities} <= borders[0]
    assert {e.end for e in again[0].entities} <= borders[1]
    assert any(
        e.start < likeliest.end and likeliest.start < e.end and e.label == likeliest.label
        for e in again[0].entities
    )


def test_text_is_shown_with_its_entities(predictor: Predictor) -> None:
    text = "王小明[北京]"
    entities = (Entity(0, 3, "PERSON", 0.987), Entity(4, 6, "LOCATION", 0.5))
    document = Document(text, entities)
    shown = highlight(document, ["LOCATION", "PERSON"])
    assert shown.plain == "[王小明](PERSON 0.99)[[北京](LOCATION 0.50)]"
    styles = {shown.plain[s.start : s.end]: str(s.style) for s in shown.spans}
    assert styles["[王小明]"] == "bold bright_yellow"
    assert styles["[北京]"] == "bold bright_cyan"
    assert highlight(Document("北京", (Entity(0, 2, "X"),)), ["X"]).plain == "[北京](X)"


def test_more_labels_than_colours() -> None:
    labels = [f"L{i}" for i in range(20)]
    document = Document("abc", (Entity(0, 1, "L19", 0.1), Entity(1, 2, "NEW", 0.1)))
    assert highlight(document, labels).plain == "[a](L19 0.10)[b](NEW 0.10)c"


def test_text_in_a_pipe_is_plain_and_one_line_a_text(predictor: Predictor) -> None:
    texts = ["王小明在北京。" * 30, "", "[bold]a[/bold] :smile:"]
    lines = written(predictor, list(map(Document, texts)), "text").split("\n")
    assert lines.pop() == ""
    assert len(lines) == 3  # neither folded nor cut
    assert "\x1b" not in "".join(lines)
    for line, document in zip(lines, predictor.tag_texts(texts), strict=True):
        assert line == highlight(document, predictor.tagset.labels).plain


def test_predictions_are_written_as_they_come(predictor: Predictor) -> None:
    """Before the next chunk of texts is read."""
    stream = io.StringIO()
    seen = []

    def documents():
        for number in range(600):
            seen.append(stream.getvalue().count("\n"))
            yield SENTENCES[number % 8]

    write_predictions(predictor, documents(), "jsonl", stream, Console(file=io.StringIO()))
    assert seen[-1] > 500
    assert stream.getvalue().count("\n") == 600


class CountsFlushes(io.TextIOWrapper):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        super().flush()


def test_each_line_is_flushed_where_somebody_may_wait_for_it(predictor: Predictor) -> None:
    documents = list(predictor.tag_texts(TEXTS * 3))
    flushes = {}
    for at_once in (True, False):
        stream = CountsFlushes(io.BytesIO(), encoding="utf-8")
        console = Console(file=io.StringIO())
        write_tagged(predictor, documents, "jsonl", stream, console, at_once=at_once)
        flushes[at_once] = stream.flushes
        assert stream.buffer.getvalue().count(b"\n") == len(documents)
    assert flushes[True] >= len(documents)
    assert flushes[False] < 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_gets_each_line_before_the_next_text_is_tagged(
    predictor: Predictor, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        with pipe.open(encoding="utf-8") as stream:
            for line in stream:
                lines.put(line)

    def answered() -> Iterator[Document]:
        for document in predictor.tag_texts(TEXTS[:3]):
            yield document
            assert json.loads(lines.get(timeout=10))["text"] == document.text

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    save_tagged(predictor, answered(), "jsonl", pipe)
    reader.join(10)
    assert lines.empty()


def test_tokens_that_two_columns_cannot_hold_are_left_out(predictor: Predictor) -> None:
    """A file that parts its columns with spaces may have a TAB for a token."""
    text = "王\t明\0京"
    tokens = tuple((i, i + 1) for i in range(len(text)))
    lines = written(predictor, [Document(text, tokens=tokens), Document("北京")], "conll").split(
        "\n"
    )
    assert [line.partition("\t")[0] for line in lines if line] == ["王", "明", "京", "北", "京"]
