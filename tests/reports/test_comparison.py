from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from helpers.comparisons import BETTER, UNCLEAR, WORSE, comparison, row
from nertune.comparison.results import Comparison, Estimate, SizePoint
from nertune.evaluation.significance import Difference
from nertune.reports.comparison import (
    comparison_page,
    print_comparison,
    save_report,
    verdict_sentence,
)
from nertune.reports.markdown import to_markdown
from nertune.reports.numbers import short_number


def rendered(shown: Comparison, width: int = 80) -> str:
    stream = io.StringIO()
    print_comparison(shown, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (BETTER, "lora vs bert: +3.1 points micro-F1 [+1.2, +5.0], p = .004: better"),
        (WORSE, "lora vs bert: −3.1 points micro-F1 [−5.0, −1.2], p < .001: worse"),
        (UNCLEAR, "lora vs bert: +0.0 points micro-F1 [−4.0, +3.0], p = 1: not distinguishable"),
    ],
)
def test_verdict_in_plain_words(difference: Difference, sentence: str) -> None:
    assert verdict_sentence("lora", "bert", difference) == sentence


def test_terminal_shows_every_figure_within_80_columns() -> None:
    shown = comparison()
    text = rendered(shown)
    assert max(map(len, text.splitlines())) <= 80
    assert verdict_sentence("lora", "bert", BETTER) in text
    assert "Note: A notice." in text
    for word in ("800k", "0.784 %", "12.5", "1026", "baseline", "macro average", "PERSON"):
        assert word in text
    micro = shown.configurations[1].score("micro").f1
    assert micro.mean is not None
    assert micro.deviation is not None
    assert f"{100 * micro.mean:.1f} ±{100 * micro.deviation:.1f}" in text
    assert "…" not in text.replace("0123456789ab…", "")  # nothing is cut


@pytest.mark.parametrize("width", [80, 120])
def test_many_configurations_are_shown_in_parts_that_fit(width: int) -> None:
    names = tuple(f"method-{number}" for number in range(11))
    shown = replace(comparison(names=names), notices=())
    sizes = [
        SizePoint(s, int(1000 * s), {n: Estimate.of([0.5, 0.75]) for n in names},
                  dict.fromkeys(names[1:], BETTER))
        for s in (0.005, 0.125, 1.0)
    ]  # fmt: skip
    text = rendered(replace(shown, sizes=tuple(sizes)), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text.replace("0123456789ab…", "")
    amounts = text.split("Micro F1 by amount", 1)[1].split("Scores by type", 1)[0]
    assert amounts.count("62.5 ±17.7") == 33
    assert "5 (0.5 %)" in text
    assert "125 (12.5 %)" in text
    curves = text.split("Learning curves", 1)[1]
    for configuration in shown.configurations:
        assert configuration.name in curves
        assert f"{100 * (configuration.epochs[0].dev_f1.mean or 0):.1f} ±" in curves


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (999, "999"), (999_499, "999k"), (999_700, "1M"), (6_861_769, "6.86M")],
)
def test_numbers_of_parameters(value: int, shown: str) -> None:
    assert short_number(value) == shown


def test_one_seed_shows_no_deviation() -> None:
    shown = comparison(num_seeds=1)
    assert "±" not in rendered(shown)
    tables = [
        line for line in to_markdown(comparison_page(shown)).splitlines() if line.startswith("|")
    ]
    assert not any("±" in line for line in tables)
    assert shown.to_dict()["arms"][0]["scores"]["micro"]["f1"]["sd"] is None


def test_one_seed_shows_the_interval_of_its_f1() -> None:
    shown = comparison(num_seeds=1)
    first, *others = shown.configurations
    first = replace(first, interval=(0.8512, 0.9371))
    shown = replace(shown, configurations=(first, *others))
    text = rendered(shown)
    assert "below F1: its 95 % interval" in " ".join(text.split())
    assert "85.1–" in text
    assert "93.7 " in text
    assert "[0.8512, 0.9371]" in table(to_markdown(comparison_page(shown)), "Averages")[2]


def test_names_with_markup_are_shown_as_they_are() -> None:
    shown = comparison(names=("a[bold]b", "x|y", "lora_r8"), types=("[red]", "B*", "_C_"))
    text = rendered(shown, width=120)
    assert "a[bold]b" in text
    assert "[red]" in text
    point = SizePoint(
        1.0,
        10,
        {configuration.name: Estimate.of([0.5]) for configuration in shown.configurations},
        {},
    )
    markdown = to_markdown(comparison_page(replace(shown, sizes=(point,))))
    amounts = table(markdown, "By amount of training data")
    assert r"| points against a\[bold]b |" in amounts[0]
    assert [row.split(" | ")[1] for row in amounts[2:]] == [r"a\[bold]b", r"x\|y", "lora_r8"]
    assert r"x\|y" in markdown
    assert r"B\*" in markdown
    assert r"\_C\_" in markdown
    assert "| lora_r8 |" in markdown
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table(markdown, "By type")}
    assert widths == {9}


def table(markdown: str, heading: str) -> list[str]:
    section = markdown.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [line for line in section.splitlines() if line.startswith("|")]


def test_markdown_tables_can_be_read_back() -> None:
    shown = comparison()
    markdown = to_markdown(comparison_page(shown, picture=Path("anywhere/report.svg")))
    rows = [line.strip("| ").split(" | ") for line in table(markdown, "Averages")]
    assert rows[0] == ["average", "configuration", "precision", "recall", "F1"]
    found = {(average, configuration): f1 for average, configuration, _, _, f1 in rows[2:]}
    for configuration in shown.configurations:
        micro = configuration.score("micro").f1
        mean, deviation = map(float, found["micro", configuration.name].split(" ± "))
        assert mean == pytest.approx(micro.mean, abs=5e-5)
        assert deviation == pytest.approx(micro.deviation, abs=5e-5)
    differences = [line.strip("| ").split(" | ") for line in table(markdown, "Difference to bert")]
    assert differences[2] == ["lora", "+0.0310", "+0.0120", "+0.0500", "0.0040", "better"]
    assert differences[3][1:4] == ["-0.0310", "-0.0500", "-0.0120"]
    assert len(table(markdown, "By type")) == 2 + 3 * 3
    assert (
        len(table(markdown, "By epoch")) == 2 + 5 + 4 + 3
    )  # each configuration its own number of epochs
    assert len(table(markdown, "Cost")) == 2 + 3
    assert "![Learning curves and F1 by type](report.svg)" in markdown
    assert "\n- lora vs bert: +3.1 points micro-F1 [+1.2, +5.0], p = .004: better\n" in markdown


def test_undefined_scores_are_shown_as_such(tmp_path: Path) -> None:
    shown = comparison(names=("bert",))
    for one in shown.configurations[0].records:
        one["test"]["types"]["UNSEEN"] = row(None, 0, untyped=row(None, 0), overlap=row(None, 0))
    assert "| UNSEEN | 0 | bert | – | – | – | – | – |" in to_markdown(comparison_page(shown))
    assert "UNSEEN" in rendered(shown)
    save_report(shown, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["arms"][0]["scores"]["types"]["UNSEEN"]["f1"]["mean"] is None


def test_save_writes_all_files_and_leaves_no_drafts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shown = comparison()
    written = save_report(shown, tmp_path / "new" / "folder")
    names = ["report.html", "report.json", "report.md", "report.png", "report.svg"]
    assert sorted(path.name for path in written) == names
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == names
    svg = (tmp_path / "new/folder/report.svg").read_bytes()
    assert svg.startswith(b"<?xml")
    assert (tmp_path / "new/folder/report.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "new/folder/report.json").read_text()) == shown.to_dict()
    save_report(shown, tmp_path / "new" / "folder")
    assert (tmp_path / "new/folder/report.svg").read_bytes() == svg  # the same, byte for byte


def test_without_matplotlib_the_report_says_how_to_get_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.png").write_bytes(b"old")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    written = save_report(comparison(), tmp_path)
    assert sorted(path.name for path in written) == ["report.html", "report.json", "report.md"]
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert 'pip install "nertune[report]"' in markdown
    assert "![" not in markdown
    assert not (tmp_path / "report.png").exists()


def test_an_interrupted_save_keeps_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [tmp_path / f"report.{suffix}" for suffix in ("html", "json", "md")]
    for path in reports:
        path.write_text("old")
    write_text = Path.write_text

    def fail(path: Path, content: str, **options: str) -> int:
        write_text(path, content[:10], **options)
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        save_report(comparison(), tmp_path)
    assert [path.read_text() for path in reports] == ["old"] * 3
    assert not list(tmp_path.glob(".*"))
