"""A live bar on stderr while a command trains."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nertune.pretraining.loop import PretrainProgress
from nertune.scale.annotate import Progress as AnnotationProgress
from nertune.semisupervised.selection.pool import Pool
from nertune.training.observer import Observer
from nertune.training.progress import EpochReport

__all__ = ["AnnotationBar", "PoolBar", "PretrainingBar", "TrainingBar"]

_EVERY_SECONDS = 30.0


class _Bar:
    """Description, bar, some numbers, and the time left; on a terminal only."""

    def __init__(self, console: Console, description: str):
        self._is_live = console.is_terminal  # elsewhere it would print an empty line
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(description, total=None, numbers="")

    def _start(self) -> None:
        if self._is_live:
            self._progress.start()

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._progress.stop()


class TrainingBar(_Bar, Observer):
    """A bar for the epochs of a run; use as a context manager around the training.

    Args:
        console: the one that shows the log.
    """

    def __init__(self, console: Console):
        super().__init__(console, "")
        self._epochs = 0
        self._f1 = ""

    def __enter__(self) -> TrainingBar:
        return self

    def on_begin(self, name: str, epochs: int) -> None:
        self._epochs, self._f1 = epochs, ""
        self._progress.update(self._task, description=name)
        self._start()

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        self._progress.update(
            self._task,
            completed=(epoch - 1) * total + done,
            total=self._epochs * total,
            numbers=f"epoch {epoch}/{self._epochs}  loss {loss:.4f}{self._f1}  "
            f"{units_per_second:,.0f} units/s",
        )

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        if report.dev is not None:
            self._f1 = f"  dev F1 {report.dev['f1']:.4f}"


class PretrainingBar(_Bar):
    """A bar for a pre-training run; use as a context manager around it.

    Args:
        console: the one that shows the log.
    """

    def __init__(self, console: Console):
        super().__init__(console, "preparing text")

    def __enter__(self) -> PretrainingBar:
        self._start()
        return self

    def on_preparation(self, block: int, num_tokens: int) -> None:
        """So many tokens of a block of text are ready."""
        self._progress.update(self._task, numbers=f"block {block}: {num_tokens:,} tokens")

    def on_steps(
        self, progress: PretrainProgress, total_tokens: int, tokens_per_second: float
    ) -> None:
        """Some steps are done."""
        newest = progress.history[-1]
        tags = f"  tags {newest['tag_loss']:.4f}" if newest["tag_loss"] else ""
        self._progress.update(
            self._task,
            description=f"step {progress.step:,}",
            completed=progress.tokens,
            total=total_tokens,
            numbers=f"loss {newest['loss']:.4f}{tags}  {tokens_per_second:,.0f} tokens/s",
        )


class PoolBar(_Bar):
    """Counts the texts of a pool, whose end is not known; use as a context manager around it.

    Args:
        console: the one that shows warnings.
    """

    def __init__(self, console: Console):
        super().__init__(console, "reading the pool")
        self._start_seconds = time.perf_counter()

    def __enter__(self) -> PoolBar:
        self._start()
        return self

    def on_pool(self, pool: Pool) -> None:
        """So much of it has been read."""
        seconds = time.perf_counter() - self._start_seconds
        numbers = f"{pool.documents:,} texts  {pool.units / max(seconds, 1e-9):,.0f} units/s"
        self._progress.update(self._task, numbers=numbers)


class AnnotationBar(_Bar):
    """A bar for an annotation; use as a context manager around it.

    Where there is no terminal, a line is printed every half minute.

    Args:
        console: the one that shows the log.
    """

    def __init__(self, console: Console):
        super().__init__(console, "tagging")
        self._console = console
        self._printed = 0.0

    def __enter__(self) -> AnnotationBar:
        self._start()
        return self

    def on_progress(self, progress: AnnotationProgress) -> None:
        """Show how far it is."""
        rate = progress.units / progress.seconds if progress.seconds else 0.0
        each = " ".join(f"{n:,}" for _, n in sorted(progress.by_worker.items()))
        numbers = (
            f"{progress.done:,} of {progress.num_documents:,} documents  {rate:,.0f} units/s  "
            f"by worker: {each}"
        )
        self._progress.update(
            self._task, completed=progress.done, total=progress.num_documents, numbers=numbers
        )
        if not self._is_live and progress.seconds - self._printed >= _EVERY_SECONDS:
            self._printed = progress.seconds
            left = (progress.num_documents - progress.done) * progress.seconds
            left /= max(1, sum(progress.by_worker.values()))
            self._console.print(f"{numbers}  {left:,.0f} s left", soft_wrap=True)
