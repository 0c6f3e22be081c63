"""Load what `nertune export` made of a tagger, without PyTorch and transformers where that goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nertune.artifacts.graphs import is_read_plain, open_graph
from nertune.artifacts.manifest import Manifest, read_manifest
from nertune.errors import ArtifactError, ConfigError
from nertune.labels.tagset import TagSet
from nertune.models.graphs.emitter import GraphEmitter
from nertune.models.graphs.onnx import Backend
from nertune.models.graphs.tagger import GraphTagger
from nertune.models.heads.decoder import read_chain_decoder
from nertune.tokens.plain import load_plain_tokenizer
from nertune.tokens.tokenizer import CharTokenizer, Tokenizer, load_tokenizer
from nertune.tokens.windows import Segmenter, open_segmenter

if TYPE_CHECKING:
    from nertune.models.heads.base import Head

__all__ = ["LoadedGraph", "graph_tagger", "load_exported", "under_head"]


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """An exported tagger with all that it needs to read text and to name what it finds.

    Attributes:
        tagger: computes and decodes.
        segmenter: how it reads text.
        tagset: what its outputs stand for.
        manifest: what its folder says.
    """

    tagger: GraphTagger
    segmenter: Segmenter
    tagset: TagSet
    manifest: Manifest


def load_exported(
    name: str, folder: Path | None, backend: Backend, *, device: str = "auto"
) -> LoadedGraph:
    """A tagger whose logits an exported graph computes; the encoder itself is not read.

    Args:
        name: what the user called it.
        folder: where it is; `None`: it is no folder of nertune's.
        backend: any but `torch`.
        device: `auto` is the CPU.

    Raises:
        ArtifactError: it was not exported so, or is damaged.
        ConfigError: the backend cannot compute on the device.
        MissingDependencyError: its library is not installed.
    """
    if folder is None:
        raise ArtifactError(
            f"{name}: --backend {backend} needs a folder that nertune wrote and exported; "
            "this one is not"
        )
    manifest = read_manifest(folder)
    emitter = open_graph(folder, manifest, backend, _computing_device(device))
    tagset = TagSet(manifest.tags, manifest.scheme)
    tokenizer = _load_tokenizer(folder, manifest)
    try:
        segmenter = open_segmenter(
            tokenizer, manifest.unit, longest=manifest.max_pieces, stride=manifest.stride
        )
    except ConfigError as error:
        raise ArtifactError(f"{folder}: {error}; the folder is damaged") from error
    tagger = graph_tagger(emitter, folder, manifest, tagset)
    return LoadedGraph(tagger, segmenter, tagset, manifest)


def graph_tagger(
    emitter: GraphEmitter, folder: Path, manifest: Manifest, tagset: TagSet
) -> GraphTagger:
    """A graph under the head of a tagger's folder.

    Raises:
        ArtifactError: the head's weights are damaged, or no head of that name is registered here.
    """
    decoder = read_chain_decoder(folder, manifest.decoder, tagset)
    if decoder is not None:
        return GraphTagger(emitter, decoder, decoder.scores)
    from nertune.artifacts.load import load_head_with_weights

    return under_head(emitter, load_head_with_weights(folder, manifest, tagset))


def under_head(emitter: GraphEmitter, head: Head) -> GraphTagger:
    """A graph under any head, which computes with PyTorch.

    Args:
        emitter: computes the logits.
        head: on the CPU.
    """
    import torch

    def scores(logits_BUK: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = head.scores(torch.from_numpy(logits_BUK)).numpy()
        return found

    return GraphTagger(emitter, head, scores)


def _computing_device(name: str) -> str:
    if name in ("auto", "cpu"):
        return "cpu"
    from nertune.models.device import choose_device

    return str(choose_device(name))


def _load_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The folder's tokenizer; without transformers if the export found that to be the same."""
    tokenizer: Tokenizer
    if manifest.emitter == "lstm":
        tokenizer = CharTokenizer.from_file(folder / "chars.txt", manifest.unit)
    elif is_read_plain(folder):
        tokenizer = load_plain_tokenizer(folder, manifest.encoding)
    else:
        tokenizer = load_tokenizer(folder, manifest.encoding)
    if tokenizer.fingerprint() != manifest.tokenizer_sha256:
        raise ArtifactError(f"{folder}: its tokenizer is not the one that the tagger learned with")
    return tokenizer
