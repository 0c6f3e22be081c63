"""A comparison as terminal tables, Markdown and JSON; `figure` draws it, `html` makes a page of it.

Terminal tables give percent, Markdown and JSON give fractions in [0, 1]. Figures are mean ±
sample standard deviation over seeds; with one seed no deviation is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

import nertune
from nertune.comparison.configurations import (
    CONFIGURATION_HEADINGS,
    DATA_HEADINGS,
    configuration_rows,
    data_rows,
    describe_encoder,
    describe_rates,
    describe_tuning,
    differing_settings,
)
from nertune.comparison.results import Arm, Comparison, Estimate, ScoreEstimate
from nertune.evaluation.error_analysis import ERROR_KINDS, NOTHING, NOVELTIES
from nertune.evaluation.significance import Difference, Verdict

__all__ = ["render_terminal", "to_markdown", "verdict_sentence"]

_NOTHING = "–"
_MINUS = "−"
_MIB = 2**20
_FEW_TYPES, _FEW_CONFIGURATIONS = 6, 3  # whose confusions a terminal shows
_VERDICT_STYLES: dict[Verdict, str] = {
    "better": "bold green",
    "worse": "bold red",
    "not distinguishable": "yellow",
    "models differ": "bold",  # no colour of a winner: there is none with one seed
    "models cannot be told apart": "yellow",
}
_VERDICT_CELLS: dict[Verdict, str] = {
    "not distinguishable": "not\ndistinguishable",
    "models differ": "models\ndiffer",
    "models cannot be told apart": "models not\ntold apart",
}
_VERDICT_SENTENCES: dict[Verdict, str] = {
    "models differ": "these two models differ; another seed may give another order",
    "models cannot be told apart": "these two models cannot be told apart",
}


def verdict_sentence(arm: str, baseline: str, difference: Difference) -> str:
    """E.g. `lora vs bert: −3.1 points micro-F1 [−5.0, −1.2], p = .004: worse`.

    With one seed the sentence is about two trained models: `…: these two models differ; …`.
    """
    low, high = difference.ci95
    return (
        f"{arm} vs {baseline}: {_points(difference.difference)} points micro-F1 "
        f"[{_points(low)}, {_points(high)}], {_p_value(difference.p_value)}: "
        f"{_VERDICT_SENTENCES.get(difference.verdict, difference.verdict)}"
    )


def render_terminal(comparison: Comparison, console: Console) -> None:
    """Prints what was compared, the overview, the verdicts in words, and the scores by type.

    Then the confused types, where they are few, and the learning curves.
    """
    console.print(Text(_subject(comparison)))
    for arm in comparison.arms:
        console.print(Text(_configuration(arm)))
    console.print(_overview(comparison))
    for arm in comparison.arms:
        if arm.difference is not None:
            console.print(_verdict_text(arm.name, comparison.baseline, arm.difference))
    for notice in comparison.notices:
        console.print(Text(f"Note: {notice}", style="yellow"))
    console.print()
    if comparison.sizes:
        _print_by_arms(_sizes_table, comparison, console)
    console.print(_scores_table(comparison))
    if len(comparison.types) <= _FEW_TYPES and len(comparison.arms) <= _FEW_CONFIGURATIONS:
        _print_confusions(comparison, console)
    _print_by_arms(_epochs_table, comparison, console)


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
    parts += ["## What was compared", *_compared_markdown(comparison)]
    if figure:
        parts.append(f"![Learning curves and F1 by type]({figure})")
    if remark:
        parts.append(remark)
    parts += ["## Cost", _cost_markdown(arms)]
    parts += ["## Averages", _averages_markdown(arms)]
    if differences:
        parts += [f"## Difference to {_escaped(baseline)}", _differences_markdown(differences)]
        parts.append(_METHOD if len(comparison.seeds) > 1 else _METHOD_ONE_SEED)
        is_known = bool(comparison.data.get("source_documents"))
        parts.append(_BORDERS if is_known else _NO_BORDERS)
    if comparison.sizes:
        parts += ["## By amount of training data", _sizes_markdown(comparison)]
        parts.append(_SIZES if len(comparison.seeds) > 1 else _SIZES + _SIZES_ONE_SEED)
    parts += ["## By type", _types_markdown(comparison)]
    parts += ["## Kinds of errors", _errors_markdown(arms), _ERRORS]
    parts += ["## Confused types", *_confusions_markdown(comparison)]
    parts += ["## Names that training showed", _novelty_markdown(comparison), _NOVELTY]
    parts += ["## By epoch", _epochs_markdown(arms)]
    parts.append(_READING)
    return "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------------------------- terminal


def _subject(comparison: Comparison) -> str:
    data, seeds = comparison.data, comparison.seeds
    numbers = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return (
        f"Scored on {comparison.split} data {data['path']} ({_resampled(comparison)}, "
        f"{data['entities']} entities, sha256 {data['sha256'][:12]}…), {numbers}, "
        f"nertune {nertune.__version__}"
    )


def _resampled(comparison: Comparison) -> str:
    """How many documents were scored, and how many sentences where it is known what they are of."""
    data = comparison.data
    if sources := data.get("source_documents"):
        return f"{sources:,} documents, {data['documents']:,} sentences"
    return f"{data['documents']:,} documents"


def _configuration(arm: Arm) -> str:
    """In one line, e.g. `bert: mini-zh, fine-tuned in full; learning rates: encoder 4e-4, …`."""
    told = f"{arm.name}: {describe_encoder(arm)}, {describe_tuning(arm)}"
    return f"{told}; learning rates: {describe_rates(arm)}"


def _print_confusions(comparison: Comparison, console: Console) -> None:
    """Unless the analyses are missing, or a table is wider than the terminal."""
    if not all(arm.analyses for arm in comparison.arms):
        return
    tables = []
    for arm in comparison.arms:
        headings, rows = _confusions(comparison, arm)
        table = _table("")
        for number, heading in enumerate([arm.name, *headings[1:]]):
            table.add_column(Text(heading), justify="right" if number else "left")
        for row in rows:
            table.add_row(*map(Text, row))
        tables.append(table)
    unbounded = console.options.update(max_width=10**6)
    if any(Measurement.get(console, unbounded, t).maximum > console.width for t in tables):
        return
    over = _over_seeds(comparison)
    title = f"Confused types (gold types in rows, predicted ones in columns{over})"
    console.print(Text(title, style="italic"))
    for table in tables:
        console.print(table)


def _table(title: str) -> Table:
    """One that leaves as much room to figures as 80 columns allow."""
    return Table(
        title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0
    )


def _overview(comparison: Comparison) -> Table:
    has_interval = any(arm.interval is not None for arm in comparison.arms)
    below = "; below F1: its 95 % interval" if has_interval else ""
    table = _table(f"Overview (P, R, F1 in percent, micro average{below})")
    table.add_column("", overflow="fold")
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
            *(_stacked(part, _percent) for part in (micro.precision, micro.recall)),
            _stacked(micro.f1, _percent) + _below(arm.interval),
            _stacked(arm.score("macro").f1, _percent),
            _difference_cell(arm.difference),
            end_section=arm is not comparison.arms[-1],
        )
    return table


def _below(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"\n{_percent(interval[0])}–\n{_percent(interval[1])}"


def _difference_cell(difference: Difference | None) -> Text:
    if difference is None:
        return Text("baseline", style="dim")
    low, high = difference.ci95
    words = _VERDICT_CELLS.get(difference.verdict, difference.verdict)
    return Text(f"{_points(difference.difference)}\n[{_points(low)}, {_points(high)}]\n").append(
        words, style=_VERDICT_STYLES[difference.verdict]
    )


def _verdict_text(arm: str, baseline: str, difference: Difference) -> Text:
    words = _VERDICT_SENTENCES.get(difference.verdict, difference.verdict)
    head = verdict_sentence(arm, baseline, difference).removesuffix(words)
    return Text(head).append(words, style=_VERDICT_STYLES[difference.verdict])


def _scores_table(comparison: Comparison) -> Table:
    table = _table("Scores by type (percent)")
    table.add_column("type", overflow="fold")
    table.add_column("gold", justify="right")
    table.add_column("", overflow="fold")
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


def _print_by_arms(
    make: Callable[[Comparison, Sequence[Arm]], Table], comparison: Comparison, console: Console
) -> None:
    """A table with columns for every arm, in parts where it would be wider than the terminal."""
    arms = comparison.arms
    unbounded = console.options.update(max_width=10**6)
    for count in range(len(arms), 0, -1):
        parts = [make(comparison, arms[i : i + count]) for i in range(0, len(arms), count)]
        if all(Measurement.get(console, unbounded, p).maximum <= console.width for p in parts):
            break
    for part in parts:
        console.print(part)


def _sizes_table(comparison: Comparison, arms: Sequence[Arm]) -> Table:
    table = _table("Micro F1 by amount of training data (percent)")
    table.add_column("documents", justify="right")
    for arm in arms:
        table.add_column(Text(arm.name), justify="right")
        if arm.difference is not None:
            table.add_column(Text(f"against {comparison.baseline}"), justify="right")
    for point in comparison.sizes:
        cells: list[str | Text] = []
        for arm in arms:
            cells.append(_compact(point.f1[arm.name], _percent))
            if arm.name in point.differences:
                difference = point.differences[arm.name]
                low, high = difference.ci95
                told = f"{_points(difference.difference)} [{_points(low)}, {_points(high)}]"
                cells.append(Text(told, style=_VERDICT_STYLES[difference.verdict]))
        table.add_row(f"{point.documents:,} ({_share(point.share)})", *cells)
    return table


def _epochs_table(_: Comparison, arms: Sequence[Arm]) -> Table:
    table = _table("Learning curves (loss: mean nats per token; dev: micro F1 in percent)")
    table.add_column("epoch", justify="right")
    curves = [arm.epochs for arm in arms]
    for arm in arms:
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
    "The difference is the mean over seeds of configuration minus baseline in micro F1, as a "
    "fraction. "
    "p comes from a paired approximate randomisation test over documents (Noreen, 1989; Yeh, "
    "2000), the interval from a hierarchical paired bootstrap over documents and seeds "
    "(cf. Reimers & Gurevych, 2017). *Better* or *worse* is said only if p < .05 and the interval "
    "excludes 0."
)
_BORDERS = (
    "The test data say which sentences make up a document: the test swaps and the interval draws "
    "whole documents, since their sentences depend on each other (Field & Welsh, 2007)."
)
_NO_BORDERS = (
    "Every text counts as a document of its own. If several are cut from one source, they depend "
    "on each other and intervals are too narrow: say which belong together with -DOCSTART- lines, "
    "or with a key `document` in JSONL."
)
_METHOD_ONE_SEED = (
    "The difference is configuration minus baseline in micro F1, as a fraction, of one trained "
    "model each. p comes from a paired approximate randomisation test over documents (Noreen, "
    "1989; Yeh, 2000), the interval from a paired bootstrap over documents. Both say whether these "
    "two models would also differ on other documents of the same kind; *models differ* is said "
    "only if p < .05 and the interval excludes 0. Neither says anything about the methods: that "
    "takes three or more seeds (Reimers & Gurevych, 2017)."
)
_READING = (
    "Scores are fractions, mean ± sample standard deviation over seeds. An exact match has the "
    "gold's start, end and type; *untyped* asks only for start and end, *overlap* for the type and "
    "one shared character. Macro averages over the types that have gold or predictions. Loss is "
    "the mean in nats per token; seconds an epoch are training alone; peak memory is that of the "
    "run's own process. With one seed the micro F1 comes with its 95 % bootstrap interval over "
    "documents. – : undefined, as there is neither gold nor prediction, or not measured."
)


_ERRORS = (
    "Entities, mean ± deviation over seeds. A gold entity is found exactly, or a prediction shares "
    "characters with it but has another *boundary*, another *type*, or *both*, or it is *missed*; "
    "a *spurious* prediction shares no character with any gold entity."
)
_CONFUSIONS = (
    "Entities by gold type (rows) and predicted type (columns){over}. A gold entity is paired with "
    "the prediction that shares characters with it: the one of the same start and end, else one of "
    "the same type, else the longest shared part; so the diagonal counts right types, with another "
    "boundary too. *(missed)*: no prediction shares a character; *(spurious)*: a prediction that "
    "shares none with any gold entity; · : none."
)
_DIFFERING = (
    "Settings in which the configurations differ; *default*: chosen by encoder and method (the "
    "learning rates above are those used); – : of no effect there."
)
_SIZES = (
    "Each seed draws the documents, the same for all configurations; with a share s of them "
    "recipes train for s^(−2/3) times their epochs. Verdicts are corrected for the number of "
    "configurations, not for that of amounts."
)
_SIZES_ONE_SEED = " With one seed they are about two trained models, not about the configurations."
_NOVELTY = (
    "Recall of gold entities, exact. *Seen*: the same characters stand in the training data with "
    "the same type; *other type*: with other types only; *unseen*: not at all (cf. Augenstein et "
    "al., 2017)."
)


def _compared_markdown(comparison: Comparison) -> list[str]:
    parts = [
        _markdown_table(CONFIGURATION_HEADINGS, configuration_rows(comparison), num_left=9),
        _markdown_table(DATA_HEADINGS, data_rows(comparison), num_left=6),
    ]
    if len(comparison.arms) > 1:
        rows = differing_settings(comparison.arms)
        if rows:
            names = [arm.name for arm in comparison.arms]
            parts += [
                _DIFFERING,
                _markdown_table(("setting", *names), rows, num_left=len(names) + 1),
            ]
        else:
            parts.append("The configurations differ in no setting.")
    return parts


def _confusions(comparison: Comparison, arm: Arm) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: a row a gold type, a column a predicted one; missed and spurious last."""
    decimals = 0 if len(comparison.seeds) == 1 else 1
    types = list(comparison.types)

    def count(gold: str, predicted: str) -> str:
        mean = arm.confused(gold, predicted).mean
        return _NOTHING if mean is None else f"{mean:.{decimals}f}" if mean else "·"

    rows = [
        [gold, *(count(gold, predicted) for predicted in (*types, NOTHING)),
         str(comparison.support(gold))]
        for gold in types
    ]  # fmt: skip
    rows.append(["(spurious)", *(count(NOTHING, predicted) for predicted in types), "", ""])
    return ["", *types, "(missed)", "gold"], rows


def _confusions_markdown(comparison: Comparison) -> list[str]:
    parts = [_CONFUSIONS.format(over=_over_seeds(comparison))]
    for arm in comparison.arms:
        headings, rows = _confusions(comparison, arm)
        headings[0] = "gold type ↓, predicted type →"
        parts += [f"### {_escaped(arm.name)}", _markdown_table(headings, rows, num_left=1)]
    return parts


def _over_seeds(comparison: Comparison) -> str:
    seeds = len(comparison.seeds)
    return "" if seeds == 1 else f"; mean over {seeds} seeds"


def _sizes_markdown(comparison: Comparison) -> str:
    rows = []
    for point in comparison.sizes:
        documents = f"{point.documents:,} ({_share(point.share)})"
        for arm in comparison.arms:
            against = ["", "", "", ""]
            if arm.name in point.differences:
                found = point.differences[arm.name]
                against = [*map(_points, (found.difference, *found.ci95)), found.verdict]
            score = _inline(point.f1[arm.name], "{:.3f}".format)
            rows.append([documents, arm.name, score, *against])
    head = ("documents", "configuration", "micro F1", f"points against {comparison.baseline}",
            "95 % from", "95 % to", "verdict")  # fmt: skip
    return _markdown_table(head, rows, num_left=2)


def _errors_markdown(arms: Sequence[Arm]) -> str:
    rows = [
        [arm.name, *(_inline(arm.errors(kind), "{:.1f}".format) for kind in ERROR_KINDS)]
        for arm in arms
    ]
    return _markdown_table(("configuration", *ERROR_KINDS), rows, num_left=1)


def _novelty_markdown(comparison: Comparison) -> str:
    gold = comparison.novelty
    rows = [
        [arm.name, *(_fraction(arm.recall(novelty)) for novelty in NOVELTIES)]
        for arm in comparison.arms
    ]
    headings = [f"{novelty} ({gold[novelty]})" if gold else novelty for novelty in NOVELTIES]
    return _markdown_table(("configuration", *headings), rows, num_left=1)


def _cost_markdown(arms: Sequence[Arm]) -> str:
    headings = (
        "configuration",
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
            cells = [*map(_fraction, (row.precision, row.recall, row.f1))]
            if name == "micro" and arm.interval is not None:
                cells[-1] += f" [{arm.interval[0]:.4f}, {arm.interval[1]:.4f}]"
            rows.append([name, arm.name, *cells])
    return _markdown_table(
        ("average", "configuration", "precision", "recall", "F1"), rows, num_left=2
    )


def _differences_markdown(differences: Sequence[tuple[Arm, Difference]]) -> str:
    headings = ("configuration", "micro F1", "95 % from", "95 % to", "p", "verdict")
    rows = [
        [arm.name, *(f"{x:+.4f}" for x in (d.difference, *d.ci95)), f"{d.p_value:.4f}", d.verdict]
        for arm, d in differences
    ]
    return _markdown_table(headings, rows, num_left=1)


def _types_markdown(comparison: Comparison) -> str:
    headings = (
        "type", "gold", "configuration", "precision", "recall", "F1", "untyped F1", "overlap F1",
    )  # fmt: skip
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
    return _markdown_table(("epoch", "configuration", "loss", "dev micro F1"), rows, num_left=2)


def _markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, num_left: int
) -> str:
    rules = ["---" if i < num_left else "---:" for i in range(len(headings))]
    lines = [[_escaped(cell) for cell in line] for line in (headings, *rows)]
    lines.insert(1, rules)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """A name as it can stand in Markdown, tables included."""
    text = re.sub(r"([\\|*<`\[]|(?<!\w)_|_(?!\w))", r"\\\1", text)
    return " ".join(text.split())


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
        if value >= 0.9995 * size:  # which three digits round up
            scaled = value / size
            return f"{scaled:.3g}{unit}" if scaled < 999.5 else f"{scaled:.0f}{unit}"
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
