"""What `nertune.json` says of a model that was extended: its parts, and how answers are combined.

    model/
    ├── nertune.json            see `Extended`
    ├── README.md               model card
    └── parts/
        ├── 0/                  the model that was extended, byte for byte
        ├── 1/                  a head, mostly with an adapter, for new types on the same encoder
        └── …                   one more for each time that it was extended

Each part is a folder as `artifacts.manifest` describes it. Where the first part has an encoder of
its own, it is the base encoder of the others; else all have the same base encoder outside.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import nertune
from nertune.errors import ArtifactError
from nertune.tokens.units import Unit

__all__ = [
    "EXTENDED_FORMAT",
    "Extended",
    "Overlap",
    "Part",
    "parse_extended",
    "part_folder",
    "whole_of",
]

_DESCRIPTION = "nertune.json"
EXTENDED_FORMAT = 3
"""Of what is written. Versions of nertune that read up to 2 refuse it: they would use one part."""

Overlap = Literal["keep", "old-wins"]
"""What becomes of a part's entity that overlaps one of the parts before it."""


class Part(BaseModel):
    """One of the models of an extended one.

    Attributes:
        folder: where it is, below the extended model's folder.
        sha256: of its `nertune.json`, which has the hashes of its other files.
        labels: what it finds.
        encoder: what its logits are computed with, for the reader: e.g. `mini-zh, lora`.
        decoder: the name of its head.
        overlap: what becomes of its entities that overlap one of an earlier part.
        bytes: of its files.
        parameters: that were trained for it; 0 where that is not known.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    folder: str
    sha256: str
    labels: tuple[str, ...]
    encoder: str = ""
    decoder: str = ""
    overlap: Overlap = "keep"
    bytes: int = 0
    parameters: int = 0


class Extended(BaseModel):
    """`nertune.json` of an extended model.

    Attributes:
        format: version of this layout.
        nertune: version of the library that wrote it.
        unit: what all parts label, a character or a word.
        parts: at least two; each finds labels that no other finds.
        extends: the folder of the model that was extended last, for the reader.
        metrics: scores by split, for the reader.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: int
    nertune: str
    unit: Unit
    parts: tuple[Part, ...] = Field(min_length=2)
    extends: str = ""
    metrics: dict[str, Any] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """What it finds, the oldest labels first."""
        return tuple(label for part in self.parts for label in part.labels)

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        """For each part but the first what becomes of overlaps."""
        return tuple(part.overlap for part in self.parts[1:])

    @model_validator(mode="after")
    def _fits(self) -> Extended:
        for number, part in enumerate(self.parts):
            if part.folder != part_folder(number):
                raise ValueError(f"part {number} is {part.folder!r}, not {part_folder(number)!r}")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("two parts find the same label")
        return self


def part_folder(number: int) -> str:
    """Where a part is, below the extended model's folder."""
    return f"parts/{number}"


def whole_of(folder: Path) -> Path | None:
    """The folder of the extended model that a folder is a part of; `None` for any other folder."""
    place = folder.resolve()
    whole = place.parent.parent
    if place.parent.name != "parts" or parse_extended(whole / _DESCRIPTION) is None:
        return None
    return whole


def parse_extended(path: Path) -> Extended | None:
    """Read the `nertune.json` of an extended model, without its parts.

    Returns:
        `None` where it is not of an extended model, or cannot be read: `parse_manifest` says why.

    Raises:
        ArtifactError: it is of another version, or damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict) or "parts" not in values:
        return None
    if values.get("format") != EXTENDED_FORMAT:
        raise ArtifactError(
            f"{path}: an extended model of format version {values.get('format')!r}, but this "
            f"nertune ({nertune.__version__}) reads version {EXTENDED_FORMAT}; use the nertune "
            f"that wrote it ({values.get('nertune', 'unknown')})"
        )
    try:
        return Extended.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "its content"
        message = re.sub("^Value error, ", "", first["msg"])
        raise ArtifactError(f"{path}: {key}: {message}; the folder is damaged") from error
