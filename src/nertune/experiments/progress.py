"""What a run leaves and says of its progress: `log.jsonl` in its folder, and lines in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from nertune.pretraining.loop import PretrainProgress
from nertune.training.observer import Observer
from nertune.training.progress import EpochReport

__all__ = ["EpochLines", "PretrainLog", "RunLog", "read_log"]

_LOG = logging.getLogger("nertune")
_PREPARED_STEP = 5_000_000  # tokens


class EpochLines(Observer):
    """Logs a line for each epoch."""

    def __init__(self) -> None:
        self._epochs = 0

    def on_begin(self, name: str, epochs: int) -> None:
        self._epochs = epochs

    def on_resume(self, epoch: int, batch: int) -> None:
        _LOG.info("resumed: epoch %d, %d batches done", epoch, batch)

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        scores = ""
        if report.dev is not None:
            scores = (
                f"  dev P {report.dev['precision']:.4f} R {report.dev['recall']:.4f} "
                f"F1 {report.dev['f1']:.4f}{' *' if is_best else ''}"
            )
        _LOG.info(
            "%s",
            f"epoch {report.epoch:>{len(str(self._epochs))}}/{self._epochs}  "
            f"loss {report.loss:.4f}{scores}  {report.seconds:.1f} s  "
            f"{report.tokens_per_second:,.0f} units/s",
        )


class PretrainLog:
    """`log.jsonl` of a pre-training run: a line for every look at the losses.

    The lines before a resumption are among them. A line a minute goes to the log, too.

    Args:
        path: the file.
    """

    _LINE_SECONDS = 60.0

    def __init__(self, path: Path):
        self._path = path
        self._is_new = True
        self._prepared = (0, 0)
        self._shown = 0.0

    def on_preparation(self, block: int, num_tokens: int) -> None:
        """So many tokens of a block of text are ready."""
        position = (block, num_tokens // _PREPARED_STEP)
        if position != self._prepared and position[1]:
            _LOG.info("preparing text, block %d: %s tokens", block, f"{num_tokens:,}")
        self._prepared = position

    def on_steps(
        self, progress: PretrainProgress, total_tokens: int, tokens_per_second: float
    ) -> None:
        """Some steps are done."""
        is_last = progress.tokens >= total_tokens
        if is_last or progress.seconds - self._shown >= self._LINE_SECONDS:
            self._shown = progress.seconds
            _LOG.info("%s", _describe_step(progress, total_tokens, tokens_per_second))
        # At the first look the file begins anew, since the history holds all that counts.
        lines = progress.history if self._is_new else progress.history[-1:]
        with self._path.open("w" if self._is_new else "a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in lines)
        self._is_new = False


def _describe_step(progress: PretrainProgress, total_tokens: int, tokens_per_second: float) -> str:
    newest = progress.history[-1]
    tags = f"  tags {newest['tag_loss']:.4f}" if newest["tag_loss"] else ""
    left = max(total_tokens - progress.tokens, 0) / max(tokens_per_second, 1e-9) / 60
    return (
        f"step {progress.step:,}  {min(1.0, progress.tokens / total_tokens):4.0%}  "
        f"loss {newest['loss']:.4f}{tags}  {tokens_per_second:,.0f} tokens/s  left {left:.0f} min"
    )


class RunLog(Observer):
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
