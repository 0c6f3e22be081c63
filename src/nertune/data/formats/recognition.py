"""What format a file has, by its name and by its content."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nertune.data.formats import slash

__all__ = ["Kind", "kind_of_content", "kind_of_name"]

Kind = Literal["conll", "jsonl", "lines"]

_SUFFIXES: dict[str, Kind] = {
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".conll", ".bio", ".bioes", ".bmes", ".iob"), "conll"),
}
_TAGGED = re.compile(r".+[\t ](O|[BIMELSU][-_]\S+)[\t ]*")
_TYPE = re.compile(r"[^\W\d][\w.&/+-]*")
_SPELLED = re.compile(r"O|[BIMELSU](?:[-_].+)?|.+[-_][BIMELSU]", re.IGNORECASE)
_SAMPLE = 50  # lines that are looked at


def kind_of_name(path: Path) -> Kind | None:
    """What a file's suffix says, that before `.gz` included; `None` where it says nothing."""
    return _SUFFIXES.get((path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower())


def kind_of_content(head: str, *, is_whole: bool = True) -> Kind:
    """What a file's beginning looks like; `lines` where it is text.

    Args:
        head: the beginning, without a byte order mark.
        is_whole: whether the last line is there up to its end.
    """
    all_lines = head.split("\n")
    is_cut = not is_whole and len(all_lines) <= _SAMPLE
    lines = [line.rstrip("\r") for line in all_lines[:_SAMPLE] if line.strip()]
    if lines and _is_record(lines[0], is_cut=is_cut and len(lines) == 1):
        return "jsonl"
    lines = [line for line in lines if not line.startswith(("-DOCSTART-", "# "))]
    if is_cut:
        lines = lines[:-1]
    return "conll" if _has_columns(lines) or slash.fits(lines) else "lines"


def _is_record(line: str, *, is_cut: bool) -> bool:
    line = line.strip()
    if line.startswith("{"):
        return '"text"' in line and (is_cut or line.endswith("}"))
    return line.startswith('["') and '"entities"' in line and (is_cut or line.endswith("}]"))


def _has_columns(lines: Sequence[str]) -> bool:
    """Whether each of several lines is a token and a tag."""
    if len(lines) < 2:
        return False
    if all(map(_TAGGED.fullmatch, lines)):
        return True
    return any(_has_types(lines, separator) for separator in ("\t", " "))


def _has_types(lines: Sequence[str], separator: str) -> bool:
    """Whether lines are a token and a tag in another spelling, or a bare type; one must be `O`."""
    rows = [line.rstrip(" \t").rpartition(separator) for line in lines]
    tags = [tag for _, _, tag in rows]
    if not {"O", "o"} & set(tags) or not all(map(_TYPE.fullmatch, tags)):
        return False
    tokens = [token for token, _, _ in rows]
    if separator == "\t":
        return all(token and "\t" not in token for token in tokens)
    # Two words a line may be text: then the second ones are not the same again and again.
    is_repeated = 2 * len(set(tags)) <= len(tags) + 1 or all(map(_SPELLED.fullmatch, tags))
    return is_repeated and all(token and " " not in token for token in tokens)
