"""What a trained tagger is on disk.

    model/
    ├── nertune.json            what it is: see `Manifest`
    ├── README.md               model card
    ├── tokenizer.json, …       or chars.txt for an LSTM
    ├── crf.safetensors         the weights of a head that has some, by its name
    └── a full encoder:          config.json, model.safetensors   (transformers' own files)
        with LoRA:               adapter_config.json, adapter_model.safetensors   (peft's own)
                                 base/: the base encoder with the labels, for plain peft
        an LSTM:                 model.safetensors
    └── onnx/                  after `nertune export`: graphs, and parity.json that admits them

A part of an extended model (`artifacts.parts`) may hold its head alone: head.safetensors.

Plain transformers and plain peft load these folders; nertune also loads token-classification
folders that it did not write. No pickle is ever read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import nertune
from nertune.artifacts.parts import EXTENDED_FORMAT, Extended, parse_extended
from nertune.config.run import LstmSettings, Tuning
from nertune.data.corpus import Reading
from nertune.errors import ArtifactError, ModelError
from nertune.labels.schemes import Scheme
from nertune.labels.tagset import TagSet
from nertune.models.heads.calibration import Calibration
from nertune.models.hub import EncoderKind, fetch_artifact, find_base
from nertune.storage.atomic import recover_folder
from nertune.storage.encoders import encoder_weights, resolve_encoder
from nertune.storage.files import hash_file, shorten
from nertune.storage.hashing import hash_once
from nertune.tokens.tokenizer import EncodingStyle
from nertune.tokens.units import Unit

__all__ = [
    "ADAPTED",
    "FORMAT_VERSION",
    "HEAD_ALONE_FORMAT",
    "MANIFEST",
    "MARK",
    "Manifest",
    "adapter_base",
    "adapter_folder",
    "agreed_reading",
    "base_encoder",
    "hash_encoder",
    "manifest_text",
    "own_folder",
    "parse_manifest",
    "read_manifest",
    "trained_reading",
    "weight_hashes",
]

FORMAT_VERSION = 2
"""Of what is written. Version 2 says how the tokenizer encodes units, which readers of version 1
would pass over; both versions are read. A calibration does not raise it: a version of nertune that
knows none finds the same entities, and shows their scores as the model gives them."""
HEAD_ALONE_FORMAT = EXTENDED_FORMAT
"""Of a part that holds its head alone."""
_READ_VERSIONS = (1, 2)
MANIFEST = "nertune.json"
MARK = "nertune_manifest"  # in config.json
ADAPTED = ("lora", "peft")  # whose folder holds an adapter alone


class Manifest(BaseModel):
    """`nertune.json`.

    Attributes:
        format: version of this layout.
        nertune: version of the library that wrote it.
        emitter, tuning, decoder: what it is.
        unit, max_pieces, stride: how it reads text.
        tags, scheme: what its outputs stand for, in order.
        encoder: the base encoder's name as the recipe had it; empty for an LSTM.
        encoder_kind: what that name stood for; empty in older folders.
        encoder_sha256: hash over the base encoder's weight files; checked for adapters.
        start_from, start_sha256: the model that its run started from and the hash over its
            weights; empty for one that started with an encoder alone.
        encoding: how its tokenizer encodes units; what says nothing is of version 0.1.0.
        tokenizer_sha256: `Tokenizer.fingerprint`.
        head_alone: whether the folder holds a head without its frozen encoder.
        lstm: the LSTM's shape.
        calibration: of its probabilities; `None` in older folders, and where there was no dev data
            to fit one.
        settings, data, metrics: of the run that trained it, for the reader.
        files: sha256 of every file in the folder but this one and the model card.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: int
    nertune: str
    emitter: Literal["encoder", "lstm"]
    tuning: Tuning
    decoder: str = Field(pattern="^[a-z][a-z0-9_-]*$")
    unit: Unit
    max_pieces: int = Field(ge=1)
    stride: int = Field(ge=0)
    tags: tuple[str, ...]
    scheme: Scheme = "BIO"
    encoder: str = ""
    encoder_kind: EncoderKind = ""
    encoder_sha256: str = ""
    start_from: str = ""
    start_sha256: str = ""
    encoding: EncodingStyle = "isolated"
    tokenizer_sha256: str
    head_alone: bool = False
    lstm: LstmSettings | None = None
    calibration: Calibration | None = None
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    files: dict[str, str] = {}

    @property
    def needs_base(self) -> bool:
        """Whether the encoder is not in the folder: there is an adapter, or a head alone."""
        return self.head_alone or (self.tuning in ADAPTED and self.emitter == "encoder")

    @property
    def is_calibrated(self) -> bool:
        """Whether scores of entities differ from the head's own probabilities."""
        return self.calibration is not None and self.calibration.changes_spans

    @property
    def reading(self) -> Reading:
        """How its training file was read; `auto` for what an older version did not write down."""
        return Reading.from_record(self.data.get("train") or {})

    def was_trained_on(self, sha256: str) -> bool:
        """Whether this is the content hash of its training file."""
        return (self.data.get("train") or {}).get("sha256") == sha256

    @model_validator(mode="after")
    def _fits(self) -> Manifest:
        TagSet(self.tags, self.scheme)  # raises for tags that are no tags
        if self.emitter == "lstm" and self.lstm is None:
            raise ValueError("the shape of the LSTM is missing")
        return self


def hash_encoder(name: str) -> str:
    """sha256 over an encoder's safetensors files, in the order of their names.

    Raises:
        ModelError: it has none.
    """
    files = encoder_weights(name)
    if not files:
        raise ModelError(
            f"{name}: holds no safetensors weights of its own; convert it once: load it with "
            "transformers, save_pretrained it to a folder, and name that"
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(bytes.fromhex(hash_once(file)))
    if (adapter := adapter_folder(name)) is not None and (adapter / MANIFEST).is_file():
        # What it is merged into belongs to the weights as well.
        digest.update(parse_manifest(adapter / MANIFEST).encoder_sha256.encode("ascii"))
    return digest.hexdigest()


def adapter_folder(encoder: str) -> Path | None:
    """The folder behind an encoder's name where it holds an adapter and no encoder."""
    folder = Path(resolve_encoder(encoder))
    return folder if (folder / "adapter_config.json").is_file() else None


def adapter_base(name: str) -> str | None:
    """The encoder that an adapter saved by nertune belongs to; `None` if a name means no adapter.

    Where that is an adapter's folder in turn, what lies below all of them.
    """
    base = None
    while (folder := adapter_folder(name)) is not None and (folder / MANIFEST).is_file():
        base = name = base_encoder(folder, parse_manifest(folder / MANIFEST))
    return base


def own_folder(name: str, *, graphs: bool = False) -> Path | None:
    """The folder that nertune wrote: this one, `model/` in a run's, or one in the hub's cache.

    Args:
        name: a folder or a hub name; a tagger of nertune's on the hub is fetched whole.
        graphs: of the hub, fetch what `nertune export` made too.

    Returns:
        `None` for all other models.

    Raises:
        ModelError: the name cannot be one, or is nowhere here and the hub cannot be reached.
        ArtifactError: a file of a tagger on the hub cannot be fetched.
    """
    try:
        folder = Path(name).expanduser()
        for replaced in (folder, folder / "model"):
            if replaced.name:
                recover_folder(replaced)
        found = [f for f in (folder, folder / "model") if (f / MANIFEST).is_file()]
    except (OSError, RuntimeError) as error:  # a name too long for a file, an unknown ~user
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{shorten(name)}: cannot be a model's folder or hub name ({reason})"
        ) from error
    return found[0] if found else fetch_artifact(name, graphs=graphs)


def trained_reading(name: str) -> Reading:
    """How a model's training file was read, so that others are read alike.

    Args:
        name: a folder, or any other name of a model, for which nothing is known.

    Raises:
        ArtifactError: the folder is damaged.
        ModelError: the name cannot be one, or is nowhere here and the hub cannot be reached.
    """
    folder = own_folder(name)
    if folder is None:
        return Reading()
    if (extended := parse_extended(folder / MANIFEST)) is not None:
        parts = [folder / part.folder / MANIFEST for part in extended.parts]
        return agreed_reading([parse_manifest(part).reading for part in parts])
    return parse_manifest(folder / MANIFEST).reading


def agreed_reading(readings: Sequence[Reading]) -> Reading:
    """How files were read, wherever all were read alike; `auto` for the rest."""
    agreed = {
        name: values.pop()
        for name in ("scheme", "join", "offsets")
        if len(values := {getattr(reading, name) for reading in readings}) == 1
    }
    return Reading(**agreed)


def read_manifest(folder: Path) -> Manifest:
    """Read and check `nertune.json` and the files that it names.

    Raises:
        ArtifactError: it is not valid, of another version, or a file is missing or changed.
    """
    manifest = parse_manifest(folder / MANIFEST)
    for name, expected in manifest.files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise ArtifactError(f"{file}: missing; the folder is incomplete, copy it again")
        if hash_file(file) != expected:
            raise ArtifactError(
                f"{file}: is not the file that was saved (its sha256 differs): damaged, cut off or "
                "changed; copy the folder again"
            )
    return manifest


def parse_manifest(path: Path) -> Manifest:
    """Read `nertune.json` alone, without the files that it names.

    Raises:
        ArtifactError: it is not valid, of another version, or of an extended model.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.get("format") if isinstance(values, dict) else None
        if (extended := parse_extended(path)) is not None:
            raise ArtifactError(_one_of_parts(path.parent, extended))
        is_head_alone = version == HEAD_ALONE_FORMAT and values.get("head_alone") is True
        if version not in _READ_VERSIONS and not is_head_alone:
            raise ArtifactError(
                f"{path}: format version {version!r}, but this nertune ({nertune.__version__}) "
                f"reads versions up to {FORMAT_VERSION}; use the nertune that wrote it "
                f"({values.get('nertune', 'unknown') if isinstance(values, dict) else 'unknown'})"
            )
        return Manifest.model_validate(values)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); the folder is damaged") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "its content"
        message = first["msg"].removeprefix("Value error, ")
        raise ArtifactError(f"{path}: {key}: {message}; the folder is damaged") from error


def _one_of_parts(folder: Path, extended: Extended) -> str:
    parts = [f"{folder}/{part.folder} ({', '.join(part.labels)})" for part in extended.parts]
    return (
        f"{folder}: was extended, so it is {len(parts)} models in one, and one is needed here: "
        f"name {' or '.join(parts)}"
    )


def manifest_text(manifest: Manifest) -> str:
    """What `nertune.json` holds; `parse_manifest` reads it."""
    values = manifest.model_dump(mode="json")
    return json.dumps(values, ensure_ascii=False, indent=1) + "\n"


def weight_hashes(manifest: Manifest) -> dict[str, str]:
    """The hashes of a folder's weights, and of the encoder that an adapter belongs to."""
    own = {name: sha for name, sha in manifest.files.items() if name.endswith(".safetensors")}
    return own | ({"encoder": manifest.encoder_sha256} if manifest.needs_base else {})


def base_encoder(folder: Path, manifest: Manifest, encoder: str | None = None) -> str:
    """The base encoder of an adapter, where it is now (`hub.find_base`).

    Raises:
        ArtifactError: it is nowhere, or what is there is another one.
    """
    return find_base(
        folder,
        manifest.encoder,
        manifest.encoder_sha256,
        kind=manifest.encoder_kind,
        encoder=encoder,
        hash_of=hash_encoder,
    )
