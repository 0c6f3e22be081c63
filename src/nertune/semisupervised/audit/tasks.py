"""The most suspicious documents as tasks for an annotation tool, and the corrected ones back.

A task carries the document's id under `nertune_id` and the suspicions in words under
`nertune_audit`. What a document has there now is its annotation. The suggestion stands beside it:
in Label Studio as a prediction, elsewhere in `nertune_suggested`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from nertune.data.convert import Conversion
from nertune.data.corpus import Corpus, load_with
from nertune.data.editing.saving import Output, save_whole, with_documents
from nertune.data.formats.base import Format, ReadOptions, WriteOptions
from nertune.data.formats.json_files.label_studio import given_annotations, is_finished
from nertune.data.formats.offsets import Offsets, count_units
from nertune.data.formats.registry import find_format
from nertune.data.formats.values import counted
from nertune.errors import ConfigError, DataError
from nertune.semisupervised.audit.audit import Audit
from nertune.semisupervised.audit.suspicions import Suspicion
from nertune.storage.atomic import write_text
from nertune.storage.files import read_text, shorten
from nertune.tokens.units import choose_unit, cut_visible
from nertune.types import Document, Entity, Scope

__all__ = ["Applied", "Change", "Tasks", "apply_corrections", "find_task_format", "join_files",
           "name_documents", "save_tasks", "source_files", "tasks_path"]  # fmt: skip

_ID, _AUDIT, _SUGGESTED = "nertune_id", "nertune_audit", "nertune_suggested"
_FILE = "nertune_file"  # only where several files were audited together
_FORMATS = {"label-studio": ".json", "doccano": ".jsonl", "jsonl": ".jsonl"}


@dataclass(frozen=True, slots=True)
class Tasks:
    """A file of tasks.

    Attributes:
        path: the file.
        format: its format.
        documents: how many there are in it.
        left_out: documents that the format cannot hold, and why.
    """

    path: Path
    format: str
    documents: int
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True, slots=True)
class Change:
    """What was corrected in a document; each entity with its characters."""

    document: str
    removed: tuple[tuple[Entity, str], ...]
    added: tuple[tuple[Entity, str], ...]


@dataclass(frozen=True, slots=True)
class Applied:
    """A corpus with corrections.

    Attributes:
        written: what became of the new file.
        documents: how many corrected documents there were.
        changes: those in which an entity was changed.
        notices: what has to be known of it.
    """

    written: Conversion
    documents: int
    changes: tuple[Change, ...]
    notices: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""

        def listed(entities: Sequence[tuple[Entity, str]]) -> list[dict[str, Any]]:
            return [{"start": e.start, "end": e.end, "label": e.label, "text": text}
                    for e, text in entities]  # fmt: skip

        return {
            "documents": self.documents,
            "changes": [
                {"document": c.document, "removed": listed(c.removed), "added": listed(c.added)}
                for c in self.changes
            ],
            "notices": list(self.notices),
            "written": self.written.to_dict(),
        }


def find_task_format(name: str) -> Format:
    """The format of tasks.

    Raises:
        ConfigError: tasks cannot be written in it.
    """
    if name not in _FORMATS:
        raise ConfigError(f"--to {name!r}: expected one of {', '.join(_FORMATS)}")
    return find_format(name, writes=True)


def tasks_path(output: Path, format: str) -> Path:
    """The file of tasks in an audit's folder.

    Raises:
        ConfigError: tasks cannot be written in this format.
    """
    find_task_format(format)
    return output / f"to-correct.{format}{_FORMATS[format]}"


def save_tasks(audit: Audit, output: Path, *, format: str, num_documents: int) -> Tasks:
    """Write the most suspicious documents to `OUTPUT/to-correct.FORMAT.json` (or `.jsonl`).

    Args:
        audit: what was found.
        output: a folder.
        format: `label-studio`, `doccano` or `jsonl`.
        num_documents: how many, at most.

    Raises:
        ConfigError: the format is another one, or the file is there with other content.
    """
    chosen = find_task_format(format)
    options = WriteOptions(scores=True)
    names = name_documents(audit.corpus.documents)
    written: list[tuple[Document, Document]] = []
    left_out = []
    for index, suspicions in _by_document(audit.suspicions, num_documents):
        pair = _task(audit.corpus.documents[index], names[index], suspicions, chosen)
        shown = pair if format == "label-studio" else pair[:1]  # the suggestion is metadata
        losses = [loss for made in shown for loss in chosen.fit(made, options).losses]
        if losses:
            left_out.append(f"{names[index]}: {losses[0].reason}")
        else:
            written.append(pair)
    text = _render(chosen, options, written)
    path = tasks_path(output, format)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"{path} is there with other content, perhaps with corrections: move it away first"
        )
    write_text(path, text)
    return Tasks(path, format, len(written), tuple(left_out))


def join_files(corpora: Sequence[Corpus]) -> Corpus:
    """One corpus of several files, whose documents say where they are from.

    Args:
        corpora: at least one; the first alone stays as it is.

    Raises:
        ConfigError: a file is given twice.
    """
    paths = [corpus.path.resolve() for corpus in corpora]
    if len(corpora) == 1:
        return corpora[0]
    for path, corpus in zip(paths, corpora, strict=True):
        if paths.count(path) > 1:
            raise ConfigError(f"{corpus.path} is given twice")
    documents = [
        replace(document, meta={**document.meta, _FILE: str(corpus.path)})
        for corpus in corpora
        for document in corpus.documents
    ]
    notices = tuple(notice for corpus in corpora for notice in corpus.notices)
    name = Path(", ".join(str(corpus.path) for corpus in corpora))
    return replace(with_documents(corpora[0], documents), path=name, notices=notices)


def source_files(corpus: Corpus) -> list[str]:
    """The files of a corpus that `join_files` made, in order."""
    own = str(corpus.path)
    return list(dict.fromkeys(str(d.meta.get(_FILE, own)) for d in corpus.documents))


def name_documents(documents: Sequence[Document]) -> list[str]:
    """An id for each document that no other of its file has: its own, with a number if need be."""
    seen: dict[tuple[Any, str], int] = {}
    ids = {(document.meta.get(_FILE), document.id) for document in documents}
    names = []
    for document in documents:
        file, name = key = document.meta.get(_FILE), document.id
        seen[key] = number = seen.get(key, 0) + 1
        if number > 1 or not name:
            while (file, name := f"{document.id}#{number}") in ids:  # another document's own
                number += 1
            seen[key] = number
        names.append(name)
    return names


def _by_document(
    suspicions: Sequence[Suspicion], num_documents: int
) -> Iterator[tuple[int, list[Suspicion]]]:
    """The documents with the most probable errors, each with all of its suspicions."""
    grouped: dict[int, list[Suspicion]] = {}
    for suspicion in suspicions:
        grouped.setdefault(suspicion.index, []).append(suspicion)
    return iter([*grouped.items()][:num_documents])


def _task(
    document: Document, name: str, suspicions: Sequence[Suspicion], format: Format
) -> tuple[Document, Document]:
    """A document as it is, and as it is suggested."""
    told = [f"{s.kind} ({s.probability:.2f}): {s.reason}" for s in suspicions]
    meta = {**document.meta, _ID: name, _AUDIT: "\n".join(told)}
    suggested = _apply_suggestions(document, suspicions)
    if format.name != "label-studio":  # offsets as those of the task's own labels
        places = count_units(document.text, cast("Offsets", format.holds.offsets))
        meta[_SUGGESTED] = [[places[e.start], places[e.end], e.label] for e in suggested]
    # Source tokens and scope are the corpus's own: they stay there.
    task = replace(document, meta=meta, tokens=None, scope=Scope())
    scored = [replace(e, score=1.0 if e.score is None else e.score) for e in suggested]
    return task, task.with_entities(scored)


def _apply_suggestions(document: Document, suspicions: Sequence[Suspicion]) -> list[Entity]:
    """The entities with every suggestion that is more probable than what the gold has.

    Other copies of a passage may outvote the models.
    """
    entities = list(document.entities)
    for suspicion in suspicions:
        is_likelier = suspicion.suggested_probability > suspicion.gold_probability
        if not (suspicion.probability > 0.5 if suspicion.kind == "copy" else is_likelier):
            continue
        gone = {e.key for e in suspicion.gold}
        kept = [e for e in entities if e.key not in gone]
        fits = not any(e.start < o.end and o.start < e.end for e in suspicion.suggested
                       for o in kept)  # fmt: skip
        if fits:
            entities = [*kept, *suspicion.suggested]
    return sorted(entities, key=lambda e: e.key)


def _render(
    format: Format, options: WriteOptions, pairs: Sequence[tuple[Document, Document]]
) -> str:
    """The file's text."""

    def write(documents: Sequence[Document]) -> str:
        stream = io.StringIO()
        format.write(documents, stream, options)
        return stream.getvalue()

    given = write([task for task, _ in pairs])
    if format.name != "label-studio":
        return given
    tasks, others = json.loads(given), json.loads(write([made for _, made in pairs]))
    for task, other in zip(tasks, others, strict=True):
        found = other.get("predictions", [])  # none where nothing is left to be predicted
        empty: list[dict[str, Any]] = [{"result": []}]
        task["predictions"] = [{"model_version": "nertune audit", **p} for p in found or empty]
    return json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"


def apply_corrections(
    corpus: Corpus, corrected: Path, target: Path, *, overwrite: bool = False
) -> Applied:
    """Write a corpus with the entities of corrected tasks, in its own format.

    Args:
        corpus: what was audited.
        corrected: tasks that `save_tasks` wrote, as the annotation tool gives them back.
        target: the new file.
        overwrite: replace a file that is there.

    Raises:
        DataError: a task is of no document of this corpus, has another text, or cannot be read.
        ConfigError: the target is there already.
    """
    tasks = load_with(corrected, ReadOptions())
    pending = _pending(corrected) if tasks.format == "label-studio" else set()
    own = _tasks_of(tasks, corpus.path)
    places = {name: i for i, name in enumerate(name_documents(corpus.documents))}
    documents = list(corpus.documents)
    changes, done = [], set[int]()
    for task in own:
        index = _find(task, places, documents, corrected)
        if index in done:
            raise DataError(f"{documents[index].id} stands there twice", path=corrected)
        done.add(index)
        if _key(task.meta) in pending:
            continue
        if change := _compare(documents[index], task):
            changes.append(change)
            entities = [replace(e, score=None) for e in task.entities]
            documents[index] = documents[index].with_entities(entities)
    notices = [n for n in tasks.notices if not n.partition(" ")[2].startswith("tasks without an")]
    if len(own) < len(tasks.documents):
        others = len(tasks.documents) - len(own)
        notices.append(f"{others:,} tasks of other files are left out: apply them to those")
    num_pending = sum(_key(task.meta) in pending for task in own)
    if num_pending:
        told = f"{counted(num_pending, 'task')} without an annotation"
        one, several = "its document stays as it is", "their documents stay as they are"
        notices.append(f"{told}: {one if num_pending == 1 else several}")
    unit = choose_unit(corpus.documents)
    options = WriteOptions(tokenize=lambda text: cut_visible(text, unit))
    written = save_whole(
        with_documents(corpus, documents), target, Output(options, overwrite=overwrite),
        sources=[corrected],
    )  # fmt: skip
    return Applied(written, len(own) - num_pending, tuple(changes), tuple(notices))


def _tasks_of(tasks: Corpus, path: Path) -> list[Document]:
    own = [task for task in tasks.documents if _is_of(task, path)]
    if not own:
        files = sorted({str(task.meta[_FILE]) for task in tasks.documents})
        raise DataError(f"no task is of {path}; they are of {', '.join(files)}", path=tasks.path)
    return own


def _key(meta: Mapping[str, Any]) -> tuple[str, str]:
    return str(meta.get(_FILE)), str(meta.get(_ID))


def _is_of(task: Document, path: Path) -> bool:
    """Whether a task is of this file, as far as it says so."""
    named = task.meta.get(_FILE)
    return named is None or named == str(path) or Path(str(named)).resolve() == path.resolve()


def _find(
    task: Document, places: Mapping[str, int], documents: Sequence[Document], path: Path
) -> int:
    name = task.meta.get(_ID)
    if not isinstance(name, str):
        raise DataError(
            f"{task.id}: has no {_ID!r}: expected tasks that nertune data audit --to wrote, with "
            "their data kept",
            path=path,
        )
    if name not in places:
        raise DataError(
            f"{name}: the corpus has no such document; name the file that was audited", path=path
        )
    index = places[name]
    if documents[index].text != task.text:
        raise DataError(
            f"{name}: its text is {shorten(task.text)}, and in the corpus "
            f"{shorten(documents[index].text)}; name the file that was audited",
            path=path,
        )
    return index


def _compare(before: Document, after: Document) -> Change | None:
    old, new = {e.key: e for e in before.entities}, {e.key: e for e in after.entities}
    removed = tuple((e, before.surface(e)) for key, e in old.items() if key not in new)
    added = tuple((e, before.surface(e)) for key, e in new.items() if key not in old)
    return Change(before.id, removed, added) if removed or added else None


def _pending(path: Path) -> set[tuple[str, str]]:
    """The files and ids of Label Studio's tasks that no person has annotated.

    They may have predictions, or annotations that were skipped or cancelled.

    Raises:
        DataError: a task has several annotations, and none or several are the ground truth.
    """
    tasks = json.loads(read_text(path))
    found = set()
    for task in tasks if isinstance(tasks, list) else []:
        if not isinstance(task.get("data"), dict):  # JSON-MIN has the spans only
            continue
        name = _key(task["data"])
        whole = [a for a in given_annotations(task) if is_finished(a)]
        if not whole:
            found.add(name)
        elif len(whole) > 1 and sum(bool(a.get("ground_truth")) for a in whole) != 1:
            raise DataError(
                f"{name[1]}: has {len(whole)} annotations: mark one of them as the ground truth in "
                "Label Studio, or delete the others",
                path=path,
            )
    return found
