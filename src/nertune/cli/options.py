"""Options that several commands have, and where commands print."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from nertune.errors import ConfigError

__all__ = [
    "BackendOption",
    "Device",
    "EncoderOption",
    "Format",
    "FormatOptions",
    "Join",
    "Json",
    "OffsetsOption",
    "Overwrite",
    "OverwriteFiles",
    "Resume",
    "SchemeOption",
    "Sets",
    "interruptible",
    "parse_options",
    "print_json",
    "stderr",
    "stdout",
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
FormatOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="Of the file's format, e.g. columns=0,3; repeatable."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
BackendOption = Annotated[
    str, typer.Option("--backend", help="torch; or onnx or onnx-int8, after `nertune export`.")
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder", help="Where an adapter's base encoder is now; its hash decides if it is that."
    ),
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
