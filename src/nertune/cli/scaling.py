"""The command that annotates any number of documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nertune.cli.log import show_left_out, show_log
from nertune.cli.options import (
    Address,
    BackendOption,
    Device,
    EncoderOption,
    EngineOption,
    FormatOptions,
    Json,
    MinScore,
    Resume,
    Sentences,
    Whole,
    interruptible,
    parse_options,
    print_json,
    resolve_backend,
    stderr,
    stdout,
)
from nertune.errors import ConfigError

__all__ = ["annotate"]


def annotate(
    input: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Text (a text a line) or files of any format, packed or not; folders, patterns.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A new folder: a file for each shard.")
    ],
    model: Annotated[str, typer.Option(help="A trained model's folder or hub name.")],
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that tag; 0: one per core, one on a GPU.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 1,
    engine: EngineOption = "local",
    address: Address = "",
    format: Annotated[str, typer.Option(help="Of the shards: jsonl or parquet.")] = "jsonl",
    shard_size: Annotated[int, typer.Option(min=1, help="Documents of a shard.")] = 10_240,
    input_format: Annotated[
        str, typer.Option(help="auto, lines (a text a line), or a format, e.g. conll or jsonl.")
    ] = "auto",
    option: FormatOptions = None,
    whole: Whole = False,
    sentences: Sentences = False,
    min_score: MinScore = 0.0,
    device: Device = "auto",
    backend: BackendOption = "auto",
    encoder: EncoderOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how much there is and how long it will take.")
    ] = False,
    resume: Resume = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the shards of an earlier annotation.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the entities in any number of documents, in several processes, shard by shard."""
    from nertune.artifacts.manifest import trained_reading
    from nertune.cli.display import AnnotationBar
    from nertune.data.inputs import expand_files
    from nertune.experiments.processes.engines import check_engine
    from nertune.reports.annotation import print_annotation, print_forecast
    from nertune.scale.annotate import Work, output_format
    from nertune.scale.annotate import annotate as run
    from nertune.scale.chunks import Reading
    from nertune.scale.forecast import forecast
    from nertune.scale.tasks import Tagging
    from nertune.scale.workers import default_workers

    for path in input:
        if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
            raise ConfigError(
                f"--output: {output} lies in the input {path}, so the next start would tag what "
                "this one writes; name a folder outside of it"
            )
    engine_name = check_engine(engine, address)
    files, left_out = expand_files(input)
    show_left_out(left_out, stderr())
    tagging = Tagging(
        model=model,
        device=device,
        backend=resolve_backend(backend, model, device),
        encoder=encoder,
        threads=threads,
        by_sentence=sentences,
        min_score=min_score,
        format=output_format(format),
    )
    work = Work(
        tuple(files),
        output,
        tagging,
        Reading(input_format, trained_reading(model).join, whole, parse_options(option)),
        workers or default_workers(tagging, on_ray=engine == "ray"),
        engine_name,
        address,
        shard_size,
    )
    with show_log(stderr()), interruptible():
        if dry_run:
            expected = forecast(work)
            if as_json:
                print_json(expected.to_dict())
            else:
                print_forecast(expected, stdout())
            return
        with AnnotationBar(stderr()) as bar:
            done = run(work, resume=resume, overwrite=overwrite, observer=bar.on_progress)
    if as_json:
        print_json(done.to_dict())
    else:
        print_annotation(done, output, stdout())
