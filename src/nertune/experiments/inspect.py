"""What one should know about a data set before training on it: `nertune data inspect`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from nertune.data.corpus import Corpus
from nertune.data.duplicates import Duplicates, Leakage, find_duplicates, find_leakage
from nertune.data.formats.values import TagRepair
from nertune.data.label_sets import describe_scopes
from nertune.data.statistics import Lengths, Statistics, describe, summarize_lengths
from nertune.errors import DataError
from nertune.labels.align import LostEntity
from nertune.labels.schemes import Scheme
from nertune.labels.tagset import TagSet
from nertune.models.heads.base import Head, find_misfits
from nertune.storage.encoders import resolve_encoder
from nertune.tokens.tokenizer import CharTokenizer, Tokenizer, encode_document, load_tokenizer
from nertune.tokens.units import Unit, UnitChoice, choose_unit
from nertune.types import Document

__all__ = ["FileInspection", "Inspection", "ModelFit", "inspect_corpora"]


@dataclass(frozen=True, slots=True)
class ModelFit:
    """How a model's tokenizer copes with a corpus.

    Attributes:
        unit: what was labelled: characters or words.
        pieces: the documents' lengths in tokens.
        window_pieces: the most tokens of text that one window takes; `None` if not known.
        longer_than_window: how many documents need several windows (nothing is cut off).
        lost: every entity that the units cannot express as it is, so that it will be missed.
    """

    unit: Unit
    pieces: Lengths
    window_pieces: int | None
    longer_than_window: int
    lost: tuple[LostEntity, ...]


@dataclass(frozen=True, slots=True)
class FileInspection:
    """What one file holds.

    Attributes:
        name: its name, distinct among the inspected files.
        path: where it is.
        format: the name of its format.
        scheme: the tag scheme of a CoNLL file.
        join: what joins its tokens; `None` for JSONL.
        statistics: counts.
        duplicates: texts that it holds more than once.
        repairs: tags that were repaired.
        notices: what was said while reading.
        scopes: how many documents are partially labelled, and for what (`describe_scopes`).
        fit: how the model's tokenizer copes; `None` if no model was asked for.
    """

    name: str
    path: Path
    format: str
    scheme: Scheme | None
    join: str | None
    statistics: Statistics
    duplicates: Duplicates
    repairs: tuple[TagRepair, ...]
    notices: tuple[str, ...]
    scopes: dict[str, Any]
    fit: ModelFit | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What several files hold, each and among them.

    Attributes:
        files: one per corpus, in the order given.
        leakage: for each pair of them, the later one's documents that stand in the earlier one.
        model: the model whose tokenizer was tried.
        warnings: where the files do not fit each other.
    """

    files: tuple[FileInspection, ...]
    leakage: tuple[Leakage, ...]
    model: str | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        content = asdict(self)
        for file in content["files"]:
            file["path"] = str(file["path"])
            if file["fit"] is not None:
                for lost in file["fit"]["lost"]:
                    lost["entity"].pop("score")
        return content


def inspect_corpora(
    corpora: Sequence[Corpus],
    *,
    model: str | None = None,
    unit: UnitChoice = "auto",
    max_pieces: int | None = None,
) -> Inspection:
    """Describe corpora, find what they share, and what a model's tokenizer cannot express.

    Args:
        corpora: the files, e.g. train, dev and test.
        model: an encoder's bundled name, folder or hub name, or a folder that nertune wrote,
            which knows its own unit and window; `None` leaves that part out.
        unit: what an encoder is to label; `auto` decides by the texts of all files.
        max_pieces: an encoder's longest input, special tokens counted; by default the smaller
            of what its tokenizer and its position embeddings allow.

    Raises:
        DataError: no corpus is given.
        TokenizerError, ModelError: the model's tokenizer cannot be loaded.
    """
    if not corpora:
        raise DataError("nothing to inspect: expected at least one file")
    names = _distinct_names([corpus.path for corpus in corpora])
    reader = None
    if model is not None:
        chosen = choose_unit((d for corpus in corpora for d in corpus.documents), unit)
        reader = _load_reader(model, chosen, max_pieces)
    files = [
        _inspect_file(name, corpus, None if reader is None else _fit(corpus, reader))
        for name, corpus in zip(names, corpora, strict=True)
    ]
    leakage = [
        find_leakage(a.documents, b.documents, source_name=source, target_name=target)
        for (source, a), (target, b) in combinations(zip(names, corpora, strict=True), 2)
    ]
    return Inspection(tuple(files), tuple(leakage), model, tuple(_warnings(files)))


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _inspect_file(name: str, corpus: Corpus, fit: ModelFit | None) -> FileInspection:
    return FileInspection(
        name=name,
        path=corpus.path,
        format=corpus.format,
        scheme=corpus.scheme,
        join=None if corpus.joined == "auto" else corpus.join,
        statistics=describe(corpus.documents),
        duplicates=find_duplicates(corpus.documents),
        repairs=corpus.repairs,
        notices=corpus.notices,
        scopes=describe_scopes(corpus.documents),
        fit=fit,
    )


class _Reader(NamedTuple):
    """How a model reads text; `max_pieces` is `None` where nothing bounds it.

    A trained model has the heads, one for each part, that say which gold it can express; else there
    is a flat one.
    """

    tokenizer: Tokenizer
    unit: Unit
    max_pieces: int | None
    heads: tuple[Head, ...] = ()


def _load_reader(model: str, unit: Unit, max_pieces: int | None) -> _Reader:
    """The tokenizer, unit and window of a folder that nertune wrote, or of any encoder."""
    from nertune.artifacts.extended import find_parts
    from nertune.artifacts.load import load_head
    from nertune.artifacts.manifest import own_folder

    if (found := own_folder(model)) is not None:
        parts = find_parts(found)
        folder, manifest = parts.folders[0], parts.manifests[0]
        is_lstm = manifest.emitter == "lstm"
        own: Tokenizer = (
            CharTokenizer.from_file(folder / "chars.txt", manifest.unit)
            if is_lstm
            else load_tokenizer(folder, manifest.encoding)
        )
        heads = tuple(
            load_head(place, one, TagSet(one.tags, one.scheme))
            for place, one in zip(parts.folders, parts.manifests, strict=True)
        )
        longest = min(one.max_pieces for one in parts.manifests)
        return _Reader(own, manifest.unit, longest, heads)
    from nertune.models.build import LONGEST_DEFAULT_WINDOW

    tokenizer = load_tokenizer(model)
    limits = [tokenizer.max_pieces, _position_limit(model), LONGEST_DEFAULT_WINDOW]
    limit = min((limit for limit in limits if limit is not None), default=None)
    return _Reader(tokenizer, unit, max_pieces or limit)


def _position_limit(model: str) -> int | None:
    """The longest input that the model's position embeddings allow, without its weights."""
    import torch
    from transformers import AutoConfig, AutoModel

    from nertune.models.encoder import position_limit

    try:
        config = AutoConfig.from_pretrained(resolve_encoder(model), trust_remote_code=False)
        with torch.device("meta"):
            skeleton = AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
            return position_limit(skeleton)
    except (OSError, ValueError, KeyError):  # e.g. an adapter's folder, which has no config
        return None


def _fit(corpus: Corpus, reader: _Reader) -> ModelFit:
    tokenizer, unit, max_pieces, heads = reader
    num_special = len(tokenizer.prefix_ids) + len(tokenizer.suffix_ids)
    window = None if max_pieces is None else max(max_pieces - num_special, 0)
    lengths: list[int] = []
    lost: list[LostEntity] = []
    for document in corpus.documents:
        encoding = encode_document(document, tokenizer, unit)
        lengths.append(encoding.num_pieces)
        missed = _find_misfits(document, encoding.units, heads)
        lost += sorted(missed, key=lambda item: item.entity.key)
    longer = 0 if window is None else sum(length > window for length in lengths)
    return ModelFit(unit, summarize_lengths(lengths), window, longer, tuple(lost))


def _find_misfits(
    document: Document, units: Sequence[tuple[int, int]], heads: Sequence[Head]
) -> list[LostEntity]:
    """The gold that none of a model's heads can express; each looks at its own labels."""
    found: list[LostEntity] = []
    left = [*document.entities]
    for head in heads:
        own = [entity for entity in left if entity.label in head.tagset.labels]
        left = [entity for entity in left if entity.label not in head.tagset.labels]
        for items in find_misfits(document.with_entities(own), units, head):
            found += items
    for items in find_misfits(document.with_entities(left), units):
        found += items
    return found


def _warnings(files: Sequence[FileInspection]) -> Iterable[str]:
    """Where files that belong together were read in ways that do not fit each other."""
    joins = {file.name: file.join for file in files if file.join is not None}
    if len(set(joins.values())) > 1:
        ways = ", ".join(f"{n} {'with' if j else 'without'} a space" for n, j in joins.items())
        yield f"tokens are joined in two ways: {ways}; say which with join none or join space"
    if len(files) > 1:
        known = set(files[0].statistics.entities)
        for file in files[1:]:
            if new := sorted(set(file.statistics.entities) - known):
                yield f"{file.name} has labels that {files[0].name} has not: {', '.join(new)}"
    by_hash: dict[str, str] = {}
    for file in files:
        first = by_hash.setdefault(file.statistics.sha256, file.name)
        if first != file.name:
            yield f"{file.name} has the same content as {first}"
