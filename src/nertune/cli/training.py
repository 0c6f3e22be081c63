"""Commands that train: a tagger, new types for it, an encoder; and the recipe to begin with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from nertune.cli.log import show_log
from nertune.cli.options import (
    EncoderOption,
    Json,
    Overwrite,
    Resume,
    Sets,
    interruptible,
    print_json,
    stderr,
    stdout,
)
from nertune.errors import ConfigError
from nertune.storage.processes import (
    check_launcher,
    leave_group,
    process_rank,
    refuse_many_processes,
)

__all__ = ["extend", "init", "pretrain", "train"]


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
    check_launcher()
    from nertune.config.run import load_settings

    settings = load_settings(recipe, set_ or [])
    from nertune.cli.display import TrainingBar
    from nertune.experiments.train import train as run
    from nertune.reports.terminal import print_record

    level = logging.INFO if process_rank() == 0 else logging.ERROR  # the first of several tells
    with interruptible(), show_log(console := stderr(), level), TrainingBar(console) as bar:
        record = run(settings, observers=[bar], score_test=test, resume=resume, overwrite=overwrite)
    if process_rank() == 0:
        if as_json:
            print_json(record)
        else:
            print_record(record, settings.run.dir, stdout())
    leave_group()


def extend(
    model: Annotated[str, typer.Argument(help="A trained model's folder or hub name.")],
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML) for the new types.")],
    labels: Annotated[
        str, typer.Option(help="The new types, e.g. ORG,TIME; by default all that MODEL lacks.")
    ] = "",
    overlap: Annotated[
        str, typer.Option(help="A new entity that overlaps an old one: keep (both) or old-wins.")
    ] = "keep",
    set_: Sets = None,
    test: Annotated[
        bool, typer.Option("--test", help="Also score data.test; with --resume a finished run's.")
    ] = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    encoder: EncoderOption = None,
    as_json: Json = False,
) -> None:
    """Teach a tagger new types; what it finds already stays the same to the bit."""
    refuse_many_processes()
    from nertune.artifacts.parts import Overlap
    from nertune.config.run import load_settings

    if overlap not in (known := get_args(Overlap)):
        raise ConfigError(f"--overlap {overlap!r}: expected {' or '.join(known)}")
    settings = load_settings(recipe, set_ or [])
    from nertune.cli.display import TrainingBar
    from nertune.reports.semisupervised.extension import print_extension
    from nertune.semisupervised.extension import Extension
    from nertune.semisupervised.extension import extend as run

    names = tuple(name for part in labels.split(",") if (name := part.strip()))
    extension = Extension(model, names, cast("Overlap", overlap), encoder)
    with interruptible(), show_log(console := stderr()), TrainingBar(console) as bar:
        record = run(
            extension,
            settings,
            score_test=test,
            resume=resume,
            overwrite=overwrite,
            observers=[bar],
        )
    if as_json:
        print_json(record)
    else:
        print_extension(record, settings.run.dir, stdout())


def pretrain(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Text, a sentence or paragraph a line; .gz, .xz, .zst; or labelled files."
        ),
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
            ".xz, .zst; repeatable, one for each file of text."
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
    from nertune.experiments.pretraining.pretrain import pretrain as run
    from nertune.reports.terminal import print_pretraining

    with interruptible(), show_log(console := stderr()), PretrainingBar(console) as bar:
        record = run(settings, observers=[bar], resume=resume, overwrite=overwrite)
    if as_json:
        print_json(record)
    else:
        print_pretraining(record, settings.output, stdout())


def init(
    train: Annotated[str, typer.Argument(help="The training file; or sample:train.")],
    dev: Annotated[str, typer.Option(help="The file that chooses the best epoch.")] = "",
    test: Annotated[str, typer.Option(help="The file for final scores.")] = "",
    method: Annotated[str, typer.Option(help="lora, full or lstm.")] = "lora",
    decoder: Annotated[
        str, typer.Option(help="softmax or crf; by default crf for lstm, else softmax.")
    ] = "",
    encoder: Annotated[str, typer.Option(help="Bundled name, folder or hub name.")] = "mini-zh",
    output: Annotated[Path, typer.Option("--output", "-o", help="The recipe.")] = Path("my.toml"),
    overwrite: Overwrite = False,
) -> None:
    """Write a commented recipe for your data."""
    from nertune.experiments.recipe import Decoder, Method, make_recipe
    from nertune.storage.atomic import write_text

    if method not in (known := get_args(Method)):
        raise ConfigError(f"--method {method!r}: expected {', '.join(known)}")
    if decoder and decoder not in (decoders := get_args(Decoder)):
        raise ConfigError(f"--decoder {decoder!r}: expected {' or '.join(decoders)}")
    if output.exists() and not overwrite:
        raise ConfigError(f"--output: {output} exists; use --overwrite, or name another file")
    if not output.parent.is_dir():
        raise ConfigError(f"--output: the folder {output.parent} does not exist; create it first")
    files = {k: v for k, v in {"train": train, "dev": dev, "test": test}.items() if v}
    text = make_recipe(
        files,
        method=cast("Method", method),
        decoder=cast("Decoder | None", decoder or None),
        encoder=encoder,
        name=output.stem,
    )
    write_text(output, text)
    stdout().print(f"{output}: train with\n  nertune train {output}", soft_wrap=True)
