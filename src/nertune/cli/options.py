"""Options that several commands have, and where commands print."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from nertune.cli.log import notify
from nertune.errors import ConfigError

if TYPE_CHECKING:
    from nertune.data.formats import ReadOptions, WriteOptions
    from nertune.data.formats.values import Reading
    from nertune.models.graphs.onnx import Backend
    from nertune.types import Document

__all__ = [
    "Address",
    "AllowLoss",
    "BackendOption",
    "Check",
    "Device",
    "EncoderOption",
    "EngineOption",
    "Files",
    "Format",
    "FormatOptions",
    "From",
    "InputFormat",
    "Join",
    "Json",
    "MinScore",
    "OffsetsOption",
    "Options",
    "Output",
    "OutputFormat",
    "Overwrite",
    "OverwriteFiles",
    "Resume",
    "SchemeOption",
    "Sentences",
    "Sets",
    "Texts",
    "To",
    "ToOptions",
    "Unit",
    "Whole",
    "check_unit",
    "interruptible",
    "parse_options",
    "print_json",
    "reading_options",
    "resolve_backend",
    "stderr",
    "stdout",
    "writing_options",
]

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a killed run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left.")]
OverwriteFiles = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
Format = Annotated[str, typer.Option(help="auto, or a format's name, e.g. conll or jsonl.")]
SchemeOption = Annotated[str, typer.Option(help="auto, BIO, IOB1, BIOES, BIOS, BMES, BILOU or IO.")]
Join = Annotated[str, typer.Option(help="How CoNLL tokens become text: auto, none or space.")]
OffsetsOption = Annotated[
    str, typer.Option(help="What offsets count: auto, codepoint, utf16, byte or grapheme.")
]
From = Annotated[str, typer.Option("--from", help="The format of IN: auto, or a name.")]
To = Annotated[
    str, typer.Option("--to", help="The format of OUT: by its suffix, else that of IN; or a name.")
]
Check = Annotated[bool, typer.Option("--check", help="Read what was written again and compare.")]
AllowLoss = Annotated[
    bool, typer.Option("--allow-loss", help="Write even if the format cannot hold all of it.")
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Of IN's format; repeatable."),
]
ToOptions = Annotated[
    list[str] | None,
    typer.Option("--to-option", metavar="KEY=VALUE", help="Of OUT's format; repeatable."),
]
Unit = Annotated[str, typer.Option(help="Cut texts without tokens into: auto, char or word.")]
FormatOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="Of the file's format, e.g. columns=0,3; repeatable."
    ),
]
EngineOption = Annotated[str, typer.Option("--engine", help="local: this machine; or ray.")]
Address = Annotated[
    str, typer.Option(help="Of a Ray cluster, e.g. auto; by default Ray starts here.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        help="torch; after `nertune export` also onnx, onnx-int8 or openvino; auto: the fastest.",
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder", help="Where an adapter's base encoder is now; its hash decides if it is that."
    ),
]

Texts = Annotated[list[str] | None, typer.Argument(help="Texts; none: one text a line from stdin.")]
Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--file",
        "-f",
        help="A text file (one text a line) or one of any format, e.g. CoNLL; a folder, or a "
        "pattern such as 'texts/*.txt'; repeatable.",
    ),
]
OutputFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Output: text (highlighted), or a format, e.g. jsonl or conll; by the suffix of "
        "--output.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="A file, which appears when all is written."),
]
InputFormat = Annotated[
    str,
    typer.Option(
        help="Of the files to read: auto, lines (a text a line), or a format, e.g. conll or jsonl."
    ),
]
Whole = Annotated[
    bool, typer.Option("--whole", help="A text file is one document, not one a line.")
]
Sentences = Annotated[
    bool, typer.Option("--sentences", help="Tag long texts a sentence at a time.")
]
MinScore = Annotated[
    float, typer.Option(min=0, max=1, help="Leave out entities that are less probable.")
]


def parse_options(given: list[str] | None, name: str = "--option") -> dict[str, str]:
    """Options of a format from `KEY=VALUE`.

    Raises:
        ConfigError: one has another form, or a key is given twice.
    """
    found: dict[str, str] = {}
    for option in given or []:
        key, equals, value = option.partition("=")
        if not key or not equals:
            raise ConfigError(f"{name} {option!r}: expected KEY=VALUE, e.g. columns=0,3")
        if key in found:
            raise ConfigError(f"{name} {key} is given twice")
        found[key] = value
    return found


def reading_options(
    scheme: str,
    join: str,
    offsets: str,
    option: list[str] | None,
    *,
    strict: bool = False,
    like: Reading | None = None,
) -> ReadOptions:
    """How a command reads its files; a reader refuses values that it does not know.

    Raises:
        ConfigError: an option has not the form `KEY=VALUE`.
    """
    from nertune.data.formats import ReadOptions

    given: Any = {"scheme": scheme, "join": join, "offsets": offsets, "strict": strict}
    given |= {} if like is None else {"like": like}
    return ReadOptions(**given, more=parse_options(option))


def writing_options(
    documents: Iterable[Document], unit: str, to_option: list[str] | None
) -> WriteOptions:
    """How a command writes documents: those without tokens are cut into units.

    Raises:
        ConfigError: `unit` is unknown, or an option has not the form `KEY=VALUE`.
    """
    from nertune.data.formats import WriteOptions
    from nertune.tokens.units import choose_unit, cut_visible

    check_unit(unit)

    @cache
    def chosen() -> Any:  # found out when a text has to be cut: few formats need that
        return choose_unit(documents, cast("Any", unit))

    more = parse_options(to_option, "--to-option")
    return WriteOptions(scores=True, tokenize=lambda text: cut_visible(text, chosen()), more=more)


def check_unit(unit: str) -> None:
    """Refuse what is no unit.

    Raises:
        ConfigError: it is neither `auto` nor `char` nor `word`.
    """
    if unit not in ("auto", "char", "word"):
        raise ConfigError(f"--unit {unit!r}: expected auto, char or word")


def resolve_backend(name: str, model: str, device: str) -> Backend:
    """The backend of a name; what `auto` takes for an exported model is said.

    Raises:
        ConfigError: it is unknown.
    """
    from nertune.artifacts.graphs import resolve_backend as resolve

    choice = resolve(name, model, device)
    if choice.reason:
        notify(stderr(), f"backend: {choice.reason}")
    return choice.backend


def stdout() -> Console:
    """Where results go."""
    return Console(markup=False, emoji=False, highlight=False)


def stderr() -> Console:
    """Where all goes that is no result."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def print_json(value: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


@contextlib.contextmanager
def interruptible(hint: str = "interrupted; --resume continues it") -> Iterator[None]:
    """Say on Ctrl-C how to continue: typer would end without a word."""
    try:
        yield
    except KeyboardInterrupt as error:
        stderr().print(hint)
        raise typer.Exit(130) from error
