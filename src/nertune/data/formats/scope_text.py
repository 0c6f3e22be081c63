"""A document's scope as words of a comment: `labels=PER,LOC complete=false`."""

from __future__ import annotations

from urllib.parse import quote, unquote

from nertune.types import Scope

__all__ = ["parse_scope", "spell_scope"]

_KEYS = ("labels", "complete", "unknown")


def parse_scope(text: str) -> Scope:
    """The scope that words name; `labels=*`, or no word about them, are all labels.

    Labels are percent-encoded where they hold commas or white space; spans of which nothing is
    known are `unknown=3-5,8-12`.

    Raises:
        ValueError: a word is no `key=value`, or its value cannot be read.
    """
    values: dict[str, str] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or key not in _KEYS or key in values:
            raise ValueError(
                f"got {word!r}, expected labels=A,B complete=true|false unknown=START-END, any of "
                "them, each once (no spaces around = and commas)"
            )
        values[key] = value
    complete = values.get("complete", "true")
    if complete not in ("true", "false"):
        raise ValueError(f"complete={complete!r}: expected true or false")
    labels = values.get("labels", "*")
    named = None if labels == "*" else tuple(unquote(x) for x in labels.split(",") if labels)
    spans = []
    for span in values.get("unknown", "").split(",") if values.get("unknown") else ():
        start, _, end = span.partition("-")
        if not start.isdecimal() or not end.isdecimal():
            raise ValueError(f"unknown={span!r}: expected START-END, e.g. unknown=3-5,8-12")
        spans.append((int(start), int(end)))
    return Scope(named, complete == "true", tuple(spans))


def spell_scope(scope: Scope) -> str:
    """The words that `parse_scope` reads; `labels=*` for a document that is labelled in full."""
    labels = "*" if scope.labels is None else ",".join(quote(x, safe="") for x in scope.labels)
    words = [f"labels={labels}"]
    if not scope.complete:
        words.append("complete=false")
    if scope.unknown:
        words.append("unknown=" + ",".join(f"{start}-{end}" for start, end in scope.unknown))
    return " ".join(words)
