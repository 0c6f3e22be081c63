"""Events of Label Studio's webhooks: finished annotations become documents to train on.

{"action": "ANNOTATION_CREATED", "project": {"id": 2, "label_config": "<View>…"},
 "task": {"id": 19, "data": {"text": "王明在京"}},
 "annotation": {"id": 17, "was_cancelled": false, "result": [{"type": "labels", …}]}}

{"action": "ANNOTATIONS_DELETED", "project": {…}, "annotations": [{"id": 17}]}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nertune.data.formats.base import Findings, ReadOptions, Source
from nertune.data.formats.registry import find_format
from nertune.errors import DataError
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.serving.protocols.labelling_config import ShownText, read_labelling_config
from nertune.types import Document

__all__ = ["Event", "keep_event"]

_LOG = logging.getLogger("nertune")
_KEEP = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_UPDATED")
_REMOVE = ("ANNOTATION_DELETED", "ANNOTATIONS_DELETED")
_SETTING = "tick Send payload in the webhook's settings of Label Studio"

_OneOrMany = dict[str, Any] | list[dict[str, Any]] | None


class Event(BaseModel):
    """An event; other keys are not used.

    Attributes:
        action: what happened.
        project: with its labelling interface.
        task: that was annotated; several of an event about several annotations.
        annotation: that was created or changed.
        annotations: that were deleted.
    """

    action: str
    project: dict[str, Any] | None = None
    task: _OneOrMany = None
    annotation: _OneOrMany = None
    annotations: list[dict[str, Any]] | None = None

    @property
    def is_about_annotations(self) -> bool:
        """Whether it changes what is kept."""
        return self.action in (*_KEEP, *_REMOVE)


def keep_event(store: AnnotationStore, event: Event) -> str:
    """Keep, replace or forget the annotations of an event; what is said of it.

    Raises:
        DataError: something is missing, an annotation cannot be read, or nothing can be written.
    """
    project = event.project or {}
    name = f"label-studio-{_number(project, 'the project')}"
    given = _list(event.annotation) or event.annotations or []
    if not given:
        raise DataError(f"{event.action} has no annotation: {_SETTING}")
    if event.action in _REMOVE:
        keys = [str(_number(one, "an annotation")) for one in given]
        removed = sum(store.remove(name, key, event=event.action) for key in keys)
        return f"{removed} annotations removed from {store.file(name).name}"
    tasks = {_number(task, "a task"): task for task in _list(event.task)}
    changed = 0
    for annotation in given:
        key = str(_number(annotation, "an annotation"))
        if annotation.get("was_cancelled"):  # skipped
            changed += store.remove(name, key, event=event.action)
            continue
        number = annotation.get("task")
        task = tasks.get(number) if type(number) is int else None
        if task is None and len(tasks) == len(given) == 1:
            task = next(iter(tasks.values()))
        if task is None:
            raise DataError(
                f"annotation {key} comes without its task: {_SETTING}; Label Studio of 2021 sends "
                "none: update it"
            )
        documents = list(_documents(annotation, task, project))
        changed += store.keep(name, key, documents, event=event.action)
    return f"{changed} annotations changed in {store.file(name).name}"


def _documents(
    annotation: dict[str, Any], task: dict[str, Any], project: dict[str, Any]
) -> Iterator[Document]:
    """A document for each text that the task shows."""
    config = project.get("label_config")
    if not isinstance(config, str):
        raise DataError(f"the project comes without its labelling interface: {_SETTING}")
    texts = read_labelling_config(config)
    about = {
        "project": _number(project, "the project"),
        "task": _number(task, "a task"),
        "annotation": _number(annotation, "an annotation"),
    }
    annotator = annotation.get("completed_by")
    annotator = annotator.get("id") if isinstance(annotator, dict) else annotator
    about |= {"annotator": annotator} if type(annotator) is int else {}
    for text in texts:
        document = _read(annotation, task, text)
        id = f"label-studio-{about['project']}-{about['annotation']}"
        if len(texts) > 1:
            id += f"-{text.name}"
        yield replace(document, id=id, meta={"id": id, "label_studio": about})


def _read(annotation: dict[str, Any], task: dict[str, Any], text: ShownText) -> Document:
    """One text with the regions on it, by the reader of Label Studio's files."""
    result = annotation.get("result")
    if not isinstance(result, list) or not all(isinstance(region, dict) for region in result):
        raise DataError("the annotation's result is no list of regions")
    data = task.get("data")
    value = data.get(text.key) if isinstance(data, dict) else None
    regions = [region for region in result if region.get("to_name") == text.name]
    alone = [{"data": {text.key: value}, "annotations": [{"result": regions}]}]
    name = f"annotation {annotation['id']}"
    try:
        source = Source(Path(name), json.dumps(alone).encode())
    except RecursionError as error:
        raise DataError(f"{name} is nested too deep") from error
    findings = Findings()
    options = ReadOptions(more={"text": text.key})
    (document,) = find_format("label-studio").read(source, options, findings)
    for notice in findings.notices:
        _LOG.warning("Label Studio, %s: %s", name, notice)
    return document


def _number(thing: dict[str, Any], what: str) -> int:
    id = thing.get("id")
    if type(id) is not int or id < 0:
        raise DataError(f"{what} has no id, which is an integer: {_SETTING}")
    return id


def _list(given: _OneOrMany) -> list[dict[str, Any]]:
    if given is None:
        return []
    return given if isinstance(given, list) else [given]
