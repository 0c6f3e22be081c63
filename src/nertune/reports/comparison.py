"""A comparison as a page, and the parts of it that a terminal shows.

The page gives fractions in [0, 1], the terminal percent. Figures are mean ± sample standard
deviation over seeds; with one seed no deviation is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

import nertune
from nertune.comparison import configurations as compared
from nertune.comparison.results import Comparison, Configuration, Estimate, ScoreEstimate, SizePoint
from nertune.data.formats.values import counted
from nertune.errors import MissingDependencyError
from nertune.evaluation.error_analysis import ERROR_KINDS, NOVELTIES
from nertune.evaluation.error_analysis import NOTHING as NO_ENTITY
from nertune.evaluation.significance import Difference, Verdict
from nertune.reports import numbers
from nertune.reports.content import (
    NOTHING,
    Block,
    Bullets,
    Cell,
    Page,
    Paragraph,
    Picture,
    Row,
    Section,
    Table,
)
from nertune.reports.examples import disagreements
from nertune.reports.figures import save_figure
from nertune.reports.html import to_html
from nertune.reports.markdown import to_markdown
from nertune.reports.terminal import fits, print_by_configuration, to_rich
from nertune.storage.atomic import write_text

__all__ = ["comparison_page", "print_comparison", "save_report", "verdict_sentence"]

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
_WAYS: tuple[Literal["exact", "untyped", "overlap"], ...] = ("exact", "untyped", "overlap")
_METHOD = (
    "The difference is configuration minus baseline in micro F1, as a fraction, averaged over "
    "seeds. p comes from a paired approximate randomisation test over documents (Noreen, 1989; "
    "Yeh, 2000), the interval from a hierarchical paired bootstrap over documents and seeds "
    "(cf. Reimers & Gurevych, 2017). The verdict is *better* or *worse* only if p < .05 and the "
    "interval excludes 0."
)
_METHOD_ONE_SEED = (
    "The difference is configuration minus baseline in micro F1, as a fraction, of one trained "
    "model each. p comes from a paired approximate randomisation test over documents (Noreen, "
    "1989; Yeh, 2000), the interval from a paired bootstrap over documents. Both tell whether the "
    "two models would also differ on other documents of the same kind; the verdict is *models "
    "differ* only if p < .05 and the interval excludes 0. Neither says anything about the methods: "
    "that takes three or more seeds (Reimers & Gurevych, 2017)."
)
_BORDERS = (
    "The test data say which sentences make up a document. The test swaps and the interval draws "
    "whole documents, since their sentences depend on each other (Field & Welsh, 2007)."
)
_NO_BORDERS = (
    "Every text counts as a document of its own. If several are cut from one source, they depend "
    "on each other and intervals are too narrow: mark which belong together with -DOCSTART- lines, "
    "or with a key `document` in JSONL."
)
_READING = (
    "Scores are fractions, mean ± sample standard deviation over seeds. An exact match has the "
    "start, end and type of the gold entity; *untyped* asks only for start and end, *overlap* for "
    "the type and one shared character. Macro averages over the types that have gold entities or "
    "predictions. Loss is the mean in nats per token. Seconds per epoch count training alone. Peak "
    "memory is that of the run's process. With one seed the micro F1 has a 95 % bootstrap interval "
    "over documents. – : undefined (neither gold nor prediction), or not measured."
)
_ERRORS = (
    "Entities, mean ± deviation over seeds. A gold entity is *correct* if a prediction equals it. "
    "Else a prediction shares characters with it but has another *boundary*, another *type* or "
    "*both*, or it is *missed*. A *spurious* prediction shares no character with any gold entity."
)
_CONFUSIONS = (
    "Entities by gold type (rows) and predicted type (columns){over}. A gold entity is paired with "
    "the prediction that shares characters with it: the one of the same start and end, else one of "
    "the same type, else the one that shares most. So the diagonal counts right types with any "
    "boundary. *(missed)*: no prediction shares a character; *(spurious)*: a prediction that "
    "shares none with any gold entity; · : none."
)
_DIFFERING = (
    "Settings in which the configurations differ. *default*: chosen by encoder and method (the "
    "learning rates above are those used); – : has no effect."
)
_SIZES = (
    "Each seed draws the documents, the same for all configurations. With a share s of them, "
    "recipes train for s^(−2/3) times their epochs. Verdicts are corrected for the number of "
    "configurations, not for that of amounts."
)
_SIZES_ONE_SEED = " With one seed they are about two trained models, not about the configurations."
_NOVELTY = (
    "Recall of gold entities, exact. *Seen*: the training data have the same characters with the "
    "same type; *other type*: with other types only; *unseen*: not at all (cf. Augenstein et al., "
    "2017)."
)


def save_report(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Writes `report.json`, `report.md`, `report.html`, `report.svg` and `report.png`.

    Without matplotlib there is no figure, and the report says how to get one. `report.html` alone
    shows examples. A reader never sees half of a file.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures: tuple[Path, ...] = ()
    try:
        pictures = save_figure(comparison, folder)
        page = comparison_page(comparison, picture=pictures[0])
    except MissingDependencyError as error:
        for suffix in ("svg", "png"):  # of an earlier comparison
            (folder / f"report.{suffix}").unlink(missing_ok=True)
        page = comparison_page(comparison, remark=f"No figure: {error}")
    content = json.dumps(comparison.to_dict(), ensure_ascii=False, indent=2, allow_nan=False)
    return (
        write_text(folder / "report.json", content + "\n"),
        write_text(folder / "report.md", to_markdown(page)),
        write_text(folder / "report.html", to_html(page)),
        *pictures,
    )


def comparison_page(
    comparison: Comparison, *, picture: Path | None = None, remark: str = ""
) -> Page:
    """The whole comparison.

    Args:
        comparison: what to show.
        picture: the figure, an SVG file beside the report.
        remark: a paragraph in the picture's place.
    """
    configurations, baseline = comparison.configurations, comparison.baseline
    has_seeds = len(comparison.seeds) > 1
    figure: list[Block] = []
    if picture is not None:
        figure.append(Picture("Learning curves and F1 by type", picture))
    if remark:
        figure.append(_note(remark))
    notices = [Paragraph(notice, "notice") for notice in comparison.notices]
    sections = [
        Section("", [Paragraph(_subject(comparison)), *notices]),
        Section("What was compared", [*_compared(comparison), *figure]),
        Section("Cost", [_cost(configurations)]),
        Section("Averages", [_averages(configurations)]),
    ]
    if sentences := [verdict_sentence(c.name, baseline, c.difference)
                     for c in configurations if c.difference is not None]:  # fmt: skip
        sections.insert(1, Section("Verdict", [Bullets(sentences)]))
        method = _note(_METHOD if has_seeds else _METHOD_ONE_SEED)
        borders = _note(_BORDERS if comparison.data.get("source_documents") else _NO_BORDERS)
        blocks = [_differences(configurations), method, borders]
        sections.append(Section(f"Difference to {baseline}", blocks))
    if comparison.sizes:
        note = _note(_SIZES if has_seeds else _SIZES + _SIZES_ONE_SEED)
        sections.append(Section("By amount of training data", [_sizes(comparison), note]))
    how = _note(_CONFUSIONS.format(over=_over_seeds(comparison)))
    confusions = [_confusions(comparison, c) for c in configurations]
    sections += [
        Section("By type", [_types(comparison)]),
        Section("Kinds of errors", [_errors(configurations), _note(_ERRORS)]),
        Section("Confused types", [how, *confusions]),
        Section("Names that training showed", [_novelty(comparison), _note(_NOVELTY)]),
        Section("By epoch", [_epochs(configurations), _note(_READING)]),
    ]
    return Page(" · ".join(c.name for c in configurations), sections, disagreements(comparison))


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints what was compared, the overview, the verdicts in words, and the scores by type.

    Then the confused types, where they are few, and the learning curves.
    """
    configurations, baseline = comparison.configurations, comparison.baseline
    console.print(Text(_subject(comparison)))
    for c in configurations:  # e.g. `bert: mini-zh, fine-tuned in full; learning rates: …`
        told = f"{c.name}: {compared.describe_encoder(c)}, {compared.describe_tuning(c)}"
        console.print(Text(f"{told}; learning rates: {compared.describe_rates(c)}"))
    console.print(to_rich(_overview(configurations, baseline)))
    for configuration in configurations:
        if (found := configuration.difference) is not None:
            verdict = Text(verdict_sentence(configuration.name, baseline, found))
            words = _VERDICT_SENTENCES.get(found.verdict, found.verdict)
            verdict.stylize(_VERDICT_STYLES[found.verdict], len(verdict) - len(words))
            console.print(verdict)
    for notice in comparison.notices:
        console.print(Text(f"Note: {notice}", style="yellow"))
    console.print()
    if comparison.sizes:
        title = "Micro F1 by amount of training data (percent)"
        print_by_configuration(_sizes(comparison), title, console)
    console.print(to_rich(_types(comparison, with_averages=True), "Scores by type (percent)"))
    few = len(comparison.types) <= _FEW_TYPES and len(configurations) <= _FEW_CONFIGURATIONS
    if few and all(c.analyses for c in configurations):
        tables = [to_rich(_confusions(comparison, c), "") for c in configurations]
        if all(fits(table, console) for table in tables):
            over = _over_seeds(comparison)
            title = f"Confused types (gold types in rows, predicted ones in columns{over})"
            console.print(Text(title, style="italic"))
            console.print(*tables, sep="\n")
    title = "Learning curves (loss: mean nats per token; dev: micro F1 in percent)"
    print_by_configuration(_epochs(configurations), title, console)


def verdict_sentence(configuration: str, baseline: str, difference: Difference) -> str:
    """E.g. `lora vs bert: −3.1 points micro-F1 [−5.0, −1.2], p = .004: worse`.

    With one seed the sentence is about two trained models: `…: these two models differ; …`.
    """
    return (
        f"{configuration} vs {baseline}: {numbers.points(difference.difference)} points micro-F1 "
        f"{_interval(difference)}, {numbers.p_value(difference.p_value)}: "
        f"{_VERDICT_SENTENCES.get(difference.verdict, difference.verdict)}"
    )


def _interval(difference: Difference) -> str:
    low, high = difference.ci95
    return f"[{numbers.points(low)}, {numbers.points(high)}]"


def _subject(comparison: Comparison) -> str:
    data, seeds = comparison.data, comparison.seeds
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    texts = counted(data["documents"], "document")
    if sources := data.get("source_documents"):  # where it is known what the sentences are of
        texts = f"{counted(sources, 'document')}, {counted(data['documents'], 'sentence')}"
    return (
        f"Scored on {comparison.split} data {data['path']} ({texts}, "
        f"{counted(data['entities'], 'entity')}, sha256 {data['sha256'][:12]}…), {which}, "
        f"nertune {nertune.__version__}"
    )


def _over_seeds(comparison: Comparison) -> str:
    seeds = len(comparison.seeds)
    return "" if seeds == 1 else f"; mean over {seeds} seeds"


def _note(text: str) -> Block:
    return Paragraph(text, "note")


# ------------------------------------------------------------------------------------ tables


def _overview(configurations: Sequence[Configuration], baseline: str) -> Table:
    """For a terminal: the main figures of three tables of the page."""
    groups = []
    for configuration in configurations:
        micro, found = configuration.score("micro"), configuration.difference
        f1 = numbers.stacked(micro.f1)
        if configuration.interval is not None:
            f1 += "\n{}–\n{}".format(*map(numbers.percent, configuration.interval))
        against = Cell("", "baseline", "dim")
        if found is not None:
            words = _VERDICT_CELLS.get(found.verdict, found.verdict)
            told = f"{numbers.points(found.difference)}\n{_interval(found)}\n{words}"
            against = Cell("", told, _VERDICT_STYLES[found.verdict])
        row = (
            configuration.name,
            f"{numbers.short_number(configuration.trainable_parameters)}\n"
            f"{numbers.share(configuration.trainable_share)}",
            numbers.stacked(configuration.seconds_per_epoch, numbers.seconds),
            numbers.stacked(configuration.peak_memory_bytes, lambda size: f"{size / 2**20:.0f}"),
            numbers.stacked(Estimate.of(configuration.best_epochs), "{:.3g}".format),
            *(numbers.stacked(micro.precision), numbers.stacked(micro.recall), f1),
            numbers.stacked(configuration.score("macro").f1),
            against,
        )
        groups.append([row])
    below = "; below F1: its 95 % interval" if any(c.interval for c in configurations) else ""
    headings = ("", "trainable\nparameters", "s/\nepoch", "peak\nMiB", "best\nepoch", "P", "R",
                "F1", "macro\nF1", f"F1 against\n{baseline}")  # fmt: skip
    title = f"Overview (P, R, F1 in percent, micro average{below})"
    return Table(headings, groups, title=title)


def _compared(comparison: Comparison) -> list[Block]:
    configurations, files = compared.configuration_rows(comparison), compared.data_rows(comparison)
    blocks: list[Block] = [
        Table(compared.CONFIGURATION_HEADINGS, [configurations], align="l" * 9),
        Table(compared.DATA_HEADINGS, [files], align="l" * 6),
    ]
    names = [c.name for c in comparison.configurations]
    if len(names) > 1 and (rows := compared.differing_settings(comparison.configurations)):
        blocks += [_note(_DIFFERING), Table(("setting", *names), [rows], "l" * (1 + len(names)))]
    elif len(names) > 1:
        blocks.append(_note("The configurations differ in no setting."))
    return blocks


def _cost(configurations: Sequence[Configuration]) -> Table:
    inline = numbers.inline
    columns: dict[str, Callable[[Configuration], str]] = {
        "trainable parameters": lambda c: str(c.trainable_parameters),
        "all parameters": lambda c: str(c.total_parameters),
        "share": lambda c: f"{c.trainable_share:.6f}",
        "seconds per epoch": lambda c: inline(c.seconds_per_epoch, "{:.3f}".format),
        "seconds per run": lambda c: inline(c.seconds, "{:.1f}".format),
        "peak memory MiB": lambda c: inline(c.peak_memory_bytes, lambda b: f"{b / 2**20:.1f}"),
        "best epochs": lambda c: ", ".join(str(epoch or NOTHING) for epoch in c.best_epochs),
    }
    rows = [[c.name, *(show(c) for show in columns.values())] for c in configurations]
    return Table(("configuration", *columns), [rows])


def _averages(configurations: Sequence[Configuration]) -> Table:
    groups = []
    for name in ("micro", "macro", "untyped", "overlap"):
        rows = []
        for configuration in configurations:
            row = configuration.score(name)
            cells = [*map(numbers.fraction, (row.precision, row.recall, row.f1))]
            if name == "micro" and configuration.interval is not None:
                cells[-1] += f" [{configuration.interval[0]:.4f}, {configuration.interval[1]:.4f}]"
            rows.append([name, configuration.name, *cells])
        groups.append(rows)
    headings = ("average", "configuration", "precision", "recall", "F1")
    return Table(headings, groups, align="ll", num_keys=1)


def _differences(configurations: Sequence[Configuration]) -> Table:
    rows = [
        [c.name, *(f"{x:+.4f}" for x in (d.difference, *d.ci95)), f"{d.p_value:.4f}", d.verdict]
        for c in configurations
        if (d := c.difference) is not None
    ]
    headings = ("configuration", "micro F1", "95 % from", "95 % to", "p", "verdict")
    return Table(headings, [rows])


def _sizes(comparison: Comparison) -> Table:
    def row(point: SizePoint, configuration: Configuration) -> Row:
        f1, found = point.f1[configuration.name], point.differences.get(configuration.name)
        cells: list[Cell | str] = [
            f"{point.documents:,} ({numbers.share(point.share)})",
            configuration.name,
            Cell(numbers.inline(f1, "{:.3f}".format), numbers.compact(f1)),
        ]
        if found is None:
            return [*cells, *[""] * 4]
        difference, *others = (*map(numbers.points, (found.difference, *found.ci95)), found.verdict)
        # A terminal shows the interval in the same cell, and the verdict as its colour.
        told = f"{difference} {_interval(found)}"
        cells.append(Cell(difference, told, _VERDICT_STYLES[found.verdict]))
        return [*cells, *(Cell(other, "") for other in others)]

    against = f"against {comparison.baseline}"
    headings = ("documents", "configuration", Cell("micro F1", ""),
                Cell(f"points {against}", against), "95 % from", "95 % to", "verdict")  # fmt: skip
    groups = [[row(point, c) for c in comparison.configurations] for point in comparison.sizes]
    return Table(headings, groups, align="rl", num_keys=1)


def _types(comparison: Comparison, *, with_averages: bool = False) -> Table:
    """Scores by type; on a terminal with the averages, which have a table on the page."""

    def group(name: str, scores: Callable[[Configuration], Sequence[ScoreEstimate]]) -> list[Row]:
        found = {c.name: scores(c) for c in comparison.configurations}
        support = str(max(exact.support for exact, *_ in found.values()))
        rows: list[Row] = []
        for configuration, (exact, *others) in found.items():
            figures = (exact.precision, exact.recall, *(part.f1 for part in (exact, *others)))
            missing = [""] * (5 - len(figures))
            rows.append([name, support, configuration, *map(numbers.score_cell, figures), *missing])
        return rows

    groups = [
        group(n, lambda c, n=n: [c.type_score(n, way) for way in _WAYS])  # type: ignore[misc]
        for n in comparison.types
    ]
    if with_averages:
        micro = ("micro", "untyped", "overlap")
        groups.append(group("micro average", lambda c: [c.score(name) for name in micro]))
        groups.append(group("macro average", lambda c: [c.score("macro")]))
    headings = ("type", "gold", Cell("configuration", ""), Cell("precision", "P"),
                Cell("recall", "R"), "F1", Cell("untyped F1", "untyped\nF1"),
                Cell("overlap F1", "overlap\nF1"))  # fmt: skip
    return Table(headings, groups, align="lrl", num_keys=2)


def _errors(configurations: Sequence[Configuration]) -> Table:
    found = ((c.name, map(c.errors, ERROR_KINDS)) for c in configurations)
    rows = [[name, *(numbers.inline(e, "{:.1f}".format) for e in errors)] for name, errors in found]
    return Table(("configuration", *ERROR_KINDS), [rows])


def _novelty(comparison: Comparison) -> Table:
    gold = comparison.novelty
    rows = [[c.name, *(numbers.fraction(c.recall(novelty)) for novelty in NOVELTIES)]
            for c in comparison.configurations]  # fmt: skip
    headings = [f"{novelty} ({gold[novelty]})" if gold else novelty for novelty in NOVELTIES]
    return Table(("configuration", *headings), [rows])


def _confusions(comparison: Comparison, configuration: Configuration) -> Table:
    """A row a gold type, a column a predicted one; missed and spurious last."""
    decimals = 0 if len(comparison.seeds) == 1 else 1
    types = comparison.types

    def count(gold: str, predicted: str) -> str:
        mean = configuration.confused(gold, predicted).mean
        return NOTHING if mean is None else f"{mean:.{decimals}f}" if mean else "·"

    rows = [
        [gold, *(count(gold, predicted) for predicted in (*types, NO_ENTITY)),
         str(comparison.support(gold))]
        for gold in types
    ]  # fmt: skip
    rows.append(["(spurious)", *(count(NO_ENTITY, predicted) for predicted in types), "", ""])
    corner = Cell("gold type ↓, predicted type →", configuration.name)
    return Table((corner, *types, "(missed)", "gold"), [rows], title=configuration.name)


def _epochs(configurations: Sequence[Configuration]) -> Table:
    curves = {c.name: c.epochs for c in configurations}
    groups = [
        [
            (str(epoch.epoch), name, Cell(numbers.inline(epoch.loss, "{:.5f}".format),
             numbers.short_loss(epoch.loss)), numbers.score_cell(epoch.dev_f1))
            for name, curve in curves.items()
            for epoch in curve[index : index + 1]
        ]
        for index in range(max(map(len, curves.values()), default=0))
    ]  # fmt: skip
    headings = ("epoch", "configuration", "loss", Cell("dev micro F1", "dev"))
    return Table(headings, groups, align="rl", num_keys=1)
