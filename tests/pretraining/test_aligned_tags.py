"""Files of word tags beside the text: in step with it from any line on, and never beside it."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.raw_text import MadeUpTagger, encode_text, made_up_lines, tiny_tokenizer
from nertune.errors import DataError
from nertune.pretraining.aligned_tags import AlignedTags
from nertune.pretraining.packing import Block, LineEncoder, LineSelection, PreparedText
from nertune.pretraining.text import read_lines
from nertune.pretraining.words import Word, choose_entity_tags

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
}


class Triples(MadeUpTagger):
    """Three characters are a word; its tag depends on the first one."""

    tags = ("PER", "n", "v")
    entity_tags = ("PER",)

    def cut_text(self, text: str) -> Iterator[Word]:
        for i in range(0, len(text), 3):
            yield len(text[i : i + 3]), self.tags[ord(text[i]) % 3]


def items(words: Sequence[Word]) -> str:
    return " ".join(f"{length}:{tag}" for length, tag in words)


def write(path: Path, data: str) -> Path:
    """The text, packed as the name says."""
    path.write_bytes(PACK[path.suffix if path.suffix in PACK else ""](data.encode()))
    return path


def tag_line(raw: str) -> str:
    """Its tags, where white space around it belongs to the first and the last word."""
    text = raw.strip()
    words = list(Triples().cut_text(text))
    if not words:
        return f"{len(raw)}:w" if raw else ""
    before = len(raw) - len(raw.lstrip())
    words[0] = (words[0][0] + before, words[0][1])
    words[-1] = (words[-1][0] + len(raw) - before - len(text), words[-1][1])
    return items(words)


def tagged(folder: Path, *texts: Sequence[str], suffix: str = "") -> AlignedTags:
    """Files of text and of tags."""
    folder.mkdir(exist_ok=True)
    pairs = [
        (
            write(folder / f"{i}.txt{suffix}", "".join(f"{raw}\n" for raw in text)),
            write(folder / f"{i}.tags{suffix}", "".join(f"{tag_line(raw)}\n" for raw in text)),
        )
        for i, text in enumerate(texts)
    ]
    return AlignedTags(
        [text for text, _ in pairs],
        [tags for _, tags in pairs],
        [f"hash{i}" for i in range(len(pairs))],
    )


def text_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.txt*"))


def one(folder: Path, text: str, tags: str) -> AlignedTags:
    text_file, tag_file = write(folder / "a.txt", text), write(folder / "a.tags", tags)
    return AlignedTags([text_file], [tag_file], ["hash"])


def words_of(tagger: AlignedTags, folder: Path) -> list[list[Word]]:
    return [list(words) for words in tagger.cut(read_lines(text_files(folder)))]


# What it gives


def test_its_name_and_tags(tmp_path: Path) -> None:
    found = one(tmp_path, "王明在北京1月\n", "2:PER 1:p 2:LOC 2:TIME\n")
    assert found.name == "a.tags"
    assert found.tags == ("LOC", "PER", "TIME", "p")
    assert found.entity_tags == ("LOC", "PER", "TIME")
    assert choose_entity_tags(found, ()) == (0, 1, 2)
    assert choose_entity_tags(found, ("PER", "p")) == (1, 3)
    assert one(tmp_path, "王明\n", "1:O 1:Nn\n").entity_tags == ()


def test_the_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    files = [write(tmp_path / name, "1:n\n") for name in ("a.tags", "b.tags")]
    text = write(tmp_path / "a.txt", "一\n")
    prints = {
        AlignedTags([text], [file], [sha]).fingerprint
        for file, sha in ((files[0], "x"), (files[1], "x"), (files[1], "y"))
    }
    assert len(prints) == 2


@pytest.mark.parametrize("suffix", PACK)
def test_the_words_of_every_line(suffix: str, tmp_path: Path) -> None:
    lines = made_up_lines(40)
    tagger = tagged(tmp_path, lines[:30], lines[30:], suffix=suffix)
    assert words_of(tagger, tmp_path) == [list(Triples().cut_text(line)) for line in lines]


def test_white_space_around_a_line_is_in_the_tags_and_not_in_the_words(tmp_path: Path) -> None:
    raw = ["  王明在 ", "", " \t", "\u3000北京", "今天\u3000\x1c "]
    tagger = tagged(tmp_path, raw)
    expected = [list(Triples().cut_text(line.strip())) for line in raw if line.strip()]
    assert words_of(tagger, tmp_path) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("2:w 2:PER 1:p 1:w", [(2, "PER"), (1, "p")]),  # white space is words of its own
        ("1:w 2:PER 1:p 2:n", [(1, "PER"), (1, "p"), (1, "n")]),
        ("6:n", [(3, "n")]),
    ],
)
def test_words_that_reach_into_the_white_space(
    tags: str, expected: list[Word], tmp_path: Path
) -> None:
    assert words_of(one(tmp_path, "  王明在 \n", tags + "\n"), tmp_path) == [expected]


def test_a_mark_and_line_ends_are_no_characters(tmp_path: Path) -> None:
    """Whichever of the two files has them, and whether its last line is ended."""
    for number, (text, tags) in enumerate(
        [("\ufeff王明\r\n在\r\n", "2:n\n1:p\n"), ("王明\n在", "\ufeff2:n\r\n1:p")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert words_of(one(folder, text, tags), folder) == [[(2, "n")], [(1, "p")]]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    tagger = one(tmp_path, "一\u2028二\x0b三\x85四\r五\n六\n", "9:n\n1:v\n")
    assert words_of(tagger, tmp_path) == [[(9, "n")], [(1, "v")]]


@settings(deadline=None, max_examples=40)
@given(
    chosen=st.lists(st.sets(st.integers(0, 29)), min_size=1, max_size=4),
    suffix=st.sampled_from(["", ".xz"]),
)
def test_any_lines_again_and_again(
    chosen: list[set[int]], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Lines may be missing between others, and a later call may go back or on."""
    folder, lines = tmp_path_factory.mktemp("tags"), made_up_lines(30)
    tagger = tagged(folder, lines[:10], (), lines[10:], suffix=suffix)
    everything = list(read_lines(text_files(folder)))
    for numbers in chosen:
        picked = [everything[i] for i in sorted(numbers)]
        found = [list(words) for words in tagger.cut(picked)]
        assert found == [list(Triples().cut_text(line.text)) for line in picked]


# Prepared text


def blocks(text: PreparedText) -> list[Block]:
    found: list[Block] = []
    while (block := text.block(len(found))) is not None:
        found.append(block)
    return found


@pytest.mark.parametrize("block_tokens", [40, 300, 10**6])
def test_prepared_text_has_the_tags_of_its_own_lines(block_tokens: int, tmp_path: Path) -> None:
    """Over files and blocks, with lines that are held out, excluded, not sampled and blank."""
    lines = made_up_lines(1500)
    raw = [f" {line}" if i % 7 == 0 else line for i, line in enumerate(lines)]
    raw[100:100] = ["", "  "]
    aligned = tagged(tmp_path, raw[:10], raw[10:900], [], raw[900:])
    bad = set(lines[50:200:3])
    prepared = [
        PreparedText(
            tmp_path / name,
            lambda skip: read_lines(text_files(tmp_path), skip=skip),
            LineEncoder(tiny_tokenizer(), "char", word_share=0.25, words=words),
            block_tokens=block_tokens,
            selection=LineSelection(0.2, 0.6, bad.__contains__),
        )
        for name, words in (("file", aligned), ("made", SortedTriples()))
    ]
    found, expected = ([*blocks(text), text.held_out()] for text in prepared)
    assert len(found) == len(expected)
    for one_block, other in zip(found, expected, strict=True):
        assert np.array_equal(one_block.ids, other.ids)
        assert np.array_equal(one_block.starts, other.starts)
        assert np.array_equal(one_block.tags, other.tags)
    assert prepared[0].exclusions() == prepared[1].exclusions()
    assert 0 < prepared[0].exclusions().lines < 50
    assert len({int(tag) for block in found for tag in block.tags}) == 6


class SortedTriples(Triples):
    """With the tags that a file gives: in order, and `w` of blank lines."""

    @property
    def tags(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("PER", "n", "v", "w")

    def cut_text(self, text: str) -> Iterator[Word]:
        yield from Triples().cut_text(text)


def test_preparation_that_is_resumed_has_the_same_tags(tmp_path: Path) -> None:
    """As after a kill: another object reads on behind a block that is ready."""

    def prepared(folder: Path) -> PreparedText:
        return PreparedText(
            folder,
            lambda skip: read_lines(text_files(tmp_path), skip=skip),
            LineEncoder(
                tiny_tokenizer(),
                "char",
                words=AlignedTags(text_files(tmp_path), sorted(tmp_path.glob("*.tags")), ["", ""]),
            ),
            block_tokens=200,
            selection=LineSelection(held_out=0.1, sample=0.8),
        )

    lines = made_up_lines(200)
    tagged(tmp_path, lines[:120], lines[120:])
    whole = blocks(prepared(tmp_path / "whole"))
    assert len(whole) > 5
    for number, expected in enumerate(whole):
        found = prepared(tmp_path / "killed").block(number)
        assert found is not None
        assert np.array_equal(found.ids, expected.ids)
        assert np.array_equal(found.tags, expected.tags)


def test_tag_ids(tmp_path: Path) -> None:
    encoder = LineEncoder(
        tiny_tokenizer(), "char", words=one(tmp_path, "王明在北京\n", "2:PER 1:p 2:LOC\n")
    )
    with pytest.raises(DataError):  # another line than the file's
        encode_text(encoder, "王明在北")
    ids, starts, tags = encode_text(encoder, "王明在北京")
    assert len(ids) == 5
    assert starts == [True, False, True, True, False]
    assert tags == [2, 3, 4, 0, 1]


# What does not fit

LINES = "一二三\n四五\n\n六七\n"
MISFITS: dict[str, tuple[str, int | None, str]] = {
    "too short": ("3:n\n1:n\n\n2:n\n", 2, "words have 1 characters, but line 2 of .*a.txt has 2"),
    "too long": ("3:n\n2:n 1:v\n\n2:n\n", 2, "words have 3 characters, but line 2 of .* has 2"),
    "shifted": ("2:n\n\n2:n\n3:n\n", 1, "words have 2 characters, but line 1 of .* has 3"),
    "words in a blank line": ("3:n\n2:n\n1:n\n2:n\n", 3, "have 1 characters, .* line 3 .* has 0"),
    "no words": ("3:n\n\n\n2:n\n", 2, "words have 0 characters, but line 2 of .* has 2"),
    "a line missing": ("3:n\n2:n\n\n", None, "ends at line 3, but .*a.txt continues"),
    "empty": ("", None, "ends at line 0, but .*a.txt continues"),
    "a line too many": ("3:n\n2:n\n\n2:n\n1:n\n", 5, "a line of tags, but .*a.txt ends at line 4"),
    "no colon": ("3:n\n2n\n\n2:n\n", 2, "word 1 is '2n': expected LENGTH:TAG, e.g. 3:PER"),
    "no tag": ("3:n\n1:n 1:\n\n2:n\n", 2, "word 2 is '1:': expected LENGTH:TAG"),
    "no length": ("3:n\n:n\n\n2:n\n", 2, "word 1 is ':n'"),
    "turned round": ("n:3\n2:n\n\n2:n\n", 1, "word 1 is 'n:3'"),
    "a length of 0": ("3:n\n0:v 2:n\n\n2:n\n", 2, "word 1 is '0:v'"),
    "a negative length": ("3:n\n-1:n 3:v\n\n2:n\n", 2, "word 1 is '-1:n'"),
    "another script's digits": ("３:n\n2:n\n\n2:n\n", 1, "word 1 is '３:n'"),
    "a length without end": (f"3:n\n{'9' * 5000}:n\n\n2:n\n", 2, "word 1 is '9999"),
    "binary": ("3:n\n2:n\0\n\n2:n\n", 2, "NUL byte"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit(case: str, tmp_path: Path) -> None:
    """Found at once, though nobody asked for that line."""
    tags, line, pattern = MISFITS[case]
    with pytest.raises(DataError, match=pattern) as caught:
        one(tmp_path, LINES, tags)
    assert (caught.value.path, caught.value.line) == (tmp_path / "a.tags", line)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_mismatch_in_a_later_file(tmp_path: Path) -> None:
    texts = [write(tmp_path / f"{i}.txt", "一二\n三\n") for i in range(2)]
    good, bad = write(tmp_path / "0.tags", "2:n\n1:n\n"), write(tmp_path / "1.tags", "2:n\n2:n\n")
    with pytest.raises(DataError, match=r"1\.tags:2: .* line 2 of .*1\.txt has 1") as caught:
        AlignedTags(texts, [good, bad], ["", ""])
    assert caught.value.line == 2
    AlignedTags(texts, [good, good], ["", ""])  # the same tags for two equal texts


def test_a_file_that_changed_since(tmp_path: Path) -> None:
    tagger = one(tmp_path, LINES, "3:n\n2:n\n\n2:n\n")
    for tags, line in (("3:n\n1:n\n", 2), ("3:n\n", None)):
        write(tmp_path / "a.tags", tags)
        with pytest.raises(DataError) as caught:
            words_of(tagger, tmp_path)
        assert caught.value.line == line


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    text = write(tmp_path / "a.txt", "一\n" * 50_000)
    tags = write(tmp_path / "a.tags.xz", "1:n\n" * 50_000)
    tags.write_bytes(tags.read_bytes()[:-20])
    with pytest.raises(
        DataError, match=r"a\.tags\.xz: the xz data is cut short or damaged, behind line"
    ):
        AlignedTags([text], [tags], [""])
    with pytest.raises(DataError, match=r"none\.tags: cannot be read: No such file"):
        AlignedTags([text], [tmp_path / "none.tags"], [""])


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.conll", "王 B-PER\n明 I-PER\n"), ("b.txt", "王 B-PER\n明 I-PER\n在 O\n\n京 O\n")],
)
def test_labelled_text_has_no_lines(name: str, content: str, tmp_path: Path) -> None:
    text, tags = write(tmp_path / name, content), write(tmp_path / "a.tags", "1:n\n")
    with pytest.raises(DataError, match=f"{name}: a file with labels"):
        AlignedTags([text], [tags], [""])


@pytest.mark.parametrize("count", [127, 128])
def test_the_number_of_tags(count: int, tmp_path: Path) -> None:
    arguments: Any = ("一\n" * count, "".join(f"1:t{i}\n" for i in range(count)))
    if count < 128:
        assert len(one(tmp_path, *arguments).tags) == 127
        return
    with pytest.raises(DataError, match="tag number 128: expected 127 different tags") as caught:
        one(tmp_path, *arguments)
    assert caught.value.line == 128
