"""A page as one HTML file that needs nothing else."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from nertune.reports.content import Page

__all__ = ["to_html"]


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
    return environment.get_template("page.html").render(page=page)


def _mark_up(note: str) -> Markup:
    """A note's emphasis and code as HTML."""
    text = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", str(escape(note)))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", text))
