"""The command that asks a server."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from nertune.cli.options import (
    Files,
    FormatOptions,
    InputFormat,
    Join,
    MinScore,
    Output,
    OutputFormat,
    Sentences,
    Texts,
    Whole,
)
from nertune.cli.tagging import given_documents, refuse_same_file
from nertune.errors import ConfigError

__all__ = ["tag"]


def tag(
    texts: Texts = None,
    server: Annotated[
        str,
        typer.Option(
            envvar="NERTUNE_SERVER",
            help="The address of a server, which `nertune serve` starts. NERTUNE_API_KEY is its "
            "key, if it asks for one.",
        ),
    ] = "http://127.0.0.1:8000",
    model: Annotated[
        str | None, typer.Option(help="One of the server's models; by default its first.")
    ] = None,
    file: Files = None,
    format: OutputFormat = None,
    output: Output = None,
    input_format: InputFormat = "auto",
    option: FormatOptions = None,
    join: Join = "auto",
    whole: Whole = False,
    sentences: Sentences = False,
    min_score: MinScore = 0.0,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for an answer of the server.")
    ] = 90.0,
) -> None:
    """Find the entities in texts with a server's model, as `predict` does with one of its own."""
    from nertune.data.formats.values import Join as Joins
    from nertune.inference.output import output_format, save_tagged
    from nertune.serving.client import Client

    if join not in (known := get_args(Joins)):
        raise ConfigError(f"--join {join!r}: expected {', '.join(known)}")
    kind = output_format(format, output)
    refuse_same_file(output, file)
    batches = given_documents(
        texts,
        file,
        input_format=input_format,
        join=cast("Joins", join),
        whole=whole,
        option=option,
    )
    with Client(server, model=model, timeout=timeout) as client:
        tagged = client.tag_batches(batches, by_sentence=sentences, min_score=min_score)
        save_tagged(client, tagged, kind, output)
