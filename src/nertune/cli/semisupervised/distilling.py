"""The command that distils teachers into a student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nertune.cli.log import show_log
from nertune.cli.options import (
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
from nertune.storage.processes import refuse_many_processes

__all__ = ["distill"]


def distill(
    recipe: Annotated[Path, typer.Argument(help="The student's recipe; data.train may be empty.")],
    teacher: Annotated[
        list[str], typer.Option(help="A trained model, a folder or hub name; repeatable.")
    ],
    unlabelled: Annotated[
        list[Path],
        typer.Option(help="Text: a file of any format, a folder or a pattern; repeatable."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The student's folder; by default runs/NAME."),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="TEACHERLABEL=LABEL", help="Rename a label; LABEL= drops; repeatable."
        ),
    ] = None,
    most: Annotated[
        int, typer.Option(min=0, help="Unlabelled documents at most, drawn by run.seed; 0: all.")
    ] = 0,
    weight: Annotated[
        float, typer.Option(min=0, help="Of the loss on unlabelled text; labelled text has 1.")
    ] = 1.0,
    temperature: Annotated[
        float, typer.Option(help="Softens the teachers where it is above 1.")
    ] = 1.0,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Do not train the student without teachers, too.")
    ] = False,
    set_: Sets = None,
    test: Annotated[
        bool, typer.Option("--test", help="Also score teachers and students on data.test.")
    ] = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a student on what teachers say of unlabelled text."""
    refuse_many_processes()
    from nertune.config.run import load_settings

    settings = load_settings(recipe, set_ or [])
    if output is not None:
        run = settings.run.model_copy(update={"dir": output})
        settings = settings.model_copy(update={"run": run})
    from nertune.cli.display import TrainingBar
    from nertune.reports.semisupervised.distillation import print_distillation
    from nertune.semisupervised.distillation.distill import DistillOptions
    from nertune.semisupervised.distillation.distill import distill as run_distillation

    options = DistillOptions(
        table=_read_table(map_ or []),
        most=most,
        weight=weight,
        temperature=temperature,
        with_baseline=not no_baseline,
        score_test=test,
        resume=resume,
        overwrite=overwrite,
    )
    with interruptible(), show_log(console := stderr()), TrainingBar(console) as bar:
        found = run_distillation(settings, teacher, unlabelled, options=options, observers=[bar])
    if as_json:
        print_json(found.to_dict())
    else:
        print_distillation(found, stdout())


def _read_table(given: list[str]) -> dict[str, str]:
    """`TEACHERLABEL=LABEL`; an empty LABEL drops one."""
    table: dict[str, str] = {}
    for one in given:
        old, equals, new = one.partition("=")
        if not old or not equals:
            raise ConfigError(f"--map {one!r}: expected TEACHERLABEL=LABEL, or TEACHERLABEL=")
        if old in table:
            raise ConfigError(f"--map {old} is given twice")
        table[old] = new
    return table
