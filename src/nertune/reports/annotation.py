"""What `nertune annotate` shows in the end, and before it begins."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nertune.data.formats.values import counted

if TYPE_CHECKING:
    from nertune.scale.annotate import Annotation
    from nertune.scale.forecast import Forecast

__all__ = ["print_annotation", "print_forecast"]


def print_annotation(done: Annotation, folder: Path, console: Console) -> None:
    """A few lines: what was written where, what was not, and how fast."""
    found = done.manifest
    entities = sum(found["entities"].values())
    console.print(
        f"{folder}: {counted(found['documents'], 'document')} with "
        f"{counted(entities, 'entity')} in {counted(len(found['shards']), 'shard')}",
        soft_wrap=True,
    )
    if found["rejected"]:
        console.print(
            f"{found['rejected']:,} rejected, see {folder / 'rejects.jsonl'}", soft_wrap=True
        )
    if found["lost"]:
        lost = ", ".join(f"{number:,} {kind}" for kind, number in found["lost"].items())
        console.print(f"the format could not hold: {lost}", soft_wrap=True)
    if done.units:
        console.print(
            f"{timedelta(seconds=round(done.seconds))}, {done.units / done.seconds:,.0f} units/s "
            "(with loading the model)"
        )


def print_forecast(expected: Forecast, console: Console) -> None:
    """What there is, and how long it will take."""
    rejects = f"; {expected.rejects:,} cannot be read" if expected.rejects else ""
    console.print(
        f"{counted(expected.files, 'file')}: {counted(expected.documents, 'document')}, "
        f"{expected.characters:,} characters, {counted(expected.shards, 'shard')}{rejects}",
        soft_wrap=True,
    )
    console.print(
        f"{expected.units_per_second:,.0f} units/s with {counted(expected.workers, 'worker')}, "
        f"measured on {counted(expected.sample, 'document')}",
        soft_wrap=True,
    )
    console.print(
        f"about {timedelta(seconds=round(expected.seconds))}, and {_size(expected.bytes)} of shards"
    )


def _size(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
