"""The command line: parse, call, print. Heavy libraries load when a command runs."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from rich.console import Console

from nertune import __version__
from nertune.cli.log import notify, show_log, show_warnings
from nertune.errors import ConfigError, MissingDependencyError, NertuneError
from nertune.storage.processes import refuse_many_processes

if TYPE_CHECKING:
    from nertune.inference.predictor import Predictor
    from nertune.types import Document

__all__ = ["app", "main"]

app = typer.Typer(
    name="nertune",
    help="Named-entity recognition by fine-tuning: train, evaluate, predict, compare.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(name="data", help="Look into data files.", no_args_is_help=True)
app.add_typer(data_app)

_DISK_HINTS = {
    errno.ENOSPC: "make room, or name a folder on another disk; a run goes on with --resume",
    errno.EDQUOT: "make room, or name a folder on another disk; a run goes on with --resume",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "name a file or folder that you may read or write",
}

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a killed run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
Format = Annotated[str, typer.Option(help="auto, or a format's name, e.g. conll or jsonl.")]
SchemeOption = Annotated[str, typer.Option(help="auto, BIO, IOB1, BIOES, BIOS, BMES, BILOU or IO.")]
Join = Annotated[str, typer.Option(help="How CoNLL tokens become text: auto, none or space.")]
OffsetsOption = Annotated[
    str, typer.Option(help="What offsets of JSONL count: auto, codepoint, utf16 or byte.")
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


def main() -> None:
    """Entry point: a `NertuneError` becomes one line on stderr and exit code 2."""
    # Windows consoles and C locales must not turn Chinese into an encoding error.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)  # so that `compare` takes its child with it
    try:
        app()
    except NertuneError as error:
        sys.stderr.write("error: " + " ".join(str(error).split("\n")) + "\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # e.g. `nertune predict … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not (told := _tell_disk(error)):
            raise
        sys.stderr.write(f"error: {told}\n")
        sys.exit(2)


def _tell_disk(error: Exception) -> str:
    """What to do about a disk that is full or may not be written; empty for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # as safetensors says it
        number = int(found[1])
    hint = _DISK_HINTS.get(number or 0)
    if hint is None:
        return ""
    name = getattr(error, "filename", None)
    return f"{f'{name}: ' if name else ''}{os.strerror(number or 0)}: {hint}"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _version(show: bool) -> None:
    if show:
        typer.echo(f"nertune {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Named-entity recognition by fine-tuning: train, evaluate, predict, compare."""
    show_warnings(_stderr())


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML).")],
    set_: Sets = None,
    test: Annotated[
        bool, typer.Option("--test", help="Also score data.test; with --resume a finished run's.")
    ] = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a tagger, save it, score it on dev; on test only when asked."""
    refuse_many_processes()
    from nertune.config.run import load_settings

    settings = load_settings(recipe, set_ or [])
    from nertune.cli.display import TrainingBar
    from nertune.experiments.train import train as run
    from nertune.reports.terminal import print_record

    try:
        with show_log(console := _stderr()), TrainingBar(console) as bar:
            record = run(
                settings, observers=[bar], score_test=test, resume=resume, overwrite=overwrite
            )
    except KeyboardInterrupt as error:  # caught here, since typer would end without a word
        _stderr().print("interrupted; go on with --resume")
        raise typer.Exit(130) from error
    if as_json:
        _print_json(record)
    else:
        print_record(record, settings.run.dir, _stdout())


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A trained model's folder or hub name.")],
    file: Annotated[Path, typer.Argument(help="A file with gold entities; or sample:test.")],
    format: Format = "auto",
    scheme: SchemeOption = "auto",
    join: Annotated[
        str, typer.Option(help="How CoNLL tokens become text: auto (as in training), none, space.")
    ] = "auto",
    offsets: OffsetsOption = "auto",
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
    as_json: Json = False,
) -> None:
    """Score a tagger against a file's gold entities (strict spans)."""
    from nertune.artifacts.manifest import trained_reading
    from nertune.data.corpus import load_alike
    from nertune.data.samples import resolve_data

    corpus = load_alike(
        resolve_data(str(file)),
        trained_reading(model),
        format=format,
        scheme=scheme,  # type: ignore[arg-type]
        join=join,  # type: ignore[arg-type]
        offsets=offsets,  # type: ignore[arg-type]
    )
    from nertune.evaluation.metrics import score
    from nertune.evaluation.relabel import describe_gold, read_label_map, rename_labels
    from nertune.reports.terminal import print_scores

    names = read_label_map(labels) if labels else {}
    predictor = _load(model, device, backend, encoder)
    gold, known, notices = corpus.documents, predictor.tagset.labels, list(corpus.notices)
    if names:
        relabelled = rename_labels(gold, names, known)
        gold = relabelled.documents
        notices.append(relabelled.describe())
    notices += describe_gold(gold, known)
    for notice in notices:
        _stderr().print(notice, markup=False, highlight=False, soft_wrap=True)
    predicted = list(predictor.tag_documents(gold, with_scores=False))
    scores = score(gold, predicted, types=known).to_dict()
    if as_json:
        about = {"model": model, "file": str(corpus.path), "sha256": corpus.sha256}
        renamed = {"labels": names} if names else {}
        _print_json({**about, **renamed, "notices": notices, **scores})
    else:
        print_scores(scores, f"{corpus.path}", _stdout())


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A trained model's folder or hub name.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; none: one text a line from stdin.")
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            "-f",
            help="A text file (one text a line) or one of any format, e.g. CoNLL; a folder, or a "
            "pattern such as 'texts/*.txt'; repeatable.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Output: text (highlighted), or a format, e.g. jsonl or conll; by the suffix of "
            "--output."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file, which appears when all is written."),
    ] = None,
    input_format: Annotated[
        str,
        typer.Option(
            help="Of --file: auto, lines (a text a line), or a format, e.g. conll or jsonl."
        ),
    ] = "auto",
    whole: Annotated[
        bool, typer.Option("--whole", help="A text file is one document, not one a line.")
    ] = False,
    sentences: Annotated[
        bool, typer.Option("--sentences", help="Tag long texts a sentence at a time.")
    ] = False,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out entities that are less probable.")
    ] = 0.0,
    device: Device = "auto",
    backend: BackendOption = "torch",
    encoder: EncoderOption = None,
) -> None:
    """Find the entities in texts; from a pipe each line is answered as it comes."""
    from nertune.artifacts.manifest import trained_reading
    from nertune.data.inputs import (
        expand_files,
        in_batches,
        read_files,
        read_inputs,
        read_stdin,
    )
    from nertune.inference.output import open_output, output_format, write_tagged

    kind = output_format(format, output)
    if texts and file:
        raise ConfigError("give texts or --file, not both")
    batches: Iterable[list[Document]]
    if texts:
        batches = in_batches(read_inputs(texts, None, input_format))
    elif file:
        paths, left_out = expand_files(file)
        if left_out:
            _stderr().print(
                f"{len(left_out)} files left out, whose names are of no text format (first: "
                f"{left_out[0]})",
                soft_wrap=True,
            )
        how = trained_reading(model).join
        batches = in_batches(read_files(paths, input_format, join=how, whole=whole))
    else:
        batches = read_stdin(whole=whole)
    first = _peek(batches)  # so that a missing file is told before a model is loaded
    predictor = _load(model, device, backend, encoder)
    tagged = predictor.tag_batches(
        first,
        by_sentence=sentences,
        min_score=min_score,
    )
    with open_output(output) as stream:
        console = _stdout() if output is None else Console(file=stream, highlight=False)
        write_tagged(predictor, tagged, kind, stream, console)


@app.command()
def pretrain(
    files: Annotated[
        list[Path],
        typer.Argument(help="Text, a sentence or paragraph a line; .gz, .xz; or labelled files."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The run's folder.")],
    encoder: Annotated[
        str | None,
        typer.Option(help="Continue with this encoder: bundled name, folder or hub name."),
    ] = None,
    from_scratch: Annotated[
        str | None, typer.Option(help="Begin a new one: tiny, small, medium or base.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=0, help="Budget in tokens.")] = 0,
    minutes: Annotated[float, typer.Option(min=0, help="Or budget in time.")] = 0.0,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train a LoRA adapter and merge it at the end.")
    ] = False,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(help="An evaluation file whose text must not be trained on; repeatable."),
    ] = None,
    words: Annotated[
        str, typer.Option(help="Whole words and their kinds from a segmenter: none or jieba.")
    ] = "none",
    word_tags: Annotated[
        list[Path] | None,
        typer.Option(
            help="Or from a file: for each line of text a line of LENGTH:TAG, e.g. 3:PER; .gz, "
            ".xz; repeatable, one for each file of text."
        ),
    ] = None,
    teacher: Annotated[
        str, typer.Option(help="Or the entities that this trained tagger finds.")
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; repeatable."),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train an encoder on raw text: adapt one to a domain, or begin a new one."""
    refuse_many_processes()
    from nertune.config.pretrain import parse_pretrain_settings

    values: dict[str, Any] = {
        "files": files, "output": output, "encoder": encoder or "",
        "from_scratch": from_scratch or "", "tokens": tokens, "minutes": minutes, "lora": lora,
        "exclude": exclude or [], "words": words, "word_tags": word_tags or [], "teacher": teacher,
    }  # fmt: skip
    settings = parse_pretrain_settings(values, set_ or [])
    from nertune.cli.display import PretrainingBar
    from nertune.experiments.pretrain import pretrain as run
    from nertune.reports.terminal import print_pretraining

    try:
        with show_log(console := _stderr()), PretrainingBar(console) as bar:
            record = run(settings, observers=[bar], resume=resume, overwrite=overwrite)
    except KeyboardInterrupt as error:
        _stderr().print("interrupted; go on with --resume")
        raise typer.Exit(130) from error
    if as_json:
        _print_json(record)
    else:
        print_pretraining(record, settings.output, _stdout())


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A trained model's folder.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="onnx: a faster graph, checked against the tagger; or transformers: a folder of "
            "merged weights.",
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

        with show_log(_stderr()):
            made = export_merged(model, output, overwrite=overwrite, encoder=encoder)
        if as_json:
            _print_json(made)
        else:
            _stdout().print(f"{made['folder']}: AutoModelForTokenClassification loads it, and "
                            "nertune does", soft_wrap=True)  # fmt: skip
        return
    if to != "onnx":
        raise ConfigError(f"--to {to!r}: expected onnx or transformers")
    if output is not None or overwrite:
        wrong = "--overwrite" if output is None else "--output"
        raise ConfigError(f"{wrong} belongs to --to transformers: graphs lie in the model's folder")
    from nertune.export.onnx import export as run
    from nertune.reports.terminal import print_export

    with show_log(_stderr()):
        report = run(model, dev=dev, int8=int8, tolerance=tolerance, encoder=encoder)
    if as_json:
        _print_json(report)
    else:
        print_export(report, model, _stdout())


@app.command()
def compare(
    recipes: Annotated[list[Path], typer.Argument(help="One recipe a configuration.")],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds a configuration.")] = 3,
    baseline: Annotated[
        str | None, typer.Option(help="The configuration to compare with; the first by default.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The report's folder; runs live in it too.")
    ] = Path("report"),
    set_: Sets = None,
    first_seed: Annotated[int, typer.Option(min=0, help="The others follow it.")] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train again what is finished already.")
    ] = False,
    sizes: Annotated[
        str,
        typer.Option(help="Also train on so many percent of the training data, e.g. 10,25,50,100."),
    ] = "",
    other_training_data: Annotated[
        bool,
        typer.Option(
            "--other-training-data", help="Let configurations be trained on different data."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train configurations with several seeds; say which is better, and how sure that is."""
    refuse_many_processes()
    from nertune.comparison.runs import RunOptions
    from nertune.comparison.sizes import compare_sizes as run
    from nertune.reports.comparison import print_comparison, save_report

    try:
        with show_log(_stderr()):
            comparison = run(
                recipes,
                _read_shares(sizes),
                seeds=seeds,
                baseline=baseline,
                output=output,
                options=RunOptions(
                    overrides=set_ or [],
                    first_seed=first_seed,
                    fresh=fresh,
                    other_training_data=other_training_data,
                ),
            )
    except KeyboardInterrupt as error:
        _stderr().print("interrupted; the same command (without --fresh) goes on where it was")
        raise typer.Exit(130) from error
    save_report(comparison, output)
    if as_json:
        _print_json(comparison.to_dict())
    else:
        print_comparison(comparison, _stdout())
        _stdout().print(f"report: {output}/report.html", markup=False, soft_wrap=True)


@app.command()
def sweep(
    space: Annotated[
        Path,
        typer.Argument(help="A recipe, with a section \\[space] or the default of its method."),
    ],
    trials: Annotated[int, typer.Option(min=1, help="Runs in all.")] = 20,
    minutes: Annotated[
        float, typer.Option(min=0, help="No trial begins or goes on after so long; 0: no limit.")
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The sweep's folder; by default sweeps/NAME."),
    ] = None,
    confirm: Annotated[
        int, typer.Option(min=0, help="Train recipe and winner again with so many seeds.")
    ] = 0,
    resume: Resume = False,
    set_: Sets = None,
    as_json: Json = False,
) -> None:
    """Search for good settings on dev, within a budget; the winner becomes a recipe."""
    refuse_many_processes()
    from nertune.comparison.search.sweep import SweepBudget
    from nertune.comparison.search.sweep import sweep as run
    from nertune.reports.figures import save_sweep_figure
    from nertune.reports.terminal import print_sweep

    folder = output or Path("sweeps") / space.stem
    try:
        with show_log(_stderr()):
            result = run(
                space,
                output=folder,
                budget=SweepBudget(trials=trials, minutes=minutes, confirm=confirm),
                resume=resume,
                overrides=set_ or [],
            )
    except KeyboardInterrupt as error:
        _stderr().print("interrupted; go on with --resume")
        raise typer.Exit(130) from error
    try:
        save_sweep_figure(result, folder / "sweep.png")
    except MissingDependencyError as error:
        notify(_stderr(), f"no figure: {error}")
    if as_json:
        _print_json(result.to_dict())
    else:
        print_sweep(_stdout(), result)


@app.command()
def advise(
    data: Annotated[
        str, typer.Argument(help="A training file, a folder with train and dev, or sample.")
    ],
    minutes: Annotated[float, typer.Option(help="The budget.")],
    dev: Annotated[
        str, typer.Option(help="What to score on; else a fifth of the training data is.")
    ] = "",
    encoder: Annotated[str, typer.Option(help="Bundled name, folder or hub name.")] = "mini-zh",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The advice's folder; by default advice/NAME."),
    ] = None,
    resume: Resume = False,
    set_: Sets = None,
    as_json: Json = False,
) -> None:
    """LoRA or full fine-tuning, and with which settings? Found by short runs on your data."""
    refuse_many_processes()
    from nertune.comparison.search.advise import Question
    from nertune.comparison.search.advise import advise as run
    from nertune.reports.advice import print_advice, save_advice

    name = Path(data).name.partition(".")[0].replace(":", "-") or "data"
    folder = output or Path("advice") / name
    try:
        with show_log(_stderr()):
            advice = run(
                Question(data, minutes, dev=dev, encoder=encoder, overrides=set_ or []),
                output=folder,
                resume=resume,
            )
        save_advice(advice, folder)
    except KeyboardInterrupt as error:
        _stderr().print("interrupted; go on with --resume")
        raise typer.Exit(130) from error
    if as_json:
        _print_json(advice.to_dict())
    else:
        print_advice(advice, _stdout())


@app.command()
def init(
    train: Annotated[str, typer.Argument(help="The training file; or sample:train.")],
    dev: Annotated[str, typer.Option(help="The file that chooses the best epoch.")] = "",
    test: Annotated[str, typer.Option(help="The file for final scores.")] = "",
    method: Annotated[str, typer.Option(help="lora, full or lstm.")] = "lora",
    encoder: Annotated[str, typer.Option(help="Bundled name, folder or hub name.")] = "mini-zh",
    output: Annotated[Path, typer.Option("--output", "-o", help="The recipe.")] = Path("my.toml"),
    overwrite: Overwrite = False,
) -> None:
    """Write a commented recipe for your data."""
    from nertune.experiments.recipe import Method, make_recipe
    from nertune.storage.atomic import write_text

    if method not in (known := get_args(Method)):
        raise ConfigError(f"--method {method!r}: expected {', '.join(known)}")
    if output.exists() and not overwrite:
        raise ConfigError(f"--output: {output} exists; use --overwrite, or name another file")
    if not output.parent.is_dir():
        raise ConfigError(f"--output: the folder {output.parent} does not exist; create it first")
    files = {k: v for k, v in {"train": train, "dev": dev, "test": test}.items() if v}
    text = make_recipe(files, method=cast("Method", method), encoder=encoder, name=output.stem)
    write_text(output, text)
    _stdout().print(f"{output}: train with\n  nertune train {output}", soft_wrap=True)


@app.command()
def settings(
    section: Annotated[str, typer.Argument(help="A section, or pretrain; all by default.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="The page of the docs.")] = False,
    as_json: Json = False,
) -> None:
    """List all settings with their types and defaults."""
    from dataclasses import asdict

    from nertune.config.reference import list_settings, settings_markdown

    if markdown:
        sys.stdout.write(settings_markdown())
        return
    found = list_settings(section)
    if as_json:
        _print_json({"settings": [asdict(setting) for setting in found]})
        return
    for setting in found:
        default = f" = {setting.default}" if setting.default else " (required)"
        kind = setting.type.replace("`", "")
        lines = [f"{setting.key}{default}", f"    {kind}", f"    {setting.description}"]
        sys.stdout.write("\n".join(line for line in lines if line.strip()) + "\n")


@app.command()
def encoders(as_json: Json = False) -> None:
    """List the encoders that come with nertune."""
    from nertune.storage.encoders import BUNDLED_ENCODERS, bundled_folder, encoder_weights

    found = []
    for name in BUNDLED_ENCODERS:
        config = json.loads((bundled_folder(name) / "config.json").read_text(encoding="utf-8"))
        found.append(
            {
                "name": name,
                "type": config["model_type"],
                "layers": config["num_hidden_layers"],
                "hidden_size": config["hidden_size"],
                "vocabulary": config["vocab_size"],
                "bytes": sum(file.stat().st_size for file in encoder_weights(name)),
                "card": str(bundled_folder(name) / "README.md"),
            }
        )
    if as_json:
        _print_json({"encoders": found})
        return
    for e in found:
        shape = f"{e['layers']} layers of {e['hidden_size']}, {e['vocabulary']:,} tokens"
        _stdout().print(
            f"{e['name']}  {e['type']}, {shape}, {e['bytes'] / 1e6:.1f} MB  {e['card']}",
            soft_wrap=True,
        )
    _stdout().print(
        "model.encoder also takes a folder or a hub name, e.g. google-bert/bert-base-chinese",
        soft_wrap=True,
    )


@data_app.command()
def inspect(
    files: Annotated[list[str], typer.Argument(help="Data files, e.g. train dev test.")],
    model: Annotated[
        str | None,
        typer.Option(help="An encoder or trained model: lists what its pieces cannot express."),
    ] = None,
    format: Format = "auto",
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    unit: Annotated[str, typer.Option(help="auto, char or word.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse tags out of scheme.")] = False,
    as_json: Json = False,
) -> None:
    """Counts, lengths, scheme, repaired tags, leakage, and what a tokenizer cannot express."""
    from nertune.artifacts.manifest import trained_reading
    from nertune.data.corpus import Reading, load_alike
    from nertune.data.samples import resolve_data
    from nertune.experiments.inspect import inspect_corpora
    from nertune.reports.inspection import print_inspection

    if unit not in ("auto", "char", "word"):
        raise ConfigError(f"--unit {unit!r}: expected auto, char or word")
    like = trained_reading(model) if model else Reading()
    corpora = [
        load_alike(
            resolve_data(f),
            like,
            format=format,
            scheme=scheme,  # type: ignore[arg-type]
            join=join,  # type: ignore[arg-type]
            offsets=offsets,  # type: ignore[arg-type]
            strict=strict,
        )
        for f in files
    ]
    inspection = inspect_corpora(corpora, model=model, unit=unit)  # type: ignore[arg-type]
    if as_json:
        _print_json(inspection.to_dict())
    else:
        print_inspection(inspection, _stdout())


@data_app.command()
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
    unit: Annotated[
        str, typer.Option(help="Cut texts without tokens into: auto, char or word.")
    ] = "auto",
    as_json: Json = False,
) -> None:
    """Write a data file in another format; list by entity what that cannot hold."""
    from nertune.data.convert import convert as run
    from nertune.data.corpus import load_with
    from nertune.data.formats import ReadOptions, WriteOptions
    from nertune.data.samples import resolve_data
    from nertune.reports.conversion import render
    from nertune.tokens.units import choose_unit, cut_visible

    if unit not in ("auto", "char", "word"):
        raise ConfigError(f"--unit {unit!r}: expected auto, char or word")
    if target.exists() and target.resolve() == resolve_data(str(source)).resolve():
        raise ConfigError(f"{target}: IN and OUT are the same file")
    more = dict(o.partition("=")[::2] for o in option or [])
    how = ReadOptions(scheme, join, offsets, more=more)  # type: ignore[arg-type]
    corpus = load_with(resolve_data(str(source)), how, format=from_)
    cut = choose_unit(corpus.documents, unit)  # type: ignore[arg-type]
    options = WriteOptions(scores=True, tokenize=lambda text: cut_visible(text, cut))
    found = run(corpus, target, options, to=to, check=check, allow_loss=allow_loss)
    if as_json:
        _print_json(found.to_dict())
    else:
        render(found, _stderr())
    if found.differences or not found.is_written:
        raise typer.Exit(1)


def _read_shares(sizes: str) -> list[float]:
    """Percentages, as shares of 1."""
    try:
        return [float(part.strip().removesuffix("%")) / 100 for part in sizes.split(",") if part]
    except ValueError as error:
        raise ConfigError(f"--sizes {sizes!r}: expected percentages, e.g. 10,25,50,100") from error


def _load(model: str, device: str, backend: str, encoder: str | None) -> Predictor:
    from nertune.inference.predictor import Predictor
    from nertune.models.onnx import Backend

    if backend not in (known := get_args(Backend)):
        raise ConfigError(f"--backend {backend!r}: expected {', '.join(known)}")
    return Predictor.load(model, device=device, backend=cast("Backend", backend), encoder=encoder)


def _peek(batches: Iterable[list[Document]]) -> Iterator[list[Document]]:
    iterator = iter(batches)
    first = next(iterator, None)

    def chained() -> Iterator[list[Document]]:
        if first is not None:
            yield first
        yield from iterator

    return chained()


def _stdout() -> Console:
    return Console(markup=False, emoji=False, highlight=False)


def _stderr() -> Console:
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")
