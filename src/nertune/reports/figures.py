"""The figure of a comparison: learning curves, F1 by type, F1 by amount of training data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unicodedata import east_asian_width

from nertune.comparison.results import Arm, Comparison
from nertune.errors import MissingDependencyError
from nertune.storage.atomic import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["save_figure"]

# Okabe & Ito (2008): told apart by colour-blind readers too; shapes and lines differ besides.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))

_INCHES, _POINTS = 9.5, 9.5  # width of the figure, size of the font
_HANDLE_EM = 3.2  # length of the line beside a name in the legend, in font sizes

# Families with Chinese characters, as Linux, macOS and Windows call them.
_CJK_FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "STHeiti",
    "Microsoft YaHei",
    "SimHei",
    "Droid Sans Fallback",
    "AR PL UMing CN",
    "Arial Unicode MS",
)


def save_figure(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Draws learning curves and F1 by type to `report.svg` and `report.png`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "matplotlib", extra="report", purpose="the report's figure"
        ) from error
    names = [*comparison.types, *(arm.name for arm in comparison.arms), comparison.baseline]
    families, readable = _fonts("".join(names))
    style: dict[Any, Any] = {
        "font.family": families,
        "font.size": _POINTS,
        "axes.titlesize": 10.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
        "svg.hashsalt": "nertune",
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style):
        num_rows = len(comparison.types) + 2
        row_inches = max(0.26, 0.10 + 0.075 * len(comparison.arms))
        bottom = 0.9 + num_rows * row_inches
        heights = [3.2, *([3.0] if comparison.sizes else []), bottom]
        labels = [readable(arm.name) for arm in comparison.arms]
        legend = 0.15 + 0.21 * math.ceil(len(labels) / _num_columns(labels))
        figure = Figure(
            figsize=(_INCHES, 2 * legend + sum(heights)), layout="constrained", facecolor="white"
        )
        _draw(comparison, figure, heights, readable)
        return tuple(
            write_whole(
                folder / f"report.{kind}",
                lambda part, kind=kind: figure.savefig(  # type: ignore[misc]
                    part, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None
                ),
            )
            for kind in ("svg", "png")
        )


def _draw(
    comparison: Comparison,
    figure: Figure,
    heights: Sequence[float],
    readable: Callable[[str], str],
) -> None:
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights, wspace=0.06, hspace=0.04)
    f1_axes = figure.add_subplot(grid[0, 0])
    loss_axes = figure.add_subplot(grid[0, 1])
    type_axes = figure.add_subplot(grid[-1, :])
    if comparison.sizes:
        _draw_sizes(figure.add_subplot(grid[1, :]), comparison)
    handles = []
    for index, arm in enumerate(comparison.arms):
        handles.append(_draw_curve(f1_axes, arm, index, "dev_f1"))
        _draw_curve(loss_axes, arm, index, "loss")
    band = " (band: ± 1 s.d.)" if len(comparison.seeds) > 1 else ""
    _finish_curves(f1_axes, f"Micro F1 on the development data{band}")
    _finish_curves(loss_axes, "Mean training loss in nats per token")
    losses = [e.loss.mean for arm in comparison.arms for e in arm.epochs if e.loss.mean is not None]
    if losses and 0 < 20 * min(losses) < max(losses):
        loss_axes.set_yscale("log")
        loss_axes.yaxis.set_major_formatter("{x:g}")  # powers need mathtext, which is off
        loss_axes.yaxis.set_minor_formatter("")
    else:
        loss_axes.set_ylim(bottom=0)
    _draw_types(type_axes, comparison, readable)
    labels = [readable(arm.name) for arm in comparison.arms]
    places: tuple[Literal["outside upper center", "outside lower center"], ...]
    places = ("outside upper center", "outside lower center")
    for place in places:  # a reader sees one of them beside every panel
        figure.legend(
            handles,
            labels,
            loc=place,
            ncols=_num_columns(labels),
            frameon=False,
            handlelength=_HANDLE_EM,
        )


def _num_columns(labels: Sequence[str]) -> int:
    """As many as fit beside each other, in rows that are as even as can be."""
    widths = [sum(1.0 if east_asian_width(c) in "WF" else 0.6 for c in label) for label in labels]
    widest = max(widths) + _HANDLE_EM + 0.8 + 2.0  # matplotlib's gaps: to the text, to the next
    most = max(1, int(72 * _INCHES / _POINTS / widest))
    return math.ceil(len(labels) / math.ceil(len(labels) / most))


def _look(index: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "markersize": 4.5,
    }


def _draw_curve(axes: Axes, arm: Arm, index: int, name: str) -> Any:
    points = [(epoch.epoch, getattr(epoch, name)) for epoch in arm.epochs]
    known = [(x, estimate) for x, estimate in points if estimate.mean is not None]
    x = [epoch for epoch, _ in known]
    y = [estimate.mean for _, estimate in known]
    (line,) = axes.plot(
        x,
        y,
        linestyle=_LINES[index % len(_LINES)],
        linewidth=1.6,
        markevery=max(1, len(x) // 12),
        **_look(index),
    )
    spread = [estimate.deviation or 0.0 for _, estimate in known]
    if any(spread):
        low = [max(mean - s, mean * 0.02) for mean, s in zip(y, spread, strict=True)]
        high = [mean + s for mean, s in zip(y, spread, strict=True)]
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.16, linewidth=0)
    return line


def _finish_curves(axes: Axes, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_sizes(axes: Axes, comparison: Comparison) -> None:
    """Micro F1 against the number of training documents; whiskers are deviations over seeds."""
    documents = [point.documents for point in comparison.sizes]
    for index, arm in enumerate(comparison.arms):
        found = [point.f1[arm.name] for point in comparison.sizes]
        axes.errorbar(
            documents,
            [estimate.mean or 0.0 for estimate in found],
            yerr=[estimate.deviation or 0.0 for estimate in found],
            linestyle=_LINES[index % len(_LINES)],
            capsize=2,
            **_look(index),
        )
    axes.set_xscale("log")
    axes.set_xticks(documents, [f"{number:,}" for number in documents])
    axes.minorticks_off()
    axes.set_xlabel("training documents")
    whiskers = "; whiskers: ± 1 s.d. over seeds" if len(comparison.seeds) > 1 else ""
    axes.set_title(
        f"Micro F1 on the {comparison.split} data by amount of training data{whiskers}", loc="left"
    )
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_types(axes: Axes, comparison: Comparison, readable: Callable[[str], str]) -> None:
    """One row a type, most frequent on top, the averages above them; one mark an arm."""
    names = sorted(comparison.types, key=lambda name: (-comparison.support(name), name))
    labels = ["micro average", "macro average"]
    labels += [f"{readable(name)}  ({comparison.support(name)})" for name in names]
    num_arms = len(comparison.arms)
    means: list[float] = []
    for index, arm in enumerate(comparison.arms):
        scores = [arm.score("micro").f1, arm.score("macro").f1]
        scores += [arm.type_score(name).f1 for name in names]
        offset = (index - (num_arms - 1) / 2) * min(0.24, 0.8 / num_arms)
        known = [
            (row + offset, s.mean, s.deviation or 0.0)
            for row, s in enumerate(scores)
            if s.mean is not None
        ]
        means += [mean for _, mean, _ in known]
        axes.errorbar(
            [mean for _, mean, _ in known],
            [row for row, _, _ in known],
            xerr=[deviation for _, _, deviation in known],
            linestyle="none",
            elinewidth=1.2,
            capsize=2,
            **_look(index),
        )
    for row in range(0, len(labels), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", zorder=0, linewidth=0)
    axes.axhline(1.5, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    lowest = min(means, default=0.0)
    axes.set_xlim(max(-0.02, int(lowest * 10 - 0.5) / 10 - 0.02), 1.02)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("F1")
    several = len(comparison.seeds) > 1
    whiskers = "; whiskers: ± 1 s.d. over seeds" if several else "; one training each"
    axes.set_title(
        f"F1 on the {comparison.split} data by type (gold entities){whiskers}", loc="left"
    )


def _fonts(characters: str) -> tuple[list[str], Callable[[str], str]]:
    """Font families that have the characters, and how to write what none of them has.

    What no installed font can draw is written as an escape such as `\\u4eba`, never as a box.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    def glyphs(family: str) -> set[int]:
        try:
            path = font_manager.findfont(family, fallback_to_default=False)
        except ValueError:  # not installed
            return set()
        return set(FT2Font(path).get_charmap())

    families = ["DejaVu Sans"]  # comes with matplotlib
    known = glyphs("DejaVu Sans")
    missing = {ord(character) for character in characters} - known
    for family in _CJK_FAMILIES:
        if missing and missing & (found := glyphs(family)):
            families.append(family)
            known |= found
            missing -= found

    def readable(text: str) -> str:
        return "".join(
            c if ord(c) in known else c.encode("unicode_escape").decode("ascii") for c in text
        )

    return families, readable
