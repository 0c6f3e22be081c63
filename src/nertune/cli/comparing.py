"""Commands that choose between settings by training with several of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nertune.cli.log import notify, show_log
from nertune.cli.options import (
    Address,
    EngineOption,
    Json,
    Resume,
    Sets,
    interruptible,
    print_json,
    stderr,
    stdout,
)
from nertune.errors import ConfigError, MissingDependencyError
from nertune.storage.processes import refuse_many_processes

__all__ = ["advise", "compare", "sweep"]


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
    workers: Annotated[
        int, typer.Option(min=1, help="Runs at the same time; they share the cores.")
    ] = 1,
    engine: EngineOption = "local",
    address: Address = "",
    as_json: Json = False,
) -> None:
    """Train configurations with several seeds; say which is better, and how sure that is."""
    refuse_many_processes()
    from nertune.comparison.runs import RunOptions
    from nertune.comparison.sizes import compare_sizes as run
    from nertune.experiments.processes.engines import open_engine
    from nertune.reports.comparison import print_comparison, save_report

    hint = "interrupted; the same command (without --fresh) continues it"
    with (
        interruptible(hint),
        show_log(stderr()),
        open_engine(engine, workers, address) as computes,
    ):
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
                workers=workers,
                engine=computes,
            ),
        )
    save_report(comparison, output)
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_comparison(comparison, stdout())
        stdout().print(f"report: {output}/report.html", markup=False, soft_wrap=True)


def sweep(
    space: Annotated[
        Path,
        typer.Argument(help="A recipe, with a section \\[space] or the default of its method."),
    ],
    trials: Annotated[int, typer.Option(min=1, help="Runs in all.")] = 20,
    minutes: Annotated[
        float, typer.Option(min=0, help="No trial begins or continues after so long; 0: no limit.")
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The sweep's folder; by default sweeps/NAME."),
    ] = None,
    confirm: Annotated[
        int, typer.Option(min=0, help="Train recipe and winner again with so many seeds.")
    ] = 0,
    workers: Annotated[
        int, typer.Option(min=1, help="Trials at the same time; times are not kept then.")
    ] = 1,
    engine: EngineOption = "local",
    address: Address = "",
    resume: Resume = False,
    set_: Sets = None,
    as_json: Json = False,
) -> None:
    """Search for good settings on dev, within a budget; the winner becomes a recipe."""
    refuse_many_processes()
    from nertune.comparison.search.sweep import SweepBudget
    from nertune.comparison.search.sweep import sweep as run
    from nertune.experiments.processes.engines import open_engine
    from nertune.reports.figures import save_sweep_figure
    from nertune.reports.terminal import print_sweep

    folder = output or Path("sweeps") / space.stem
    with (
        interruptible(),
        show_log(stderr()),
        open_engine(engine, workers, address) as computes,
    ):
        result = run(
            space,
            output=folder,
            budget=SweepBudget(trials, minutes, confirm, workers, computes),
            resume=resume,
            overrides=set_ or [],
        )
    try:
        save_sweep_figure(result, folder / "sweep.png")
    except MissingDependencyError as error:
        notify(stderr(), f"no figure: {error}")
    if as_json:
        print_json(result.to_dict())
    else:
        print_sweep(stdout(), result)


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
    workers: Annotated[
        int, typer.Option(min=1, help="Runs at the same time; they share the cores.")
    ] = 1,
    engine: EngineOption = "local",
    address: Address = "",
    resume: Resume = False,
    set_: Sets = None,
    as_json: Json = False,
) -> None:
    """LoRA or full fine-tuning, and with which settings? Found by short runs on your data."""
    refuse_many_processes()
    from nertune.comparison.search.advise import Question
    from nertune.comparison.search.advise import advise as run
    from nertune.experiments.processes.engines import open_engine
    from nertune.reports.advice import print_advice, save_advice

    name = Path(data).name.partition(".")[0].replace(":", "-") or "data"
    folder = output or Path("advice") / name
    with interruptible():
        with show_log(stderr()), open_engine(engine, workers, address) as computes:
            question = Question(
                data,
                minutes,
                dev=dev,
                encoder=encoder,
                overrides=set_ or [],
                workers=workers,
                engine=computes,
            )
            advice = run(question, output=folder, resume=resume)
        save_advice(advice, folder)
    if as_json:
        print_json(advice.to_dict())
    else:
        print_advice(advice, stdout())


def _read_shares(sizes: str) -> list[float]:
    """Percentages, as shares of 1."""
    try:
        return [float(part.strip().removesuffix("%")) / 100 for part in sizes.split(",") if part]
    except ValueError as error:
        raise ConfigError(f"--sizes {sizes!r}: expected percentages, e.g. 10,25,50,100") from error
