"""Training in child processes that die by SIGKILL at a chosen moment.

The children are forked by a server that has imported the heavy libraries once, so each of them
costs a few hundredths of a second instead of several seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from nertune.config.run import Settings

__all__ = ["KILLED", "Bomb", "kill_when", "train_in_child"]

KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Bomb:
    """Kills the process at the n-th call of a function.

    Attributes:
        place: `module:function` or `module:Class.method`.
        call: the call that it does not survive, counted from 1.
        after: whether the function does its work first.
        half_file: which argument is a path of which half is written before; -1 for none.
    """

    place: str
    call: int = 1
    after: bool = False
    half_file: int = -1


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nertune.experiments.train", "peft", "accelerate"])
    return context


def train_in_child(settings: Settings, *, resume: bool = False, bomb: Bomb | None = None) -> int:
    """Train in a process of its own; its exit code, `KILLED` where the bomb went off."""
    process = _start(settings, resume, bomb)
    process.join(120)
    assert process.exitcode is not None, "the child hangs"
    return int(process.exitcode)


def kill_when(settings: Settings, moment: Callable[[], bool], *, resume: bool = False) -> int:
    """Train in a process of its own and send it SIGKILL as soon as `moment()` is true."""
    process = _start(settings, resume, None)
    deadline = time.monotonic() + 120
    while process.is_alive() and not moment():
        assert time.monotonic() < deadline, "the moment does not come"
        time.sleep(0.001)
    process.kill()
    process.join(60)
    assert process.exitcode is not None
    return int(process.exitcode)


def _start(settings: Settings, resume: bool, bomb: Bomb | None) -> Any:
    process = _context().Process(target=_train, args=(settings.to_dict(), resume, bomb))
    process.start()
    return process


def _train(values: dict[str, Any], resume: bool, bomb: Bomb | None) -> None:
    from rich.console import Console

    from nertune.cli.log import show_log
    from nertune.config.run import parse_settings
    from nertune.experiments.train import train

    folder = Path(values["run"]["dir"])
    with ExitStack() as stack, folder.with_name("stderr.txt").open("a") as stream:
        if bomb is not None:
            stack.enter_context(_armed(bomb))
        stack.enter_context(show_log(Console(file=stream)))
        train(parse_settings(values), score_test=True, resume=resume)


def _armed(bomb: Bomb) -> Any:
    module_name, _, path = bomb.place.partition(":")
    owner: Any = import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    function = getattr(owner, name)
    calls = 0

    def explode(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < bomb.call:
            return function(*args, **kwargs)
        if bomb.after or bomb.half_file >= 0:
            function(*args, **kwargs)
        if bomb.half_file >= 0:
            path = Path(args[bomb.half_file])
            os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    return patch.object(owner, name, explode)
