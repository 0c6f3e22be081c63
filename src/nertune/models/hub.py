"""Models by name: taggers of nertune's on the hub, and where an adapter's base encoder is now."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from nertune.errors import ArtifactError, ModelError
from nertune.storage.encoders import BUNDLED_ENCODERS, bundled_folder, reach_hub, resolve_encoder
from nertune.storage.paths import user_path

__all__ = ["EncoderKind", "encoder_kind", "fetch_artifact", "find_base", "is_hub_name"]

EncoderKind = Literal["", "bundled", "folder", "hub"]
"""What an encoder's name stood for when a tagger was saved; empty where that is not known."""

_MANIFEST = "nertune.json"
_LOG = logging.getLogger("nertune")
_not_ours: set[str] = set()  # hub names that were looked up in this process


def is_hub_name(name: str) -> bool:
    """Whether a name can only be that of a model on the hub."""
    try:
        return name not in BUNDLED_ENCODERS and not Path(resolve_encoder(name)).is_dir()
    except ModelError:
        return False


def fetch_artifact(name: str, *, graphs: bool = False) -> Path | None:
    """The folder in the hub's cache of a tagger that nertune saved; `None` if it is another model.

    All files that its manifest names are fetched, so that it is loaded as a folder is. What is in
    the cache is not fetched again, and nothing is where HF_HUB_OFFLINE is set.

    Args:
        name: of a model on the hub.
        graphs: fetch what `nertune export` made of it too.

    Raises:
        ModelError: the hub cannot be reached, and the model is not in its cache.
        ArtifactError: a file of it cannot be fetched.
    """
    if name in _not_ours or not is_hub_name(name):
        return None
    reach_hub(name)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
    )

    try:
        manifest = Path(hf_hub_download(name, _MANIFEST))
    except RemoteEntryNotFoundError:
        _not_ours.add(name)
        return None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return None  # whoever loads it as anybody's model says what is wrong
    folder = manifest.parent
    for place in _fetch_parts(name, manifest) or [""]:
        for file in _named_files(folder / place / _MANIFEST):
            _fetch(name, place + file, folder.name)
        if graphs:
            _fetch_graphs(name, folder, place)
    return folder


def _fetch_parts(name: str, manifest: Path) -> list[str]:
    """Where the parts of an extended model are, each with a slash; their manifests are fetched."""
    try:
        values = json.loads(manifest.read_text(encoding="utf-8"))
        places = [f"parts/{number}/" for number in range(len(values.get("parts", ())))]
    except (OSError, ValueError, TypeError, AttributeError):  # its reader says what is damaged
        return []
    for place in places:
        _fetch(name, place + _MANIFEST, manifest.parent.name)
    return places


def _named_files(manifest: Path) -> list[str]:
    """What a manifest names; nothing where it is damaged, which its reader says."""
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [file for file in files if Path(file).name == file] if isinstance(files, dict) else []


def _fetch(name: str, file: str, revision: str) -> None:
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, file, revision=revision)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"{name}: {file}, which its {_MANIFEST} names, cannot be fetched from the hub and is "
            f"not in its cache ({reason})"
        ) from error


def _fetch_graphs(name: str, folder: Path, place: str = "") -> None:
    from huggingface_hub import hf_hub_download

    parity = f"{place}onnx/parity.json"
    try:
        hf_hub_download(name, parity, revision=folder.name)
        graphs = json.loads((folder / parity).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # `artifacts.graphs.find_graph` says what is missing
    for file in graphs:
        if Path(file).name == file:
            _fetch(name, f"{place}onnx/{file}", folder.name)


def encoder_kind(name: str) -> EncoderKind:
    """What an encoder's name stands for here and now; empty where it stands for nothing."""
    try:
        location = Path(resolve_encoder(name))
    except ModelError:
        return ""
    if name in BUNDLED_ENCODERS and location == bundled_folder(name):
        return "bundled"
    return "folder" if location.is_dir() else "hub"


def find_base(
    artifact: Path,
    recorded: str,
    sha256: str,
    *,
    kind: EncoderKind = "",
    encoder: str | None = None,
    hash_of: Callable[[str], str],
) -> str:
    """Where the encoder that an adapter belongs to is; its hash decides.

    A folder is looked for from the working folder and from those above the adapter, then among the
    bundled encoders, then on the hub, unless its name was that of a folder.

    Args:
        artifact: the adapter's folder.
        recorded: the encoder's name when the adapter was saved.
        sha256: the hash of its weights (`artifacts.manifest.hash_encoder`).
        kind: what the name stood for.
        encoder: where the user says it is; nothing else is tried then.
        hash_of: gives an encoder's hash.

    Raises:
        ArtifactError: it is nowhere, or what is there is another one.
    """
    others: list[tuple[str, str]] = []
    reasons: list[str] = []
    for name in [encoder] if encoder else _places(artifact, recorded, kind):
        try:
            actual = hash_of(name)
        except ModelError as error:
            reasons.append(str(error))
            continue
        if actual == sha256:
            if not encoder and name != recorded and resolve_encoder(name) != recorded:
                _LOG.info("%s: its base encoder %s is %s, by its hash", artifact, recorded, name)
            return name
        others.append((name, actual))
    expected = f"sha256 {sha256[:12]}…"
    told = [(n, a) for n, a in others if n not in BUNDLED_ENCODERS or n in (encoder, recorded)]
    if told:
        name, actual = told[0]
        raise ArtifactError(
            f"{artifact}: the base encoder {name!r} is not the one that this adapter was trained "
            f"on (sha256 {actual[:12]}…, expected {sha256[:12]}…); name that one with --encoder "
            "(in Python encoder=), or train the adapter again"
        )
    reason = f": {reasons[0]}" if reasons else ", and no folder of that name is here"
    raise ArtifactError(
        f"{artifact}: this adapter needs its base encoder {recorded!r} ({expected}){reason}; say "
        "where it is now with --encoder (in Python encoder=)"
    )


def _places(artifact: Path, recorded: str, kind: EncoderKind) -> Iterator[str]:
    path = user_path(recorded)
    if path.is_dir():
        yield recorded
    if not path.is_absolute():
        for parent in artifact.resolve().parents:
            if any((parent / path / f).is_file() for f in ("config.json", "adapter_config.json")):
                yield str(parent / path)
    yield from (str(bundled_folder(n)) if user_path(n).is_dir() else n for n in BUNDLED_ENCODERS)
    if kind != "folder" and recorded not in BUNDLED_ENCODERS and is_hub_name(recorded):
        yield recorded
