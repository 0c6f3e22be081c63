"""JSONL spans: one JSON object a line with a text and its entities.

| written by            | entities                                                           |
|-----------------------|--------------------------------------------------------------------|
| nertune, many tools   | `"entities": [[start, end, label], …]`                             |
| nertune, predictions  | `"entities": [{"start", "end", "label", "text", "score"}, …]`      |
| doccano               | `"label": [[start, end, label], …]`                                |
| doccano, relations    | `"entities": [{"start_offset", "end_offset", "label", …}, …]`      |
| Prodigy, without more | `"spans": [{"start", "end", "label", …}, …]`                       |
| spaCy, `Doc.to_json`  | `"ents": [{"start", "end", "label"}, …]`                           |
| spaCy, older          | `["text", {"entities": [[start, end, label], …]}]`                 |

A discontinuous entity is an object with `"fragments": [[start, end], …]` beside start and end.
Source tokens are `"tokens": [[start, end], …]`. A partially labelled document has
`"scope": {"labels": ["PER"], "complete": false, "unknown": [[start, end], …]}`, any of the three.

Offsets are half-open. They count Unicode code points, or what `offsets` says: see
`formats.offsets`. A record's other keys become `Document.meta` and are written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType
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
    check_choice,
)
from nertune.data.formats.fitting import fit
from nertune.data.formats.jsonl.reader import NOT_GOLD, documents, read_tokens
from nertune.data.formats.jsonl.records import KEYS, looks_like_scope
from nertune.data.formats.jsonl.writer import TAKEN, write
from nertune.data.formats.values import Loss
from nertune.storage.files import shorten
from nertune.types import Document, Scope

__all__ = ["Jsonl"]


class Jsonl(Format):
    """JSONL spans.

    Args:
        name: `jsonl`, or `predictions`, which are written with scores whether asked for or not.
    """

    holds = Holds(
        overlap=True, fragments=True, scores=True, tokens="optional", ids=True, metadata=True,
        scope="all",
    )  # fmt: skip
    options = MappingProxyType({"tokens": "whether source tokens are written: yes (default) or no"})
    general = True  # any record with a text

    def __init__(self, name: str = "jsonl"):
        self.name = name
        self._is_main = name == "jsonl"
        self.title = "JSONL spans" if self._is_main else "JSONL spans with scores"
        self.suffixes = (".jsonl", ".json", ".ndjson") if self._is_main else ()
        self.reads = self._is_main
        self.read_as = "" if self._is_main else "jsonl"

    def recognise(self, seen: Glimpse) -> str | None:
        """Whether the first line is an object with a text, or what older versions of spaCy had."""
        line = seen.first.strip()
        if re.search(r'"label"\s*:\s*\{|"Comments"\s*:\s*\[|^\{\s*"%', line):
            return None  # CLUENER's, doccano's, a CAS
        has_text = re.search(r'"text"\s*:', line) is not None
        if line.startswith("{") and has_text and (seen.is_first_cut or line[-1:] == "}"):
            return "its first line is a JSON object with a text"
        is_pair = line.startswith('["') and '"entities"' in line
        if is_pair and (seen.is_first_cut or line.endswith("}]")):
            return "its first line is a JSON array of a text and its entities"
        return None

    def read(self, source: Source, options: ReadOptions, findings: Findings) -> Iterator[Document]:
        """The records; what offsets count is the same in the whole file."""
        return documents(source, options, findings)

    def write(self, documents: Iterable[Document], target: Any, options: WriteOptions) -> None:
        """An object a line."""
        predictions = options.scores or not self._is_main
        write(target, documents, predictions=predictions, tokens=_writes_tokens(options))

    def fit(self, document: Document, options: WriteOptions) -> Fitted:
        """Without keys of the source that mean something else here."""
        taken = [k for k, v in document.meta.items() if k in TAKEN or (k in KEYS and _is_list(v))]
        if "tokens" in document.meta and (
            document.tokens is not None or read_tokens(document.meta, document.text) is not None
        ):
            taken.append("tokens")
        if document.meta.get("answer") in NOT_GOLD:  # the reader would skip the record
            taken.append("answer")
        value = document.meta.get("scope")
        if looks_like_scope(value) or (value is not None and document.scope != Scope()):
            taken.append("scope")
        losses = [Loss(document.id, "metadata", f"its key {shorten(key)}") for key in taken]
        if taken:
            meta = {k: v for k, v in document.meta.items() if k not in taken}
            document = replace(document, meta=meta)
        if document.tokens == () and document.text:  # in other files, an empty list says nothing
            losses.append(Loss(document.id, "tokens", "that it has no source token"))
            document = replace(document, tokens=None)
        scores = options.scores or not self._is_main
        if scores != options.scores:
            options = replace(options, scores=scores)
        fitted = fit(document, self.holds if _writes_tokens(options) else _WITHOUT_TOKENS, options)
        return Fitted(fitted.document, (*losses, *fitted.losses))


_WITHOUT_TOKENS = replace(Jsonl.holds, tokens="none")


def _writes_tokens(options: WriteOptions) -> bool:
    value = options.more.get("tokens", "yes")
    check_choice("tokens", value, ("yes", "no"))
    return value == "yes"


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
