"""Changed corpora on the disk: in the source's format and layout, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nertune.data.convert import Conversion, convert
from nertune.data.corpus import Corpus
from nertune.data.formats.base import Format, WriteOptions
from nertune.data.formats.recognition import format_of_name
from nertune.data.formats.registry import find_format
from nertune.data.statistics import content_hash
from nertune.errors import ConfigError, DataError
from nertune.storage.atomic import replace_folder
from nertune.storage.compression import packing, unpacked_name
from nertune.types import Document

__all__ = ["Output", "refuse_existing", "refuse_same", "save_parts", "save_whole", "with_documents"]


@dataclass(frozen=True, slots=True)
class Output:
    """How changed documents are written.

    Attributes:
        options: how to write; what belongs to the source's layout is filled in.
        to: the format; `auto` goes by the suffix of a file, else it is the source's.
        check: read what was written again and compare.
        allow_loss: write even if something is lost.
        overwrite: replace files that are there.
    """

    options: WriteOptions
    to: str = "auto"
    check: bool = False
    allow_loss: bool = False
    overwrite: bool = False


def with_documents(corpus: Corpus, documents: Iterable[Document]) -> Corpus:
    """A corpus of other documents that is laid out as this one."""
    held = tuple(documents)
    return replace(corpus, documents=held, sha256=content_hash(held))


def refuse_same(path: Path, sources: Iterable[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        ConfigError: the path is one of these files.
    """
    if path.exists() and path.resolve() in {source.resolve() for source in sources}:
        raise ConfigError(f"{path}: IN and OUT are the same file")


def refuse_existing(paths: Iterable[Path], *, overwrite: bool, sources: Iterable[Path]) -> None:
    """Refuse to write where something is.

    A folder that is a corpus is never replaced: what else lies in it would go. What is no file on
    the disk, e.g. `/dev/stdout`, may be written to.

    Raises:
        ConfigError: a file is there and may not be replaced, or is one that is read.
    """
    read = [*sources]
    for path in paths:
        refuse_same(path, read)
        if path.is_file() and not overwrite:
            raise ConfigError(f"{path} exists already: name another file, or use --overwrite")
        if path.is_dir() and any(path.iterdir()):
            raise ConfigError(f"{path} is a folder that is not empty: name a new one")


def save_whole(
    corpus: Corpus, target: Path, output: Output, *, sources: Sequence[Path] = ()
) -> Conversion:
    """Write a corpus to one file or folder.

    Args:
        corpus: with the changed documents.
        target: the new file or folder.
        output: how to write it.
        sources: files that were read, besides the corpus's own.

    Raises:
        ConfigError: the target is there already, or its format is unknown.
        DataError: it cannot be written, or no document is left.
    """
    if not corpus.documents:
        raise DataError("no document is left to write", path=corpus.path)
    refuse_existing([target], overwrite=output.overwrite, sources=[corpus.path, *sources])
    format = _find_format(corpus, output.to, target)
    return _convert(corpus, target, format, output)


def save_parts(parts: Mapping[str, Corpus], folder: Path, output: Output) -> dict[str, Conversion]:
    """Write each part of a corpus to a file or folder of its name; all of them or none.

    Args:
        parts: by name, each laid out as the source.
        folder: the folder for them; it may be there already.
        output: how to write them.

    Raises:
        ConfigError: one of the files is there already, or the format is unknown.
        DataError: one cannot be written.
    """
    corpus = next(iter(parts.values()))
    format = _find_format(corpus, output.to, None)
    suffix = _suffix(corpus, format)
    targets = {name: folder / f"{name}{suffix}" for name in parts}
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: expected a folder for {', '.join(parts)}")
    refuse_existing(targets.values(), overwrite=output.overwrite, sources=[corpus.path])
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    found = {}
    try:
        draft.mkdir(parents=True)
        for name, part in parts.items():
            made = _convert(part, draft / targets[name].name, format, output)
            found[name] = replace(made, target=targets[name])
        if not all(made.is_written for made in found.values()):
            return {name: replace(made, is_written=False) for name, made in found.items()}
        _move(draft, folder, [target.name for target in targets.values()])
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", path=folder) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return found


def _move(draft: Path, folder: Path, names: Sequence[str]) -> None:
    if not folder.exists():
        replace_folder(draft, folder)
        return
    for name in names:
        if (draft / name).is_dir():
            replace_folder(draft / name, folder / name)
        else:
            (draft / name).replace(folder / name)


def _convert(corpus: Corpus, target: Path, format: Format, output: Output) -> Conversion:
    options = output.options
    if format.name == corpus.format:
        options = replace(options, style=corpus.style)
    if corpus.scheme is not None:
        options = replace(options, scheme=corpus.scheme)
    return convert(
        corpus,
        target,
        options,
        to=format.name,
        check=output.check,
        allow_loss=output.allow_loss,
    )


def _find_format(corpus: Corpus, name: str, target: Path | None) -> Format:
    """The format that is asked for, or that of the target's suffix, or the source's."""
    if name != "auto":
        return find_format(name, writes=True, option="--to ", also=("auto",))
    own = find_format(corpus.format)
    named = None if target is None else format_of_name(target)
    if target is not None and named is not None and named.writes and named.holds.entities:
        # A .json file of Label Studio becomes another one, though the suffix means JSONL.
        is_alike = _bare_suffix(target) == _bare_suffix(corpus.path)
        return own if is_alike and own.writes else named
    return find_format(corpus.format, writes=True, option="--to ", also=("auto",))


def _bare_suffix(path: Path) -> str:
    return Path(unpacked_name(path.name)).suffix.lower()


def _suffix(corpus: Corpus, format: Format) -> str:
    """What the names of parts end in."""
    if format.container == "folder":
        return ""
    is_file = corpus.path.is_file() and corpus.path.suffix.lower() != ".zip"
    if is_file and format.name == corpus.format:
        packed = packing(corpus.path)
        return Path(corpus.path.name.removesuffix(packed)).suffix + packed
    return format.suffixes[0] if format.suffixes else f".{format.name}"
