"""The command that looks for label errors, and writes a corpus with corrections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nertune.cli.log import show_log
from nertune.cli.options import (
    FormatOptions,
    From,
    Join,
    Json,
    OffsetsOption,
    Overwrite,
    Resume,
    SchemeOption,
    Sets,
    interruptible,
    print_json,
    reading_options,
    stderr,
    stdout,
)
from nertune.errors import ConfigError
from nertune.storage.processes import refuse_many_processes

if TYPE_CHECKING:
    from nertune.data.formats import ReadOptions

__all__ = ["audit"]


def audit(
    sources: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Labelled files; or sample:train.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The audit's folder; with --apply the new file.")
    ],
    recipe: Annotated[
        Path | None, typer.Option(help="How to train the models; by default a cheap one.")
    ] = None,
    set_: Sets = None,
    folds: Annotated[int, typer.Option(help="Parts of the data, each with models of its own.")] = 5,
    seeds: Annotated[int, typer.Option(help="Models of each fold, which are averaged.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of folds and models.")] = 1,
    to: Annotated[
        str, typer.Option(help="Also write tasks to correct: label-studio, doccano or jsonl.")
    ] = "",
    tasks: Annotated[int, typer.Option(min=1, help="How many documents --to writes.")] = 100,
    apply: Annotated[
        Path | None, typer.Option(help="A corrected file of tasks: FILE with what was changed.")
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    from_: From = "auto",
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    option: FormatOptions = None,
    as_json: Json = False,
) -> None:
    """Find label errors with models trained on the rest of the data; rank and correct them."""
    reading = reading_options(scheme, join, offsets, option)
    if apply is not None:
        if to:
            raise ConfigError("--to writes tasks and --apply reads them: use one of the two")
        if len(sources) > 1:
            raise ConfigError(f"--apply writes one file: expected one FILE, got {len(sources)}")
        _apply(sources[0], from_, reading, apply, output, overwrite=overwrite, as_json=as_json)
        return
    refuse_many_processes()
    from nertune.cli.display import TrainingBar
    from nertune.data.corpus import load_with
    from nertune.data.samples import resolve_data
    from nertune.reports.semisupervised.audit.page import save_page
    from nertune.reports.semisupervised.audit.terminal import print_audit
    from nertune.semisupervised.audit.audit import AuditOptions
    from nertune.semisupervised.audit.audit import audit as run
    from nertune.semisupervised.audit.recipe import audit_settings
    from nertune.semisupervised.audit.tasks import join_files, save_tasks, tasks_path

    if to and (path := tasks_path(output, to)).exists() and not resume:
        raise ConfigError(
            f"{path} is there already, perhaps with corrections: move it away first, or --resume"
        )
    options = AuditOptions(folds, seeds, seed)
    corpora = [load_with(resolve_data(source), reading, format=from_) for source in sources]
    corpus = join_files(corpora)
    settings = audit_settings(str(corpus.path), recipe, set_ or [])
    with interruptible(), show_log(console := stderr()), TrainingBar(console) as bar:
        found = run(
            corpus, settings, output=output, options=options, resume=resume, overwrite=overwrite,
            observers=[bar],
        )  # fmt: skip
    page = save_page(found, output / "audit.html")
    written = save_tasks(found, output, format=to, num_documents=tasks) if to else None
    if as_json:
        print_json(found.to_dict() | {"tasks": None if written is None else written.to_dict()})
    else:
        print_audit(found, stdout(), page=page, tasks=written)


def _apply(
    source: str, format: str, reading: ReadOptions, corrected: Path, target: Path, *,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    from nertune.data.corpus import load_with
    from nertune.data.samples import resolve_data
    from nertune.reports.semisupervised.audit.terminal import print_applied
    from nertune.semisupervised.audit.tasks import apply_corrections

    corpus = load_with(resolve_data(source), reading, format=format)
    applied = apply_corrections(corpus, corrected, target, overwrite=overwrite)
    if as_json:
        print_json(applied.to_dict())
    else:
        print_applied(applied, stdout())
    if not applied.written.is_written:
        raise typer.Exit(1)
