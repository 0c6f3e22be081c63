"""The command line: parse, call, print. Heavy libraries load when a command runs."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from typing import Annotated

import typer

from nertune import __version__
from nertune.cli.comparing import advise, compare, sweep
from nertune.cli.data import convert, inspect
from nertune.cli.editing import dedupe, map_, merge, split, view
from nertune.cli.log import show_warnings
from nertune.cli.options import stderr
from nertune.cli.reference import encoders, formats, settings
from nertune.cli.remote import tag
from nertune.cli.scaling import annotate
from nertune.cli.semisupervised.auditing import audit
from nertune.cli.semisupervised.distilling import distill
from nertune.cli.semisupervised.selecting import select
from nertune.cli.semisupervised.self_training import self_train
from nertune.cli.serving import serve
from nertune.cli.tagging import calibrate, evaluate, export, predict
from nertune.cli.training import extend, init, pretrain, train
from nertune.errors import NertuneError

__all__ = ["app", "main"]

app = typer.Typer(
    name="nertune",
    help="Named-entity recognition by fine-tuning: train, evaluate, predict, compare.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    name="data", help="Look into data files, and change them.", no_args_is_help=True
)
app.add_typer(data_app)
for _command in (
    train, evaluate, calibrate, predict, annotate, serve, tag, pretrain, extend, export, compare,
    sweep, advise, select, self_train, distill, init, settings, encoders,
):  # fmt: skip
    app.command()(_command)
for _data_command in (inspect, convert, split, merge, map_, dedupe, audit, view, formats):
    data_app.command(_data_command.__name__.rstrip("_"))(_data_command)

_DISK_HINTS = {
    errno.ENOSPC: "make room, or name a folder on another disk; --resume continues a run",
    errno.EDQUOT: "make room, or name a folder on another disk; --resume continues a run",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "name a file or folder that you may read or write",
}


def main() -> None:
    """Entry point: a `NertuneError` becomes one line on stderr and exit code 2."""
    # Windows consoles and C locales must not turn Chinese into an encoding error.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)  # so that `compare` takes its child with it
    try:
        app()
    except NertuneError as error:
        sys.stderr.write("error: " + " ".join(str(error).split("\n")) + "\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # e.g. `nertune predict … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not (told := _tell_disk(error)):
            raise
        sys.stderr.write(f"error: {told}\n")
        sys.exit(2)


def _tell_disk(error: Exception) -> str:
    """What to do about a disk that is full or may not be written; empty for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # as safetensors says it
        number = int(found[1])
    hint = _DISK_HINTS.get(number or 0)
    if hint is None:
        return ""
    name = getattr(error, "filename", None)
    return f"{f'{name}: ' if name else ''}{os.strerror(number or 0)}: {hint}"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _version(show: bool) -> None:
    if show:
        typer.echo(f"nertune {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Named-entity recognition by fine-tuning: train, evaluate, predict, compare."""
    show_warnings(stderr())
