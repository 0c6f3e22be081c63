"""Live progress of a run: a bar and a line per epoch on stderr, and `log.jsonl` in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nertune.pretraining.loop import PretrainProgress
from nertune.training.trainer import EpochReport

__all__ = ["PretrainDisplay", "RunLog", "TrainingDisplay", "notify", "read_log", "warn"]


def notify(console: Console, message: str) -> None:
    """One plain line on stderr."""
    console.print(message, markup=False, emoji=False, highlight=False, soft_wrap=True)


def warn(console: Console, message: str) -> None:
    """A line on stderr that stands out: what makes a result say less than it seems to."""
    console.print(
        f"warning: {message}",
        style="bold yellow", markup=False, emoji=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def _bar(console: Console) -> Progress:
    """Description, bar, the field `numbers`, and the time left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[numbers]}"),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )


class TrainingDisplay:
    """Shows epochs as they pass; use as a context manager.

    Args:
        console: where to; a terminal gets a live bar, anything else one line per epoch.
        name: the run.
        epochs: planned.
        logs: are told the same, e.g. `RunLog`.
    """

    def __init__(self, console: Console, name: str, epochs: int, logs: Sequence[Any] = ()):
        self._console = console
        self._epochs = epochs
        self._logs = logs
        self._progress = _bar(console)
        self._task = self._progress.add_task(name, total=None, numbers="")
        self._f1 = ""

    def __enter__(self) -> TrainingDisplay:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:  # elsewhere it would print an empty line
            self._progress.stop()

    def on_resume(self, epoch: int, batch: int) -> None:
        notify(self._console, f"resumed: epoch {epoch}, {batch} batches done")
        for log in self._logs:
            log.on_resume(epoch, batch)

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        numbers = (
            f"epoch {epoch}/{self._epochs}  loss {loss:.4f}{self._f1}  "
            f"{units_per_second:,.0f} tokens/s"
        )
        self._progress.update(
            self._task,
            completed=(epoch - 1) * total + done,
            total=self._epochs * total,
            numbers=numbers,
        )
        for log in self._logs:
            log.on_batch(epoch, done, total, loss, units_per_second)

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        scores = ""
        if report.dev is not None:
            scores = (
                f"  dev P {report.dev['precision']:.4f} R {report.dev['recall']:.4f} "
                f"F1 {report.dev['f1']:.4f}{' *' if is_best else ''}"
            )
            self._f1 = f"  dev F1 {report.dev['f1']:.4f}"
        notify(
            self._console,
            f"epoch {report.epoch:>{len(str(self._epochs))}}/{self._epochs}  "
            f"loss {report.loss:.4f}{scores}  {report.seconds:.1f} s  "
            f"{report.tokens_per_second:,.0f} tokens/s",
        )
        for log in self._logs:
            log.on_epoch(report, is_best=is_best)


_PREPARED_STEP = 100_000  # tokens


class PretrainDisplay:
    """Shows a pre-training run and logs it; use as a context manager.

    Args:
        console: where to; a terminal gets a live bar, anything else a line a minute.
        log: `log.jsonl`: a line for every look at the losses, those before a resume included.
    """

    _LINE_SECONDS = 60.0

    def __init__(self, console: Console, log: Path):
        self._console = console
        self._log = log
        self._started_log = False
        self._prepared = (0, 0)
        self._shown = 0.0
        self._progress = _bar(console)
        self._task = self._progress.add_task("preparing text", total=None, numbers="")

    def __enter__(self) -> PretrainDisplay:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def on_preparation(self, block: int, tokens: int) -> None:
        """So many tokens of a block of text are ready."""
        if (block, tokens // _PREPARED_STEP) == self._prepared:  # not at every line
            return
        self._prepared = (block, tokens // _PREPARED_STEP)
        text = f"block {block}: {tokens:,} tokens"
        self._progress.update(self._task, numbers=text)
        if not self._console.is_terminal and tokens // _PREPARED_STEP % 50 == 49:
            notify(self._console, f"preparing text, {text}")

    def on_steps(
        self, progress: PretrainProgress, total_tokens: int, tokens_per_second: float
    ) -> None:
        """Some steps are done."""
        newest = progress.history[-1]
        tags = f"  tags {newest['tag_loss']:.4f}" if newest["tag_loss"] else ""
        numbers = f"loss {newest['loss']:.4f}{tags}  {tokens_per_second:,.0f} tokens/s"
        self._progress.update(
            self._task,
            description=f"step {progress.step:,}",
            completed=progress.tokens,
            total=total_tokens,
            numbers=numbers,
        )
        is_last = progress.tokens >= total_tokens
        if is_last or progress.seconds - self._shown >= self._LINE_SECONDS:
            self._shown = progress.seconds
            left = max(total_tokens - progress.tokens, 0) / max(tokens_per_second, 1e-9) / 60
            share = min(1.0, progress.tokens / total_tokens)
            notify(
                self._console,
                f"step {progress.step:,}  {share:4.0%}  {numbers}  left {left:.0f} min",
            )
        lines = progress.history if self._log_is_new() else progress.history[-1:]
        with self._log.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in lines)

    def _log_is_new(self) -> bool:
        """At the first look: begin the file anew, since the history holds all that counts."""
        if self._started_log:
            return False
        self._started_log = True
        self._log.write_text("", encoding="utf-8")
        return True


class RunLog:
    """`log.jsonl`: a line for every look at the loss and every epoch.

    Args:
        path: the file; an older one is replaced unless the run is resumed.
        track: gets `(values, step)` too, e.g. accelerate's TensorBoard tracker.
    """

    def __init__(self, path: Path, *, track: Callable[[dict[str, float], int], None] | None = None):
        self._path = path
        self._track = track
        self._step = 0
        self._stream: IO[str] | None = None

    def on_resume(self, epoch: int, batch: int) -> None:
        """Drop what was logged behind the checkpoint, and go on behind it."""
        kept = [line for line in read_log(self._path) if _stands_before(line, epoch, batch)]
        draft = self._path.with_suffix(".draft")
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        draft.replace(self._path)
        self._stream = self._path.open("a", encoding="utf-8")

    def on_batch(
        self, epoch: int, done: int, total: int, loss: float, units_per_second: float
    ) -> None:
        self._step = (epoch - 1) * total + done
        values = {"loss": loss, "tokens_per_second": units_per_second}
        self._write({"event": "batch", "epoch": epoch, "batch": done, "batches": total, **values})
        if self._track is not None:
            self._track({f"train/{k}": v for k, v in values.items()}, self._step)

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        self._write({"event": "epoch", **report.to_dict(), "best": is_best})
        if self._track is not None:
            values = {"epoch/loss": report.loss, "epoch/seconds": report.seconds}
            values |= {f"dev/{k}": v for k, v in (report.dev or {}).items()}
            self._track(values, self._step)

    def _write(self, line: dict[str, Any]) -> None:
        if self._stream is None:
            self._stream = self._path.open("w", encoding="utf-8")
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()


def _stands_before(line: dict[str, Any], epoch: int, batch: int) -> bool:
    """Whether a logged line is part of what the checkpoint at (epoch, batches done) holds."""
    if line["epoch"] != epoch:
        return bool(line["epoch"] < epoch)
    return bool(line.get("batch", float("inf")) <= batch)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a line cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines
