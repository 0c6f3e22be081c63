"""What the comments of a sentence say, and comments that say it.

| comment                | read as                                            |
|------------------------|----------------------------------------------------|
| `# sent_id = s-1`      | `Document.id` and `meta["id"]`                     |
| `# newdoc id = d-1`    | `meta["document"]`, of this sentence and the next  |
| `# newdoc`             | the same, a number                                 |
| `# text = …`           | checked against the words                          |
| `# global.Entity = …`  | what `Entity=` in MISC holds                       |
| `# nertune = {…}`      | what nertune could not write otherwise             |
| `# key = value`        | `meta[key]`                                        |
| any other              | `meta["comments"]`                                 |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Said", "read_comments", "write_comments"]

_OWN_KEYS = ("id", "document", "columns", "comments")  # of meta
_SPECIAL = ("text", "sent_id", "newdoc", "newdoc id", "nertune")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Said:
    """What comments say.

    Attributes:
        meta: for the document.
        text: the sentence; `None` where no comment has it.
        entity: what `global.Entity` names.
        before, after: white space at the sentence's ends.
        document: what the sentence belongs to; `None` for no document.
        num_documents: how many have begun.
        written: the document that a writer was asked for.
    """

    meta: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    entity: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    document: Any = None
    num_documents: int = 0
    written: Any = None


def read_comments(comments: Sequence[str], last: Said) -> Said:
    """What the comments of a sentence say, after those of the sentence before it."""
    said = Said(entity=last.entity, document=last.document, num_documents=last.num_documents)
    own: dict[str, Any] = {}
    others: list[str] = []
    for comment in comments:
        key, equals, value = (part.strip() for part in comment.partition("="))
        if key == "nertune" and (found := _own(value)) is not None:
            own = found
        elif key in ("newdoc", "newdoc id"):
            said.num_documents += 1
            said.document = value if key == "newdoc id" and value else said.num_documents
        elif key == "text" and equals:
            said.text = value
        elif key == "sent_id" and value:
            said.meta["id"] = value
        elif key == "global.Entity":
            said.entity = tuple(value.split("-"))
        elif key != "global.columns" and comment:
            if equals and key and key not in (*_OWN_KEYS, *_SPECIAL, *said.meta):
                said.meta[key] = value
            else:
                others.append(comment)
    if others:
        said.meta["comments"] = others
    if said.document is not None:
        said.meta["document"] = said.document
    said.meta |= own.get("meta", {})
    if said.meta.get("document", 0) is None:
        del said.meta["document"]
    said.before, said.after = own.get("before", ""), own.get("after", "")
    return said


def _own(value: str) -> dict[str, Any] | None:
    """What nertune wrote; `None` where it is something else."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    kinds = {"meta": dict, "before": str, "after": str}
    if not isinstance(found, dict) or found.keys() - kinds.keys():
        return None
    strings = (found.get("before", ""), found.get("after", ""))
    if any(not isinstance(s, str) or _SURROGATE.search(s) for s in strings):
        return None
    return found if isinstance(found.get("meta", {}), dict) else None


def write_comments(
    meta: Mapping[str, Any], last: Said, *, text: str, before: str, after: str
) -> tuple[list[str], Said]:
    """The comments of a sentence, and what they say to one who reads them.

    Args:
        meta: of the document, without what stands in columns.
        last: what the comments of the sentence before said.
        text: the sentence.
        before, after: white space at its ends.
    """
    comments: list[str] = []
    document = meta.get("document")
    if document is not None and document != last.written:
        named = isinstance(document, str) and _is_plain(document)
        comments.append(f"newdoc id = {document}" if named else "newdoc")
    if _is_plain(meta.get("id")):
        comments.append(f"sent_id = {meta['id']}")
    others = meta.get("comments")
    if isinstance(others, list) and others and all(map(_is_remark, others)):
        comments += others
    comments += (
        f"{key} = {value}"
        for key, value in meta.items()
        if _is_plain(key) and "=" not in key and isinstance(value, str)
        and value == value.strip() and (not value or _is_plain(value))
        and key not in (*_OWN_KEYS, *_SPECIAL) and not key.startswith(("global.", "#"))
    )  # fmt: skip
    comments.append(f"text = {text}")
    said = read_comments(comments, last)
    missing = {k: v for k, v in meta.items() if k not in said.meta or not _same(said.meta[k], v)}
    if "document" in said.meta and "document" not in meta:
        missing["document"] = None
    own: dict[str, Any] = {"meta": missing} if missing else {}
    own |= {"before": before} if before else {}
    own |= {"after": after} if after else {}
    if own:
        line = json.dumps(own, ensure_ascii=False)
        comments.append(f"nertune = {json.dumps(own) if _SURROGATE.search(line) else line}")
    said.written = document
    return [f"# {comment}" for comment in comments], said


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _is_plain(value: Any) -> bool:
    """Whether a string can stand in a comment as it is."""
    if not isinstance(value, str) or not value or value != value.strip():
        return False
    return not re.search("[\n\r\0\ud800-\udfff]", value)


def _is_remark(value: Any) -> bool:
    """Whether a comment is read as such again."""
    return _is_plain(value) and "=" not in value and value != "newdoc" and value[0] != "#"
