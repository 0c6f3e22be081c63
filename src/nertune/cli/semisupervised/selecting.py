"""The command that chooses what to label next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nertune.cli.log import show_left_out
from nertune.cli.options import (
    Device,
    FormatOptions,
    InputFormat,
    Json,
    OverwriteFiles,
    ToOptions,
    check_unit,
    parse_options,
    print_json,
    stderr,
    stdout,
    writing_options,
)
from nertune.errors import ConfigError

if TYPE_CHECKING:
    from nertune.data.convert import Conversion
    from nertune.data.formats import Format
    from nertune.inference.predictor import Predictor
    from nertune.semisupervised.selection.select import Selection, Strategy
    from nertune.semisupervised.selection.states import TextVectors
    from nertune.tokens.units import Unit, UnitChoice
    from nertune.types import Document

__all__ = ["select"]

_SAMPLE = 512  # texts of a pool that say which unit it has


def select(
    pool: Annotated[
        list[Path],
        typer.Argument(metavar="POOL...", help="Files of any format, a folder, or a pattern."),
    ],
    model: Annotated[str, typer.Option(help="A trained model's folder or hub name.")] = "",
    budget: Annotated[int, typer.Option(help="Units (characters or words) to label, at most.")] = 0,
    documents: Annotated[int, typer.Option(help="Documents to label, at most.")] = 0,
    strategy: Annotated[
        str,
        typer.Option(help="least-token, mnlp, span-entropy, diversity or random."),
    ] = "auto",
    labelled: Annotated[
        list[Path] | None,
        typer.Option(help="A file of texts that are labelled already; repeatable."),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(help="Without --model: whose states diversity compares; else the model's."),
    ] = "",
    near: Annotated[
        float, typer.Option(help="Of texts from this similarity on one is taken: 0.5 to 1 (equal).")
    ] = 0.8,
    seed: Annotated[int, typer.Option(help="Draws for random, and between equal scores.")] = 0,
    unit: Annotated[
        str, typer.Option(help="Without --model, the budget counts: auto, char or word.")
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The tasks: a new file or folder."),
    ] = None,
    to: Annotated[
        str, typer.Option("--to", help="Their format: by the suffix, or e.g. label-studio.")
    ] = "auto",
    no_predictions: Annotated[
        bool, typer.Option("--no-predictions", help="Tasks without the model's entities.")
    ] = False,
    overwrite: OverwriteFiles = False,
    input_format: InputFormat = "auto",
    option: FormatOptions = None,
    to_option: ToOptions = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Choose which texts of a pool to label next, and write them as tasks."""
    from nertune.artifacts.manifest import trained_reading
    from nertune.cli.display import PoolBar
    from nertune.data.editing.saving import refuse_existing
    from nertune.data.inputs import expand_files, read_files, refuse_pipes
    from nertune.inference.predictor import Predictor
    from nertune.reports.corpora.editing import print_written
    from nertune.reports.semisupervised.selection import print_selection
    from nertune.semisupervised.selection.pool import Budget
    from nertune.semisupervised.selection.select import Wanted, select_documents

    check_unit(unit)
    chosen = _strategy(strategy, model, encoder)
    files, left_out = expand_files(pool)
    refuse_pipes(files)
    known, _ = expand_files(labelled or [])
    show_left_out(left_out, stderr())
    if output is not None:
        refuse_existing([output], overwrite=overwrite, sources=[*files, *known])
        _output_format(output, to)
    join = trained_reading(model).join if model else "auto"
    options = parse_options(option)

    def read() -> Iterator[Document]:
        return read_files(files, input_format, join=join, options=options)

    predictor = Predictor.load(model, device=device, encoder=encoder or None) if model else None
    counted = _unit(unit, read, predictor)
    wanted = Wanted(
        Budget(budget, documents), chosen, counted, near, seed, predictions=not no_predictions
    )
    vectors = _vectors(predictor, encoder, counted, device) if chosen == "diversity" else None
    with PoolBar(stderr()) as bar:
        selection = select_documents(
            read, wanted, predictor=predictor, vectors=vectors,
            labelled=list(read_files(known, join=join)), observer=bar.on_pool,
        )  # fmt: skip
    made = None if output is None else _write(selection, output, to, to_option)
    if as_json:
        written = {} if made is None else {"written": made.to_dict()}
        print_json({"model": model, **selection.to_dict(), **written})
        return
    print_selection(selection, stdout())
    if made is not None:
        print_written([made], stderr())


def _strategy(name: str, model: str, encoder: str) -> Strategy:
    """What is asked for, or the default of what is given.

    Raises:
        ConfigError: the strategy needs what is not given.
    """
    from nertune.semisupervised.selection.select import DEFAULT
    from nertune.semisupervised.selection.uncertainty import MEASURES

    if name == "auto" and not model and not encoder:
        raise ConfigError("without --model: say --strategy random, or diversity with --encoder")
    if name in MEASURES and not model:
        raise ConfigError(f"--strategy {name} needs --model; random and diversity do without")
    if name == "diversity" and not model and not encoder:
        raise ConfigError("--strategy diversity needs --model, or --encoder, e.g. mini-zh")
    if name == "random" and encoder and not model:
        raise ConfigError("--encoder belongs to --strategy diversity, or to --model")
    default = DEFAULT if model else "diversity"
    return cast("Strategy", default if name == "auto" else name)


def _unit(name: str, read: Callable[[], Iterator[Document]], predictor: Predictor | None) -> Unit:
    """What the budget counts: the model's unit, or that of the pool's first texts.

    Raises:
        ConfigError: another one than the model's is asked for.
    """
    from nertune.tokens.units import choose_unit

    if predictor is None:
        return choose_unit(islice(read(), _SAMPLE), cast("UnitChoice", name))
    part = predictor.parts[0] if predictor.parts else predictor  # all label the same units
    own = part.segmenter.unit
    if name not in ("auto", own):
        raise ConfigError(f"--unit {name}: the model labels {own}s, and so the budget counts")
    return own


def _vectors(predictor: Predictor | None, encoder: str, unit: Unit, device: str) -> TextVectors:
    from nertune.semisupervised.selection.states import TextVectors

    if predictor is None:
        return TextVectors.load(encoder, unit, device=device)
    return TextVectors.of_predictor(predictor)


def _write(selection: Selection, path: Path, to: str, to_option: list[str] | None) -> Conversion:
    """The chosen texts as tasks, the first to label first."""
    from nertune.data.convert import convert
    from nertune.data.corpus import Corpus

    format = _output_format(path, to)
    tasks = [c.task() if format.holds.metadata else c.document for c in selection.chosen]
    how = writing_options(tasks, selection.wanted.unit, to_option)
    options = replace(how, predicted=True)  # without entities it is a task all the same
    corpus = Corpus.from_documents(tasks, name="pool")
    return convert(corpus, path, options, to=format.name, allow_loss=True)


def _output_format(path: Path, to: str) -> Format:
    """The format of the tasks: what is asked for, or that of the suffix.

    Raises:
        ConfigError: the format is unknown or cannot be written, or the suffix says none.
    """
    from nertune.data.formats.recognition import format_of_name
    from nertune.data.formats.registry import find_format

    if to != "auto":
        return find_format(to, writes=True, entities=True, option="--to ", also=("auto",))
    named = format_of_name(path)
    if named is None or not named.writes or not named.holds.entities:
        raise ConfigError(
            f"{path}: its suffix says no format; name one, e.g. --to label-studio or --to doccano"
        )
    return named
