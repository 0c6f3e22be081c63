"""Numbers as reports show them."""

from __future__ import annotations

from collections.abc import Callable

from nertune.comparison.results import Estimate
from nertune.reports.content import NOTHING, Cell

__all__ = ["compact", "fraction", "inline", "number", "p_value", "percent", "points", "score_cell",
           "seconds", "share", "short_loss", "short_number", "stacked"]  # fmt: skip


def number(value: float | None) -> str:
    """A fraction with four decimals."""
    return NOTHING if value is None else f"{value:.4f}"


def percent(value: float) -> str:
    """A fraction in percent, without the sign."""
    return f"{100 * value:.1f}"


def share(value: float) -> str:
    """A fraction in percent, with three significant digits and the sign."""
    return f"{100 * value:.3g} %"


def points(value: float) -> str:
    """A difference of fractions in percentage points, e.g. `−3.1`."""
    rounded = round(100 * value, 1) + 0.0  # no "-0.0"
    return f"{rounded:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    """E.g. `p = .004`."""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.9995 else "p = 1"


def seconds(value: float) -> str:
    """Three significant digits."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def short_number(value: int) -> str:
    """Three significant digits and k, M or G."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= 0.9995 * size:  # which three digits round up
            scaled = value / size
            return f"{scaled:.3g}{unit}" if scaled < 999.5 else f"{scaled:.0f}{unit}"
    return str(value)


def inline(estimate: Estimate, shown: Callable[[float], str]) -> str:
    """Mean ± deviation."""
    if estimate.mean is None:
        return NOTHING
    if estimate.deviation is None:
        return shown(estimate.mean)
    return f"{shown(estimate.mean)} ± {shown(estimate.deviation)}"


def compact(estimate: Estimate, shown: Callable[[float], str] = percent) -> str:
    """Mean ±deviation, for a terminal."""
    return inline(estimate, shown).replace("± ", "±")


def stacked(estimate: Estimate, shown: Callable[[float], str] = percent) -> str:
    """The deviation below the mean, for a terminal."""
    return inline(estimate, shown).replace(" ± ", "\n±")


def fraction(estimate: Estimate) -> str:
    """Mean ± deviation with four decimals."""
    return inline(estimate, number)


def score_cell(estimate: Estimate) -> Cell:
    """A score: a fraction in documents, percent on a terminal."""
    return Cell(fraction(estimate), compact(estimate))


def short_loss(estimate: Estimate) -> str:
    """Mean and deviation with the same decimals, three significant digits or more."""
    decimals = 3 if (estimate.mean or 1.0) >= 0.1 else 4
    return compact(estimate, f"{{:.{decimals}f}}".format).replace("±0.", "±.")
