"""All files of a comparison's report."""

from __future__ import annotations

import json
from pathlib import Path

from nertune.comparison.results import Comparison
from nertune.errors import MissingDependencyError
from nertune.reports.figures import save_figure
from nertune.reports.html import to_html
from nertune.reports.report import to_markdown
from nertune.storage.atomic import write_text

__all__ = ["save_report"]


def save_report(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Writes `report.json`, `report.md`, `report.html`, `report.svg` and `report.png`.

    Without matplotlib there is no figure, and `report.md` says how to get one; without Markdown no
    `report.html`, which alone shows examples. A reader never sees half of a file.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remark = ""
    pictures: tuple[Path, ...] = ()
    try:
        pictures = save_figure(comparison, folder)
    except MissingDependencyError as error:
        remark = f"No figure: {error}"
        for suffix in ("svg", "png"):  # of an earlier comparison
            (folder / f"report.{suffix}").unlink(missing_ok=True)
    figure = "report.svg" if pictures else None
    content = json.dumps(comparison.to_dict(), ensure_ascii=False, indent=2, allow_nan=False)
    markdown = to_markdown(comparison, figure=figure, remark=remark)
    pages: tuple[Path, ...] = ()
    try:
        svg = (folder / "report.svg").read_bytes() if pictures else None
        page = to_html(comparison, figure=svg, remark=remark)
        pages = (write_text(folder / "report.html", page),)
    except MissingDependencyError:
        (folder / "report.html").unlink(missing_ok=True)  # of an earlier comparison
    return (
        write_text(folder / "report.json", content + "\n"),
        write_text(folder / "report.md", markdown),
        *pages,
        *pictures,
    )
