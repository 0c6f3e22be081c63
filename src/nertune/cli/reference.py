"""Commands that say what there is."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from nertune.cli.options import (
    Json,
    print_json,
    stdout,
)

__all__ = ["encoders", "formats", "settings"]


def settings(
    section: Annotated[str, typer.Argument(help="A section, or pretrain; all by default.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="The page of the docs.")] = False,
    as_json: Json = False,
) -> None:
    """List all settings with their types and defaults."""
    from dataclasses import asdict

    from nertune.config.reference import list_settings, settings_markdown

    if markdown:
        sys.stdout.write(settings_markdown())
        return
    found = list_settings(section)
    if as_json:
        print_json({"settings": [asdict(setting) for setting in found]})
        return
    for setting in found:
        default = f" = {setting.default}" if setting.default else " (required)"
        kind = setting.type.replace("`", "")
        lines = [f"{setting.key}{default}", f"    {kind}", f"    {setting.description}"]
        sys.stdout.write("\n".join(line for line in lines if line.strip()) + "\n")


def formats(
    markdown: Annotated[bool, typer.Option("--markdown", help="The page of the docs.")] = False,
    as_json: Json = False,
) -> None:
    """List the formats of data files and what each can hold."""
    from nertune.reports.corpora.formats import formats_markdown, list_formats, print_formats

    if markdown:
        sys.stdout.write(formats_markdown())
    elif as_json:
        print_json({"formats": list_formats()})
    else:
        print_formats(stdout())


def encoders(as_json: Json = False) -> None:
    """List the encoders that come with nertune."""
    from nertune.storage.encoders import BUNDLED_ENCODERS, bundled_folder, encoder_weights

    found = []
    for name in BUNDLED_ENCODERS:
        config = json.loads((bundled_folder(name) / "config.json").read_text(encoding="utf-8"))
        found.append(
            {
                "name": name,
                "type": config["model_type"],
                "layers": config["num_hidden_layers"],
                "hidden_size": config["hidden_size"],
                "vocabulary": config["vocab_size"],
                "bytes": sum(file.stat().st_size for file in encoder_weights(name)),
                "card": str(bundled_folder(name) / "README.md"),
            }
        )
    if as_json:
        print_json({"encoders": found})
        return
    for e in found:
        shape = f"{e['layers']} layers of {e['hidden_size']}, {e['vocabulary']:,} tokens"
        stdout().print(
            f"{e['name']}  {e['type']}, {shape}, {e['bytes'] / 1e6:.1f} MB  {e['card']}",
            soft_wrap=True,
        )
    stdout().print(
        "model.encoder also takes a folder or a hub name, e.g. google-bert/bert-base-chinese",
        soft_wrap=True,
    )
