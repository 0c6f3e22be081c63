"""An `Inspection` as tables on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console

from nertune.data.duplicates import SharedText
from nertune.data.formats.values import counted
from nertune.data.statistics import Lengths
from nertune.experiments.inspect import FileInspection, Inspection
from nertune.reports.content import NOTHING, Table
from nertune.reports.terminal import print_lines, to_rich
from nertune.storage.files import shorten

__all__ = ["print_inspection"]

_MAX_REPAIRS = 20
_MAX_SCOPES = 8


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print an inspection: counts, labels, what files share, and what cannot be expressed.

    Args:
        inspection: what to print.
        console: rich's console to print on.
    """
    files = inspection.files
    names = [file.name for file in files]
    columns = [_describe(file) for file in files]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    console.print(to_rich(Table(("", *names), [rows]), "Files", "boxed"))
    labels = Counter[str]()
    for file in files:
        labels.update(file.statistics.entities)
    if labels:
        rows = [[label, *(_count(file.statistics.entities.get(label, 0)) for file in files)]
                for label, _ in labels.most_common()]  # fmt: skip
        console.print(to_rich(Table(("", *names), [rows]), "Entities", "boxed"))
    lines = [*_reading(files), *_sharing(inspection), *_expressing(inspection)]
    print_lines([*lines, *(f"warning: {w}" for w in inspection.warnings)], console)


def _describe(file: FileInspection) -> dict[str, str]:
    """What the table says of a file, by the row's name: three files fit into 80 columns."""
    found, fit = file.statistics, file.fit
    rows = {
        "format": file.format if file.scheme is None else f"{file.format}, {file.scheme}",
        "documents": _count(found.documents),
        "… without entities": _count(found.documents_without_entities),
        "… with overlapping entities": _count(found.documents_with_overlaps),
        "… that repeat an earlier text": _count(file.duplicates.documents),
        "characters": _count(found.characters),
        "source tokens": NOTHING if found.tokens is None else _count(found.tokens),
        "entities": _count(found.num_entities),
        **({} if fit is None else {"… that cannot be expressed": _count(len(fit.lost))}),
        "tags repaired": _count(len(file.repairs)),
        **_lengths("length", found.lengths),
    }
    if fit is not None:
        window = fit.window_pieces
        shown = "" if window is None else f" ({window})"
        rows |= _lengths("tokens", fit.pieces)
        rows[f"longer than the window{shown}"] = (
            "not stated" if window is None else _count(fit.longer_than_window)
        )
    return rows | {"content sha256": found.sha256[:12]}


def _count(number: int) -> str:
    return f"{number:,}"


def _lengths(what: str, lengths: Lengths) -> dict[str, str]:
    return {
        f"{what}: mean / median": f"{lengths.mean:.1f} / {lengths.median:g}",
        f"{what}: 95 % / max": f"{lengths.p95} / {lengths.longest}",
    }


def _reading(files: Iterable[FileInspection]) -> Iterable[str]:
    """What was decided and repaired while reading."""
    for file in files:
        for notice in file.notices:
            yield f"{file.name}: {notice}"
        yield from _scopes(file)
        for repair in file.repairs[:_MAX_REPAIRS]:
            yield f"  {file.name}:{repair.line}: {repair.tag}: {repair.reason}"
        if len(file.repairs) > _MAX_REPAIRS:
            yield f"  … and {len(file.repairs) - _MAX_REPAIRS:,} more (--json lists all)"


def _scopes(file: FileInspection) -> Iterable[str]:
    """What partially labelled documents are labelled for."""
    if not (found := file.scopes):
        return
    line = f"{file.name}: {found['documents']:,} documents are partially labelled"
    if number := found["incomplete"]:
        line += f"; in {number:,} of them unmarked text is unknown"
    if number := found["with_unknown_spans"]:
        line += f"; {number:,} have unknown spans"
    yield line
    sets = [f"{labels}: {number:,}" for labels, number in found["labels"].items()]
    shown = sets[:_MAX_SCOPES] + ["…"] * (len(sets) > _MAX_SCOPES)
    yield f"  labelled for {' | '.join(shown)}"


def _sharing(inspection: Inspection) -> Iterable[str]:
    """Texts that stand in several places."""
    for file in inspection.files:
        found = file.duplicates
        if found.texts:
            yield (
                f"{file.name}: {counted(found.texts, 'text')} stand more than once, "
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
