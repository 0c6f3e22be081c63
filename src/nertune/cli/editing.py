"""Commands that change a corpus or show it: split, merge, map, dedupe, view."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from nertune.cli.options import (
    AllowLoss,
    Check,
    From,
    Join,
    Json,
    OffsetsOption,
    Options,
    OverwriteFiles,
    SchemeOption,
    To,
    ToOptions,
    Unit,
    print_json,
    reading_options,
    stderr,
    stdout,
    writing_options,
)
from nertune.errors import ConfigError

if TYPE_CHECKING:
    from nertune.data.convert import Conversion
    from nertune.data.corpus import Corpus
    from nertune.data.editing.saving import Output
    from nertune.data.formats import ReadOptions

__all__ = ["dedupe", "map_", "merge", "split", "view"]

In = Annotated[str, typer.Argument(metavar="IN", help="A data file or folder; or sample:train.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The new file or folder.")]


class _Flags(NamedTuple):
    to: str
    check: bool
    allow_loss: bool
    overwrite: bool


_LABELS = "OLD=NEW,… renames, OLD= drops a label; or a .toml or .json file of such pairs."


def split(
    source: In,
    folder: Annotated[Path, typer.Argument(metavar="OUT_FOLDER", help="For the files.")],
    sizes: Annotated[
        str, typer.Option(help="Shares, or numbers of documents: train=1000,dev=200.")
    ] = "train=0.8,dev=0.1,test=0.1",
    seed: Annotated[int, typer.Option(help="The same seed gives the same parts.")] = 0,
    group: Annotated[
        str, typer.Option(help="A key of the metadata: texts with the same value stay together.")
    ] = "",
    sentences: Annotated[
        bool, typer.Option("--sentences", help="Part the sentences of one source document.")
    ] = False,
    near: Annotated[
        float, typer.Option(help="Texts from this similarity on stay together: 0.5 to 1 (equal).")
    ] = 0.8,
    from_: From = "auto",
    to: To = "auto",
    check: Check = False,
    allow_loss: AllowLoss = False,
    overwrite: OverwriteFiles = False,
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    option: Options = None,
    to_option: ToOptions = None,
    unit: Unit = "auto",
    as_json: Json = False,
) -> None:
    """Part a corpus: by document, stratified by label, nearly equal texts together."""
    from nertune.data.editing.saving import save_parts, with_documents
    from nertune.data.editing.split import read_sizes, split_documents
    from nertune.reports.corpora.editing import print_split, print_written
    from nertune.reports.terminal import print_lines

    wanted = read_sizes(sizes)
    corpus = _load(source, from_, reading_options(scheme, join, offsets, option))
    found = split_documents(
        corpus.documents, wanted, seed=seed, group=group, sentences=sentences, near=near
    )
    output = _output([corpus], unit, to_option, _Flags(to, check, allow_loss, overwrite))
    parts = {n: with_documents(corpus, part.documents) for n, part in found.parts.items()}
    written = save_parts(parts, folder, output)
    if as_json:
        outputs = {name: made.to_dict() for name, made in written.items()}
        print_json({**found.to_dict(), "seed": seed, "written": outputs})
    else:
        print_lines([*_say_reading(corpus), *found.notices], stderr())
        print_split(found, stdout())
        print_written(list(written.values()), stderr())
    _end(list(written.values()))


def merge(
    paths: Annotated[list[str], typer.Argument(metavar="IN... OUT", help="Files, then OUT.")],
    labels: Annotated[str, typer.Option(help=_LABELS)] = "",
    from_: From = "auto",
    to: To = "auto",
    check: Check = False,
    allow_loss: AllowLoss = False,
    overwrite: OverwriteFiles = False,
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    option: Options = None,
    to_option: ToOptions = None,
    unit: Unit = "auto",
    as_json: Json = False,
) -> None:
    """Put files of any formats into one; equal texts are reported, never merged."""
    from nertune.data.editing.labels import read_label_map
    from nertune.data.editing.merge import merge_documents, name_sources
    from nertune.data.editing.saving import save_whole, with_documents
    from nertune.reports.corpora.editing import print_merged, print_written
    from nertune.reports.terminal import print_lines

    if len(paths) < 2:
        raise ConfigError("merge: expected IN... OUT, the files to read and the one to write")
    *sources, target = paths
    names = read_label_map(labels) if labels else None
    corpora = [_load(s, from_, reading_options(scheme, join, offsets, option)) for s in sources]
    by_name = dict(
        zip(name_sources([c.path for c in corpora]), (c.documents for c in corpora), strict=True)
    )
    found = merge_documents(by_name, labels=names)
    output = _output(corpora, unit, to_option, _Flags(to, check, allow_loss, overwrite))
    whole = with_documents(corpora[0], found.documents)
    written = save_whole(whole, _path(target), output, sources=[c.path for c in corpora])
    if as_json:
        print_json({**found.to_dict(), "written": written.to_dict()})
    else:
        for corpus in corpora:
            print_lines(_say_reading(corpus), stderr())
        print_merged(found, stderr())
        print_written([written], stderr())
    _end([written])


def map_(
    source: In,
    target: Out,
    labels: Annotated[str, typer.Option(help=_LABELS)],
    from_: From = "auto",
    to: To = "auto",
    check: Check = False,
    allow_loss: AllowLoss = False,
    overwrite: OverwriteFiles = False,
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    option: Options = None,
    to_option: ToOptions = None,
    unit: Unit = "auto",
    as_json: Json = False,
) -> None:
    """Rename or drop labels; say which entities become the same or overlap."""
    from nertune.data.editing.labels import map_labels, read_label_map
    from nertune.data.editing.saving import save_whole, with_documents
    from nertune.reports.corpora.editing import print_mapped, print_written
    from nertune.reports.terminal import print_lines

    names = read_label_map(labels)
    corpus = _load(source, from_, reading_options(scheme, join, offsets, option))
    found = map_labels(corpus.documents, names)
    output = _output([corpus], unit, to_option, _Flags(to, check, allow_loss, overwrite))
    written = save_whole(with_documents(corpus, found.documents), target, output)
    if as_json:
        print_json({**found.to_dict(), "written": written.to_dict()})
    else:
        print_lines(_say_reading(corpus), stderr())
        print_mapped(found, stderr())
        print_written([written], stderr())
    _end([written])


def dedupe(
    source: In,
    target: Out,
    near: Annotated[
        float | None,
        typer.Option(help="Also nearly equal texts, from this similarity on: 0.5 to 1."),
    ] = None,
    keep_conflicts: Annotated[
        bool, typer.Option("--keep-conflicts", help="Keep copies that are annotated otherwise.")
    ] = False,
    from_: From = "auto",
    to: To = "auto",
    check: Check = False,
    allow_loss: AllowLoss = False,
    overwrite: OverwriteFiles = False,
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    option: Options = None,
    to_option: ToOptions = None,
    unit: Unit = "auto",
    as_json: Json = False,
) -> None:
    """Drop texts that repeat an earlier one; list by entity where their annotations differ."""
    from nertune.data.editing.dedupe import dedupe_documents
    from nertune.data.editing.saving import save_whole, with_documents
    from nertune.reports.corpora.editing import print_deduped, print_written
    from nertune.reports.terminal import print_lines

    corpus = _load(source, from_, reading_options(scheme, join, offsets, option))
    found = dedupe_documents(corpus.documents, near=near, keep_conflicts=keep_conflicts)
    output = _output([corpus], unit, to_option, _Flags(to, check, allow_loss, overwrite))
    written = save_whole(with_documents(corpus, found.documents), target, output)
    if as_json:
        print_json({**found.to_dict(), "written": written.to_dict()})
    else:
        print_lines(_say_reading(corpus), stderr())
        print_deduped(found, stderr())
        print_written([written], stderr())
    _end([written])


def view(
    source: In,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page; by default IN's name with .html, here."),
    ] = None,
    page_size: Annotated[
        int, typer.Option(min=1, max=1000, help="Documents that are shown at a time.")
    ] = 50,
    from_: From = "auto",
    overwrite: OverwriteFiles = False,
    scheme: SchemeOption = "auto",
    join: Join = "auto",
    offsets: OffsetsOption = "auto",
    option: Options = None,
) -> None:
    """Write one HTML page to look through a corpus: search, filter by label, page by page."""
    from nertune.data.editing.saving import refuse_existing
    from nertune.data.formats.values import counted
    from nertune.reports.corpora.corpus_page import corpus_page
    from nertune.reports.html import to_html
    from nertune.reports.terminal import print_lines
    from nertune.storage.files import open_for_writing

    corpus = _load(source, from_, reading_options(scheme, join, offsets, option))
    name = re.sub(r"[^\w-]+", "-", corpus.path.name.partition(".")[0]).strip("-") or "corpus"
    target = Path(f"{name}.html") if output is None else output
    refuse_existing([target], overwrite=overwrite, sources=[corpus.path])
    page = corpus_page(
        corpus.documents,
        name=str(corpus.path),
        page_size=page_size,
        about=f"Read as {corpus.format}: {corpus.reason}.",
        notices=_notices(corpus),
    )
    with open_for_writing(target) as stream:
        stream.write(to_html(page))
    print_lines(_say_reading(corpus), stderr())
    stdout().print(f"{target}: {counted(len(corpus.documents), 'document')}, "
                   f"{counted(corpus.num_entities, 'entity')}", soft_wrap=True)  # fmt: skip


def _load(source: str, format: str, options: ReadOptions) -> Corpus:
    from nertune.data.corpus import load_with
    from nertune.data.samples import resolve_data

    return load_with(resolve_data(source), options, format=format)


def _output(corpora: Sequence[Corpus], unit: str, given: list[str] | None, flags: _Flags) -> Output:
    from nertune.data.editing.saving import Output

    documents = [document for corpus in corpora for document in corpus.documents]
    return Output(writing_options(documents, unit, given), *flags)


def _path(name: str) -> Path:
    from nertune.storage.paths import user_path

    return user_path(name)


def _say_reading(corpus: Corpus) -> list[str]:
    """How a file was read, and what was found; where its name says otherwise, that is one line."""
    told = f"read as {corpus.format}: {corpus.reason}"
    return [f"{corpus.path}: {told}", *_notices(corpus)]


def _notices(corpus: Corpus) -> list[str]:
    return [n for n in corpus.notices if n != f"read as {corpus.format}: {corpus.reason}"]


def _end(written: Sequence[Conversion]) -> None:
    if any(made.differences or not made.is_written for made in written):
        raise typer.Exit(1)
