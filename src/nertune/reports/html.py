"""A page as one HTML file that needs nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from nertune.reports.content import Page

__all__ = ["to_html"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_ENDS_SCRIPT = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def to_html(page: Page) -> str:
    """A page as HTML, with its pictures inside; every text is escaped."""
    environment = Environment(
        loader=PackageLoader("nertune.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["marked_up"] = _mark_up
    environment.filters["as_json"] = _as_json
    html = environment.get_template("page.html").render(page=page)
    return _SURROGATE.sub(lambda found: f"&#{ord(found[0])};", html)  # which no file could hold


def _mark_up(note: str) -> Markup:
    """A note's emphasis and code as HTML."""
    text = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", str(escape(note)))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", text))


def _as_json(value: Any) -> Markup:
    """A value for a `<script type="application/json">`, which no text can end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(_ENDS_SCRIPT.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
