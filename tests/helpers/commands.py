"""The command line, called in this process: fast, and with the exit code that a shell would see."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import nertune
from nertune.cli import commands as cli

__all__ = ["Outcome", "environment_of_children", "run", "run_process"]


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and the two streams."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The last line of stderr: the message of a user's error."""
        return self.stderr.rstrip("\n").rpartition("\n")[2]


def run(*arguments: object, stdin: bytes = b"") -> Outcome:
    """`nertune ARGUMENTS` through `nertune.cli.commands.main`, its handling of errors included.

    What `main` lets through is a bug, and fails the test with its traceback.
    """
    stdout, stderr = io.BytesIO(), io.BytesIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nertune", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        patch.setattr(sys, "stdout", io.TextIOWrapper(stdout, encoding="utf-8", newline=""))
        patch.setattr(sys, "stderr", io.TextIOWrapper(stderr, encoding="utf-8", newline=""))
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        # Read here: the streams close what is below them when they go.
        return Outcome(code, stdout.getvalue().decode(), stderr.getvalue().decode())


def run_process(
    *arguments: object,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    before: str = "",
) -> Outcome:
    """`nertune ARGUMENTS` as a process of its own.

    Args:
        arguments: of the command.
        stdin: what it reads.
        environment: added to this process's.
        before: Python that runs before `nertune.cli.commands.main`, e.g. to take a library away.
    """
    start = [sys.executable, "-m", "nertune"]
    if before:
        start = [sys.executable, "-c", f"{before}\nfrom nertune.cli.commands import main\nmain()"]
    done = subprocess.run(
        [*start, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=environment_of_children() | dict(environment or {}),
        timeout=240,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment_of_children() -> dict[str, str]:
    """This process's environment, with the nertune under test and one thread."""
    source = str(Path(nertune.__file__).parents[1])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
