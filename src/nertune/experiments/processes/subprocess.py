"""A run in a process of its own: peak memory is the run's, and one cannot disturb the next."""

from __future__ import annotations

import codecs
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from nertune.errors import TrainingError
from nertune.experiments.processes.engines import LOCAL, RunEngine

__all__ = ["RunRequest", "Runner", "run_in_subprocess", "stop_runs"]

_GRACE_SECONDS = 10.0
_lock = threading.Lock()
_running: list[tuple[subprocess.Popen[bytes], threading.Event]] = []


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run that has to be done.

    Attributes:
        name: the configuration's name.
        recipe: the recipe's file.
        seed: of the run.
        folder: the run's folder, where `record.json` and the predictions have to be afterwards.
        overrides: `section.key=value`, without seed and folder.
        start: `"new"`; or `"resume"` a killed run, or a finished one that has to be scored on test.
        score_test: also score `data.test`; without it that file is not read.
        side_by_side: so many runs are trained at the same time, and share the cores.
        engine: computes it.
        quiet: what it says is not passed on.
    """

    name: str
    recipe: Path
    seed: int
    folder: Path
    overrides: tuple[str, ...]
    start: Literal["new", "resume"]
    score_test: bool = False
    side_by_side: int = 1
    engine: RunEngine = LOCAL
    quiet: bool = False


Runner = Callable[[RunRequest], None]


def run_in_subprocess(request: RunRequest) -> None:
    """Does a run as `python -m nertune train` in a process of its own.

    The run's messages go on to our standard error as they come, unless it is quiet. Ctrl-C ends the
    run too; what it had written stays, so that the next comparison resumes it.

    Raises:
        TrainingError: the run failed.
    """
    command = [sys.executable, "-m", "nertune", "train", str(request.recipe)]
    for override in (
        *request.overrides,
        f"run.seed={request.seed}",
        f"run.dir={json.dumps(str(request.folder), ensure_ascii=False)}",
    ):
        command += ["--set", override]
    command.append("--json")
    if request.start == "resume":
        command.append("--resume")
    if request.score_test:
        command.append("--test")
    beside = request.side_by_side
    prefix = f"{request.name}, seed {request.seed}: " if beside > 1 else ""
    environment = request.engine.environment(beside)
    command = request.engine.command(command)
    code, last_line = _run(command, environment, None if request.quiet else prefix)
    if code:
        raise TrainingError(f"{request.name}, seed {request.seed}: {_reason(code, last_line)}")


def stop_runs(*, at_once: bool) -> None:
    """End all runs that this process has started; each keeps what it has written.

    For runs in threads: an interrupt reaches the main thread alone.

    Args:
        at_once: otherwise they have some seconds first, since a terminal's Ctrl-C has reached them.
    """
    with _lock:
        children = list(_running)
    for child, hushed in children:
        hushed.set()
        if at_once:
            child.terminate()
    for child, _ in children:
        _stop(child)


def _run(
    command: Sequence[str], environment: dict[str, str], prefix: str | None
) -> tuple[int, str]:
    """Exit code and last line on standard error, which is passed on meanwhile if it may be."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    ) as child:
        assert child.stderr is not None
        tail: list[str] = []
        hushed = threading.Event()
        if prefix is None:
            hushed.set()
        pump = threading.Thread(
            target=_pass_on, args=(child.stderr, tail, hushed, prefix or ""), daemon=True
        )
        with _lock:
            _running.append((child, hushed))
        pump.start()
        try:
            code = child.wait()
        except BaseException:
            hushed.set()  # how to go on is said by us: the run alone is not what was asked for
            _stop(child)
            raise
        finally:
            with _lock:
                _running.remove((child, hushed))
            pump.join(timeout=5.0)
    lines = [line.strip() for line in "".join(tail).splitlines()]
    return code, next((line for line in reversed(lines) if line), "")


def _pass_on(stream: IO[bytes], tail: list[str], hushed: threading.Event, prefix: str) -> None:
    """Write what a run says; with a prefix, whole lines, since other runs say something too."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    begun = ""
    while chunk := getattr(stream, "read1", stream.read)(8192):
        text = decoder.decode(chunk)
        shown = text
        if prefix:
            *lines, begun = (begun + text).split("\n")
            shown = "".join(f"{prefix}{line}\n" for line in lines)
        if shown and not hushed.is_set():
            sys.stderr.write(shown)
            sys.stderr.flush()
        tail[:] = ["".join((*tail, text))[-20_000:]]


def _stop(child: subprocess.Popen[bytes]) -> None:
    """A terminal's Ctrl-C has reached the child too: give it time to leave in order."""
    for end in (None, child.terminate, child.kill):
        if end is not None:
            end()
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.wait(timeout=_GRACE_SECONDS)
            return


def _reason(code: int, last_line: str) -> str:
    message = last_line
    for prefix in ("error:", "Error:"):
        message = message.removeprefix(prefix).strip()
    if code == 2 and message:
        return message
    if code < 0:
        with suppress(ValueError):
            name = signal.Signals(-code).name
            hint = " (often: out of memory)" if name == "SIGKILL" else ""
            return (
                f"the run was ended by {name}{hint}; the same command (without --fresh) resumes it"
            )
    return f"the run ended with code {code}" + (f": {message}" if message else "")
