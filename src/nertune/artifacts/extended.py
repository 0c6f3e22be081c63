"""Write and read the folder of an extended model (`artifacts.parts`)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nertune
from nertune.artifacts.card import extended_card, model_card
from nertune.artifacts.graphs import EXPORT_FOLDER
from nertune.artifacts.load import HEAD_FILE
from nertune.artifacts.manifest import (
    ADAPTED,
    HEAD_ALONE_FORMAT,
    MANIFEST,
    Manifest,
    base_encoder,
    manifest_text,
    parse_manifest,
    read_manifest,
)
from nertune.artifacts.parts import (
    EXTENDED_FORMAT,
    Extended,
    Overlap,
    Part,
    parse_extended,
    part_folder,
)
from nertune.artifacts.save import open_to_all
from nertune.errors import ArtifactError, ConfigError
from nertune.labels.tagset import TagSet
from nertune.models.encoder import load_encoder
from nertune.models.heads.transfer import head_parameters
from nertune.storage.atomic import replace_folder, write_text
from nertune.storage.encoders import weight_files
from nertune.storage.files import hash_file

__all__ = ["Addition", "Parts", "add_extended_metrics", "find_parts", "save_extended"]

_CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a model: those of an extended one, or the one that any other model is.

    Attributes:
        folder: of the model.
        manifests: what each part is, in order.
        extended: how they are combined; `None` for a model that is not extended.
    """

    folder: Path
    manifests: tuple[Manifest, ...]
    extended: Extended | None = None

    @property
    def folders(self) -> list[Path]:
        """Where the parts are."""
        if self.extended is None:
            return [self.folder]
        return [self.folder / part.folder for part in self.extended.parts]

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model finds."""
        return tuple(label for one in self.manifests for label in _labels(one))

    def locate_base(self, encoder: str | None = None) -> str:
        """The encoder that a further part belongs to: the first part's own, or its base.

        Args:
            encoder: where the user says that the first part's base is.

        Raises:
            ArtifactError: it is nowhere, or another one is in its place.
            ConfigError: the first part has its own encoder, so that none can be named.
        """
        first = self.manifests[0]
        if first.needs_base:
            return base_encoder(self.folders[0], first, encoder)
        if encoder is not None:
            raise ConfigError(f"{self.folder}: has its own encoder, so it takes no --encoder")
        return str(self.folders[0])

    def encoders(self, encoder: str | Path | None) -> list[str | None]:
        """What to load each part with: the base encoder that the user names, where one is outside.

        Raises:
            ConfigError: no part's base encoder is outside.
        """
        outside = [m.needs_base and m.encoder != part_folder(0) for m in self.manifests]
        if encoder is not None and not any(outside):
            raise ConfigError(f"{self.folder}: holds its own encoder, so it takes no --encoder")
        name = None if encoder is None else str(encoder)
        return [name if is_outside else None for is_outside in outside]


@dataclass(frozen=True, slots=True)
class Addition:
    """What a model is extended with.

    Attributes:
        folder: of the new part, as its run saved it.
        overlap: what becomes of its entities that overlap older ones.
        parameters: that were trained for it.
        metrics: scores of the extended model by split, for the reader.
    """

    folder: Path
    overlap: Overlap = "keep"
    parameters: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)


def find_parts(folder: Path) -> Parts:
    """The parts of a model that nertune wrote, each checked with all its files.

    Raises:
        ArtifactError: the folder, or that of a part, is damaged or not complete.
    """
    extended = parse_extended(folder / MANIFEST)
    if extended is None:
        return Parts(folder, (read_manifest(folder),))
    manifests = tuple(_read_part(folder, part) for part in extended.parts)
    for part, manifest in zip(extended.parts, manifests, strict=True):
        if _labels(manifest) != part.labels or manifest.unit != extended.unit:
            raise ArtifactError(
                f"{folder / MANIFEST}: says another thing about {part.folder} than that itself; "
                "the folder is damaged, copy it again"
            )
    return Parts(folder, manifests, extended)


def _read_part(folder: Path, part: Part) -> Manifest:
    file = folder / part.folder / MANIFEST
    if not file.is_file():
        raise ArtifactError(f"{file}: missing; the folder is incomplete, copy it again")
    if hash_file(file) != part.sha256:
        raise ArtifactError(
            f"{file}: is not the part that was saved (its sha256 differs): damaged, or of another "
            "model; copy the folder again"
        )
    return read_manifest(folder / part.folder)


def _labels(manifest: Manifest) -> tuple[str, ...]:
    return TagSet(manifest.tags, manifest.scheme).labels


def save_extended(
    folder: Path, old: Parts, addition: Addition, *, check: Callable[[Path], None]
) -> Extended:
    """Write an extended model's folder under a temporary name, then rename it.

    Args:
        folder: where to; an older one is replaced.
        old: what is extended; its files are copied as they are.
        addition: what it is extended with.
        check: is given the complete folder before it is renamed; what it raises leaves an older
            folder in place.

    Raises:
        ArtifactError: a file of the old model was changed while it was copied.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        parts = _copy_parts(draft, old)
        place = draft / part_folder(len(parts))
        manifest = _write_addition(place, addition.folder, old)
        parts.append(_describe(place, manifest, len(parts), addition.overlap, addition.parameters))
        extended = Extended(
            format=EXTENDED_FORMAT,
            nertune=nertune.__version__,
            unit=manifest.unit,
            parts=tuple(parts),
            extends=str(old.folder),
            metrics=dict(addition.metrics),
        )
        _write_description(draft, extended)
        open_to_all(draft)
        check(draft)
        replace_folder(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return extended


def add_extended_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Note further scores of an extended model, in its description and its model card.

    Args:
        folder: from `save_extended`.
        metrics: scores by split; those of other splits stay.

    Raises:
        ArtifactError: the folder is damaged.
    """
    extended = find_parts(folder).extended
    if extended is None:
        raise ArtifactError(f"{folder}: holds no extended model")
    told = extended.model_copy(update={"metrics": {**extended.metrics, **metrics}})
    _write_description(folder, told)


def _write_description(folder: Path, extended: Extended) -> None:
    values = extended.model_dump(mode="json")
    write_text(folder / MANIFEST, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
    write_text(folder / _CARD, extended_card(extended))


def _copy_parts(draft: Path, old: Parts) -> list[Part]:
    """Copy what the old model's answers depend on, byte for byte, and its exported graphs."""
    known = old.extended.parts if old.extended is not None else [None]
    parts: list[Part] = []
    for number, (source, manifest, part) in enumerate(
        zip(old.folders, old.manifests, known, strict=True)
    ):
        place = draft / part_folder(number)
        _copy(source, place, [*manifest.files, MANIFEST])
        if (source / _CARD).is_file():
            _copy(source, place, [_CARD])
        if (source / EXPORT_FOLDER).is_dir():
            shutil.copytree(source / EXPORT_FOLDER, place / EXPORT_FOLDER)
        copied = read_manifest(place)
        parts.append(part or _describe(place, copied, number, "keep", 0))
    return parts


def _copy(source: Path, place: Path, names: list[str]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, place / name)  # what a link leads to, as in the hub's cache


def _describe(
    place: Path, manifest: Manifest, number: int, overlap: Overlap, parameters: int
) -> Part:
    files = [place / name for name in (*manifest.files, MANIFEST)]
    return Part(
        folder=part_folder(number),
        sha256=hash_file(place / MANIFEST),
        labels=_labels(manifest),
        encoder=f"{manifest.encoder}, {manifest.tuning}",
        decoder=manifest.decoder,
        overlap=overlap,
        bytes=sum(file.stat().st_size for file in files),
        parameters=parameters,
    )


def _write_addition(place: Path, source: Path, old: Parts) -> Manifest:
    """Copy the new part; its base encoder is the first part where that has its own."""
    manifest = read_manifest(source)
    changes: dict[str, Any] = {}
    if not old.manifests[0].needs_base:
        changes |= {"encoder": part_folder(0), "encoder_kind": "folder"}
    if manifest.tuning in ADAPTED:
        _copy(source, place, list(manifest.files))
    else:  # frozen: its encoder is the base encoder
        of_encoder = {file.name for file in weight_files(source)}
        of_encoder.add("model.safetensors.index.json")
        files = [name for name in manifest.files if name not in of_encoder]
        _copy(source, place, files)
        _extract_head(source, place / HEAD_FILE)
        kept = {name: manifest.files[name] for name in files}
        changes |= {
            "format": HEAD_ALONE_FORMAT,
            "head_alone": True,
            "files": kept | {HEAD_FILE: hash_file(place / HEAD_FILE)},
        }
    manifest = manifest.model_copy(update=changes)
    write_text(place / MANIFEST, manifest_text(manifest))
    write_text(place / _CARD, model_card(manifest))
    return parse_manifest(place / MANIFEST)


def _extract_head(source: Path, target: Path) -> None:
    """Write what of a model's weights stands on the encoder, which is not its own."""
    from safetensors.torch import save_file

    found = head_parameters(load_encoder(str(source)))
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, target)
