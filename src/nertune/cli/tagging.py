"""Commands for a trained tagger: score it, use it, ship it."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nertune.cli.log import show_left_out, show_log
from nertune.cli.options import (
    BackendOption,
    Device,
    EncoderOption,
    Files,
    Format,
    FormatOptions,
    InputFormat,
    Json,
    MinScore,
    OffsetsOption,
    Output,
    OutputFormat,
    SchemeOption,
    Sentences,
    Texts,
    Whole,
    parse_options,
    print_json,
    reading_options,
    resolve_backend,
    stderr,
    stdout,
)
from nertune.errors import ConfigError

if TYPE_CHECKING:
    from nertune.data.formats.values import Join
    from nertune.evaluation.reliability import Reliability
    from nertune.inference.predictor import Predictor
    from nertune.types import Document

__all__ = ["calibrate", "evaluate", "export", "given_documents", "predict", "refuse_same_file"]


def evaluate(
    model: Annotated[str, typer.Argument(help="A trained model's folder or hub name.")],
    file: Annotated[Path, typer.Argument(help="A file with gold entities; or sample:test.")],
    format: Format = "auto",
    scheme: SchemeOption = "auto",
    join: Annotated[
        str, typer.Option(help="How CoNLL tokens become text: auto (as in training), none, space.")
    ] = "auto",
    offsets: OffsetsOption = "auto",
    option: FormatOptions = None,
    labels: Annotated[
        str,
        typer.Option(
            metavar="MAP",
            help="Rename the file's labels to the model's: GOLD=MODEL,… or a .toml or .json file; "
            "GOLD= drops a label.",
        ),
    ] = "",
    device: Device = "auto",
    backend: BackendOption = "torch",
    encoder: EncoderOption = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Draw score against precision to this file (.png or .svg)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a tagger against a file's gold entities (strict spans), and its own scores too."""
    from nertune.artifacts.manifest import trained_reading
    from nertune.data.corpus import load_with
    from nertune.data.samples import resolve_data

    how = reading_options(scheme, join, offsets, option, like=trained_reading(model))
    corpus = load_with(resolve_data(str(file)), how, format=format)
    from nertune.data.editing.labels import read_label_map
    from nertune.evaluation.metrics import score
    from nertune.evaluation.relabel import describe_gold, rename_labels
    from nertune.evaluation.reliability import measure_reliability
    from nertune.reports.reliability import print_reliability
    from nertune.reports.terminal import print_scores

    names = read_label_map(labels) if labels else {}
    predictor = _load(model, device, backend, encoder)
    gold, known, notices = corpus.documents, predictor.labels, list(corpus.notices)
    if names:
        relabelled = rename_labels(gold, names, known)
        gold = relabelled.documents
        notices.append(relabelled.describe())
    notices += describe_gold(gold, known)
    for notice in notices:
        stderr().print(notice, markup=False, highlight=False, soft_wrap=True)
    predicted = list(predictor.tag_documents(gold))
    scores = score(gold, predicted, types=known).to_dict()
    reliability = measure_reliability(gold, predicted)
    is_calibrated = predictor.is_calibrated
    if figure is not None:
        _draw(reliability, figure)
    if as_json:
        about = {"model": model, "file": str(corpus.path), "sha256": corpus.sha256}
        renamed = {"labels": names} if names else {}
        measured = None if reliability is None else reliability.to_dict()
        own = {"calibrated": is_calibrated, "reliability": measured}
        print_json({**about, **renamed, "notices": notices, **scores, **own})
        return
    print_scores(scores, f"{corpus.path}", stdout())
    if reliability is not None:
        print_reliability(reliability, is_calibrated=is_calibrated, console=stdout())


def _draw(reliability: Reliability | None, figure: Path) -> None:
    from nertune.reports.figures import save_reliability_figure

    if reliability is None:
        raise ConfigError("--figure: the model found no entity, so there is no score to draw")
    save_reliability_figure(reliability, figure)
    stderr().print(f"figure: {figure}", soft_wrap=True)


def calibrate(
    model: Annotated[str, typer.Argument(help="A trained model's folder.")],
    file: Annotated[
        Path, typer.Argument(help="A file with gold entities that the model was not trained on.")
    ],
    device: Device = "auto",
    encoder: EncoderOption = None,
    as_json: Json = False,
) -> None:
    """Fit the scores of a trained model on a file; training does so on data.dev."""
    from nertune.experiments.calibrate import calibrate_model

    with show_log(stderr()):
        made = calibrate_model(model, file, device=device, encoder=encoder)
    if as_json:
        print_json(made)
    else:
        stdout().print(f"{made['folder']}: calibration stored in nertune.json", soft_wrap=True)


def predict(
    model: Annotated[str, typer.Argument(help="A trained model's folder or hub name.")],
    texts: Texts = None,
    file: Files = None,
    format: OutputFormat = None,
    output: Output = None,
    input_format: InputFormat = "auto",
    option: FormatOptions = None,
    whole: Whole = False,
    sentences: Sentences = False,
    min_score: MinScore = 0.0,
    abstain: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Give no answer for texts of which the model is less sure that all is right.",
        ),
    ] = 0.0,
    device: Device = "auto",
    backend: BackendOption = "auto",
    encoder: EncoderOption = None,
) -> None:
    """Find the entities in texts; from a pipe each line is answered as it comes."""
    from nertune.artifacts.manifest import trained_reading
    from nertune.inference.output import output_format, refuse_without_metadata, save_tagged

    kind = output_format(format, output)
    refuse_same_file(output, file)
    if abstain:
        refuse_without_metadata(kind)
    join = trained_reading(model).join if file else "auto"
    batches = given_documents(
        texts, file, input_format=input_format, join=join, whole=whole, option=option
    )
    predictor = _load(model, device, backend, encoder)
    tagged = predictor.tag_batches(
        batches, by_sentence=sentences, min_score=min_score, abstain=abstain, ahead=bool(file)
    )
    save_tagged(predictor, tagged, kind, output)


def refuse_same_file(output: Path | None, files: list[Path] | None) -> None:
    """Refuse to write over what is read, also where a folder or pattern names it.

    Raises:
        ConfigError: the output is one of the files.
        DataError: a folder or pattern holds no file.
    """
    if output is None or not files:
        return
    from nertune.data.editing.saving import refuse_same
    from nertune.data.inputs import expand_files

    refuse_same(output, expand_files(files)[0])


def given_documents(
    texts: list[str] | None,
    file: list[Path] | None,
    *,
    input_format: str,
    join: Join,
    whole: bool,
    option: list[str] | None,
) -> Iterator[list[Document]]:
    """The documents to tag, in batches; a missing file is told before this returns.

    Raises:
        ConfigError: texts and files are given, or an option is unknown.
        DataError: a file cannot be read.
    """
    from nertune.data.inputs import (
        expand_files,
        in_batches,
        read_files,
        read_inputs,
        read_stdin,
    )

    if texts and file:
        raise ConfigError("give texts or --file, not both")
    batches: Iterable[list[Document]]
    if texts:
        batches = in_batches(read_inputs(texts, None, input_format))
    elif file:
        paths, left_out = expand_files(file)
        show_left_out(left_out, stderr())
        own = parse_options(option)
        batches = in_batches(read_files(paths, input_format, join=join, whole=whole, options=own))
    else:
        batches = read_stdin(whole=whole)
    return _peek(batches)


def export(
    model: Annotated[str, typer.Argument(help="A trained model's folder.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="onnx: a faster graph, checked against the tagger; openvino: that, and computed "
            "by OpenVINO; or transformers: a folder of merged weights.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Of transformers: the new folder; by default MODEL-transformers."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export to that folder.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also matrix products in int8, if that is good enough.")
    ] = False,
    dev: Annotated[
        str,
        typer.Option(help="Labelled text to compare on; by default what chose the best epoch."),
    ] = "",
    tolerance: Annotated[
        float, typer.Option(min=0, help="Points of micro-F1 that int8 may lose.")
    ] = 0.3,
    encoder: EncoderOption = None,
    as_json: Json = False,
) -> None:
    """Write a tagger in another form, checked against the tagger itself."""
    if to == "transformers":
        if dev or int8:
            raise ConfigError(f"{'--int8' if int8 else '--dev'} belongs to --to onnx")
        from nertune.export.merged import export_merged

        with show_log(stderr()):
            made = export_merged(model, output, overwrite=overwrite, encoder=encoder)
        if as_json:
            print_json(made)
        else:
            stdout().print(f"{made['folder']}: AutoModelForTokenClassification loads it, and "
                            "nertune does", soft_wrap=True)  # fmt: skip
        return
    if to not in ("onnx", "openvino"):
        raise ConfigError(f"--to {to!r}: expected onnx, openvino or transformers")
    if output is not None or overwrite:
        wrong = "--overwrite" if output is None else "--output"
        raise ConfigError(f"{wrong} belongs to --to transformers: graphs lie in the model's folder")
    from nertune.export.onnx import export as run
    from nertune.reports.terminal import print_export

    with show_log(stderr()):
        report = run(
            model,
            dev=dev,
            int8=int8,
            openvino=to == "openvino",
            tolerance=tolerance,
            encoder=encoder,
        )
    if as_json:
        print_json(report)
    else:
        print_export(report, model, stdout())


def _load(model: str, device: str, backend: str, encoder: str | None) -> Predictor:
    from nertune.inference.predictor import Predictor

    chosen = resolve_backend(backend, model, device)
    predictor = Predictor.load(model, device=device, backend=chosen, encoder=encoder)
    gc.set_threshold(50_000, 20, 100)  # a chunk of texts holds many small objects, and no cycles
    return predictor


def _peek(batches: Iterable[list[Document]]) -> Iterator[list[Document]]:
    iterator = iter(batches)
    first = next(iterator, None)

    def chained() -> Iterator[list[Document]]:
        if first is not None:
            yield first
        yield from iterator

    return chained()
