"""The list of formats, and the page of the documentation that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.commands import run
from nertune.data.formats import all_formats
from nertune.reports.corpora.formats import formats_markdown

PAGE = Path(__file__).parents[3] / "docs" / "formats.md"


def test_the_page_is_of_today() -> None:
    assert PAGE.read_text(encoding="utf-8") == formats_markdown(), (
        "run: nertune data formats --markdown > docs/formats.md"
    )


def test_every_format_is_listed() -> None:
    page = formats_markdown()
    for format in all_formats():
        assert page.count(f"\n| `{format.name}` |") == 2 + len(format.options)
        assert format.title
    conll = next(line for line in page.splitlines() if line.startswith("| `conll` |"))
    assert "| required | borders | tokens only | tokens | excluded |" in conll
    assert "| no | no | no | no spans | required |" in conll
    assert "| `jsonl` | JSONL spans | yes | yes | yes | yes |" in page


def test_the_command() -> None:
    outcome = run("data", "formats")
    assert outcome.code == 0
    assert all(format.name in outcome.stdout for format in all_formats())
    holders = [format for format in all_formats() if format.holds.scope != "none"]
    assert outcome.stdout.count("scope") == len(holders) > 0
    found = json.loads(run("data", "formats", "--json").stdout)["formats"]
    assert [f["name"] for f in found] == [format.name for format in all_formats()]
    assert run("data", "formats", "--markdown").stdout == formats_markdown()
