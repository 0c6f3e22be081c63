"""Figures: of a comparison, of a sweep, and of how far scores can be relied on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from nertune.comparison.results import Comparison, Configuration, Estimate
from nertune.comparison.search.trials import SweepResult, Trial
from nertune.errors import ConfigError, MissingDependencyError
from nertune.evaluation.reliability import Reliability
from nertune.storage.atomic import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["pareto_front", "save_figure", "save_reliability_figure", "save_sweep_figure"]

# Okabe & Ito (2008): told apart by colour-blind readers too; shapes and lines differ besides.
_BLUE, _RED = "#0072B2", "#D55E00"
_COLOURS = (_BLUE, _RED, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))

_INCHES, _POINTS = 9.5, 9.5  # width of the figure, size of the font
_HANDLE_EM = 3.2  # length of the line beside a name in the legend, in font sizes
_STYLE: dict[Any, Any] = {
    "font.size": _POINTS,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "nertune",
    "text.parse_math": False,
}
_COSTS = (  # attribute of a trial, axis, factor
    ("trainable", "trained parameters", 1.0),
    ("seconds", "seconds of training", 1.0),
    ("peak_bytes", "peak memory, MiB", 2.0**-20),
)

# Families with Chinese characters, as Linux, macOS and Windows call them.
_CJK_FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC",
    "Source Han Sans CN", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "PingFang SC",
    "Hiragino Sans GB", "Heiti SC", "STHeiti", "Microsoft YaHei", "SimHei",
    "Droid Sans Fallback", "AR PL UMing CN", "Arial Unicode MS",
)  # fmt: skip


@contextmanager
def _styled(purpose: str, names: str = "") -> Iterator[tuple[type[Figure], Callable[[str], str]]]:
    """matplotlib's figure in the style of reports, and how to write names that no font has.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", extra="report", purpose=purpose) from error
    families, readable = _fonts(names)
    with matplotlib.rc_context(_STYLE | {"font.family": families}):
        yield Figure, readable


def save_figure(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Draws learning curves and F1 by type to `report.svg` and `report.png`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    names = [*comparison.types, *(c.name for c in comparison.configurations), comparison.baseline]
    with _styled("the report's figure", "".join(names)) as (new_figure, readable):
        row_inches = max(0.26, 0.10 + 0.075 * len(comparison.configurations))
        bottom = 0.9 + (len(comparison.types) + 2) * row_inches
        heights = [3.2, *([3.0] if comparison.sizes else []), bottom]
        labels = [readable(c.name) for c in comparison.configurations]
        legend = 0.15 + 0.21 * math.ceil(len(labels) / _num_columns(labels))
        size = (_INCHES, 2 * legend + sum(heights))
        figure = new_figure(figsize=size, layout="constrained", facecolor="white")
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
    for index, configuration in enumerate(comparison.configurations):
        handles.append(_draw_curve(f1_axes, configuration, index, "dev_f1"))
        _draw_curve(loss_axes, configuration, index, "loss")
    band = " (band: ± 1 s.d.)" if len(comparison.seeds) > 1 else ""
    _finish_curves(f1_axes, f"Micro F1 on the development data{band}")
    _finish_curves(loss_axes, "Mean training loss in nats per token")
    curves = [configuration.epochs for configuration in comparison.configurations]
    _, losses, _ = _known((epoch.epoch, epoch.loss) for curve in curves for epoch in curve)
    if losses and 0 < 20 * min(losses) < max(losses):
        loss_axes.set_yscale("log")
        loss_axes.yaxis.set_major_formatter("{x:g}")  # powers need mathtext, which is off
        loss_axes.yaxis.set_minor_formatter("")
    else:
        loss_axes.set_ylim(bottom=0)
    _draw_types(type_axes, comparison, readable)
    labels = [readable(c.name) for c in comparison.configurations]
    look: dict[str, Any] = {"ncols": _num_columns(labels), "handlelength": _HANDLE_EM}
    # A reader sees one of them beside every panel.
    figure.legend(handles, labels, loc="outside upper center", frameon=False, **look)
    figure.legend(handles, labels, loc="outside lower center", frameon=False, **look)


def _num_columns(labels: Sequence[str]) -> int:
    """As many as fit beside each other, in rows that are as even as can be."""
    widths = [sum(1.0 if east_asian_width(c) in "WF" else 0.6 for c in label) for label in labels]
    widest = max(widths) + _HANDLE_EM + 0.8 + 2.0  # matplotlib's gaps: to the text, to the next
    most = max(1, int(72 * _INCHES / _POINTS / widest))
    return math.ceil(len(labels) / math.ceil(len(labels) / most))


def _look(index: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "linestyle": _LINES[index % len(_LINES)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "markersize": 4.5,
    }


def _known(points: Iterable[tuple[float, Estimate]]) -> tuple[list[float], ...]:
    """The places, means and deviations of those estimates that are defined."""
    known = [(x, e.mean, e.deviation or 0.0) for x, e in points if e.mean is not None]
    return [x for x, *_ in known], [mean for _, mean, _ in known], [d for *_, d in known]


def _draw_curve(axes: Axes, configuration: Configuration, index: int, name: str) -> Any:
    x, means, deviations = _known(
        (epoch.epoch, getattr(epoch, name)) for epoch in configuration.epochs
    )
    (line,) = axes.plot(x, means, linewidth=1.6, markevery=max(1, len(x) // 12), **_look(index))
    if any(deviations):
        low = [max(mean - d, mean * 0.02) for mean, d in zip(means, deviations, strict=True)]
        high = [mean + d for mean, d in zip(means, deviations, strict=True)]
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.16, linewidth=0)
    return line


def _finish_curves(axes: Axes, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def _draw_sizes(axes: Axes, comparison: Comparison) -> None:
    """Micro F1 against the number of training documents; whiskers are deviations over seeds."""
    for index, configuration in enumerate(comparison.configurations):
        x, means, deviations = _known(
            (p.documents, p.f1[configuration.name]) for p in comparison.sizes
        )
        axes.errorbar(x, means, yerr=deviations, capsize=2, **_look(index))
    documents = [point.documents for point in comparison.sizes]
    axes.set_xscale("log")
    axes.set_xticks(documents, [f"{number:,}" for number in documents])
    axes.minorticks_off()
    whiskers = "; whiskers: ± 1 s.d. over seeds" if len(comparison.seeds) > 1 else ""
    title = f"Micro F1 on the {comparison.split} data by amount of training data{whiskers}"
    axes.set(title=title, xlabel="training documents")


def _draw_types(axes: Axes, comparison: Comparison, readable: Callable[[str], str]) -> None:
    """One row a type, most frequent on top, the averages above them; one mark a configuration."""
    names = sorted(comparison.types, key=lambda name: (-comparison.support(name), name))
    labels = ["micro average", "macro average"]
    labels += [f"{readable(name)}  ({comparison.support(name)})" for name in names]
    num_configurations = len(comparison.configurations)
    lowest = 1.0
    for index, configuration in enumerate(comparison.configurations):
        scores = [configuration.score("micro").f1, configuration.score("macro").f1]
        scores += [configuration.type_score(name).f1 for name in names]
        offset = (index - (num_configurations - 1) / 2) * min(0.24, 0.8 / num_configurations)
        rows, means, deviations = _known((row + offset, f1) for row, f1 in enumerate(scores))
        lowest = min([lowest, *means])
        look = _look(index) | {"linestyle": "none", "elinewidth": 1.2, "capsize": 2}
        axes.errorbar(means, rows, xerr=deviations, **look)
    for row in range(0, len(labels), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F4F4F4", zorder=0, linewidth=0)
    axes.axhline(1.5, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(max(-0.02, int(lowest * 10 - 0.5) / 10 - 0.02), 1.02)
    _grid_upright(axes)
    several = len(comparison.seeds) > 1
    whiskers = "; whiskers: ± 1 s.d. over seeds" if several else "; one training each"
    title = f"F1 on the {comparison.split} data by type (gold entities){whiskers}"
    axes.set(title=title, xlabel="F1")


def _grid_upright(axes: Axes) -> None:
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")


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


# -------------------------------------------------------------------------------------- sweep


def save_sweep_figure(result: SweepResult, path: Path) -> Path:
    """Draw a sweep to a PNG file; returns the path.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    with _styled("the sweep's figure") as (new_figure, _):
        figure = new_figure(figsize=(15, 7), layout="constrained")
        grid = figure.add_gridspec(2, 6)
        complete = [t for t in result.trials if t.state == "complete" and t.f1 is not None]
        _draw_history(figure.add_subplot(grid[0, :3]), result, complete)
        _draw_importance(figure.add_subplot(grid[0, 3:]), result)
        for number, (name, cost, factor) in enumerate(_COSTS):
            points = [(factor * (getattr(t, name) or 0), t.f1 or 0.0) for t in complete]
            _draw_front(figure.add_subplot(grid[1, 2 * number : 2 * number + 2]), points, cost)
        return write_whole(path, lambda part: figure.savefig(part, format="png", dpi=110))


def save_reliability_figure(found: Reliability, path: Path) -> Path:
    """Draw scores against precision to a PNG or SVG file; returns the path.

    Raises:
        ConfigError: the file is named otherwise.
        MissingDependencyError: matplotlib is not installed.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise ConfigError(f"{path}: expected a name that ends with .png or .svg")
    with _styled("a reliability figure") as (new_figure, _):
        figure = new_figure(figsize=(5, 5), layout="constrained")
        _draw_reliability(figure.add_subplot(), found)
        return write_whole(path, lambda part: figure.savefig(part, format=kind, dpi=160))


def _draw_reliability(axes: Axes, found: Reliability) -> None:
    """Precision against mean score, a point for each tenth of the predicted entities."""
    axes.plot([0, 1], [0, 1], color="#B9B9B9", lw=1, zorder=1)
    points = [(b.mean_score, b.precision) for b in found.bins]
    axes.plot(*zip(*points, strict=True), marker="o", ms=4, color=_BLUE, zorder=2)
    axes.set(
        title=f"Reliability: expected calibration error {found.ece:.3f}",
        xlabel="mean score of a tenth of the predicted entities",
        ylabel="share of them that is right",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
        aspect="equal",
    )


def _draw_history(axes: Axes, result: SweepResult, complete: Sequence[Trial]) -> None:
    from matplotlib.ticker import MaxNLocator

    for state, colour in (("complete", _BLUE), ("pruned", "#B9B9B9")):
        some = [t for t in result.trials if t.state == state and t.f1 is not None]
        axes.scatter(
            [t.number for t in some], [t.f1 or 0.0 for t in some], s=18, c=colour, label=state
        )
    so_far = [max(t.f1 or 0.0 for t in complete[: i + 1]) for i in range(len(complete))]
    axes.step([t.number for t in complete], so_far, where="post", color=_RED, label="best")
    axes.axhline(result.base.f1 or 0.0, color="black", lw=0.8, ls=":", label="recipe")
    axes.set(title="History", xlabel="trial", ylabel="dev micro-F1")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def _draw_importance(axes: Axes, result: SweepResult) -> None:
    shares = sorted(result.importance.items(), key=lambda item: item[1])
    axes.barh([name for name, _ in shares], [share for _, share in shares], color=_BLUE)
    axes.set(title="What sets good trials apart (PED-ANOVA)", xlabel="share")
    _grid_upright(axes)
    if not shares:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "too few trials", ha="center", transform=axes.transAxes)


def _draw_front(axes: Axes, points: Sequence[tuple[float, float]], cost: str) -> None:
    """F1 against a cost; the line is the Pareto front."""
    from matplotlib.ticker import EngFormatter

    front = pareto_front(points)
    axes.scatter([x for x, _ in points], [f1 for _, f1 in points], s=18, c=_BLUE)
    axes.step([x for x, _ in front], [f1 for _, f1 in front], where="post", c=_RED)
    axes.set(title=f"F1 against {cost}", xlabel=cost, ylabel="dev micro-F1")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    costs = [x for x, _ in points]
    if costs and min(costs) > 0 and max(costs) > 20 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # powers need mathtext, which is off
        axes.xaxis.set_minor_formatter("")


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those `(cost, F1)` that no other betters: none is as cheap with a higher F1.

    Returns:
        In ascending order of either.
    """
    front: list[tuple[float, float]] = []
    for cost, f1 in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or f1 > front[-1][1]:
            front.append((cost, f1))
    return front
