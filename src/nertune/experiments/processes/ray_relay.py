"""A command that runs on a node of Ray as if it ran here: `python -m … JOB`.

Started by `engines.Engine`, not by people. What comes on standard input goes to the command, and
what the command writes comes out here; so does its exit code. Where this process ends, however it
does, the command is ended.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Literal

from nertune.storage.ray_cluster import import_ray

__all__ = ["main", "passed_on"]

_SIZE = 65_536  # bytes at once
# Of the environment, what goes to the node; not in JOB, which other users of the machine see.
_PASSED_ON = ("OMP_NUM_THREADS", "PYTHONPATH", "TOKENIZERS_PARALLELISM")
_PASSED_ON_OF = ("NERTUNE_", "HF_", "TRANSFORMERS_")  # names that begin so
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG, see prctl(2)


class _Process:
    """What Ray runs: a process on a node, and its pipes."""

    def __init__(self, job: dict[str, Any], environment: dict[str, str]):
        command = [sys.executable, *job["command"][1:]]
        self._child = subprocess.Popen(
            command,
            cwd=job["folder"],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_end_with_parent,
        )

    def write(self, data: bytes) -> None:
        """To its standard input; nothing closes it."""
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            if data:
                self._child.stdin.write(data)
                self._child.stdin.flush()
            else:
                self._child.stdin.close()

    def read(self, name: Literal["stdout", "stderr"]) -> bytes:
        """What it has written, at least one byte; nothing at the end."""
        stream: IO[bytes] = getattr(self._child, name)
        return os.read(stream.fileno(), _SIZE)

    def wait(self) -> int:
        return self._child.wait()

    def end(self) -> None:
        self._child.terminate()


def _end_with_parent() -> None:
    """Have the kernel end this process when the actor's process ends (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray's processes block Ctrl-C


def main() -> None:
    """Start the command, pass everything on, and end as it did."""
    job = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ray = import_ray()
    ray.init(address=job["address"], log_to_driver=False, logging_level=logging.ERROR)
    options = {"num_cpus": job["cpus"], "num_gpus": job["gpus"], "max_concurrency": 5}
    actor = ray.remote(_Process).options(**options).remote(job, passed_on(os.environ))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: actor.end.remote())
    threading.Thread(target=_feed, args=(ray, actor), daemon=True).start()
    pumps = [
        threading.Thread(target=_drain, args=(ray, actor, name, target), daemon=True)
        for name, target in (("stdout", sys.stdout.buffer), ("stderr", sys.stderr.buffer))
    ]
    for pump in pumps:
        pump.start()
    try:
        code = _wait(ray, actor)
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        print(f"error: Ray lost the run: {lines[-1] if lines else error}", file=sys.stderr)
        _leave(1)
    for pump in pumps:
        pump.join()
    _leave(code)


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment a run on another node needs."""
    return {
        name: value
        for name, value in environment.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_OF)
    }


def _wait(ray: Any, actor: Any) -> int:
    """The exit code; asked for again and again, since signals are seen between two waits alone."""
    code = actor.wait.remote()
    while True:
        with suppress(ray.exceptions.GetTimeoutError):
            return int(ray.get(code, timeout=0.5))


def _feed(ray: Any, actor: Any) -> None:
    """Standard input, until it is closed."""
    while True:
        data = os.read(sys.stdin.fileno(), _SIZE)
        with suppress(ray.exceptions.RayError):  # told by `main`
            ray.get(actor.write.remote(data))
        if not data:
            return


def _drain(ray: Any, actor: Any, name: str, target: IO[bytes]) -> None:
    """One of its outputs, until the end."""
    with suppress(ray.exceptions.RayError):
        while data := ray.get(actor.read.remote(name)):
            target.write(data)
            target.flush()


def _leave(code: int) -> None:
    """End now with the command's exit code, or by the signal that ended it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
