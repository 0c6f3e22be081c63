"""Self-training on a terminal and as a page: the rounds, and the comparison with the baseline."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from rich.console import Console

from nertune.reports.content import NOTHING, Cell, Page, Paragraph, Section, Table
from nertune.reports.markdown import to_markdown
from nertune.reports.numbers import number, p_value, points, seconds
from nertune.reports.terminal import print_lines, to_rich
from nertune.semisupervised.self_training.results import Round, SelfTrainingResult, Trained
from nertune.storage.atomic import write_text

__all__ = ["print_self_training", "save_self_training", "self_training_page"]

_METHOD = (
    "Difference: self-training minus the other in micro-F1, averaged over seeds, with a 95 % "
    "interval from a hierarchical paired bootstrap over documents and seeds, and p from a paired "
    "approximate randomisation test (Noreen, 1989; Yeh, 2000). *baseline*: the labelled data "
    "alone, with the same seeds, for as many optimizer steps and epochs (looks at dev) as all "
    "rounds of self-training together. *teacher*: round 0, the recipe as it stands; of several "
    "teachers the best on dev."
)
_SHORT: dict[str, str] = {
    "not distinguishable": "not\ndistinguishable",
    "models cannot be told apart": "models not\ntold apart",
}


def save_self_training(result: SelfTrainingResult, folder: Path) -> Path:
    """Writes `report.md`; `report.json` is there already."""
    return write_text(folder / "report.md", to_markdown(self_training_page(result)))


def self_training_page(result: SelfTrainingResult) -> Page:
    """Verdict, comparison and rounds."""
    notices = [Paragraph(notice, "notice") for notice in result.notices]
    return Page(
        "Self-training",
        [
            Section("", [Paragraph(result.verdict), *notices]),
            Section("Comparison", [_comparison(result), Paragraph(_METHOD, "note")]),
            Section("Rounds", [_rounds(result)]),
        ],
    )


def print_self_training(result: SelfTrainingResult, console: Console) -> None:
    """Rounds, comparison, what to know, verdict."""
    for table in (_rounds(result), _comparison(result)):
        console.print(to_rich(table))
    print_lines((f"Note: {notice}" for notice in result.notices), console, "yellow")
    style = "bold green" if result.decisive.is_gain else "bold yellow"
    print_lines([result.verdict], console, style)
    model = f"{result.output}/model"
    print_lines([f"model: {model}", f"next:  nertune predict {model} 'some text'"], console)


def _rounds(result: SelfTrainingResult) -> Table:
    groups = []
    for one in result.seeds:
        rows = [
            _row(str(one.seed), found, is_best=found.number == one.best.number)
            for found in one.rounds
        ]
        unread = [NOTHING] * 4
        others = [[str(one.seed), "teacher", *unread, *_figures(other)]
                  for other in one.rounds[0].others]  # fmt: skip
        rows[1:1] = others
        groups.append([*rows, [str(one.seed), "baseline", *unread, *_figures(one.baseline)]])
    headings: list[Cell | str] = [
        "seed",
        "round",
        Cell("pseudo-labelled documents", "pseudo\ndocuments"),
        "entities",
        "threshold",
        Cell("entities filled in", "filled\nin"),
        "dev F1",
        Cell("best epoch of all", "epoch"),
        "steps",
        "seconds",
    ]
    rows = [row for group in groups for row in group]
    kept = [n for n in range(len(headings))
            if n < 2 or any(row[n] != NOTHING for row in rows)]  # fmt: skip
    chosen = [[[row[n] for n in kept] for row in group] for group in groups]
    return Table([headings[n] for n in kept], chosen, align="ll", num_keys=1,
                 title="Rounds (*: best on dev)")  # fmt: skip


def _row(seed: str, found: Round, *, is_best: bool) -> list[str]:
    name = str(found.number) if found.number else "teacher"
    pseudo, thresholds, filled_in = found.pseudo, found.thresholds, found.num_filled_in
    return [
        seed,
        f"{name} *" if is_best else name,
        f"{pseudo['documents']:,}" if pseudo else NOTHING,
        f"{pseudo['entities']:,}" if pseudo else NOTHING,
        f"{thresholds['pooled']:.3f}" if thresholds else NOTHING,
        NOTHING if filled_in is None else f"{filled_in:,}",
        *_figures(found.trained),
    ]


def _figures(trained: Trained) -> list[str]:
    return [
        number(trained.f1),
        f"{trained.best_epoch}/{trained.epochs}",
        f"{trained.steps:,}",
        seconds(trained.seconds),
    ]


def _comparison(result: SelfTrainingResult) -> Table:
    rows: list[list[Cell | str]] = []
    for one in result.comparisons:
        found = one.difference
        low, high = found.ci95
        rows.append([
            one.split,
            one.against,
            number(mean(one.f1)),
            number(mean(one.other_f1)),
            f"{points(found.difference)} [{points(low)}, {points(high)}]",
            p_value(found.p_value),
            Cell(found.verdict, _SHORT.get(found.verdict, found.verdict)),
        ])  # fmt: skip
    points_heading = Cell("difference in points [95 %]", "points [95 %]")
    own, other = Cell("F1 of self-training", "self-\ntrained"), Cell("F1 of the other", "other")
    headings = ("split", "against", own, other, points_heading, "p", "verdict")
    return Table(headings, [rows], align="ll", title="Self-training against others")
