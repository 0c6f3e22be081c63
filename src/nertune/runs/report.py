"""A comparison as terminal tables, Markdown, JSON and a figure.

Terminal tables give percent, Markdown and JSON give fractions in [0, 1]. Figures are mean ±
sample standard deviation over seeds; with one seed no deviation is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import nertune
from nertune.errors import MissingDependencyError
from nertune.evaluation.analysis import ERROR_KINDS, NOVELTIES
from nertune.evaluation.significance import Difference
from nertune.runs.comparison import Arm, Comparison, Estimate, ScoreEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["render_terminal", "save", "save_figure", "to_markdown", "verdict_sentence"]

_NOTHING = "–"
_MINUS = "−"
_MIB = 2**20
_VERDICT_STYLES = {"better": "bold green", "worse": "bold red", "not distinguishable": "yellow"}

# Okabe & Ito (2008): told apart by colour-blind readers too; shapes and lines differ besides.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))

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


def verdict_sentence(arm: str, baseline: str, difference: Difference) -> str:
    """E.g. `lora vs bert: −3.1 points micro-F1 [−5.0, −1.2], p = .004: worse`."""
    low, high = difference.ci95
    return (
        f"{arm} vs {baseline}: {_points(difference.difference)} points micro-F1 "
        f"[{_points(low)}, {_points(high)}], {_p_value(difference.p_value)}: {difference.verdict}"
    )


def render_terminal(comparison: Comparison, console: Console) -> None:
    """Prints the overview, the verdicts in words, the scores by type and the learning curves."""
    console.print(Text(_subject(comparison)))
    console.print(_overview(comparison))
    for arm in comparison.arms:
        if arm.difference is not None:
            console.print(_verdict_text(arm.name, comparison.baseline, arm.difference))
    for notice in comparison.notices:
        console.print(Text(f"Note: {notice}", style="yellow"))
    console.print()
    if comparison.sizes:
        console.print(_sizes_table(comparison))
    console.print(_scores_table(comparison))
    console.print(_epochs_table(comparison))


def to_markdown(comparison: Comparison, *, figure: str | None = None, remark: str = "") -> str:
    """The whole comparison as Markdown.

    Args:
        comparison: what to show.
        figure: path of a picture to show, relative to where the Markdown will lie.
        remark: a paragraph in the picture's place.
    """
    arms, baseline = comparison.arms, comparison.baseline
    parts = [f"# {' · '.join(_escaped(arm.name) for arm in arms)}", _escaped(_subject(comparison))]
    parts += [f"> {_escaped(notice)}" for notice in comparison.notices]
    differences = [(arm, arm.difference) for arm in arms if arm.difference is not None]
    if differences:
        sentences = [
            verdict_sentence(_escaped(arm.name), _escaped(baseline), d) for arm, d in differences
        ]
        parts += ["## Verdict", "\n".join(f"- {sentence}" for sentence in sentences)]
    if figure:
        parts.append(f"![Learning curves and F1 by type]({figure})")
    if remark:
        parts.append(remark)
    parts += ["## Cost", _cost_markdown(arms)]
    parts += ["## Averages", _averages_markdown(arms)]
    if differences:
        parts += [f"## Difference to {_escaped(baseline)}", _differences_markdown(differences)]
        parts.append(_METHOD)
    if comparison.sizes:
        parts += ["## By amount of training data", _sizes_markdown(comparison), _SIZES]
    parts += ["## By type", _types_markdown(comparison)]
    parts += ["## Kinds of errors", _errors_markdown(arms), _ERRORS]
    parts += ["## Names that training showed", _novelty_markdown(comparison), _NOVELTY]
    parts += ["## By epoch", _epochs_markdown(arms)]
    parts.append(_READING)
    return "\n\n".join(parts) + "\n"


def save(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Writes `report.json`, `report.md`, `report.html`, `report.svg` and `report.png`.

    Without matplotlib there is no figure, and `report.md` says how to get one; without Markdown no
    `report.html`, which alone shows examples. Each file is
    written under another name first, so that a reader never sees half of it.

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
        from nertune.runs.html import to_html

        svg = (folder / "report.svg").read_bytes() if pictures else None
        page = to_html(comparison, figure=svg, remark=remark)
        pages = (_written(folder / "report.html", lambda part: _write_text(part, page)),)
    except MissingDependencyError:
        (folder / "report.html").unlink(missing_ok=True)  # of an earlier comparison
    return (
        _written(folder / "report.json", lambda part: _write_text(part, content + "\n")),
        _written(folder / "report.md", lambda part: _write_text(part, markdown)),
        *pages,
        *pictures,
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
        "font.size": 9.5,
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
        figure = Figure(figsize=(9.5, 0.4 + sum(heights)), layout="constrained", facecolor="white")
        _draw(comparison, figure, heights, readable)
        return tuple(
            _written(
                folder / f"report.{kind}",
                lambda part, kind=kind: figure.savefig(  # type: ignore[misc]
                    part, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None
                ),
            )
            for kind in ("svg", "png")
        )


# ---------------------------------------------------------------------------------- terminal


def _subject(comparison: Comparison) -> str:
    data, seeds = comparison.data, comparison.seeds
    numbers = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return (
        f"Scored on {comparison.split} data {data['path']} ({data['documents']} documents, "
        f"{data['entities']} entities, sha256 {data['sha256'][:12]}…), {numbers}, "
        f"nertune {nertune.__version__}"
    )


def _table(title: str) -> Table:
    """One that leaves as much room to figures as 80 columns allow."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)


def _overview(comparison: Comparison) -> Table:
    table = _table("Overview (P, R, F1 in percent, micro average)")
    table.add_column("arm", overflow="fold")
    headings = ("trainable\nparameters", "s/\nepoch", "peak\nMiB", "best\nepoch")
    for heading in (*headings, "P", "R", "F1", "macro\nF1"):
        table.add_column(heading, justify="right")
    table.add_column(f"F1 against\n{comparison.baseline}", justify="right", overflow="fold")
    for arm in comparison.arms:
        micro = arm.score("micro")
        table.add_row(
            Text(arm.name),
            f"{_short_number(arm.trainable_parameters)}\n{_share(arm.trainable_share)}",
            _stacked(arm.seconds_per_epoch, _seconds),
            _stacked(_scaled(arm.peak_memory_bytes, 1 / _MIB), "{:.0f}".format),
            _stacked(Estimate.of(arm.best_epochs), "{:.3g}".format),
            *(_stacked(part, _percent) for part in (micro.precision, micro.recall, micro.f1)),
            _stacked(arm.score("macro").f1, _percent),
            _difference_cell(arm.difference),
            end_section=arm is not comparison.arms[-1],
        )
    return table


def _difference_cell(difference: Difference | None) -> Text:
    if difference is None:
        return Text("baseline", style="dim")
    low, high = difference.ci95
    words = difference.verdict.replace(" ", "\n")
    return Text(f"{_points(difference.difference)}\n[{_points(low)}, {_points(high)}]\n").append(
        words, style=_VERDICT_STYLES[difference.verdict]
    )


def _verdict_text(arm: str, baseline: str, difference: Difference) -> Text:
    sentence = verdict_sentence(arm, baseline, difference)
    head = sentence.removesuffix(difference.verdict)
    return Text(head).append(difference.verdict, style=_VERDICT_STYLES[difference.verdict])


def _scores_table(comparison: Comparison) -> Table:
    table = _table("Scores by type (percent)")
    table.add_column("type", overflow="fold")
    table.add_column("gold", justify="right")
    table.add_column("arm", overflow="fold")
    for heading in ("P", "R", "F1", "untyped\nF1", "overlap\nF1"):
        table.add_column(heading, justify="right")
    blocks = [(name, _type_rows(name)) for name in comparison.types]
    blocks += [("micro average", _micro_rows), ("macro average", _macro_rows)]
    for name, rows in blocks:
        for arm in comparison.arms:
            exact, untyped, overlap = rows(arm)
            first = arm is comparison.arms[0]
            figures = [exact.precision, exact.recall, exact.f1]
            figures += [part.f1 for part in (untyped, overlap) if part is not None]
            table.add_row(
                Text(name if first else ""),
                str(exact.support) if first else "",
                Text(arm.name),
                *(_compact(figure, _percent) for figure in figures),
                end_section=arm is comparison.arms[-1],
            )
    return table


_Rows = Callable[[Arm], tuple[ScoreEstimate, ScoreEstimate | None, ScoreEstimate | None]]


def _type_rows(name: str) -> _Rows:
    return lambda arm: (
        arm.type_score(name),
        arm.type_score(name, "untyped"),
        arm.type_score(name, "overlap"),
    )


def _micro_rows(arm: Arm) -> tuple[ScoreEstimate, ScoreEstimate | None, ScoreEstimate | None]:
    return arm.score("micro"), arm.score("untyped"), arm.score("overlap")


def _macro_rows(arm: Arm) -> tuple[ScoreEstimate, ScoreEstimate | None, ScoreEstimate | None]:
    return arm.score("macro"), None, None


def _sizes_table(comparison: Comparison) -> Table:
    table = _table("Micro F1 by amount of training data (percent)")
    table.add_column("documents", justify="right")
    for arm in comparison.arms:
        table.add_column(Text(arm.name), justify="right")
        if arm.difference is not None:
            table.add_column(Text(f"against {comparison.baseline}"), justify="right")
    for point in comparison.sizes:
        cells: list[str | Text] = []
        for arm in comparison.arms:
            cells.append(_compact(point.f1[arm.name], _percent))
            if arm.name in point.differences:
                difference = point.differences[arm.name]
                cells.append(Text(_points(difference.difference),
                                  style=_VERDICT_STYLES[difference.verdict]))  # fmt: skip
        table.add_row(f"{point.documents:,} ({point.share:.0%})", *cells)
    return table


def _epochs_table(comparison: Comparison) -> Table:
    table = _table("Learning curves (loss: mean nats per token; dev: micro F1 in percent)")
    table.add_column("epoch", justify="right")
    curves = [arm.epochs for arm in comparison.arms]
    for arm in comparison.arms:
        table.add_column(Text(f"{arm.name}\nloss"), justify="right")
        table.add_column("\ndev", justify="right")
    for index in range(max(map(len, curves), default=0)):
        cells = []
        for curve in curves:
            epoch = curve[index] if index < len(curve) else None
            cells.append(_NOTHING if epoch is None else _loss(epoch.loss))
            cells.append(_NOTHING if epoch is None else _compact(epoch.dev_f1, _percent))
        table.add_row(str(index + 1), *cells)
    return table


# ---------------------------------------------------------------------------------- Markdown

_METHOD = (
    "The difference is the mean over seeds of arm minus baseline in micro F1, as a fraction. "
    "p comes from a paired approximate randomisation test over documents (Noreen, 1989; Yeh, "
    "2000), the interval from a hierarchical paired bootstrap over documents and seeds "
    "(cf. Reimers & Gurevych, 2017). *Better* or *worse* is said only if p < .05 and the interval "
    "excludes 0."
)
_READING = (
    "Scores are fractions, mean ± sample standard deviation over seeds. An exact match has the "
    "gold's start, end and type; *untyped* asks only for start and end, *overlap* for the type and "
    "one shared character. Macro averages over the types that have gold or predictions. Loss is "
    "the mean in nats per token; seconds an epoch are training alone; peak memory is that of the "
    "run's own process. – : undefined, as there is neither gold nor prediction, or not measured."
)


_ERRORS = (
    "Entities, mean ± deviation over seeds. A gold entity is found exactly, or a prediction shares "
    "characters with it but has another *boundary*, another *type*, or *both*, or it is *missed*; "
    "a *spurious* prediction shares no character with any gold entity."
)
_SIZES = (
    "Micro F1; in brackets points against the baseline, with their interval. Each seed draws the "
    "documents, the same for all arms; with a share s of them recipes train for s^(−2/3) times "
    "their epochs."
)
_NOVELTY = (
    "Recall of gold entities, exact. *Seen*: the same characters stand in the training data with "
    "the same type; *other type*: with other types only; *unseen*: not at all (cf. Augenstein et "
    "al., 2017)."
)


def _sizes_markdown(comparison: Comparison) -> str:
    rows = []
    for point in comparison.sizes:
        cells = [f"{point.documents:,} ({point.share:.0%})"]
        for arm in comparison.arms:
            cell = _inline(point.f1[arm.name], "{:.3f}".format)
            if arm.name in point.differences:
                difference = point.differences[arm.name]
                low, high = difference.ci95
                cell += (
                    f" ({_points(difference.difference)} [{_points(low)}, {_points(high)}], "
                    f"{difference.verdict})"
                )
            cells.append(cell)
        rows.append(cells)
    return _markdown_table(("documents", *(arm.name for arm in comparison.arms)), rows, num_left=1)


def _errors_markdown(arms: Sequence[Arm]) -> str:
    rows = [
        [arm.name, *(_inline(arm.errors(kind), "{:.1f}".format) for kind in ERROR_KINDS)]
        for arm in arms
    ]
    return _markdown_table(("arm", *ERROR_KINDS), rows, num_left=1)


def _novelty_markdown(comparison: Comparison) -> str:
    gold = comparison.novelty
    rows = [
        [arm.name, *(_fraction(arm.recall(novelty)) for novelty in NOVELTIES)]
        for arm in comparison.arms
    ]
    headings = [f"{novelty} ({gold[novelty]})" for novelty in NOVELTIES]
    return _markdown_table(("arm", *headings), rows, num_left=1)


def _cost_markdown(arms: Sequence[Arm]) -> str:
    headings = (
        "arm",
        "trainable parameters",
        "all parameters",
        "share",
        "seconds per epoch",
        "seconds per run",
        "peak memory MiB",
        "best epochs",
    )
    rows = [
        [
            arm.name,
            str(arm.trainable_parameters),
            str(arm.total_parameters),
            f"{arm.trainable_share:.6f}",
            _inline(arm.seconds_per_epoch, "{:.3f}".format),
            _inline(arm.seconds, "{:.1f}".format),
            _inline(_scaled(arm.peak_memory_bytes, 1 / _MIB), "{:.1f}".format),
            ", ".join(_NOTHING if epoch is None else str(epoch) for epoch in arm.best_epochs),
        ]
        for arm in arms
    ]
    return _markdown_table(headings, rows, num_left=1)


def _averages_markdown(arms: Sequence[Arm]) -> str:
    rows = []
    for name in ("micro", "macro", "untyped", "overlap"):
        for arm in arms:
            row = arm.score(name)
            rows.append([name, arm.name, *map(_fraction, (row.precision, row.recall, row.f1))])
    return _markdown_table(("average", "arm", "precision", "recall", "F1"), rows, num_left=2)


def _differences_markdown(differences: Sequence[tuple[Arm, Difference]]) -> str:
    headings = ("arm", "micro F1", "95 % from", "95 % to", "p", "verdict")
    rows = [
        [arm.name, *(f"{x:+.4f}" for x in (d.difference, *d.ci95)), f"{d.p_value:.4f}", d.verdict]
        for arm, d in differences
    ]
    return _markdown_table(headings, rows, num_left=1)


def _types_markdown(comparison: Comparison) -> str:
    headings = ("type", "gold", "arm", "precision", "recall", "F1", "untyped F1", "overlap F1")
    rows = []
    for name in comparison.types:
        for arm in comparison.arms:
            row = arm.type_score(name)
            others = (arm.type_score(name, "untyped").f1, arm.type_score(name, "overlap").f1)
            figures = (row.precision, row.recall, row.f1, *others)
            rows.append([name, str(comparison.support(name)), arm.name, *map(_fraction, figures)])
    return _markdown_table(headings, rows, num_left=3)


def _epochs_markdown(arms: Sequence[Arm]) -> str:
    rows = [
        [str(epoch.epoch), arm.name, _inline(epoch.loss, "{:.5f}".format), _fraction(epoch.dev_f1)]
        for index in range(max((len(arm.epochs) for arm in arms), default=0))
        for arm in arms
        for epoch in arm.epochs[index : index + 1]
    ]
    return _markdown_table(("epoch", "arm", "loss", "dev micro F1"), rows, num_left=2)


def _markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, num_left: int
) -> str:
    rules = ["---" if i < num_left else "---:" for i in range(len(headings))]
    lines = [headings, rules, *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """A name as it can stand in Markdown, tables included."""
    text = re.sub(r"([\\|*<`\[]|(?<!\w)_|_(?!\w))", r"\\\1", text)
    return " ".join(text.split())


# ---------------------------------------------------------------------------------- the figure


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
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=len(labels) if sum(map(len, labels)) < 60 else 3,
        frameon=False,
        handlelength=3.2,
    )


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
    axes.set_title(f"Micro F1 on the {comparison.split} data by amount of training data",
                   loc="left")  # fmt: skip
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
    whiskers = "; whiskers: ± 1 s.d. over seeds" if len(comparison.seeds) > 1 else ""
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


# ---------------------------------------------------------------------------------- numbers


def _points(value: float) -> str:
    rounded = round(100 * value, 1) + 0.0  # no "-0.0"
    return f"{rounded:+.1f}".replace("-", _MINUS)


def _p_value(p: float) -> str:
    if p < 0.001:
        return "p < .001"
    text = f"{p:.3f}"
    return f"p = {text.removeprefix('0')}" if p < 0.9995 else "p = 1"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _loss(estimate: Estimate) -> str:
    """Mean and deviation with the same decimals, three significant digits or more."""
    if estimate.mean is None:
        return _NOTHING
    decimals = 3 if estimate.mean >= 0.1 else 4
    text = f"{estimate.mean:.{decimals}f}"
    if estimate.deviation is None:
        return text
    return f"{text} ±{f'{estimate.deviation:.{decimals}f}'.removeprefix('0')}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"


def _short_number(value: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return (
                f"{value / size:.3g}{unit}" if value < 1000 * size else f"{value / size:.0f}{unit}"
            )
    return str(value)


def _inline(estimate: Estimate, shown: Callable[[float], str]) -> str:
    if estimate.mean is None:
        return _NOTHING
    if estimate.deviation is None:
        return shown(estimate.mean)
    return f"{shown(estimate.mean)} ± {shown(estimate.deviation)}"


def _compact(estimate: Estimate, shown: Callable[[float], str]) -> str:
    return _inline(estimate, shown).replace("± ", "±")


def _stacked(estimate: Estimate, shown: Callable[[float], str]) -> str:
    return _inline(estimate, shown).replace(" ± ", "\n±")


def _fraction(estimate: Estimate) -> str:
    return _inline(estimate, "{:.4f}".format)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate.of(None if value is None else value * factor for value in estimate.values)


# ---------------------------------------------------------------------------------- files


def _written(path: Path, write: Callable[[Path], Any]) -> Path:
    """Writes under another name, then renames."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")
