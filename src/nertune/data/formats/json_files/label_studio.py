"""Label Studio's JSON: tasks with annotations or predictions; offsets count UTF-16 units.

    [{"id": 1, "data": {"text": "王明在京"}, "annotations": [{"result": [{"type": "labels", "value":
      {"start": 0, "end": 2, "text": "王明", "labels": ["PER"]}}]}]}]

JSON-MIN, `[{"text": "王明在京", "label": [{"start": 0, "end": 2, "labels": ["PER"]}]}]`, is read as
well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Glimpse,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
)
from nertune.data.formats.json_files.records import stream_records
from nertune.data.formats.json_files.values import (
    WriteArray,
    fit_keys,
    given_id,
    read_span,
    require_text,
    seen_array,
)
from nertune.data.formats.offsets import MisplacedSpan, Span, place
from nertune.data.formats.values import Reading
from nertune.errors import DataError
from nertune.types import Document, Entity

__all__ = ["LabelStudio"]

_TEXT = "text"
_NOT_DATA = ("text", "label", "annotation_id", "annotator", "created_at", "updated_at", "lead_time")


class LabelStudio(Format):
    """Tasks of Label Studio with spans of text."""

    name = "label-studio"
    title = "Label Studio JSON"
    holds = Holds(overlap=True, scores=True, ids=True, metadata=True, offsets="utf16")

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether it is an array of tasks with results, or of what JSON-MIN has."""
        if seen_array(seen, "data", "result") or seen_array(seen, "data", "annotations"):
            return "it is an array of tasks with data and results"
        if seen_array(seen, "text", "label", "start", "end", "labels"):
            return 'it is an array of objects with "label" and "labels"'
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The tasks; of several annotations the first that was not cancelled counts."""
        seen: Counter[str] = Counter()
        findings.reading = Reading(offsets="utf16")
        for line, task in stream_records(source):
            yield _document(task, source.path, line, seen, ignore_tags=options.ignore_tags)
        findings.notices += (f"{count} {what}" for what, count in seen.items())

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """One array, a task a line; entities with scores are predictions, others annotations."""
        array = WriteArray(target)
        for document in documents:
            results = list(_results(document))
            given = {"id": document.meta["id"]} if "id" in document.meta else {}
            others = {key: value for key, value in document.meta.items() if key != "id"}
            task = {**given, "data": {_TEXT: document.text, **others}}
            has_scores = any(entity.score is not None for entity in document.entities)
            key = "predictions" if has_scores else "annotations"
            array.add({**task, key: [{"result": results}]})
        array.close()

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without a key of the source that means something else here."""
        return fit_keys(document, self.holds, options, (_TEXT,))


def _results(document: Document) -> Iterator[dict[str, Any]]:
    units = [2 if ord(character) > 0xFFFF else 1 for character in document.text]
    places = list(accumulate(units, initial=0))
    for number, entity in enumerate(document.entities, 1):
        value = {
            "start": places[entity.start],
            "end": places[entity.end],
            "text": document.surface(entity),
            "labels": [entity.label],
        }
        score = {} if entity.score is None else {"score": entity.score}
        about = {"id": str(number), "from_name": "label", "to_name": _TEXT, "type": "labels"}
        yield {**about, "value": value, **score}


def _document(
    task: dict[str, Any], path: Path, line: int, seen: Counter[str], *, ignore_tags: bool
) -> Document:
    data = task.get("data")
    name = given_id(task, path, line)
    given = {"id": task["id"]} if "id" in task else {}
    if isinstance(data, dict):
        text = require_text(data.get(_TEXT), f'data "{_TEXT}"', path, line)
        meta = {key: value for key, value in data.items() if key != _TEXT}
        results = [] if ignore_tags else _chosen(task, path, line, seen)
    else:
        text = require_text(task.get(_TEXT), f'"{_TEXT}"', path, line)
        meta = {k: v for k, v in task.items() if k not in _NOT_DATA and k != "id"}
        values = [] if ignore_tags else _list(task.get("label"), '"label"', path, line)
        results = [{"type": "labels", "value": value} for value in values]
    entities = [e for result in results for e in _entities(result, text, path, line, seen)]
    unique = {entity.key: entity for entity in reversed(entities)}
    seen["identical entities dropped"] += len(entities) - len(unique)
    seen += Counter()  # without what was counted zero times
    return Document(text, tuple(unique.values()), name, meta={**given, **meta})


def _chosen(
    task: dict[str, Any], path: Path, line: int, seen: Counter[str]
) -> list[dict[str, Any]]:
    """The results of the first annotation, else of the first prediction."""
    annotations = _list(task.get("annotations") or [], '"annotations"', path, line)
    whole = [a for a in annotations if not a.get("was_cancelled")]
    if len(whole) > 1:
        seen["tasks with several annotations, of which the first is read"] += 1
    if len(whole) < len(annotations):
        seen["tasks with annotations that were cancelled, which are not read"] += 1
    predictions = _list(task.get("predictions") or [], '"predictions"', path, line)
    if not whole and predictions:
        seen["tasks without annotations, of which the first prediction is read"] += 1
    chosen = (whole or predictions)[:1]
    return _list(chosen[0].get("result") or [], '"result"', path, line) if chosen else []


def _entities(
    result: dict[str, Any], text: str, path: Path, line: int, seen: Counter[str]
) -> Iterator[Entity]:
    value = result.get("value")
    if result.get("type") != "labels" or not isinstance(value, dict):
        seen[f"results of type {result.get('type')}, which are not read"] += 1
        return
    start, end = value.get("start"), value.get("end")
    start, end = read_span(start, end, path, line, is_inclusive=False)
    labels = value.get("labels")
    if not isinstance(labels, list) or not labels:
        seen["spans without a label, which are not read"] += 1
        return
    given = result.get("score")
    is_score = isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 1
    score = given if is_score else None
    surface = value["text"] if isinstance(value.get("text"), str) else None
    for label in labels:
        require_text(label, "a label", path, line)
        shown = f"{label} [{start}, {end}]"
        if not label:
            raise DataError(f"the label of [{start}, {end}] is empty", path=path, line=line)
        try:
            yield place(Span(start, end, label, score, surface, shown), text, "utf16")
        except MisplacedSpan as error:
            raise DataError(str(error), path=path, line=line) from error


def _list(value: Any, name: str, path: Path, line: int) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(f"{name} is not a list of objects", path=path, line=line)
    return value
