"""The command that learns from text without labels: `nertune self-train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

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

__all__ = ["self_train"]


def self_train(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML); it needs data.dev.")],
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(
            "--unlabelled",
            "-u",
            metavar="FILE",
            help="Text without labels, one a line; packed or not; or any format; repeatable. May "
            "be left out where training documents are labelled in part.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder; by default one in runs/."),
    ] = None,
    labels: Annotated[
        str, typer.Option(help="soft: the teacher's probabilities; or hard: sure entities.")
    ] = "soft",
    teachers: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Trained with different seeds; heard together. Soft labels."
        ),
    ] = 1,
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Students, one after the other.")
    ] = 2,
    most: Annotated[
        int, typer.Option(min=1, metavar="N", help="Unlabelled documents, at most.")
    ] = 5000,
    noise: Annotated[
        float,
        typer.Option(
            min=0, metavar="P", help="Share of the unlabelled text's tokens that is masked."
        ),
    ] = 0.1,
    epochs: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of each student; 0: fewer than the recipe's, by size."
        ),
    ] = 0,
    precision: Annotated[
        float,
        typer.Option(metavar="P", help="Hard labels: precision on dev that sets the threshold."),
    ] = 0.9,
    no_balance: Annotated[
        bool, typer.Option("--no-balance", help="Do not keep the labelled data's label shares.")
    ] = False,
    from_teacher: Annotated[
        bool, typer.Option("--from-teacher", help="Start students from the teacher's weights.")
    ] = False,
    seeds: Annotated[str, typer.Option(help="Do all with each of these, e.g. 1,2,3.")] = "1",
    test: Annotated[bool, typer.Option("--test", help="Also compare on data.test.")] = False,
    set_: Sets = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Learn from text without labels: teacher, pseudo-labels, student; beside a fair baseline."""
    refuse_many_processes()
    from nertune.config.run import load_settings
    from nertune.semisupervised.self_training.options import Labels, Options

    options = Options(
        labels=cast("Labels", labels), teachers=teachers, rounds=rounds, most=most, noise=noise,
        epochs=epochs, precision=precision, balance=not no_balance, from_teacher=from_teacher,
    )  # fmt: skip
    numbers = _read_seeds(seeds)
    settings = load_settings(recipe, set_ or [])
    from nertune.cli.display import TrainingBar
    from nertune.reports.semisupervised.self_training import print_self_training, save_self_training
    from nertune.semisupervised.self_training.training import Request
    from nertune.semisupervised.self_training.training import self_train as run

    folder = output or Path("runs") / f"{recipe.stem}-self-trained"
    request = Request(settings, tuple(unlabelled or ()), folder, options, numbers, test)
    with interruptible(), show_log(console := stderr()), TrainingBar(console) as bar:
        result = run(request, resume=resume, overwrite=overwrite, observers=[bar])
    save_self_training(result, folder)
    if as_json:
        print_json(result.to_dict())
    else:
        print_self_training(result, stdout())


def _read_seeds(given: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in given.replace(",", " ").split())
    except ValueError as error:
        raise ConfigError(f"--seeds {given!r}: expected numbers, e.g. 1,2,3") from error
