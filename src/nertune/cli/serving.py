"""The command that serves taggers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nertune.cli.log import notify
from nertune.cli.options import Device, EncoderOption, stderr
from nertune.errors import ConfigError

__all__ = ["serve"]


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Folders or hub names, as NAME=MODEL where the name should be another; the first "
            "one answers requests that name none.",
        ),
    ],
    models_folder: Annotated[
        Path | None,
        typer.Option("--models", help="A folder whose models may be loaded by name later."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="A folder for what annotators finish in Label Studio and INCEpTION; without one "
            "it is refused.",
        ),
    ] = None,
    encoder: EncoderOption = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    device: Device = "auto",
    backend: Annotated[str, typer.Option(help="torch, onnx or onnx-int8.")] = "torch",
    slots: Annotated[
        int, typer.Option(min=1, help="Adapters in memory at once; the others wait on disk.")
    ] = 16,
    threads: Annotated[
        int, typer.Option(min=0, help="Of the CPU, for computing; 0 leaves it to torch.")
    ] = 0,
    admin_key: Annotated[
        str,
        typer.Option(
            envvar="NERTUNE_ADMIN_KEY",
            show_envvar=True,
            show_default=False,
            help="For requests that load and unload models; without one they are refused.",
        ),
    ] = "",
    max_text: Annotated[int, typer.Option(min=1, help="Characters of a text, at most.")] = 100_000,
    max_texts: Annotated[int, typer.Option(min=1, help="Texts of a request, at most.")] = 256,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a body, at most.")] = 2 << 20,
    batch_tokens: Annotated[
        int, typer.Option(min=0, help="Of a full batch; 0: as many as take half a second.")
    ] = 0,
    deadline: Annotated[
        float, typer.Option(min=0.1, help="Seconds until a request is given up.")
    ] = 30.0,
    drain: Annotated[
        float, typer.Option(min=0.1, help="Seconds for accepted requests after SIGTERM.")
    ] = 60.0,
) -> None:
    """Answer requests for entities over HTTP; a page to try it stands at /."""
    from nertune.inference.mixed.encoder import MIXED_BACKENDS
    from nertune.serving.limits import Limits
    from nertune.serving.start import (
        Computing,
        Folders,
        Place,
        name_models,
        read_keys,
        serve_models,
    )

    if backend not in MIXED_BACKENDS:
        raise ConfigError(f"--backend {backend!r}: expected {', '.join(MIXED_BACKENDS)}")
    serve_models(
        name_models(models),
        Place(host, port),
        Computing(encoder, device, backend, slots, threads),
        keys=read_keys(admin_key),
        limits=Limits(
            max_body_bytes=max_body, max_characters=max_text, max_texts=max_texts,
            batch_tokens=batch_tokens, deadline_seconds=deadline, drain_seconds=drain,
        ),
        folders=Folders(models_folder, annotations),
        say=lambda line: notify(stderr(), line),
    )  # fmt: skip
