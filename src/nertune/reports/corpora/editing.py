"""What became of a corpus that was split, merged, renamed or deduped, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console

from nertune.data.convert import Conversion
from nertune.data.editing.conflicts import Conflict
from nertune.data.editing.dedupe import Deduped
from nertune.data.editing.labels import Mapped
from nertune.data.editing.merge import Merged
from nertune.data.editing.split import Split
from nertune.data.formats.scope_text import spell_scope
from nertune.data.formats.values import counted
from nertune.reports.content import Row, Table
from nertune.reports.corpora.conversion import print_outcome
from nertune.reports.terminal import print_lines, to_rich
from nertune.storage.files import shorten

__all__ = ["print_deduped", "print_mapped", "print_merged", "print_split",
           "print_written", "split_table"]  # fmt: skip

_MAX_LINES = 20  # of one kind; --json has all


def print_written(written: Sequence[Conversion], console: Console) -> None:
    """Say of each file that was written what it holds and what it cannot hold."""
    refused = any(not made.is_written for made in written)
    for made in written:
        if made.losses or not refused:  # of several files none is written if one is not
            print_outcome(made, console)


def split_table(split: Split) -> Table:
    """Documents, groups and entities of each label in each part, with the part's share."""
    parts = list(split.parts.values())
    by = split.groups.by

    def row(name: str, counts: Sequence[int]) -> Row:
        total = sum(counts)
        shares = (f"{100 * count / total:.1f}" if total else "–" for count in counts)
        cells = [cell for pair in zip((f"{c:,}" for c in counts), shares, strict=True)
                 for cell in pair]  # fmt: skip
        return [name, *cells]

    sizes = [row("documents", [len(part.documents) for part in parts])]
    if by != "document" or split.groups.num_joined:
        name = "groups" if by == "document" else f"groups ({by})"
        sizes.append(row(name, [part.groups for part in parts]))
    sizes.append(row("entities", [sum(part.entities.values()) for part in parts]))
    labels = [row(label, [part.entities.get(label, 0) for part in parts])
              for label in split.labels]  # fmt: skip
    headings = ["", *(cell for name in split.parts for cell in (name, "%"))]
    return Table(headings, [sizes, *([labels] if labels else [])])


def print_split(split: Split, console: Console) -> None:
    """Print what is in each part, and what was held together."""
    console.print(to_rich(split_table(split), look="wide"))
    groups = split.groups
    what = "texts" if groups.by == "document" else f"groups ({groups.by})"
    told = f"{groups.num_before:,} {what}, of which no two are nearly equal"
    if groups.num_joined:
        told = (
            f"{groups.num_before:,} {what}: {groups.num_equal:,} repeat an earlier one, "
            f"{groups.num_near:,} are nearly equal to another one; they are held together in "
            f"{groups.num_joined:,} groups"
        )
    print_lines([told], console)


def print_mapped(mapped: Mapped, console: Console) -> None:
    """Say how many entities have another label, and which are in each other's way now."""
    parts = []
    if mapped.renamed:
        renamed = counted(sum(mapped.renamed.values()), "entity")
        parts.append(f"{renamed} renamed ({_list(mapped.renamed)})")
    if mapped.dropped:
        parts.append(f"{sum(mapped.dropped.values()):,} dropped ({_list(mapped.dropped)})")
    if mapped.num_merged:
        parts.append(f"{mapped.num_merged:,} gone, since they are the same as another now")
    overlaps = len(mapped.clashes) - mapped.num_merged
    if overlaps:
        parts.append(f"{overlaps:,} overlap another one of the same label now")
    print_lines(["; ".join(parts) or "no label has changed"], console)
    lines = []
    for clash in mapped.clashes:
        first, second = clash.first, clash.second
        what = "are the same now" if clash.is_same else "overlap now"
        lines.append(
            f"  {clash.document}: {clash.old_labels[0]} [{first.start}, {first.end}) and "
            f"{clash.old_labels[1]} [{second.start}, {second.end}) {shorten(clash.surface)} "
            f"{what} as {second.label}"
        )
    _print_some(lines, console)


def print_merged(merged: Merged, console: Console) -> None:
    """Say what came from where, which ids were changed, and which texts stand there twice."""
    lines = [f"{name}: {counted(count, 'document')}" for name, count in merged.sources.items()]
    print_lines([*lines, *merged.notices], console)
    if merged.mapped is not None:
        print_mapped(merged.mapped, console)
    if merged.repeated:
        print_lines(
            [
                f"{merged.repeated:,} documents repeat the text of an earlier one, "
                f"{len(merged.conflicts):,} of them with other entities or scopes; all are kept: "
                "nertune data dedupe drops them"
            ],
            console,
        )
        _print_conflicts(merged.conflicts, console)


def print_deduped(deduped: Deduped, console: Console) -> None:
    """Say what was dropped, and list by entity where it was annotated otherwise."""
    dropped = deduped.dropped
    equal = sum(repeat.is_equal for repeat in dropped)
    told = f"{counted(len(dropped), 'document')} dropped, the first of each text is kept"
    if len(dropped) > equal:
        told += f": {equal:,} equal, {len(dropped) - equal:,} nearly equal"
    print_lines([told], console)
    near = [
        f"  {repeat.document}: {shorten(repeat.text)} is nearly equal to {repeat.of}"
        for repeat in dropped
        if not repeat.is_equal
    ]
    _print_some(near, console)
    if deduped.conflicts:
        number, are_kept = len(deduped.conflicts), len(deduped.repeats) > len(dropped)
        they, be, them = ("it", "is", "it") if number == 1 else ("they", "are", "them")
        fate = f"{they} {be} kept" if are_kept else f"--keep-conflicts keeps {them}"
        told = f"{counted(number, 'repeat')} {be} annotated otherwise than the first"
        print_lines([f"{told}; {fate}"], console)
        _print_conflicts(deduped.conflicts, console)


def _print_conflicts(conflicts: Sequence[Conflict], console: Console) -> None:
    lines: list[str] = []
    for conflict in conflicts:
        sides = (conflict.first, conflict.only_first), (conflict.second, conflict.only_second)
        for name, entities in sides:
            other = conflict.second if name == conflict.first else conflict.first
            lines += (
                f"  only in {name}, not in {other}: {e.label} [{e.start}, {e.end}) {shorten(text)}"
                for e, text in entities
            )
        if conflict.scopes is not None:
            first, second = map(spell_scope, conflict.scopes)
            lines.append(f"  scope of {conflict.first}: {first}; of {conflict.second}: {second}")
    _print_some(lines, console)


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items()))


def _print_some(lines: Sequence[str], console: Console) -> None:
    print_lines(lines[:_MAX_LINES], console)
    if len(lines) > _MAX_LINES:
        print_lines([f"  … and {len(lines) - _MAX_LINES:,} more (--json lists all)"], console)
