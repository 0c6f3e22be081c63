"""Processes that tag chunks, and what is done when one of them dies.

A worker is `python -m nertune.scale.worker`: it reads a task from its standard input and writes the
answer to its standard output, so it ends with the process that started it, however that ends. Each
worker has a thread here that gives it one task at a time and starts it anew if it dies.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nertune
from nertune.errors import NertuneError
from nertune.scale.tasks import Reject, Tagged, Tagging, join_tagged, pack_documents
from nertune.storage.frames import read_frame, write_frame
from nertune.storage.processes import num_cores
from nertune.types import Document

__all__ = ["Done", "LocalWorkers", "WorkerError", "Workers", "default_workers"]

_MOST_DEATHS = 3
"""So often a chunk is given to a worker that dies of it before its documents are tried alone."""
_MOST_DEATHS_IN_A_ROW = 20
_SHOWN = 600  # characters of what a dead worker wrote last


def default_workers(tagging: Tagging, *, on_ray: bool = False) -> int:
    """As many as there are cores for; one on a GPU, which several would only crowd.

    Args:
        tagging: what they do.
        on_ray: Ray's actors get a GPU only where `tagging` names one.

    Raises:
        ModelError: the device is not there.
    """
    if tagging.backend == "torch" and tagging.device != "cpu" and not on_ray:
        from nertune.models.device import choose_device

        if choose_device(tagging.device).type != "cpu":
            return 1
    return max(1, num_cores() // tagging.threads)


class WorkerError(NertuneError):
    """A worker cannot start, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class Done:
    """A tagged chunk, and which worker did it (from 0)."""

    number: int
    worker: int
    tagged: Tagged


class Workers(Protocol):
    """What tags chunks: processes on this machine, or actors of Ray."""

    @property
    def num_workers(self) -> int:
        """How many there are."""
        ...

    def submit(self, number: int, documents: Sequence[Document]) -> None:
        """Give a chunk to whoever is free next; returns at once."""
        ...

    def wait(self) -> Done:
        """The next chunk that is done, in any order.

        Raises:
            NertuneError: the model cannot be loaded, or workers cannot be started.
        """
        ...

    def close(self) -> None:
        """Stop all workers."""
        ...


class LocalWorkers:
    """Processes on this machine.

    Args:
        tagging: what they do.
        num_workers: how many, at least 1.
    """

    def __init__(self, tagging: Tagging, num_workers: int):
        self.num_workers = num_workers
        self._tasks: queue.Queue[tuple[int, Sequence[Document]] | None] = queue.Queue()
        self._done: queue.Queue[Done | NertuneError] = queue.Queue()
        self._threads = [
            _Supervisor(number, tagging, self._tasks, self._done) for number in range(num_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, number: int, documents: Sequence[Document]) -> None:
        """See `Workers`."""
        self._tasks.put((number, documents))

    def wait(self) -> Done:
        """See `Workers`."""
        found = self._done.get()
        if isinstance(found, NertuneError):
            raise found
        return found

    def close(self) -> None:
        """See `Workers`; a chunk that is being tagged is dropped."""
        for thread in self._threads:
            thread.stop()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()


class _Died(Exception):
    """A worker has ended in the midst of a task."""


class _Supervisor(threading.Thread):
    """Keeps one worker at work."""

    def __init__(
        self,
        number: int,
        tagging: Tagging,
        tasks: queue.Queue[tuple[int, Sequence[Document]] | None],
        done: queue.Queue[Done | NertuneError],
    ):
        super().__init__(name=f"nertune-worker-{number}", daemon=True)
        self._number, self._tagging, self._tasks, self._done = number, tagging, tasks, done
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_stopped = False
        self._deaths = 0  # since a chunk was done
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the thread ends)

    def run(self) -> None:
        """Take tasks until there is none left or the worker cannot be started."""
        try:
            self._start()
            while (task := self._tasks.get()) is not None and not self._is_stopped:
                number, documents = task
                self._done.put(Done(number, self._number, self._tag(documents)))
        except NertuneError as error:
            self._done.put(error)
        except _Died:  # while it was being stopped
            pass
        except Exception as error:
            self._done.put(WorkerError(f"worker {self._number + 1}: {error!r}"))
        finally:
            self._end()
            self._log.close()

    def stop(self) -> None:
        """End the worker, whatever it is doing."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def _tag(self, documents: Sequence[Document]) -> Tagged:
        """Tag a chunk; the documents alone of which a worker dies again and again are rejected."""
        told = ""
        for _ in range(_MOST_DEATHS):
            try:
                tagged = self._ask(documents)
                self._deaths = 0
                return tagged
            except _Died:
                told = self._last_words()
                self._deaths += 1
                if self._deaths > _MOST_DEATHS_IN_A_ROW:
                    raise WorkerError(
                        f"worker {self._number + 1} dies of any document{told}"
                    ) from None
                self._restart()
        if len(documents) == 1:
            reason = f"the process that tagged it died {_MOST_DEATHS} times{told}"
            return Tagged(rejects=[Reject(documents[0].id, reason)])
        return join_tagged([self._tag([document]) for document in documents])

    def _ask(self, documents: Sequence[Document]) -> Tagged:
        return Tagged.from_dict(*self._exchange(pack_documents(documents)))

    def _exchange(self, task: Any) -> tuple[Any, bytes]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            write_frame(process.stdin, task)
            answer, data = read_frame(process.stdout)
        except (OSError, EOFError, ValueError) as error:  # a pipe that closed, or was closed
            raise _Died from error
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer, data

    def _restart(self) -> None:
        self._end()
        self._start()

    def _start(self) -> None:
        """Start the worker and have it load the model; again, if it is killed meanwhile."""
        for _ in range(_MOST_DEATHS):
            self._spawn()
            try:
                self._exchange(self._tagging.to_dict())
                return
            except _Died:
                if self._is_stopped:
                    raise
                told = self._last_words()
                self._end()
        raise WorkerError(f"worker {self._number + 1} ended while it loaded the model{told}")

    def _spawn(self) -> None:
        with self._lock:
            if self._is_stopped:
                raise _Died
            self._log.seek(0)
            self._log.truncate()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nertune.scale.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=_environment(),
            )

    def _last_words(self) -> str:
        """How the worker ended, and what it wrote last."""
        assert self._process is not None
        self._process.kill()  # it may have closed its output alone
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._log.seek(0)
        written = " ".join(self._log.read().decode("utf-8", "replace").split())
        shown = written[-_SHOWN:]
        memory = "; is there memory for so many workers? See --workers" if code == -9 else ""
        return f" ({how}{memory}){f': {shown}' if shown else ''}"

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not written any more
                    continue
        process.wait()


def _environment() -> dict[str, str]:
    """That of this process, with the same nertune to import."""
    home = str(Path(nertune.__file__).parents[1])
    path = os.environ.get("PYTHONPATH", "")
    own = f"{home}{os.pathsep}{path}" if path else home
    return {**os.environ, "PYTHONPATH": own, "TOKENIZERS_PARALLELISM": "false"}
