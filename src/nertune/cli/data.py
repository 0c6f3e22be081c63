"""Commands for data files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nertune.cli.options import (
    Format,
    FormatOptions,
    Join,
    Json,
    OffsetsOption,
    OverwriteFiles,
    SchemeOption,
    parse_options,
    print_json,
    stderr,
    stdout,
)
from nertune.errors import ConfigError

__all__ = ["convert", "inspect"]


def inspect(
    files: Annotated[list[str], typer.Argument(help="Data files, e.g. train dev test.")],
    model: Annotated[
        str | None,
        typer.Option(help="An encoder or trained model: lists what its tokens cannot express."),
    ] = None,
    format: Format = "auto",
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    unit: Annotated[str, typer.Option(help="auto, char or word.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse tags out of scheme.")] = False,
    option: FormatOptions = None,
    as_json: Json = False,
) -> None:
    """Counts, lengths, scheme, repaired tags, leakage, and what a tokenizer cannot express."""
    from nertune.artifacts.manifest import trained_reading
    from nertune.data.corpus import Reading, load_with
    from nertune.data.formats import ReadOptions
    from nertune.data.samples import resolve_data
    from nertune.experiments.inspect import inspect_corpora
    from nertune.reports.inspection import print_inspection

    if unit not in ("auto", "char", "word"):
        raise ConfigError(f"--unit {unit!r}: expected auto, char or word")
    like = trained_reading(model) if model else Reading()
    how = ReadOptions(
        scheme,  # type: ignore[arg-type]
        join,  # type: ignore[arg-type]
        offsets,  # type: ignore[arg-type]
        strict,
        like=like,
        more=parse_options(option),
    )
    corpora = [load_with(resolve_data(file), how, format=format) for file in files]
    inspection = inspect_corpora(corpora, model=model, unit=unit)  # type: ignore[arg-type]
    if as_json:
        print_json(inspection.to_dict())
    else:
        print_inspection(inspection, stdout())


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A data file; or sample:train.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The new file or folder.")],
    from_: Annotated[
        str, typer.Option("--from", help="The format of IN: auto, or a name.")
    ] = "auto",
    to: Annotated[str, typer.Option("--to", help="The format of OUT; by its suffix.")] = "auto",
    check: Annotated[bool, typer.Option("--check", help="Read OUT again and compare.")] = False,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Write OUT even if it cannot hold all of IN.")
    ] = False,
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Of IN's format; repeatable."),
    ] = None,
    to_option: Annotated[
        list[str] | None,
        typer.Option("--to-option", metavar="KEY=VALUE", help="Of OUT's format; repeatable."),
    ] = None,
    unit: Annotated[
        str, typer.Option(help="Cut texts without tokens into: auto, char or word.")
    ] = "auto",
    overwrite: OverwriteFiles = False,
    as_json: Json = False,
) -> None:
    """Write a data file in another format; list by entity what that cannot hold."""
    from nertune.data.convert import convert as run
    from nertune.data.corpus import load_with
    from nertune.data.editing.saving import refuse_existing
    from nertune.data.formats import ReadOptions, WriteOptions
    from nertune.data.samples import resolve_data
    from nertune.data.several import sources_of
    from nertune.reports.conversion import render
    from nertune.tokens.units import choose_unit, cut_visible

    if unit not in ("auto", "char", "word"):
        raise ConfigError(f"--unit {unit!r}: expected auto, char or word")
    read = sources_of(resolve_data(str(source)))[0]
    refuse_existing([target], overwrite=overwrite, sources=[s.path for s in read])
    more, of_target = parse_options(option), parse_options(to_option, "--to-option")
    how = ReadOptions(scheme, join, offsets, more=more)  # type: ignore[arg-type]
    corpus = load_with(resolve_data(str(source)), how, format=from_)
    cut = choose_unit(corpus.documents, unit)  # type: ignore[arg-type]
    options = WriteOptions(
        scores=True, tokenize=lambda text: cut_visible(text, cut), more=of_target
    )
    found = run(corpus, target, options, to=to, check=check, allow_loss=allow_loss)
    if as_json:
        print_json(found.to_dict())
    else:
        render(found, stderr())
    if found.differences or not found.is_written:
        raise typer.Exit(1)
