"""Tables, scores and records on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rich.table
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from nertune.data.formats.values import counted
from nertune.evaluation.resampling import caveats
from nertune.reports.content import NOTHING, Cell, Row, Table, brief
from nertune.reports.numbers import number

if TYPE_CHECKING:
    from nertune.comparison.search.trials import SweepResult

__all__ = ["fits", "print_by_configuration", "print_export", "print_lines",
           "print_pretraining", "print_record", "print_scores", "print_sweep",
           "to_rich"]  # fmt: skip

_SHOWN_TRIALS = 8
_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "narrow": {"box": box.SIMPLE_HEAD, "padding": 0, "pad_edge": False},  # most room for figures
    "wide": {"box": box.SIMPLE_HEAD, "pad_edge": False, "collapse_padding": True},
    "boxed": {},
}


def to_rich(
    table: Table, title: str | None = None, look: Literal["narrow", "wide", "boxed"] = "narrow"
) -> rich.table.Table:
    """A table for a terminal: a long text is folded, a number of a wide one is never cut."""
    title = table.title if title is None else title
    made = rich.table.Table(title=title or None, title_justify="left", **_LOOKS[look])
    for column, heading in enumerate(map(brief, table.headings)):
        if table.is_left(column):
            made.add_column(Text(heading), overflow="fold")
        else:
            is_whole = look == "wide"
            made.add_column(Text(heading), justify="right", overflow="fold", no_wrap=is_whole)
    for group in table.groups:
        for index, row in enumerate(group):
            shown = [Text(brief(c), c.style if isinstance(c, Cell) else "") for c in row]
            if index:
                shown[: table.num_keys] = [Text()] * table.num_keys
            made.add_row(*shown, end_section=index == len(group) - 1)
    return made


def fits(table: rich.table.Table, console: Console) -> bool:
    """Whether a table needs no folding."""
    unbounded = console.options.update(max_width=10**6)
    return Measurement.get(console, unbounded, table).maximum <= console.width


def print_by_configuration(table: Table, title: str, console: Console) -> None:
    """A table of `key, configuration, value…` with columns for each configuration.

    It comes in parts where it would be wider than the terminal.
    """
    names = list(dict.fromkeys(str(row[1]) for group in table.groups for row in group))
    for size in range(len(names), 0, -1):
        shown = (names[start : start + size] for start in range(0, len(names), size))
        parts = [to_rich(_spread(table, some), title) for some in shown]
        if all(fits(part, console) for part in parts):
            break
    console.print(*parts, sep="\n")


def _spread(table: Table, names: Sequence[str]) -> Table:
    """The columns of some configurations; one that is empty is left out."""
    found = [(g[0][0], {str(row[1]): row[2:] for row in g}) for g in table.groups]
    rows = [(key, values) for key, values in found if not values.keys().isdisjoint(names)]
    headings: list[Cell | str] = [table.headings[0]]
    columns: list[Row] = [[key for key, _ in rows]]
    for name in names:
        above = name
        for index, heading in enumerate(table.headings[2:]):
            column = [values[name][index] if name in values else NOTHING for _, values in rows]
            if any(map(brief, column)):
                headings.append(f"{above}\n{brief(heading)}".strip("\n"))
                columns.append(column)
                above = ""
    return Table(headings, [list(zip(*columns, strict=True))], align=table.align[0])


def print_lines(lines: Iterable[str], console: Console, style: str = "") -> None:
    """Lines of text, which are no markup, whatever they hold; the terminal wraps them."""
    for line in lines:
        console.print(Text(line, style), soft_wrap=True)


def print_scores(scores: Mapping[str, Any], title: str, console: Console) -> None:
    """P, R, F1 by type, micro and macro; type-agnostic and overlap F1 beside them.

    Args:
        scores: `Scores.to_dict()`.
        title: what was scored.
        console: where to.
    """
    sources = scores.get("source_documents")  # not in what earlier versions wrote
    texts = counted(scores["documents"], "sentence" if sources else "document")
    both = f"{counted(sources, 'document')}, {texts}" if sources else texts
    print_lines([f"{title} ({both})"], console)
    averages = [_score_row("micro", scores["micro"] | scores), _score_row("macro", scores["macro"])]
    types = [_score_row(name, row) for name, row in scores["types"].items()]
    headings = ("type", "P", "R", "F1", "gold", "pred.", "untyped", "overlap")
    console.print(to_rich(Table(headings, [types, averages]), look="wide"))
    console.print(
        "exact spans; untyped: F1 of spans of any type; overlap: F1 where one character is enough"
    )
    if ignored := scores.get("ignored_predictions"):
        console.print(
            f"{ignored:,} more predictions are not counted: the gold is partially labelled and "
            "does not say whether they are right",
            soft_wrap=True,
        )
    interval = scores["micro"].get("f1_ci95")
    if interval:
        over = f"{counted(sources, 'document')} ({texts})" if sources else texts
        console.print(
            f"micro-F1 {scores['micro']['f1']:.4f}, 95 % interval over {over} "
            f"[{interval[0]:.4f}, {interval[1]:.4f}]",
            soft_wrap=True,
        )
        for caveat in caveats(sources or scores["documents"], scores["micro"]["support"]):
            print_lines([f"Note: {caveat}"], console, "yellow")


def _score_row(name: str, row: Mapping[str, Any]) -> list[str]:
    figures = [number(row[key]) for key in ("precision", "recall", "f1")]
    others = [number(row[key]["f1"]) if key in row else "" for key in ("untyped", "overlap")]
    return [name, *figures, f"{row['support']:,}", f"{row['predicted']:,}", *others]


def print_record(record: Mapping[str, Any], folder: Path, console: Console) -> None:
    """The end of a run: what trained, how long, how well, and what to do next."""
    parameters, memory = record["parameters"], record["peak_memory_bytes"]
    peak = "not measured" if memory is None else f"{memory / 2**20:,.0f} MiB"
    summary = (
        f"{record['name']}: {parameters['trainable']:,} of {parameters['total']:,} parameters "
        f"trained ({parameters['trainable'] / parameters['total']:.1%}), best epoch "
        f"{record['best_epoch']} of {len(record['epochs'])}, {record['seconds']:.0f} s, "
        f"peak memory {peak}"
    )
    console.print(Text(summary))
    splits = [split for split in ("dev", "test") if record[split]]
    for split in splits:
        print_scores(record[split], f"{split}: {record['data'][split]['path']}", console)
    scored = [record[split]["micro"] for split in splits]
    if any(row["support"] and not row["predicted"] for row in scored):
        print_lines([_say_nothing_found(record)], console, "yellow")
    lines = [f"model: {folder}/model"]
    test = record.get("settings", {}).get("data", {}).get("test")
    if test and not record["test"]:
        lines.append(f"test:  not scored; nertune evaluate {folder}/model {test}")
    print_lines([*lines, f"next:  nertune predict {folder}/model 'some text'"], console)


def _say_nothing_found(record: Mapping[str, Any]) -> str:
    """What to try when a tagger predicts no entity: a rate that this encoder bears."""
    rates = record.get("rates") or {}
    told = "No entity was predicted. "
    rate = next((rates[group] for group in ("adapter", "encoder", "lstm") if group in rates), None)
    if rate is None:  # the head alone trains, which no rate of these can spoil
        return told + "The training is most likely too short: try more epochs."
    return (
        f"{told}Most often train.learning_rate ({rate:.3g}) is too high for what is trained, or "
        f"the training is too short: try --set train.learning_rate={rate / 4:.3g}, or more epochs. "
        "`nertune advise` searches rates."
    )


def print_pretraining(record: Mapping[str, Any], folder: Path, console: Console) -> None:
    """What came of pre-training, in a few lines.

    Args:
        record: `record.json`.
        folder: the run's folder.
        console: where to.
    """
    before, after = record["held_out"]["before"], record["held_out"]["after"]
    lines = [
        f"{record['tokens']:,} tokens in {record['steps']:,} steps, {record['seconds']:.0f} s "
        f"({record['tokens_per_second']:,.0f} tokens/s), {record['text_share']:.1%} of them text",
        f"held-out perplexity {before['perplexity']:,.1f} -> {after['perplexity']:,.1f} "
        f"({after['pieces']:,} masked tokens)"
        if after
        else "no text was held out: perplexity not measured",
        f"encoder: {folder / 'model'}",
    ]
    print_lines(lines, console)


def print_export(report: Mapping[str, Any], model: str, console: Console) -> None:
    """The backends of an exported tagger side by side, and how to use them.

    Args:
        report: `parity.json`.
        model: its folder, as it was named.
        console: where to.
    """
    dev = report["dev"]
    counts = f"{counted(dev['documents'], 'document')}, {counted(dev['entities'], 'entity')}"
    print_lines([f"{dev['path']} ({counts})"], console)
    names = ("torch", "onnx", "onnx-int8", "openvino")
    backends = {name: report[name] for name in names if name in report}
    rows = []
    for name, row in backends.items():
        if "units_per_second" in row:
            found = row.get("agreement")
            same = f"{found['equal']:,} of {found['entities']:,}" if found else NOTHING
            size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else NOTHING
            rows.append([name, number(row["f1"]), same, f"{row['units_per_second']:,}", size])
    headings = ("backend", "micro-F1", "same entities", "units/s", "MB")
    console.print(to_rich(Table(headings, [rows]), look="wide"))
    refused = {n: row["reason"] for n, row in backends.items() if row.get("status") == "refused"}
    print_lines((f"{name}: refused, since {why}" for name, why in refused.items()), console)
    lines = [
        f"fastest here: {report['fastest']}; predict and annotate take it",
        f"next:  nertune predict {model} 'some text'",
    ]
    print_lines(lines, console)


def print_sweep(console: Console, result: SweepResult) -> None:
    """The best trials, the recipe as it stands among them, and the verdict."""
    done = [t for t in result.trials if t.state == "complete" and t.f1 is not None]
    shown = sorted(done, key=lambda t: -(t.f1 or 0.0))[:_SHOWN_TRIALS]
    if result.base not in shown:
        shown.append(result.base)
    rows = []
    for trial in shown:
        told = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in trial.values.items()
        )
        figures = (number(trial.f1), f"{trial.trainable or 0:,}", f"{trial.seconds or 0:.0f}")
        rows.append([str(trial.number), *figures, told or "the recipe as it stands"])
    headings = ("trial", "dev F1", "trained", "seconds", "settings")
    console.print(to_rich(Table(headings, [rows], align="rrrrl"), look="wide"))
    states = [trial.state for trial in result.trials]
    console.print(
        f"{len(done)} trials complete, {states.count('pruned')} stopped early, "
        f"{states.count('failed')} failed or lost"
    )
    for name, scores in result.confirmed.items():
        told = ", ".join(f"{f1:.4f}" for f1 in scores)
        console.print(f"{name} with further seeds: {told}")
    print_lines([result.verdict, f"winner: {result.winner}"], console)
