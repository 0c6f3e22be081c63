"""The page: everything inside, nothing from outside, nothing a text could break out of."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from helpers.comparisons import comparison
from nertune.comparison.results import Comparison, Configuration, Example
from nertune.evaluation.error_analysis import analyse
from nertune.reports.comparison import comparison_page
from nertune.reports.content import Bullets, Page, Paragraph, Section, Table
from nertune.reports.html import to_html
from nertune.reports.markdown import to_markdown
from nertune.types import Document, Entity

EVIL = "<script>alert(1)</script>"


def example(text: str = "王小明在北京。") -> Example:
    gold = Document(text, [Entity(0, 3, "PER"), Entity(4, 6, "LOC")])
    found = Document(text, [Entity(0, 2, "PER")])
    return Example(gold, "lora", "bert", found, 2, 3)


def page(shown: Comparison, picture: Path | None = None) -> str:
    return to_html(comparison_page(shown, picture=picture))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "report.svg"
    path.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    return path


class _Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "img", "br", "hr"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(html: str) -> _Checker:
    checker = _Checker()
    checker.feed(html)
    assert not checker.open
    return checker


def test_the_page_is_whole_and_needs_no_network(picture: Path) -> None:
    shown = replace(comparison(), examples=(example(),))
    html = page(shown, picture)
    found = checked(html)
    assert len(found.sources) == 1  # the figure
    assert all(source.startswith("data:") for source in found.sources)
    assert found.tags.count("table") >= 6
    assert "script" not in found.tags
    assert "Kinds of errors" in html
    assert "Names that training showed" in html
    assert re.search(
        r"<mark>王小明<small><bdi>PER</bdi></small></mark>在<mark>北京<small><bdi>LOC", html
    )
    assert re.search(r'<mark class="wrong">王小<small><bdi>PER</bdi></small></mark>', html)
    assert re.search(r'<mark class="missed">北京<small><bdi>LOC</bdi></small></mark>', html)
    assert "lora, 2 of 3 seeds: as gold" in html


def test_what_is_wide_scrolls_inside_its_box(picture: Path) -> None:
    """A phone shows 390 pixels: the page must not be wider, only what lies in a box of its own."""
    shown = comparison(names=("bert", "x" * 90, "lstm"), types=("T" * 60, "LOC"))
    html = page(shown, picture)
    wide = len(re.findall(r"<table|<img", html))
    assert wide > 6
    assert len(re.findall(r'<div class="scroll"><(?:table|img)', html)) == wide
    style = html.split("<style>", 1)[1].split("</style>", 1)[0]
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", style)
    assert re.search(r"body \{[^}]*overflow-wrap: anywhere", style)  # names in headings and text
    assert not re.search(r"(?<!max-)width: *(?:\d{3,}px|[5-9]\d(?:\.\d+)?rem)", style)


def test_texts_and_labels_cannot_break_out() -> None:
    gold = Document(f"{EVIL}北京", [Entity(0, len(EVIL), EVIL)])
    evil = Example(gold, EVIL, "<b>", Document(f"{EVIL}北京"), 1, 1)
    html = page(replace(comparison(), examples=(evil,), notices=(f"{EVIL} `<img src=x>`",)))
    found = checked(html)
    assert "script" not in found.tags
    assert "b" not in found.tags
    assert "img" not in found.tags


def test_every_block_of_a_page_is_escaped() -> None:
    table = Table((EVIL, "n"), [[(EVIL, EVIL)]], title=EVIL)
    kinds = [Paragraph(f"{EVIL} *a* `b`", kind) for kind in ("text", "note", "notice")]  # type: ignore[arg-type]
    evil = Page(EVIL, [Section(EVIL, [table, Bullets([EVIL]), *kinds])])
    html = to_html(evil)
    assert "script" not in checked(html).tags
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 11  # the title twice
    assert html.count("<em>a</em> <code>b</code>") == 1  # of nertune's own prose alone
    assert to_markdown(evil).count(r"\<script>") == 9  # but for nertune's own prose


def test_rows_of_a_group_share_their_first_cells() -> None:
    table = Table(
        ("epoch", "name", "F1"), [[("1", "a", "0"), ("1", "b", "0")], [("2", "a", "0")]], "rl", 1
    )
    html = to_html(Page("", [Section("", [table])]))
    rows = re.findall(r"<tr>.*?</tr>", html, flags=re.DOTALL)
    assert re.findall(r"<td.*?>", rows[1]) == [
        '<td class="r" rowspan="2">',
        "<td>",
        '<td class="r">',
    ]
    assert [len(re.findall("<td", row)) for row in rows] == [0, 3, 2, 3]
    assert html.count("<tbody>") == 2


def test_the_template_is_in_the_package_and_strict() -> None:
    names = [file.name for file in files("nertune.reports").joinpath("templates").iterdir()]
    assert sorted(names) == ["browser.css", "browser.html", "page.html", "places.html"]
    with pytest.raises(UndefinedError):
        to_html(object())  # type: ignore[arg-type]


def test_a_long_document_is_shown_in_part() -> None:
    text = "天" * 5000 + "王小明在北京。" + "地" * 5000
    gold = Document(text, [Entity(5000, 5003, "PER"), Entity(5004, 5006, "LOC")])
    one = Example(gold, "lora", "bert", Document(text), 1, 1)
    html = page(replace(comparison(), examples=(one,)))
    assert "王小明" in html
    assert html.count("天") < 600
    assert "… 天" in html


def test_figures_of_a_configuration_are_averages_over_its_seeds() -> None:
    gold = [Document("王小明在北京。", [Entity(0, 3, "PER"), Entity(4, 6, "LOC")])]
    runs = [[Document("王小明在北京。", [Entity(0, 3, "PER")])], gold]
    analyses = tuple(analyse(gold, run, {"王小明": {"PER"}}) for run in runs)
    configuration = Configuration("a", Path("a.toml"), (), (), "test", analyses=analyses)
    assert configuration.errors("correct").values == (1, 2)
    assert configuration.errors("missed").mean == 0.5
    assert configuration.recall("unseen").mean == 0.5
    assert configuration.recall("seen").mean == 1.0
    assert configuration.recall("other type").mean is None
