"""Text in rows of tokens: nothing twice, nothing lost, the same from any point on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.raw_text import (
    MadeUpTagger,
    encode_text,
    in_memory,
    made_up_lines,
    prepare_text,
    tiny_tokenizer,
)
from nertune.errors import CheckpointError, DataError
from nertune.pretraining.packing import (
    Block,
    EncodedLine,
    LineEncoder,
    LineSelection,
    PreparedText,
    RowCursor,
    next_rows,
    row_order,
)
from nertune.pretraining.text import Line
from nertune.pretraining.words import Word

# Lines of numbers: each token has an id of its own, so that every one can be followed.


class Numbers:
    """`12 13 14` to these ids; a word begins at each even one, its tag is the last digit."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, lines: Sequence[Line]) -> Iterator[EncodedLine]:
        for line in lines:
            self.calls += 1
            ids = [int(number) for number in line.text.split() if number.isdigit()]
            yield ids, [i % 2 == 0 for i in ids], [i % 10 for i in ids]


def numbered(lengths: Sequence[int], start: int = 0) -> list[str]:
    """Lines of so many tokens, counted through."""
    lines = []
    for length in lengths:
        lines.append(" ".join(map(str, range(start, start + length))))
        start += length
    return lines


def prepared(folder: Path, lines: Sequence[str], **options: Any) -> PreparedText:
    chosen = {k: options.pop(k) for k in ("held_out", "sample", "excludes") if k in options}
    values: dict[str, Any] = {"block_tokens": 10**6, "selection": LineSelection(**chosen)}
    encoder = options.pop("encoder", Numbers())
    return PreparedText(folder, in_memory(lines), encoder, **values | options)


def blocks(text: PreparedText) -> list[Block]:
    found: list[Block] = []
    while (block := text.block(len(found))) is not None:
        found.append(block)
    return found


def all_ids(parts: Iterable[Block]) -> list[int]:
    return [int(i) for part in parts for i in part.ids.ravel()]


def rows_from(
    text: PreparedText, cursor: RowCursor, *, length: int, seed: int = 0, num_rows: int = 1
) -> Iterator[tuple[Block, RowCursor]]:
    while True:
        rows, cursor = next_rows(text, cursor, num_rows=num_rows, length=length, seed=seed)
        yield rows, cursor


def epoch_rows(text: PreparedText, length: int, *, seed: int = 0, epoch: int = 0) -> list[Block]:
    """The rows of an epoch, one by one."""
    found = []
    for rows, cursor in rows_from(text, RowCursor(epoch, 0, 0, length), length=length, seed=seed):
        if cursor.epoch > epoch:
            return found
        found.append(rows)
    raise AssertionError


# Blocks


def test_one_block_holds_everything_in_order(tmp_path: Path) -> None:
    text = prepared(tmp_path, numbered([3, 1, 4]))
    (block,) = blocks(text)
    assert block.ids.tolist() == list(range(8))
    assert block.starts.tolist() == [True, False] * 4
    assert block.tags.tolist() == list(range(8))
    assert len(text.held_out()) == 0


@pytest.mark.parametrize("size", [1, 2, 10, 60, 61])
def test_small_blocks_hold_the_same(size: int, tmp_path: Path) -> None:
    lengths = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9]
    text = prepared(tmp_path, numbered(lengths), block_tokens=size)
    found = blocks(text)
    assert all_ids(found) == list(range(61))
    assert all(size <= len(block) < size + 9 for block in found[:-1])
    assert len(found) == (13 if size == 1 else len(found))
    if size >= 60:
        assert len(found) == 1
    assert text.block(len(found)) is None
    assert text.block(len(found) + 5) is None


def test_a_late_block_is_made_with_those_before_it(tmp_path: Path) -> None:
    text = prepared(tmp_path, numbered([4] * 5), block_tokens=4)
    third = text.block(2)
    assert third is not None
    assert third.ids.tolist() == [8, 9, 10, 11]
    assert all_ids(blocks(text)) == list(range(20))


def test_ids_beyond_16_bits(tmp_path: Path) -> None:
    ids = [0, 65_535, 65_536, 250_000]
    (block,) = blocks(prepared(tmp_path, [" ".join(map(str, ids))]))
    assert block.ids.tolist() == ids


def test_long_blocks(tmp_path: Path) -> None:
    """More than a buffer keeps as Python lists."""
    lines = numbered([30_000] * 5)
    assert all_ids(blocks(prepared(tmp_path, lines))) == list(range(150_000))


def test_lines_without_tokens_do_no_harm(tmp_path: Path) -> None:
    text = prepared(tmp_path, ["x", "1 2", "y", "z", "3", "x"], block_tokens=2)
    assert all_ids(blocks(text)) == [1, 2, 3]


def test_several_files(tmp_path: Path) -> None:
    lines = in_memory(["1", "2 3"], [], ["4", "5"])
    for size in (1, 2, 3, 10):
        text = PreparedText(
            tmp_path / str(size), lines, Numbers(), block_tokens=size, selection=LineSelection()
        )
        assert all_ids(blocks(text)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("lines", [[], ["x", "y"]], ids=["none", "no tokens"])
def test_a_text_without_tokens(lines: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no line that can be trained on"):
        prepared(tmp_path, lines).block(0)


# Held-out and excluded lines


def test_held_out_lines_are_in_no_block(tmp_path: Path) -> None:
    lines = numbered([5] * 400)
    text = prepared(tmp_path / "one", lines, held_out=0.2)
    kept, held = all_ids(blocks(text)), text.held_out().ids.tolist()
    assert sorted(kept + held) == list(range(2000))
    assert 200 < len(held) < 600
    # By the text alone: in whatever order the lines stand, and in blocks of whatever size.
    turned = prepared(tmp_path / "other", lines[::-1], held_out=0.2)
    assert sorted(turned.held_out().ids.tolist()) == held
    small = prepared(tmp_path / "small", lines, held_out=0.2, block_tokens=800)
    assert all_ids(blocks(small)) == kept
    of_first_block = small.held_out().ids.tolist()
    assert 0 < len(of_first_block) < len(held)
    assert of_first_block == held[: len(of_first_block)]


def test_a_sample_of_the_lines(tmp_path: Path) -> None:
    """By the text alone, so that the same lines are in every sample that is larger."""
    lines = numbered([5] * 400)
    found = {
        sample: set(all_ids(blocks(prepared(tmp_path / str(sample), lines, sample=sample))))
        for sample in (0.1, 0.5, 1.0)
    }
    assert 20 * 5 <= len(found[0.1]) <= 60 * 5
    assert 160 * 5 <= len(found[0.5]) <= 240 * 5
    assert len(found[1.0]) == 2000
    assert found[0.1] < found[0.5]
    small = prepared(tmp_path / "small", lines, sample=0.5, block_tokens=50)
    assert set(all_ids(blocks(small))) == found[0.5]


def test_the_same_line_twice_is_held_out_twice(tmp_path: Path) -> None:
    lines = numbered([5] * 50) * 2
    text = prepared(tmp_path, lines, held_out=0.3)
    assert not set(all_ids(blocks(text))) & set(text.held_out().ids.tolist())


def test_excluded_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = numbered([5] * 100)
    bad = set(lines[10:30] + lines[90:])
    text = prepared(tmp_path, lines, held_out=0.1, block_tokens=50, excludes=bad.__contains__)
    kept = set(all_ids(blocks(text)))
    assert not kept & {*range(50, 150), *range(450, 500)}
    assert not set(text.held_out().ids.tolist()) & {*range(50, 150), *range(450, 500)}
    report = text.exclusions()
    assert (report.lines_seen, report.lines) == (100, 30)
    assert report.characters == sum(map(len, bad))
    assert [example[:2] for example in report.examples] == [[0, i] for i in range(11, 16)]
    assert lines[10] in report.examples[0][2]
    again = prepared(tmp_path, lines, held_out=0.1, block_tokens=50)
    assert again.exclusions() == report  # from the disk


def test_excluded_at_the_end(tmp_path: Path) -> None:
    """Nothing is left for the last block."""
    lines = numbered([5] * 4)
    text = prepared(tmp_path, lines, block_tokens=10, excludes=lambda line: line in lines[2:])
    assert all_ids(blocks(text)) == list(range(10))
    assert text.exclusions().lines == 2
    found = epoch_rows(text, 5)
    assert sorted(all_ids(found)) == list(range(10))


# On disk


def test_blocks_are_made_once(tmp_path: Path) -> None:
    lines, first = numbered([5] * 40), Numbers()
    text = prepared(tmp_path, lines, block_tokens=50, held_out=0.1, encoder=first)
    before, held = all_ids(blocks(text)), text.held_out().ids.tolist()
    assert first.calls == 40
    blocks(text)
    assert first.calls == 40

    def nothing(skip: tuple[int, int]) -> Iterator[Line]:
        raise AssertionError("the text is read again")

    second = Numbers()
    text = PreparedText(
        tmp_path, nothing, second, block_tokens=50, selection=LineSelection(held_out=0.1)
    )
    assert all_ids(blocks(text)) == before
    assert text.held_out().ids.tolist() == held
    assert second.calls == 0


def test_preparation_continues_behind_the_last_block(tmp_path: Path) -> None:
    lines, encoder = numbered([5] * 40), Numbers()
    prepared(tmp_path, lines, block_tokens=50).block(1)
    text = prepared(tmp_path, lines, block_tokens=50, encoder=encoder)
    assert all_ids(blocks(text)) == list(range(200))
    assert encoder.calls == 20


def test_a_block_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = numbered([5] * 10)

    def fail(*args: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("nertune.pretraining.packing.write_text", fail)
        with pytest.raises(OSError, match="no space"):
            prepared(tmp_path, lines).block(0)
    assert all_ids(blocks(prepared(tmp_path, lines))) == list(range(50))
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "text"])
@pytest.mark.parametrize("name", ["block-00001", "held-out"])
def test_a_damaged_block(name: str, how: str, tmp_path: Path) -> None:
    lines = numbered([5] * 40)
    blocks(prepared(tmp_path, lines, block_tokens=50, held_out=0.2))
    damage(tmp_path / f"{name}.safetensors", how)
    text = prepared(tmp_path, lines, block_tokens=50, held_out=0.2)
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors.*--overwrite") as caught:
        (blocks(text), text.held_out())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["empty", "cut", "text"])
def test_a_damaged_header(how: str, tmp_path: Path) -> None:
    lines = numbered([5] * 40)
    blocks(prepared(tmp_path, lines, block_tokens=50))
    damage(tmp_path / "block-00001.json", how)
    with pytest.raises(CheckpointError, match=r"block-00001\.json.*--overwrite"):
        blocks(prepared(tmp_path, lines, block_tokens=50))


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "text": b"[1, 2"}[how])


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    text = prepared(
        tmp_path,
        numbered([5] * 4),
        block_tokens=10,
        on_progress=lambda block, tokens: told.append((block, tokens)),
    )
    blocks(text)
    assert told == [(0, 5), (0, 10), (1, 5), (1, 10)]


# Rows


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    size=st.sampled_from([1, 7, 20, 1000]),
    length=st.integers(1, 8),
    seed=st.integers(0, 100),
    epoch=st.integers(0, 3),
)
def test_every_token_comes_up_once_an_epoch(
    lengths: list[int],
    size: int,
    length: int,
    seed: int,
    epoch: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """But for each block's end, where it is shorter than a row."""
    lines = numbered(lengths)
    text = prepared(tmp_path_factory.mktemp("rows"), lines, block_tokens=size)
    parts = blocks(text)
    if not any(len(block) >= length for block in parts):
        with pytest.raises(DataError, match=f"shorter than one row of {length} tokens"):
            epoch_rows(text, length, seed=seed, epoch=epoch)
        return
    found = epoch_rows(text, length, seed=seed, epoch=epoch)
    expected = [
        tuple(block.ids[i : i + length].tolist())
        for block in parts
        for i in range(0, len(block) - length + 1, length)
    ]
    assert sorted(tuple(rows.ids[0].tolist()) for rows in found) == sorted(expected)
    for rows in found:
        assert rows.ids.shape == rows.starts.shape == rows.tags.shape == (1, length)
        assert np.array_equal(rows.starts, rows.ids % 2 == 0)
        assert np.array_equal(rows.tags, rows.ids % 10)
    counts = Counter(all_ids(found))
    assert set(counts.values()) <= {1}
    assert sum(lengths) - len(counts) == sum(len(block) % length for block in parts)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(4, 12), min_size=1, max_size=12),
    size=st.sampled_from([5, 20, 1000]),
    takes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    seed=st.integers(0, 100),
)
def test_resuming_at_any_cursor_is_uninterrupted(
    lengths: list[int],
    size: int,
    takes: list[int],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """However many rows are taken at once, over blocks and epochs, and after every stop."""
    folder, lines = tmp_path_factory.mktemp("rows"), numbered(lengths)
    through = rows_from(
        prepared(folder, lines, block_tokens=size), RowCursor(), length=4, seed=seed
    )
    cursor = RowCursor()
    for num_rows in takes:
        text = prepared(folder, lines, block_tokens=size)  # as after a stop
        cursor = RowCursor(**json.loads(json.dumps(asdict(cursor))))
        rows, cursor = next_rows(text, cursor, num_rows=num_rows, length=4, seed=seed)
        singles = [next(through) for _ in range(num_rows)]
        assert rows.ids.shape == (num_rows, 4)
        assert rows.ids.tolist() == [single.ids[0].tolist() for single, _ in singles]
        assert rows.starts.tolist() == [single.starts[0].tolist() for single, _ in singles]
        assert rows.tags.tolist() == [single.tags[0].tolist() for single, _ in singles]
        assert cursor == singles[-1][1]


def test_rows_are_shuffled_anew_in_each_epoch(tmp_path: Path) -> None:
    text = prepared(tmp_path, numbered([40] * 10))
    orders = {
        (seed, epoch): all_ids(epoch_rows(text, 4, seed=seed, epoch=epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len({tuple(order) for order in orders.values()}) == 4
    assert all(sorted(order) == list(range(400)) for order in orders.values())
    assert list(range(400)) not in orders.values()
    assert orders[0, 0] == all_ids(epoch_rows(text, 4))


def test_blocks_are_shuffled_each_in_its_own_way() -> None:
    orders = [row_order(50, 0, 0, block, 4).tolist() for block in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_another_length_begins_the_block_again(tmp_path: Path) -> None:
    """As where a run goes over from short rows to long ones."""
    text = prepared(tmp_path, numbered([50] * 4), block_tokens=100)
    _, cursor = next_rows(text, RowCursor(), num_rows=13, length=8, seed=0)
    assert cursor == RowCursor(0, 1, 1, 8)  # 12 rows of the first block, one of the second
    rows, cursor = next_rows(text, cursor, num_rows=5, length=20, seed=0)
    assert sorted(all_ids([rows])) == list(range(100, 200))
    assert cursor == RowCursor(0, 2, 0, 20)


def test_a_text_that_is_shorter_than_a_row(tmp_path: Path) -> None:
    text = prepared(tmp_path, numbered([5, 5]))
    with pytest.raises(DataError, match=r"shorter than one row of 11 tokens.*smaller length"):
        next_rows(text, RowCursor(), num_rows=1, length=11, seed=0)
    rows, _ = next_rows(text, RowCursor(), num_rows=3, length=10, seed=0)
    assert rows.ids.tolist() == [list(range(10))] * 3


# Lines to tokens


class CommaWords(MadeUpTagger):
    """What stands between commas is a word; its kind is its length in characters, or a comma."""

    name = "commas 1"
    tags = ("comma", "1", "2", "3", "4")

    def cut_text(self, text: str) -> Iterator[Word]:
        for part in re.findall(",|[^,]+", text):
            yield len(part), "comma" if part == "," else str(min(len(part), 4))


def tokens_of(ids: list[int]) -> list[str]:
    return list(tiny_tokenizer().backend.convert_ids_to_tokens(ids))


def marked(ids: list[int], starts: list[bool]) -> str:
    """Pieces with a bar before each word."""
    return "".join(("|" if s else " ") + t for t, s in zip(tokens_of(ids), starts, strict=True))


def test_every_character_is_a_token() -> None:
    ids, starts, tags = encode_text(LineEncoder(tiny_tokenizer(), "char"), "在1998年,GPU 3")
    assert marked(ids, starts) == "|在|1 9 9 8|年|,|g p u|3"
    assert len(tags) == len(ids)


def test_runs_are_read_whole_in_words() -> None:
    backend = tiny_tokenizer().backend
    ids, starts, tags = encode_text(LineEncoder(tiny_tokenizer(), "word"), "在1998年,Paris GPU")
    years, paris, gpu = (backend.tokenize(word) for word in ("1998", "Paris", "GPU"))
    assert len(paris) < 5  # there are tokens of several characters
    expected = ["在", *years, "年", ",", *paris, *gpu]
    assert tokens_of(ids) == expected
    assert [t for t, s in zip(tokens_of(ids), starts, strict=True) if s] == [
        "在", years[0], "年", ",", paris[0], gpu[0],
    ]  # fmt: skip
    assert len(tags) == len(ids)


def test_without_a_tagger_tags_are_zeros() -> None:
    for unit in ("char", "word"):
        _, _, tags = encode_text(LineEncoder(tiny_tokenizer(), unit), "在1998年Paris")
        assert set(tags) == {0}, unit


def test_spaces_part_words_and_have_no_token() -> None:
    ids, starts, _ = encode_text(LineEncoder(tiny_tokenizer(), "char"), "ab cd\u3000e\xa0f")
    assert marked(ids, starts) == "|a b|c d|e|f"


def test_other_letters_are_words_of_their_own_in_characters() -> None:
    _, starts, _ = encode_text(LineEncoder(tiny_tokenizer(), "char"), "aé1ＡＢ二")
    assert starts == [True, True, True, True, True, True]


@pytest.mark.parametrize("unit", ["char", "word"])
def test_words_of_a_tagger(unit: Any) -> None:
    encoder = LineEncoder(tiny_tokenizer(), unit, words=CommaWords())
    ids, starts, tags = encode_text(encoder, "今天天,大,2026年")
    assert [t for t, s in zip(tokens_of(ids), starts, strict=True) if s] == [
        "今", ",", "大", ",", tokens_of(ids)[6],
    ]  # fmt: skip
    inside = len(ids) - 7
    assert tags == [6, 7, 7, 0, 2, 0, 8, *([9] * inside)]
    assert inside == (4 if unit == "char" else len(tiny_tokenizer().backend.tokenize("2026")))


def test_dropped_characters_shift_nothing() -> None:
    """A word whose first characters have no token begins at its first token."""
    encoder = LineEncoder(tiny_tokenizer(), "char", words=CommaWords())
    ids, starts, tags = encode_text(encoder, "\u200b大的, \u200b ,在")
    assert marked(ids, starts) == "|大 的|,|,|在"
    assert tags == [6, 7, 0, 0, 2]


@settings(deadline=None, max_examples=100)
@given(
    text=st.text(st.sampled_from("在年大,,,1234abGPU é。 \u3000\u200b"), max_size=30),
    unit=st.sampled_from(["char", "word"]),
    tagged=st.booleans(),
)
def test_words_and_tags_line_up_with_tokens(text: str, unit: Any, tagged: bool) -> None:
    """Against each character's word, found in the plainest way."""
    encoder = LineEncoder(tiny_tokenizer(), unit, words=CommaWords() if tagged else None)
    ids, starts, tags = encode_text(encoder, text)
    assert len(ids) == len(starts) == len(tags)
    assert all(isinstance(start, bool) for start in starts)
    if ids:
        assert starts[0]
    if tagged:
        for i, tag in enumerate(tags):
            assert tag % 2 == (not starts[i])
            assert starts[i] or tag // 2 == tags[i - 1] // 2
    if tagged and unit == "char":
        kept = [
            (number, kind)
            for number, (length, kind) in enumerate(CommaWords().cut_text(text))
            for _ in range(length)
        ]
        visible = [
            place
            for c, place in zip(text, kept, strict=False)
            if tiny_tokenizer().encode_units([c])[0]
        ]
        assert [CommaWords.tags.index(kind) for _, kind in visible] == [tag // 2 for tag in tags]
        numbers = [number for number, _ in visible]
        assert starts == [i == 0 or n != numbers[i - 1] for i, n in enumerate(numbers)]


def test_a_tagger_that_loses_characters() -> None:
    class Loses(CommaWords):
        def cut_text(self, text: str) -> Iterator[Word]:
            yield 1, "1"

    with pytest.raises(DataError, match="commas 1 lost characters of '今天'"):
        encode_text(LineEncoder(tiny_tokenizer(), "char", words=Loses()), "今天")


def test_the_share_of_lines_that_are_read_in_words() -> None:
    lines = [f"Paris在{i}年" for i in range(2000)]
    by_character, by_word = (LineEncoder(tiny_tokenizer(), unit) for unit in ("char", "word"))
    mixed = LineEncoder(tiny_tokenizer(), "char", word_share=0.25)
    in_words = 0
    for line in lines:
        ids, _, _ = encode_text(mixed, line)
        assert ids in (encode_text(by_character, line)[0], encode_text(by_word, line)[0])
        in_words += ids != encode_text(by_character, line)[0]
    assert 400 < in_words < 600
    assert encode_text(mixed, lines[0]) == encode_text(mixed, lines[0])


def test_held_out_lines_are_read_as_the_others(tmp_path: Path) -> None:
    """Which lines are held out has nothing to do with how a line is read."""
    text = prepare_text(tmp_path, LINES_ALIKE, held_out=0.25)
    assert 0.15 < share_read_in_words(text.held_out()) < 0.35
    assert 0.15 < share_read_in_words(*blocks(text)) < 0.35


def test_a_sample_is_read_and_held_out_as_the_whole(tmp_path: Path) -> None:
    encoder = LineEncoder(tiny_tokenizer(), "char", word_share=0.25)
    text = prepared(tmp_path, LINES_ALIKE, encoder=encoder, sample=0.25, held_out=0.25)
    in_blocks = sum(num_years(block) for block in blocks(text))
    assert 0.15 < num_years(text.held_out()) / (num_years(text.held_out()) + in_blocks) < 0.35
    assert 0.15 < share_read_in_words(text.held_out(), *blocks(text)) < 0.35


LINES_ALIKE = [f"Paris在{i:04}年" for i in range(4000)]  # all of one length


def num_years(block: Block) -> int:
    return tokens_of(block.ids.tolist()).count("年")


def share_read_in_words(*parts: Block) -> float:
    """Of `LINES_ALIKE`: the others have a token `p`."""
    lines = sum(map(num_years, parts))
    return 1 - sum(tokens_of(part.ids.tolist()).count("p") for part in parts) / lines


def test_made_up_text_in_rows(tmp_path: Path) -> None:
    """The whole way with a real tokenizer: rows hold the tokens of the lines, in order."""
    text = prepare_text(tmp_path, held_out=0.0)
    encoder = LineEncoder(tiny_tokenizer(), "char", word_share=0.25)
    expected = [encode_text(encoder, line) for line in made_up_lines()]
    (block,) = blocks(text)
    assert block.ids.tolist() == [i for ids, _, _ in expected for i in ids]
    assert block.starts.tolist() == [s for _, starts, _ in expected for s in starts]
