"""Label Studio's JSON: tasks with annotations or predictions.

    [{"id": 1, "data": {"text": "王明在京"}, "annotations": [{"result": [{"type": "labels", "value":
      {"start": 0, "end": 2, "text": "王明", "labels": ["PER"]}}]}]}]

JSON-MIN, `[{"text": "王明在京", "label": [{"start": 0, "end": 2, "labels": ["PER"]}]}]`, is read as
well, and written with the option `layout=json-min`.

Offsets count code points today; versions of 2021 counted UTF-16 units. `auto` finds out by the
texts that regions carry.

The data of a task becomes the document's metadata. What else a task says (`meta`, `project`, …)
stands under `label_studio_task` there, and is written to the task again.

A partially labelled task has `"scope": {"labels": […], "complete": false, "unknown": [[start, end],
…]}` in its data, as JSONL has it; its offsets count what those of regions count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast, get_args

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Glimpse,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
    check_choice,
)
from nertune.data.formats.json_files.records import stream_records
from nertune.data.formats.json_files.values import (
    RecordIds,
    WriteArray,
    fit_keys,
    keep_whole_units,
    read_span,
    require_text,
    seen_array,
)
from nertune.data.formats.jsonl.reader import read_scope
from nertune.data.formats.jsonl.records import looks_like_scope
from nertune.data.formats.offsets import (
    Counted,
    MisplacedSpan,
    Offsets,
    Span,
    UnitChoice,
    UnitVote,
    count_units,
    explain_misfit,
    place,
)
from nertune.data.formats.values import Reading
from nertune.errors import DataError
from nertune.storage.files import shorten
from nertune.types import Document, Entity, Scope

__all__ = ["LabelStudio", "given_annotations", "is_finished"]

_EXTRA = "label_studio_task"
_TASK_KEYS = ("id", "data", "annotations", "predictions", "completions")
_KNOWN = {
    "annotation": {"result", "was_cancelled", "skipped", "ground_truth"},
    "region": {"id", "from_name", "to_name", "type", "origin", "value", "score"},
    "value": {"start", "end", "text", "labels"},
}
_ELSEWHERE = ("hypertextlabels", "paragraphlabels", "globalOffsets", "startOffset", "endOffset")
_NO_TEXT = ("created_at", "updated_at")  # strings of JSON-MIN
_UNITS = tuple(unit for unit in get_args(Offsets) if unit != "auto")
_CHOICES = {
    "unit": ("codepoint", *(unit for unit in _UNITS if unit != "codepoint")),
    "layout": ("json", "json-min"),
    "read": ("auto", "annotations", "predictions"),
    "texts": ("check", "ignore"),
}
_DEFAULTS = {"text": "text", "from_name": "label", "to_name": "text"}


class LabelStudio(Format):
    """Tasks of Label Studio with spans of text."""

    name = "label-studio"
    title = "Label Studio JSON"
    holds = Holds(overlap=True, scores=True, ids=True, metadata=True, scope="all")
    options = MappingProxyType(
        {
            "text": "the key of the data that holds the text; text, or the only string there is",
            "unit": "what offsets count: codepoint (default), utf16, grapheme or byte",
            "layout": "what is written: json (default) or json-min",
            "from_name": "the name of the <Labels> that is written; label",
            "to_name": "the name of the <Text> that is written; text",
            "read": "auto (default: annotations, else predictions), annotations or predictions",
            "texts": "whether texts of regions are compared with the task's: check or ignore",
        }
    )

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether it is an array of tasks with results, or of what JSON-MIN has."""
        if seen_array(seen, "data", "result") or seen_array(seen, "data", "annotations"):
            return "it is an array of tasks with data and results"
        if seen_array(seen, "text", "label", "start", "end", "labels"):
            return 'it is an array of objects with "label" and "labels"'
        if seen_array(seen, "annotation_id", "lead_time", "labels"):
            return 'it is an array of objects with "annotation_id" and "labels"'
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The tasks; of several annotations the ground truth, else the first not cancelled.

        Raises:
            DataError: a task or region cannot be used.
            ConfigError: an option has an unknown value.
        """
        asked = cast("Offsets", options.more.get("unit", options.offsets))
        choice = UnitChoice(asked)
        if asked == "auto" and source.reopenable().may_hold_astral():
            vote = UnitVote("auto", options.like.offsets)
            for task in _Reader(source, options):
                vote.add(Counted(task.line, task.text, task.spans))
            choice = vote.settle()
        findings.reading = Reading(offsets=choice.offsets)
        reader, repeated = _Reader(source, options), 0
        for task in reader:
            try:
                entities = [place(span, task.text, choice.offsets) for span in task.spans]
            except MisplacedSpan as error:
                told = reader.explain(error, asked, choice.offsets)
                raise DataError(told, path=source.path, line=task.line) from error
            unique = {entity.key: entity for entity in reversed(entities)}
            repeated += len(entities) - len(unique)
            scope, meta = reader.scope(task, choice.offsets)
            yield Document(task.text, tuple(unique.values()), task.name, meta=meta, scope=scope)
        findings.notices += reader.say()
        if asked == "auto" and choice.ambiguous is not None:
            findings.notices.append(
                f"offsets of {choice.num_ambiguous} tasks may count code points, or UTF-16 units "
                f"as in versions of 2021, and nothing in the file decides: read as "
                f"{choice.offsets} (first: line {choice.ambiguous.line}); say which with "
                "offsets codepoint or utf16"
            )
        elif asked == "auto" and choice.offsets == "utf16":
            findings.notices.append("offsets read as UTF-16 units: as code points they do not fit")
        if repeated:
            findings.notices.append(f"{repeated} identical entities dropped")

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """One array, a task a line: predictions where predicted or with scores, else annotations.

        Raises:
            ConfigError: an option has an unknown value.
        """
        layout = _choice(options, "layout")
        array = WriteArray(target)
        for document in documents:
            is_min = layout == "json-min"
            array.add(_min_task(document, options) if is_min else _task(document, options))
        array.close()

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here; JSON-MIN has no scores."""
        document, losses = keep_whole_units(document, cast("Offsets", _choice(options, "unit")))
        taken, holds = [_name(options, "text")], self.holds
        if document.scope != Scope() or looks_like_scope(document.meta.get("scope")):
            taken.append("scope")
        if _choice(options, "layout") == "json-min":
            taken += ("data", _name(options, "from_name"))
            taken += (key for key, value in document.meta.items() if _is_layer(value))
            holds = replace(holds, scores=False)
        fitted = fit_keys(document, holds, options, tuple(taken))
        return Fitted(fitted.document, (*losses, *fitted.losses))


def _choice(options: ReadOptions | WriteOptions, name: str) -> str:
    value: str = options.more.get(name, _CHOICES[name][0])
    check_choice(name, value, _CHOICES[name])
    return value


def _name(options: ReadOptions | WriteOptions, name: str) -> str:
    return options.more.get(name) or _DEFAULTS[name]


# Tasks to documents


def given_annotations(task: Mapping[str, Any]) -> Any:
    """The list of a task's annotations under the key of today or of old versions; or an empty one.

    What stands there in its place is returned as it is, for the caller to refuse.
    """
    return task.get("annotations") or task.get("completions") or []


def is_finished(annotation: Mapping[str, Any]) -> bool:
    """Whether a person submitted it, and did not skip or cancel it."""
    return not (annotation.get("was_cancelled") or annotation.get("skipped"))


class _Task(NamedTuple):
    """A task as it was read, its spans not yet placed."""

    line: int
    text: str
    name: str
    meta: dict[str, Any]
    spans: list[Span]


@dataclass
class _Reader:
    """Reads tasks, and counts what is not read of them."""

    source: Source
    options: ReadOptions
    seen: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    controls: set[str] = field(default_factory=set)
    ids: RecordIds = field(init=False)

    def __post_init__(self) -> None:
        self.ids = RecordIds(self.path)
        for name in _CHOICES:
            _choice(self.options, name)

    def __iter__(self) -> Iterator[_Task]:
        """The tasks of the file."""
        for line, task in stream_records(self.source):
            yield self.read_task(task, line)

    @property
    def path(self) -> Path:
        """The file's name, for messages."""
        return self.source.path

    def scope(self, task: _Task, offsets: Offsets) -> tuple[Scope, dict[str, Any]]:
        """Of what a task is labelled, and its other data.

        Raises:
            DataError: its scope is none, or has spans beyond the text.
        """
        if not looks_like_scope(task.meta.get("scope")):
            return Scope(), task.meta
        meta = {key: value for key, value in task.meta.items() if key != "scope"}
        if self.options.ignore_tags:
            return Scope(), meta
        try:
            return read_scope(task.meta, task.text, offsets) or Scope(), meta
        except ValueError as error:
            raise DataError(str(error), path=self.path, line=task.line) from error

    def explain(self, error: MisplacedSpan, asked: Offsets, chosen: Offsets) -> str:
        """Why a region does not fit its text, and what to try."""
        tasks = _Reader(self.source, self.options)
        records = (Counted(task.line, task.text, task.spans) for task in tasks)
        told = explain_misfit(error, records, asked, chosen)
        if "says its text is" in told:
            told += "; if Label Studio shows the text otherwise, say the option texts=ignore"
        return told

    def say(self) -> list[str]:
        """What was skipped, for the user to read."""
        notices = [f"{count} {what}" for what, count in self.seen.items()]
        if self.keys:
            notices.append(f"keys of annotations that are not kept: {', '.join(sorted(self.keys))}")
        if len(self.controls) > 1:
            names = ", ".join(sorted(self.controls))
            notices.append(f"the entities of several controls ({names}) are read as one layer")
        return notices

    def read_task(self, task: dict[str, Any], line: int) -> _Task:
        """A task of JSON or JSON-MIN.

        Raises:
            DataError: it has no text, or a region cannot be used.
        """
        name = self.ids.of(task, line)
        given = {"id": task["id"]} if "id" in task else {}
        data = task.get("data")
        regions: list[dict[str, Any]] = []
        if isinstance(data, dict):
            key = self._text_key(data, line)
            meta = {k: v for k, v in data.items() if k != key}
            extra = {k: v for k, v in task.items() if k not in _TASK_KEYS}
            if extra and _EXTRA in meta:
                self.seen["tasks with keys beside their data, which are not kept"] += 1
            elif extra:
                meta[_EXTRA] = extra
            if not self.options.ignore_tags:
                regions = self._chosen(task, line)
        else:
            data = task
            key = self._text_key({k: v for k, v in task.items() if k not in _NO_TEXT}, line)
            own = _name(self.options, "from_name")
            layers = [k for k, v in task.items() if _is_layer(v) or (k == own and v == [])]
            meta = {k: v for k, v in task.items() if k not in (key, "id", *layers)}
            if not self.options.ignore_tags:
                given_as = {"type": "labels"}
                regions = [
                    {**given_as, "from_name": k, "value": v} for k in layers for v in task[k]
                ]
        text = require_text(data.get(key), f'data "{key}"', self.path, line)
        spans = [span for region in regions for span in self._spans(region, text, line)]
        return _Task(line, text, name, {**given, **meta}, spans)

    def _text_key(self, data: dict[str, Any], line: int) -> str:
        asked = self.options.more.get("text")
        if asked or "text" in data:
            return asked or "text"
        strings = [key for key, value in data.items() if isinstance(value, str)]
        if len(strings) != 1:
            keys = ", ".join(map(shorten, data)) or "none"
            told = (
                f'data "text" is not a string: say which key holds the text (keys: {keys}), with '
            )
            raise DataError(f"{told}the option text=KEY", path=self.path, line=line)
        self.seen[f"texts are read from {shorten(strings[0])}, the only string in the data"] += 1
        return strings[0]

    def _chosen(self, task: dict[str, Any], line: int) -> list[dict[str, Any]]:
        """The results of one annotation, else of the first prediction."""
        wanted = _choice(self.options, "read")
        given = given_annotations(task)
        annotations = [] if wanted == "predictions" else self._list(given, '"annotations"', line)
        whole = [a for a in annotations if is_finished(a)]
        if len(whole) < len(annotations):
            self.seen["tasks with annotations that were cancelled, which are not read"] += 1
        best = [a for a in whole if a.get("ground_truth")] or whole
        if len(whole) > 1:
            which = "the ground truth" if len(best) < len(whole) else "the first"
            self.seen[f"tasks with several annotations, of which {which} is read"] += 1
        predictions = self._list(task.get("predictions") or [], '"predictions"', line)
        if wanted != "annotations" and not annotations and predictions:
            if wanted == "auto":
                self.seen["tasks without annotations, of which the first prediction is read"] += 1
            best = predictions
        if not best:
            self.seen["tasks without an annotation to read, which are read without entities"] += 1
            return []
        self.keys |= set(best[0]) - _KNOWN["annotation"]
        return self._list(best[0].get("result") or [], '"result"', line)

    def _spans(self, region: dict[str, Any], text: str, line: int) -> Iterator[Span]:
        value, kind = region.get("value"), region.get("type")
        if isinstance(value, dict):
            self._refuse_elsewhere(value, kind, line)
        if kind != "labels" or not isinstance(value, dict):
            self.seen[f"results of type {kind}, which are not read"] += 1
            return
        start, end = read_span(
            value.get("start"), value.get("end"), self.path, line, is_inclusive=False
        )
        labels = value.get("labels")
        if not isinstance(labels, list) or not labels:
            self.seen["spans without a label, which are not read"] += 1
            return
        if isinstance(region.get("from_name"), str):
            self.controls.add(region["from_name"])
        self.keys |= (set(region) - _KNOWN["region"]) | (set(value) - _KNOWN["value"])
        surface = self._surface(value.get("text"), text)
        for label in labels:
            if not require_text(label, "a label", self.path, line):
                told = f"the label of [{start}, {end}] is empty"
                raise DataError(told, path=self.path, line=line)
            shown = f"{label} [{start}, {end}]"
            yield Span(start, end, label, _score(region), surface, shown, loose=True)

    def _surface(self, given: Any, text: str) -> str | None:
        """What a region says its text is; Label Studio writes line ends as `\\n` there."""
        if not isinstance(given, str) or _choice(self.options, "texts") == "ignore":
            return None
        return given if "\\n" in text else given.replace("\\n", "\n")

    def _refuse_elsewhere(self, value: dict[str, Any], kind: Any, line: int) -> None:
        """Refuse spans of HTML and dialogues, whose offsets are places in elements.

        Raises:
            DataError: it is one.
        """
        found = [key for key in _ELSEWHERE if key in value]
        if not found and not isinstance(value.get("start"), str):
            return
        told = (
            f"a region of type {kind} is a span of HTML or of a dialogue "
            f"({', '.join(found) or 'start is a string'}): its offsets are places in elements, "
            "not in the task's text. Put the text that Label Studio shows into the task, and make "
            '"labels" of it with value.globalOffsets as start and end'
        )
        raise DataError(told, path=self.path, line=line)

    def _list(self, value: Any, name: str, line: int) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise DataError(f"{name} is not a list of objects", path=self.path, line=line)
        return value


def _is_layer(value: Any) -> bool:
    """Whether a value of JSON-MIN is the spans of a control."""
    keys = ("labels", *_ELSEWHERE[:2])
    return isinstance(value, list) and any(
        isinstance(item, dict) and "start" in item and any(key in item for key in keys)
        for item in value
    )


def _score(region: dict[str, Any]) -> float | None:
    given = region.get("score")
    is_score = isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 1
    return given if is_score else None


# Documents to tasks


def _values(document: Document, options: WriteOptions) -> Iterator[tuple[Entity, dict[str, Any]]]:
    places = count_units(document.text, cast("Offsets", _choice(options, "unit")))
    for entity in document.entities:
        span = {"start": places[entity.start], "end": places[entity.end]}
        yield entity, {**span, "text": document.surface(entity), "labels": [entity.label]}


def _task(document: Document, options: WriteOptions) -> dict[str, Any]:
    names = {name: _name(options, name) for name in ("from_name", "to_name")}
    results = []
    for number, (entity, value) in enumerate(_values(document, options), 1):
        score = {} if entity.score is None else {"score": entity.score}
        results.append({"id": str(number), **names, "type": "labels", "value": value, **score})
    given = {"id": document.meta["id"]} if "id" in document.meta else {}
    data = {key: value for key, value in document.meta.items() if key != "id"}
    extra = data.get(_EXTRA)
    if isinstance(extra, dict) and extra and not any(key in extra for key in _TASK_KEYS):
        del data[_EXTRA]
    else:
        extra = {}
    data = {_name(options, "text"): document.text, **data, **_scope(document, options)}
    has_scores = any(entity.score is not None for entity in document.entities)
    key = "predictions" if options.predicted or has_scores else "annotations"
    return {**given, "data": data, **extra, key: [{"result": results}]}


def _min_task(document: Document, options: WriteOptions) -> dict[str, Any]:
    spans = [value for _, value in _values(document, options)]
    own = {_name(options, "text"): document.text, _name(options, "from_name"): spans}
    return {**own, **document.meta, **_scope(document, options)}


def _scope(document: Document, options: WriteOptions) -> dict[str, Any]:
    if document.scope == Scope():
        return {}
    values = document.scope.to_dict()
    if document.scope.unknown:
        places = count_units(document.text, cast("Offsets", _choice(options, "unit")))
        values["unknown"] = [[places[a], places[b]] for a, b in document.scope.unknown]
    return {"scope": values}
