"""An `Inspection` as tables on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from nertune.data.duplicates import SharedText
from nertune.data.statistics import Lengths
from nertune.experiments.inspect import FileInspection, Inspection, ModelFit
from nertune.storage.files import shorten

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["render"]

_MAX_REPAIRS = 20


def render(inspection: Inspection, console: Console) -> None:
    """Print an inspection: counts, labels, what files share, and what cannot be expressed.

    Args:
        inspection: what to print.
        console: rich's console to print on.
    """
    files = inspection.files
    console.print(_table("Files", files, _rows(files)))
    labels = Counter[str]()
    for file in files:
        labels.update(file.statistics.entities)
    if labels:
        console.print(_table("Entities", files, _label_rows([n for n, _ in labels.most_common()])))
    lines = [*_reading(files), *_sharing(inspection), *_expressing(inspection)]
    for line in [*lines, *(f"warning: {warning}" for warning in inspection.warnings)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


_Row = tuple[str, Callable[[FileInspection], str]]


def _table(title: str, files: Iterable[FileInspection], rows: Iterable[_Row]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for file in files:
        table.add_column(Text(file.name), justify="right")
    for name, value in rows:
        table.add_row(Text(name), *(Text(value(file)) for file in files))
    return table


def _rows(files: Iterable[FileInspection]) -> list[_Row]:
    rows: list[_Row] = [
        ("format", lambda f: f.format if f.scheme is None else f"{f.format}, {f.scheme}"),
        ("documents", lambda f: _count(f.statistics.documents)),
        ("… without entities", lambda f: _count(f.statistics.documents_without_entities)),
        ("… with overlapping entities", lambda f: _count(f.statistics.documents_with_overlaps)),
        ("… that repeat an earlier text", lambda f: _count(f.duplicates.documents)),
        ("characters", lambda f: _count(f.statistics.characters)),
        ("tokens", lambda f: "–" if f.statistics.tokens is None else _count(f.statistics.tokens)),
        ("entities", lambda f: _count(f.statistics.num_entities)),
        ("tags repaired", lambda f: _count(len(f.repairs))),
        ("length: mean / median / 95 % / max", lambda f: _lengths(f.statistics.lengths)),
    ]
    if any(file.fit for file in files):
        rows += [
            ("… in pieces", lambda f: _lengths(f.fit.pieces) if f.fit else ""),
            ("longer than the model's window", lambda f: _longer(f.fit) if f.fit else ""),
            (
                "entities that cannot be expressed",
                lambda f: _count(len(f.fit.lost) if f.fit else 0),
            ),
        ]
    rows.append(("content sha256", lambda f: f.statistics.sha256[:12]))
    return rows


def _label_rows(labels: Iterable[str]) -> list[_Row]:
    def row(label: str) -> _Row:
        return label, lambda file: _count(file.statistics.entities.get(label, 0))

    return [row(label) for label in labels]


def _count(number: int) -> str:
    return f"{number:,}"


def _lengths(lengths: Lengths) -> str:
    return f"{lengths.mean:.1f} / {lengths.median:g} / {lengths.p95} / {lengths.longest}"


def _longer(fit: ModelFit) -> str:
    if fit.window_pieces is None:
        return "no window stated"
    return f"{fit.longer_than_window:,} (> {fit.window_pieces} pieces)"


def _reading(files: Iterable[FileInspection]) -> Iterable[str]:
    """What was decided and repaired while reading."""
    for file in files:
        for notice in file.notices:
            yield f"{file.name}: {notice}"
        for repair in file.repairs[:_MAX_REPAIRS]:
            yield f"  {file.name}:{repair.line}: {repair.tag}: {repair.reason}"
        if len(file.repairs) > _MAX_REPAIRS:
            yield f"  … and {len(file.repairs) - _MAX_REPAIRS:,} more (--json lists all)"


def _sharing(inspection: Inspection) -> Iterable[str]:
    """Texts that stand in several places."""
    for file in inspection.files:
        found = file.duplicates
        if found.texts:
            yield (
                f"{file.name}: {_texts(found.texts)} stand more than once, "
                f"{found.conflicting_texts:,} of them with different labels"
            )
            yield from map(_example, found.examples)
    for leak in inspection.leakage:
        if leak.documents:
            yield (
                f"{leak.documents:,} of {leak.target_documents:,} documents of {leak.target} stand "
                f"in {leak.source}, {leak.conflicting:,} of them with different labels"
            )
            yield from map(_example, leak.examples)
        else:
            yield f"no document of {leak.target} stands in {leak.source}"


def _texts(number: int) -> str:
    return f"{number:,} text{'' if number == 1 else 's'}"


def _example(shared: SharedText) -> str:
    shown = ", ".join(shared.ids[:5]) + (", …" if len(shared.ids) > 5 else "")
    return f"  {shorten(shared.text, 30)}: {shown}{' (labels differ)' * shared.conflicting}"


def _expressing(inspection: Inspection) -> Iterable[str]:
    """Every entity that the model's units cannot express."""
    fits = [(file, file.fit) for file in inspection.files if file.fit is not None]
    if not fits:
        return
    num_lost = sum(len(fit.lost) for _, fit in fits)
    unit = {"char": "characters", "word": "words"}[fits[0][1].unit]
    if num_lost == 0:
        yield f"{inspection.model} (labelling {unit}): every entity can be expressed"
        return
    total = sum(file.statistics.num_entities for file, _ in fits)
    yield (
        f"{inspection.model} (labelling {unit}): {num_lost:,} of {total:,} entities cannot be "
        "expressed; they are scored as missed"
    )
    for _, fit in fits:
        for lost in fit.lost:
            span = f"[{lost.entity.start}, {lost.entity.end})"
            yield (
                f"  {lost.document_id}: {lost.entity.label} {shorten(lost.text)} at {span}: "
                f"{lost.reason}"
            )
