"""A trial in a process of its own: `python -m nertune.comparison.search.trial_process`.

Started by `run_beside`, not by people. It reads the settings from its standard input, says after
every epoch how it goes and hears whether to go on, and ends with the process that started it.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nertune.errors import NertuneError, TrainingError
from nertune.experiments.processes.engines import LOCAL, RunEngine
from nertune.storage.frames import read_frame, write_frame
from nertune.training.observer import Observer, Pause
from nertune.training.progress import EpochReport

__all__ = ["TrialProcesses", "main"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_SHOWN = 600  # characters of what a process wrote last


@dataclass
class TrialProcesses:
    """Trials that are trained at the same time.

    Attributes:
        workers: how many, which share the cores.
        engine: computes them.
    """

    workers: int
    engine: RunEngine = LOCAL
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_stopped: bool = False

    def train(
        self, settings: dict[str, Any], watch: Observer | None = None, *, resume: bool = False
    ) -> dict[str, Any]:
        """Train in another process; may be called by several threads.

        Args:
            settings: by section, as `parse_settings` takes them.
            watch: is told of every epoch, here; what it raises ends the run, and `Pause` leaves
                it with a checkpoint.
            resume: go on with a killed run.

        Returns:
            The run's record.

        Raises:
            NertuneError: the run cannot be trained, or its process has ended.
            Pause: `watch` asked for it.
        """
        with tempfile.TemporaryFile() as log:
            process = self._start(log)
            try:
                return _follow(process, {"settings": settings, "resume": resume}, watch)
            except (OSError, EOFError) as error:
                process.kill()
                log.seek(0)
                told = " ".join(log.read().decode("utf-8", "replace").split())[-_SHOWN:]
                code = process.wait()
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                raise TrainingError(f"its process has ended ({how}): {told}") from error
            finally:
                process.kill()
                with self._lock:
                    self._running.discard(process)
                for stream in (process.stdin, process.stdout):
                    if stream is not None:
                        stream.close()
                process.wait()

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """What a function that calls `train` gives for each item, in `workers` threads.

        Whatever it raises, or an interrupt, ends all processes.
        """
        with ThreadPoolExecutor(self.workers, "nertune-trial") as pool:
            futures = [pool.submit(function, item) for item in items]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return [future.result() for future in futures]

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopped

    def stop(self) -> None:
        """End all, and start no more."""
        with self._lock:
            self._is_stopped = True
            for process in self._running:
                process.kill()

    def _start(self, log: Any) -> subprocess.Popen[bytes]:
        environment = self.engine.environment(self.workers)
        command = [sys.executable, "-m", "nertune.comparison.search.trial_process"]
        with self._lock:
            if self._is_stopped:
                raise TrainingError("the search was stopped")
            process = subprocess.Popen(
                self.engine.command(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
            self._running.add(process)
            return process


def _follow(
    process: subprocess.Popen[bytes], job: dict[str, Any], watch: Observer | None
) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    write_frame(process.stdin, job)
    while True:
        told, _ = read_frame(process.stdout)
        if "error" in told:
            raise TrainingError(told["error"])
        if "paused" in told:
            raise Pause
        if "record" in told:
            record: dict[str, Any] = told["record"]
            return record
        answer = {"pause": False}
        if watch is not None:
            try:
                watch.on_epoch(EpochReport(**told["epoch"]), is_best=told["is_best"])
            except Pause:
                answer["pause"] = True
        write_frame(process.stdin, answer)


class _Reporter(Observer):
    """Says how it goes, and waits for the answer: where there is none, the process ends."""

    def __init__(self, target: Any, answers: queue.Queue[Any]):
        self._target, self._answers = target, answers

    def on_epoch(self, report: EpochReport, *, is_best: bool) -> None:
        write_frame(self._target, {"epoch": report.to_dict(), "is_best": is_best})
        if self._answers.get()["pause"]:
            raise Pause


def main() -> None:
    """Train what the first frame says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no frame
    frames: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_read, args=(frames,), daemon=True).start()
    job = frames.get()
    values = job["settings"]
    try:
        from nertune.comparison.search.runs import train_quietly
        from nertune.config.run import parse_settings

        settings = parse_settings(values, source=f"trial {Path(values['run']['dir']).name}")
        record = train_quietly(settings, _Reporter(target, frames), resume=job["resume"])
    except Pause:
        write_frame(target, {"paused": True})
    except NertuneError as error:
        write_frame(target, {"error": str(error)})
    else:
        write_frame(target, {"record": record})


def _read(frames: queue.Queue[Any]) -> None:
    """Hand frames over; when the parent has ended, so does this process, whatever it is doing."""
    try:
        while True:
            frames.put(read_frame(sys.stdin.buffer)[0])
    except EOFError:
        os._exit(1)


if __name__ == "__main__":
    main()
