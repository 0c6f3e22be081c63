"""What became of a converted file, for a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from rich.console import Console

from nertune.data.convert import Conversion
from nertune.data.formats.values import LossKind, counted
from nertune.reports.terminal import print_lines

__all__ = ["print_outcome", "render"]

_MAX_LINES = 20  # of losses and of differences each; --json has all
_KINDS = get_args(LossKind)


def render(found: Conversion, console: Console) -> None:
    """Say what was read and written, and list by entity what is lost."""
    print_lines(
        [f"{found.source}: read as {found.source_format}: {found.reason}", *found.notices], console
    )
    print_outcome(found, console)


def print_outcome(found: Conversion, console: Console) -> None:
    """Say what was written, and list what is lost: entities and text first, ids last."""

    def say(line: str) -> None:
        print_lines([line], console)

    for loss in sorted(found.losses, key=lambda loss: _KINDS.index(loss.kind))[:_MAX_LINES]:
        entity = loss.entity
        what = "" if entity is None else f"{entity.label} [{entity.start}, {entity.end}): "
        say(f"lost: {loss.document}: {loss.kind}: {what}{loss.reason}")
    _say_rest(len(found.losses), say)
    by_kind = found.count_losses()
    counts = ", ".join(f"{by_kind[kind]:,} {kind}" for kind in _KINDS if kind in by_kind)
    if not found.is_written:
        say(f"{found.target} is not written: {found.target_format} cannot hold {counts}; write it "
            "without them with --allow-loss")  # fmt: skip
        return
    lost = f"; lost: {counts}" if counts else ""
    say(f"{found.target}: {counted(found.documents, 'document')}, "
        f"{counted(found.entities, 'entity')} as {found.target_format}{lost}")  # fmt: skip
    if found.differences is None:
        return
    for told in found.differences[:_MAX_LINES]:
        say(f"differs: {told}")
    _say_rest(len(found.differences), say)
    if not found.differences:
        say("checked: what is read again is the same" + (" but for what is lost" if counts else ""))


def _say_rest(count: int, say: Callable[[str], None]) -> None:
    if count > _MAX_LINES:
        say(f"… and {count - _MAX_LINES:,} more (--json lists all)")
