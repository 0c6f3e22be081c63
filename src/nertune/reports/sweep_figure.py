"""A sweep as a picture: history, importance, and F1 against what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nertune.comparison.search.trials import SweepResult, Trial
from nertune.errors import MissingDependencyError
from nertune.storage.atomic import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["pareto_front", "save_sweep_figure"]

_BLUE, _RED, _GREY = "#2a6fb0", "#c0392b", "#b9b9b9"
_COSTS = (  # attribute of a trial, axis, factor
    ("trainable", "trained parameters", 1.0),
    ("seconds", "seconds of training", 1.0),
    ("peak_bytes", "peak memory, MiB", 2.0**-20),
)


def save_sweep_figure(result: SweepResult, path: Path) -> Path:
    """Draw a sweep to a PNG file; returns the path.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "matplotlib", extra="report", purpose="the sweep's figure"
        ) from error
    figure = Figure(figsize=(15, 7), layout="constrained")
    grid = figure.add_gridspec(2, 6)
    complete = [t for t in result.trials if t.state == "complete" and t.f1 is not None]
    _draw_history(figure.add_subplot(grid[0, :3]), result, complete)
    _draw_importance(figure.add_subplot(grid[0, 3:]), result)
    for number, (name, told, factor) in enumerate(_COSTS):
        points = [(factor * (getattr(t, name) or 0), t.f1 or 0.0) for t in complete]
        _draw_front(figure.add_subplot(grid[1, 2 * number : 2 * number + 2]), points, told)
    return write_whole(path, lambda part: figure.savefig(part, format="png", dpi=110))


def _draw_history(axes: Axes, result: SweepResult, complete: Sequence[Trial]) -> None:
    from matplotlib.ticker import MaxNLocator

    for state, colour in (("complete", _BLUE), ("pruned", _GREY)):
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
    if not shares:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "too few trials", ha="center", transform=axes.transAxes)


def _draw_front(axes: Axes, points: Sequence[tuple[float, float]], told: str) -> None:
    """F1 against a cost; the line is the Pareto front."""
    front = pareto_front(points)
    axes.scatter([x for x, _ in points], [f1 for _, f1 in points], s=18, c=_BLUE)
    axes.step([x for x, _ in front], [f1 for _, f1 in front], where="post", c=_RED)
    axes.set(title=f"F1 against {told}", xlabel=told, ylabel="dev micro-F1")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    costs = [x for x, _ in points]
    if costs and min(costs) > 0 and max(costs) > 20 * min(costs):
        axes.set_xscale("log")


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
