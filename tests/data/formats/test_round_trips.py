"""What a format can hold of a document comes back; what it cannot hold is listed.

One test for every registered format that reads and writes, with documents that no one format can
hold: `fit` makes them such, and what it lists is checked against what the format declares.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data.convert import how_to_read
from nertune.data.corpus import load_with, save_with
from nertune.data.formats import Format, WriteOptions, all_formats
from nertune.data.formats.fitting import difference
from nertune.errors import MissingDependencyError
from nertune.types import Document, Entity, Scope

FORMATS = [f for f in all_formats() if f.reads and f.writes]
AWKWARD = "\n\r\t \u3000\u2028\x85\0\ufeff\ud800e\u0301👩\u200d𠮷אב/;,\"'[]{}<>&#|\\"
TEXT = st.text(st.one_of(st.characters(), st.sampled_from(AWKWARD)), max_size=30)
LABEL = st.sampled_from(["PER", "组织", "a b", "a:b", "[x]", "O", "B-x", "a/b", " x", "x\n"])
OPTIONS = WriteOptions(
    tokenize=lambda text: [m.span() for m in re.finditer(r"\w+|[^\w\s]", text)], scores=True
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Any document: overlapping entities, scores, tokens, metadata, an id."""
    text = draw(TEXT)
    place = st.integers(0, len(text))
    spans = draw(st.lists(st.tuples(place, place), max_size=5))
    labels = LABEL | st.text(min_size=1, max_size=5)
    score = st.none() | st.floats(0, 1)
    entities = [Entity(a, b, draw(labels), draw(score)) for a, b in spans if a < b]
    several = st.sets(place, min_size=4, max_size=6)
    parts = [sorted(draw(several)) for _ in range(draw(st.integers(0, 2))) if len(text) > 5]
    entities += (
        Entity.of_fragments(zip(cuts[::2], cuts[1::2], strict=False), draw(labels), draw(score))
        for cuts in parts
    )
    tokens = None
    if draw(st.booleans()):
        cuts = sorted(draw(st.sets(place)))
        tokens = tuple(span for span in pairwise(cuts) if draw(st.booleans()))
    meta = draw(st.fixed_dictionaries({}, optional={"id": st.just("d-7"), "page": st.just([3])}))
    return Document(text, tuple(entities), meta.get("id", ""), tokens, meta, draw(scopes(text)))


@st.composite
def scopes(draw: st.DrawFn, text: str) -> Scope:
    """Mostly none; else labels, spans and the like."""
    if not draw(st.booleans()):
        return Scope()
    labels = draw(st.none() | st.sets(LABEL | st.sampled_from(["a,b", "%", "*"])).map(tuple))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)))
    return Scope(labels, draw(st.booleans()), tuple(zip(cuts[::2], cuts[1::2], strict=False)))


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
@settings(max_examples=100)
@given(items=st.lists(documents(), min_size=1, max_size=4))
def test_what_a_format_can_hold_comes_back(
    format: Format, items: list[Document], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"{format.name}{(format.suffixes or ('.x',))[0]}"
    fitted = [format.fit(document, OPTIONS) for document in items]
    kept = [f.document for f in fitted if f.document is not None]
    for document, result in zip(items, fitted, strict=True):
        check_losses(format, document, result.document, result.losses)
    if not kept:
        return
    try:
        write(path, kept, format)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    how = replace(how_to_read(format, OPTIONS), join="none")
    again = load_with(path, how, format=format.name).documents
    for expected, found in zip(kept, again, strict=True):
        assert difference(expected, found, format.holds) == ""
    for document in kept:  # what fits, fits as it is
        assert format.fit(document, OPTIONS).document == document


def write(path: Path, documents: list[Document], format: Format) -> None:
    if format.container == "folder":
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    save_with(path, documents, OPTIONS, format=format.name)


def check_losses(
    format: Format, document: Document, kept: Document | None, losses: tuple[object, ...]
) -> None:
    """Every entity is there as it was, or is listed; nothing is listed that the format holds."""
    kinds = {loss.kind for loss in losses}  # type: ignore[attr-defined]
    listed = {loss.entity for loss in losses if loss.kind == "entity"}  # type: ignore[attr-defined]
    there = {e.key for e in kept.entities} if kept is not None else set()
    assert {e.key for e in document.entities} - {e.key for e in listed} <= there
    holds = format.holds
    if kept is None:
        assert "document" in kinds
        return
    if holds.scores:
        assert "score" not in kinds
        keys = {e.key for e in listed}
        scores = {e.key: e.score for e in kept.entities}
        assert all(scores[e.key] == e.score for e in document.entities if e.key not in keys)
    if holds.ids:
        assert "id" not in kinds
    if holds.metadata:
        assert "metadata" not in kinds
        assert kept.meta == document.meta
    if holds.scope == "all":
        assert kept.scope == document.scope or "scope" in kinds
    elif kept.scope != document.scope:
        assert "scope" in kinds
    if holds.tokens == "none" and document.tokens is not None:
        assert "tokens" in kinds
    if not losses and holds.text != "tokens":
        has_own = document.tokens is not None or holds.tokens != "required"
        assert kept == (document if has_own else replace(document, tokens=kept.tokens))


@pytest.mark.slow
@pytest.mark.parametrize("source", FORMATS, ids=lambda format: format.name)
@settings(max_examples=20)
@given(items=st.lists(documents(), min_size=1, max_size=4))
def test_from_each_format_to_each_other(
    source: Format, items: list[Document], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What one format gave goes through every other one: equal, or the difference is listed."""
    base = tmp_path_factory.getbasetemp()
    try:
        read = there_and_back(base / "pair", items, source)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    for target in FORMATS:
        there_and_back(base / "pair", read, target)


def there_and_back(base: Path, items: list[Document], format: Format) -> list[Document]:
    """What is read of documents that were written; compared with what `fit` said."""
    fitted = [format.fit(document, OPTIONS) for document in items]
    for document, result in zip(items, fitted, strict=True):
        check_losses(format, document, result.document, result.losses)
    kept = [result.document for result in fitted if result.document is not None]
    if not kept:
        return []
    path = base.with_name(f"{base.name}-{format.name}{(format.suffixes or ('.x',))[0]}")
    write(path, kept, format)
    name = format.read_as or format.name
    again = list(load_with(path, how_to_read(format, OPTIONS), format=name).documents)
    for expected, found in zip(kept, again, strict=True):
        assert difference(expected, found, format.holds) == ""
    return again
