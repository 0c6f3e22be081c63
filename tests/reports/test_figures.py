"""What is drawn of a comparison, and with which fonts."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.comparisons import comparison
from nertune.comparison.results import Estimate, SizePoint
from nertune.reports import figures as figure


def test_figure_has_no_missing_glyphs_and_no_mathtext(tmp_path: Path) -> None:
    """matplotlib warns of a character that it draws as a box, and fails on wrong mathtext."""
    pytest.importorskip("matplotlib")
    shown = comparison(names=("实验", "a$b$_{", "c"), types=("人名", "Ä", "机构𠀀", "P$x^"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(figure.save_figure(shown, tmp_path)) == 2


def test_amounts_of_data_are_drawn_as_a_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    drawn: list[Any] = []
    monkeypatch.setattr(figures.Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    monkeypatch.setattr(figure, "write_whole", lambda path, write: write(path))
    shown = comparison(names=("a", "b"))
    points = tuple(
        SizePoint(share, round(200 * share), {a: Estimate.of([share, 0.5]) for a in "ab"}, {})
        for share in (0.25, 0.5, 1.0)
    )
    figure.save_figure(replace(shown, sizes=points), tmp_path)
    (sizes,) = [axes for axes in drawn[0].axes if "by amount" in axes.get_title(loc="left")]
    assert [label.get_text() for label in sizes.get_xticklabels()] == ["50", "100", "200"]
    assert len(sizes.containers) == 2
    for container in sizes.containers:
        line = container.lines[0]
        assert list(line.get_xdata()) == [50, 100, 200]
        assert list(line.get_ydata()) == pytest.approx([0.375, 0.5, 0.75])


def test_characters_that_no_font_has_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figure, "_CJK_FAMILIES", ())
    families, readable = figure._fonts("人名Ä")
    assert families == ["DejaVu Sans"]
    assert readable("人名 Äx") == "\\u4eba\\u540d Äx"


def test_a_font_with_the_characters_is_taken_only_when_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    font_manager = pytest.importorskip("matplotlib.font_manager")
    from matplotlib.ft2font import FT2Font

    # STIX comes with matplotlib and has letters that DejaVu Sans lacks: a stand-in for CJK fonts.
    path = font_manager.findfont("STIXNonUnicode", fallback_to_default=False)
    common = set(FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())
    letter = chr(min(set(FT2Font(path).get_charmap()) - common))
    monkeypatch.setattr(figure, "_CJK_FAMILIES", ("No Such Font", "STIXNonUnicode"))
    families, readable = figure._fonts(f"PERSON{letter}")
    assert families == ["DejaVu Sans", "STIXNonUnicode"]
    assert readable(f"PERSON{letter}人") == f"PERSON{letter}\\u4eba"
    assert figure._fonts("PERSON")[0] == ["DejaVu Sans"]
    assert figure._fonts("人")[0] == ["DejaVu Sans"]


def test_the_lower_row_has_a_legend_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    drawn: list[Any] = []
    save = figures.Figure.savefig
    monkeypatch.setattr(
        figures.Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))
    )
    figure.save_figure(comparison(names=("bert", "lora", "lstm")), tmp_path)
    upper, lower = drawn[0].legends
    below = [t for t in drawn[0].axes if t.get_title(loc="left").startswith("F1 on the test data")]
    assert [text.get_text() for text in lower.get_texts()] == ["bert", "lora", "lstm"]
    box = below[0].get_tightbbox()
    assert lower.get_window_extent().y0 >= 0
    assert lower.get_window_extent().y1 <= box.y0 < box.y1 <= upper.get_window_extent().y0


METHODS = ("full", "lora", "lora-top2", "rslora", "dora", "pissa", "lora-plus", "adalora", "ia3",
           "vera", "oft")  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        ("bert", "lora", "lora-crf", "lstm", "lstm-crf"),
        METHODS,
        ("一个名字很长的实验用了全部数据", "另一个名字很长的实验", "c"),
        tuple(f"{name}-with-all-layers-and-a-long-name" for name in METHODS),
    ],
)
def test_many_configurations_and_types_are_drawn(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    drawn: list[Any] = []
    save = figures.Figure.savefig
    monkeypatch.setattr(
        figures.Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))
    )
    types = tuple(f"TYPE{n}" for n in range(12))
    figure.save_figure(comparison(names=names, types=types, num_epochs=20), tmp_path)
    f1_axes, loss_axes, type_axes = drawn[0].axes
    assert loss_axes.get_yscale() == "log"
    labels = [label.get_text() for axes in drawn[0].axes for label in axes.get_yticklabels()]
    assert not any("$" in label for label in labels)
    assert "TYPE0  (300)" in labels
    assert len(type_axes.get_yticklabels()) == 12 + 2
    assert len(f1_axes.get_lines()) == len(names)
    # Nothing hangs over the edge, and the legend stands above the panels.
    width, height = drawn[0].bbox.width, drawn[0].bbox.height
    for axes in drawn[0].axes:
        box = axes.get_tightbbox()
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y1 <= drawn[0].legends[0].get_window_extent().y0 <= height
    legend = drawn[0].legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= width
