"""Commands for data files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from nertune.cli.options import (
    AllowLoss,
    Check,
    Format,
    FormatOptions,
    From,
    Join,
    Json,
    OffsetsOption,
    Options,
    OverwriteFiles,
    SchemeOption,
    ToOptions,
    Unit,
    check_unit,
    print_json,
    reading_options,
    stderr,
    stdout,
    writing_options,
)

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
    from nertune.data.samples import resolve_data
    from nertune.experiments.inspect import inspect_corpora
    from nertune.reports.corpora.inspection import print_inspection

    check_unit(unit)
    like = trained_reading(model) if model else Reading()
    how = reading_options(scheme, join, offsets, option, strict=strict, like=like)
    corpora = [load_with(resolve_data(file), how, format=format) for file in files]
    inspection = inspect_corpora(corpora, model=model, unit=cast("Any", unit))
    if as_json:
        print_json(inspection.to_dict())
    else:
        print_inspection(inspection, stdout())


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A data file; or sample:train.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The new file or folder.")],
    from_: From = "auto",
    to: Annotated[str, typer.Option("--to", help="The format of OUT; by its suffix.")] = "auto",
    check: Check = False,
    allow_loss: AllowLoss = False,
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    option: Options = None,
    to_option: ToOptions = None,
    unit: Unit = "auto",
    overwrite: OverwriteFiles = False,
    as_json: Json = False,
) -> None:
    """Write a data file in another format; list by entity what that cannot hold."""
    from nertune.data.convert import convert as run
    from nertune.data.editing.saving import refuse_existing
    from nertune.data.reading import CorpusReader
    from nertune.data.samples import resolve_data
    from nertune.data.several import sources_of
    from nertune.reports.corpora.conversion import render

    check_unit(unit)
    read = sources_of(resolve_data(str(source)))[0]
    refuse_existing([target], overwrite=overwrite, sources=[s.path for s in read])
    how = reading_options(scheme, join, offsets, option)
    corpus = CorpusReader(resolve_data(str(source)), how, format=from_)
    options = writing_options(corpus, unit, to_option)
    found = run(corpus, target, options, to=to, check=check, allow_loss=allow_loss)
    if as_json:
        print_json(found.to_dict())
    else:
        render(found, stderr())
    if found.differences or not found.is_written:
        raise typer.Exit(1)
