"""A page as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nertune.reports.content import Block, Bullets, Page, Paragraph, Picture, Places, Table

__all__ = ["to_markdown"]

_INTERVAL = r"\[(?=[-+−\d][-+−.,\d ]*\](?!\())"  # opens no link
_SPECIAL = re.compile(rf"{_INTERVAL}|([\\|*`\[]|<(?! )|(?<!\w)_|_(?!\w))")


def to_markdown(page: Page) -> str:
    """A page as Markdown, without its examples."""
    parts = [f"# {_escape(page.title)}"]
    for section in page.sections:
        if section.title:
            parts.append(f"## {_escape(section.title)}")
        parts += map(_show, section.blocks)
    return "\n\n".join(parts) + "\n"


def _show(block: Block) -> str:
    match block:
        case Table():
            title = f"### {_escape(block.title)}\n\n" if block.title else ""
            rules = ["---" if block.is_left(i) else "---:" for i in range(len(block.headings))]
            rows = [row for group in block.groups for row in group]
            lines = [_line(map(_escape, map(str, row))) for row in (block.headings, *rows)]
            return title + "\n".join([lines[0], _line(rules), *lines[1:]])
        case Bullets(items):
            return "\n".join(f"- {_escape(item)}" for item in items)
        case Picture(text, path):
            return f"![{text}]({path.name})"
        case Places():
            return ""
        case Paragraph(text, "note"):
            return text
        case Paragraph(text, kind):
            return ("> " if kind == "notice" else "") + _escape(text)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """A text as it can stand in Markdown, tables included."""
    text = _SPECIAL.sub(lambda found: "\\" * (found[1] is not None) + found[0], text)
    return " ".join(text.split())
