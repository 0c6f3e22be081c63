"""A comparison as one HTML file that needs nothing else: tables, figure, examples."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from html import escape
from itertools import groupby

from nertune.comparison.results import Comparison, Example
from nertune.errors import MissingDependencyError
from nertune.reports.report import to_markdown
from nertune.types import Document, Entity

__all__ = ["to_html"]

_CONTEXT = 240  # characters of a long document that are shown around its entities

_STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5d6b7a; --line: #d9dee4; --tint: #f4f6f8; }
body { margin: 0; color: var(--ink); background: #fff; line-height: 1.5; overflow-wrap: anywhere;
  font-family: system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .4rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .5rem 0; } blockquote { margin: .6rem 0; padding: .1rem .9rem; background: #fff8e6;
  border-left: 3px solid #e0a800; }
.scroll { overflow-x: auto; overflow-wrap: normal; margin: .6rem 0; }
.scroll img { max-width: none; width: max(100%, 40rem); height: auto; }
table { border-collapse: collapse; width: max-content; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:not([style*="right"]), th:not([style*="right"]) { white-space: normal; max-width: 24rem;
  overflow-wrap: break-word; }
th { color: var(--soft); font-weight: 600; text-align: left; }
tbody tr:hover { background: var(--tint); }
.example { margin: .7rem 0; padding: .6rem .9rem; background: var(--tint); border-radius: .4rem;
  break-inside: avoid; }
.example p { margin: .15rem 0; } .who { color: var(--soft); font-size: .8rem; }
mark { background: #cfe6f7; border-radius: .2rem; padding: .05rem .15rem; }
mark.wrong { background: #f9d2c8; }
mark.missed { background: none; border-bottom: 2px dotted #c0392b; }
mark small { color: var(--soft); font-size: .68em; margin-left: .2em; }
@media print { main { max-width: none; padding: 0; } table { width: auto; font-size: .72rem; }
  .scroll { overflow: visible; } .scroll img { width: 100%; } h2 { break-after: avoid; } }
@media (max-width: 40rem) { main { padding: 1rem .8rem 3rem; } th, td { padding: .28rem .45rem; }
  td:not([style*="right"]), th:not([style*="right"]) { max-width: 11rem; } }
"""


def to_html(comparison: Comparison, *, figure: bytes | None = None, remark: str = "") -> str:
    """The whole comparison as one page.

    Args:
        comparison: what to show.
        figure: an SVG, put into the page.
        remark: a paragraph in its place.

    Raises:
        MissingDependencyError: Markdown is not installed.
    """
    try:
        import markdown
    except ImportError as error:
        raise MissingDependencyError("markdown", extra="report", purpose="the HTML page") from error
    source = None
    if figure is not None:
        source = f"data:image/svg+xml;base64,{base64.b64encode(figure).decode()}"
    text = to_markdown(comparison, figure=source, remark=remark)
    converter = markdown.Markdown(extensions=["tables", "sane_lists"])
    converter.preprocessors.deregister("html_block")  # a name is text, whatever it looks like
    converter.inlinePatterns.deregister("html")
    converter.ESCAPED_CHARS += ["<", "|"]
    body = converter.convert(text)
    body = body.replace("<table>", '<div class="scroll"><table>')
    body = body.replace("</table>", "</table></div>")
    body = re.sub(r"<p>(<img [^>]*>)</p>", r'<div class="scroll">\1</div>', body)
    title = escape(" · ".join(arm.name for arm in comparison.arms))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n"
        f"{_examples(comparison)}\n</main>\n</body>\n</html>\n"
    )


def _examples(comparison: Comparison) -> str:
    if not comparison.examples:
        return ""
    which = (
        "Documents that most seeds of one configuration get wholly right and most of the other's "
        "wrong; the prediction is that of the wrong one's first such seed."
        if len(comparison.seeds) > 1
        else "Documents that one trained model gets wholly right and the other wrong."
    )
    parts = [
        "<h2>Right here, wrong there</h2>",
        f"<p>{which} <mark>right</mark> "
        '<mark class="wrong">wrong</mark> <mark class="missed">missed</mark></p>',
    ]
    for (right, wrong), group in groupby(comparison.examples, key=lambda e: (e.right, e.wrong)):
        parts.append(f"<h3>{escape(right)} right, {escape(wrong)} wrong</h3>")
        parts += [_example(example, len(comparison.seeds)) for example in group]
    return "\n".join(parts)


def _example(example: Example, seeds: int) -> str:
    gold, found = example.gold, example.found
    first, last = _window(gold, found)
    right = {entity.key for entity in gold.entities}
    answered = {entity.key for entity in found.entities}
    marks = [(e, "" if e.key in right else "wrong") for e in found.entities]
    taken = {i for e in found.entities for i in range(e.start, e.end)}
    marks += [
        (e, "missed")
        for e in gold.entities
        if e.key not in answered and not taken & set(range(e.start, e.end))
    ]
    right_in, wrong_in = "", ""
    if seeds > 1:
        right_in = f", {example.seeds_right} of {seeds} seeds"
        wrong_in = f", {example.seeds_wrong} of {seeds} seeds"
    winner = f"{escape(example.right)}{right_in}: as gold"
    loser = f"{escape(example.wrong)}{wrong_in}: wrong"
    return (
        f'<div class="example"><p class="who">{winner}</p>'
        f'<p dir="auto">{_marked(gold, [(e, "") for e in gold.entities], first, last)}</p>'
        f'<p class="who">{loser}</p>'
        f'<p dir="auto">{_marked(found, marks, first, last)}</p></div>'
    )


def _window(*documents: Document) -> tuple[int, int]:
    """The part of a long text that holds what differs."""
    text = documents[0].text
    if len(text) <= 2 * _CONTEXT:
        return 0, len(text)
    keys = [{entity.key for entity in document.entities} for document in documents]
    differing = sorted(keys[0] ^ keys[1])
    first = max(0, differing[0][0] - _CONTEXT // 2)
    last = min(len(text), max(differing[0][1], first) + _CONTEXT)
    return first, last


def _marked(document: Document, marks: Iterable[tuple[Entity, str]], first: int, last: int) -> str:
    parts = ["… " if first else ""]
    position = first
    for entity, kind in sorted(marks, key=lambda mark: mark[0].key):
        if entity.start < position or entity.end > last:
            continue
        surface = escape(document.text[entity.start : entity.end])
        shown = f' class="{kind}"' if kind else ""
        parts.append(escape(document.text[position : entity.start]))
        parts.append(
            f"<mark{shown}>{surface}<small><bdi>{escape(entity.label)}</bdi></small></mark>"
        )
        position = entity.end
    parts.append(escape(document.text[position:last]))
    parts.append(" …" if last < len(document.text) else "")
    return "".join(parts)
