"""Text to pieces: character vocabularies and fast tokenizers of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nertune.errors import DataError, NertuneError, TokenizerError
from nertune.tokens.tokenizer import (
    CharTokenizer,
    EncoderTokenizer,
    encode_document,
    load_tokenizer,
)
from nertune.types import Document

PAD, UNK, SPACE = 0, 1, 2

# -- characters --------------------------------------------------------------------------------


def test_the_vocabulary_is_ordered_by_count_then_code_point() -> None:
    documents = [Document("北京 北京a"), Document("北\u3000b\n")]
    tokenizer = CharTokenizer.from_documents(documents)
    assert tokenizer.characters == ("[PAD]", "[UNK]", "[SPACE]", "北", "京", "a", "b")
    assert tokenizer.vocabulary_size == 7
    assert (tokenizer.pad_id, tokenizer.prefix_ids, tokenizer.suffix_ids) == (0, [], [])
    assert tokenizer.encode_units(["京", "x", " ", "\u3000", "\n", "\x85", "北"]) == [
        [4], [UNK], [SPACE], [SPACE], [SPACE], [SPACE], [3]
    ]  # fmt: skip
    rare = CharTokenizer.from_documents(documents, min_count=2)
    assert rare.characters[3:] == ("北", "京")


def test_words_are_entries_too() -> None:
    tokenizer = CharTokenizer.from_documents([Document("New York, New")], "word")
    assert tokenizer.characters[3:] == ("New", ",", "York")
    assert tokenizer.encode_units(["York", "york"]) == [[5], [UNK]]


def test_every_unit_has_one_piece() -> None:
    document = Document("在 1\ud800\x00")
    tokenizer = CharTokenizer.from_documents([document])
    encoding = encode_document(document, tokenizer, "char")
    assert encoding.units == [(i, i + 1) for i in range(5)]
    assert encoding.num_pieces == 5
    assert encoding.piece_ids[3] == [UNK]  # half a surrogate pair cannot stand in a file


def test_text_that_spells_a_special_entry_is_text() -> None:
    tokenizer = CharTokenizer(["[PAD]", "[UNK]", "[SPACE]", "x"])
    assert tokenizer.encode_units(["[PAD]", "[UNK]", "x"]) == [[UNK], [UNK], [3]]


def test_an_unknown_character_with_marks_is_read_as_the_character() -> None:
    """A vocabulary of 0.1.0 has the marks as entries of their own."""
    tokenizer = CharTokenizer(["[SPACE]", "か", "e", "\u3099", "e\u0301", "คน"])
    か, e, accented = 3, 4, 6
    units = ["か", "か\u3099", "e\u0301", "e\u0301\u0302", "ค\u0e35", "ee\u0301", "\u3099"]
    assert tokenizer.encode_units(units) == [[か], [か], [accented], [e], [UNK], [UNK], [5]]
    assert tokenizer.encode_units([" \u0301"]) == [[UNK]]


def test_characters_with_marks_are_entries(tmp_path: Path) -> None:
    document = Document("ที่ไหน ❤\ufe0f")
    tokenizer = CharTokenizer.from_documents([document])
    assert set(tokenizer.characters[3:]) == {"ที่", "ไ", "ห", "น", "❤\ufe0f"}
    tokenizer.save(tmp_path)
    assert CharTokenizer.from_file(tmp_path / "chars.txt").characters == tokenizer.characters


ODD = "\r\x00\x0b\x1c\x85\u2028\u2029\ufeff\u200b\u0301\u3000 \U0001f600[]<>#\ud800"
UNITS = st.text(st.one_of(st.sampled_from(ODD + "\n"), st.characters()), min_size=1, max_size=4)


@settings(deadline=None, max_examples=150)
@given(st.lists(UNITS, max_size=12), st.sampled_from(("char", "word")))
@example(["a\r", "b\nc", "\r\u200b"], "word")
def test_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], unit: str
) -> None:
    """Whatever the training text holds, the file on disk gives the same ids."""
    text, tokens = "", []
    for word in words:
        tokens.append((len(text), len(text) + len(word)))
        text += word
    tokenizer = CharTokenizer.from_documents([Document(text, tokens=tuple(tokens))], unit)  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("chars")
    tokenizer.save(folder)
    loaded = CharTokenizer.from_file(folder / "chars.txt", unit)  # type: ignore[arg-type]
    assert loaded.characters == tokenizer.characters
    assert loaded.fingerprint() == tokenizer.fingerprint()
    units = [*words, *text]
    assert loaded.encode_units(units) == tokenizer.encode_units(units)


def test_a_file_in_the_style_of_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "chars.txt"
    path.write_bytes("\ufeff[PAD]\r\n[UNK]\r\n[SPACE]\r\n<START>\r\n在\r\n\u2028\r\n".encode())
    tokenizer = CharTokenizer.from_file(path)
    assert tokenizer.characters == ("[PAD]", "[UNK]", "[SPACE]", "<START>", "在", "\u2028")
    # A white-space character with an entry of its own keeps it.
    assert tokenizer.encode_units(["在", " ", "\u2028", "年"]) == [[4], [SPACE], [5], [UNK]]


def test_specials_come_first_wherever_the_file_has_them(tmp_path: Path) -> None:
    path = tmp_path / "chars.txt"
    path.write_text("年\n[UNK]\n月\n年\n")
    assert CharTokenizer.from_file(path).characters == ("[PAD]", "[UNK]", "年", "月")


@pytest.mark.parametrize(
    ("content", "line", "fragment"),
    [
        ("在\n北京\n".encode(), 2, "got '北京', expected one character"),
        (b"a\nb 3\n", 2, "got 'b 3'"),
        (b"a\nc\tx\n", 2, r"got 'c\\tx'"),
        (b"", None, "is empty"),
        (b"\n\n", None, "is empty"),
        (b"a\n\xff\n", None, "not UTF-8"),
    ],
)
def test_bad_entries_are_named(
    tmp_path: Path, content: bytes, line: int | None, fragment: str
) -> None:
    path = tmp_path / "chars.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=fragment) as caught:
        CharTokenizer.from_file(path)
    assert str(caught.value).startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert caught.value.line == line


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"chars\.txt: cannot read .*No such file"):
        CharTokenizer.from_file(tmp_path / "chars.txt")


# -- fast tokenizers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini_zh() -> EncoderTokenizer:
    return load_tokenizer("mini-zh")


def names(tokenizer: EncoderTokenizer, *units: str) -> list[list[str]]:
    return [
        tokenizer.backend.convert_ids_to_tokens(ids) for ids in tokenizer.encode_units(list(units))
    ]


def test_the_bundled_tokenizer(mini_zh: EncoderTokenizer) -> None:
    assert names(mini_zh, "在", "77213", "A") == [["在"], ["77", "##21", "##3"], ["a"]]
    marks = mini_zh.backend
    assert mini_zh.prefix_ids == [marks.cls_token_id]
    assert mini_zh.suffix_ids == [marks.sep_token_id]
    assert mini_zh.pad_id == marks.pad_token_id
    assert mini_zh.max_pieces == 256


def test_dropped_characters_have_no_piece(mini_zh: EncoderTokenizer) -> None:
    dropped = [" ", "\n", "\u3000", "\u200b", "\x00", "\x1f", "\ufeff", "\u0301", "\ufffd"]
    assert mini_zh.encode_units(dropped) == [[] for _ in dropped]
    document = Document("在\u200b 北\x00京")
    assert encode_document(document, mini_zh, "char").units == [(0, 1), (3, 4), (5, 6)]


def test_unknown_characters_keep_a_piece(mini_zh: EncoderTokenizer) -> None:
    assert names(mini_zh, "\U0001f600", "\U0002a6d6") == [["[UNK]"], ["[UNK]"]]


@pytest.mark.parametrize("unit", ["\ud800", "a\udfffb", "\udc80\ud800"])
def test_half_a_surrogate_pair_does_not_crash(any_tokenizer: Path, unit: str) -> None:
    tokenizer = load_tokenizer(any_tokenizer)
    assert tokenizer.encode_units([unit, "cat"])[1] == tokenizer.encode_units(["cat"])[0]
    document = Document(f"在{unit}cat")
    units = encode_document(document, tokenizer, "char").units
    assert {(0, 1), (len(document.text) - 1, len(document.text))} <= set(units)


def test_text_is_never_a_special_piece(any_tokenizer: Path) -> None:
    """Not even where the vocabulary holds the marks as pieces, as Unigram's does."""
    tokenizer = load_tokenizer(any_tokenizer)
    backend = tokenizer.backend
    special = set(backend.all_special_ids) - {backend.unk_token_id}
    for ids in tokenizer.encode_units(["<mask>", "</s>", "<pad>", "a<s>", "<s> <mask>", "<s>"]):
        assert ids
        assert not special & set(ids)


def test_bert_marks_in_text_are_text(mini_zh: EncoderTokenizer) -> None:
    found = mini_zh.encode_units(["[MASK]", "[PAD]", "[CLS]", "[SEP]"])
    assert all(len(ids) > 1 and min(ids) > 4 for ids in found)


@pytest.mark.parametrize(
    "kind", ["byte-level-roberta", "byte-level-gpt2", "byte-level-plain", "byte-level-split"]
)
def test_byte_level_units_begin_as_words(kind: str, make_tokenizer: Callable[..., Path]) -> None:
    """Pre-training saw ` cat`, not `cat`, wherever a word stood behind a space."""
    tokenizer = load_tokenizer(make_tokenizer(kind))
    assert names(tokenizer, "cat", "the", " ") == [["Ġcat"], ["Ġthe"], []]
    # Where it goes on in a word, it is read without the sign.
    for ids in tokenizer.encode_units(["the", "在"], [False, False]):
        assert not tokenizer.backend.convert_ids_to_tokens(ids)[0].startswith("Ġ")
    assert tokenizer.prefix_ids == [0]
    assert tokenizer.suffix_ids == [1]


def test_metaspace_units_begin_as_words(make_tokenizer: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(make_tokenizer("unigram"))
    assert names(tokenizer, "cat") == [["▁cat"]]
    # But a sign on its own carries no tag, and one character is one piece where there is one.
    found = names(tokenizer, *"在年京的")
    assert [len(pieces) for pieces in found] == [1] * 4
    assert all(pieces != ["▁"] for pieces in found)


def test_units_do_not_influence_each_other(any_tokenizer: Path) -> None:
    units = ["the", "cat", "1998", "在", ",", " ", "the", "\u200b", "zzz"]
    together = load_tokenizer(any_tokenizer).encode_units(units)
    alone = [load_tokenizer(any_tokenizer).encode_units([unit])[0] for unit in units[:3]]
    again = load_tokenizer(any_tokenizer)
    assert together[:3] == alone
    assert [again.encode_units([unit])[0] for unit in units] == together


def test_saved_encoder_tokenizer_is_loaded(any_tokenizer: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(any_tokenizer)
    before = tokenizer.fingerprint()
    units = ["the", "cat", "Paris", "在", "1998", "<mask>", " "]
    pieces = tokenizer.encode_units(units)
    assert tokenizer.fingerprint() == before  # reading leaves no trace
    saved = tmp_path / "saved"
    saved.mkdir()
    tokenizer.save(saved)
    (saved / "config.json").write_text((any_tokenizer / "config.json").read_text())
    loaded = load_tokenizer(saved)
    assert loaded.fingerprint() == before
    assert loaded.encode_units(units) == pieces
    assert (loaded.prefix_ids, loaded.suffix_ids) == (tokenizer.prefix_ids, tokenizer.suffix_ids)


def test_stored_truncation_and_padding_are_ignored(make_tokenizer: Callable[..., Path]) -> None:
    def cut(tokenizer: object) -> None:
        tokenizer.enable_truncation(2)  # type: ignore[attr-defined]
        tokenizer.enable_padding(length=7)  # type: ignore[attr-defined]

    folder = make_tokenizer("word-piece")
    plain = load_tokenizer(folder)
    folder.rename(folder.with_name("plain"))
    cutting = load_tokenizer(make_tokenizer("word-piece", cut))
    assert cutting.prefix_ids == [0]
    assert cutting.suffix_ids == [1]
    long = "satatatatat"
    assert len(plain.encode_units([long])[0]) > 2
    assert cutting.encode_units([long]) == plain.encode_units([long])
    assert cutting.fingerprint() == plain.fingerprint()


def test_another_vocabulary_has_another_fingerprint(make_tokenizer: Callable[..., Path]) -> None:
    folder = make_tokenizer("word-piece")
    before = load_tokenizer(folder).fingerprint()
    state = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = state["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(state))
    assert load_tokenizer(folder).fingerprint() != before


def test_only_an_end_mark(make_tokenizer: Callable[..., Path]) -> None:
    def end_only(tokenizer: object) -> None:
        from tokenizers import processors

        tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[attr-defined]
            single="$A </s>", special_tokens=[("</s>", 1)]
        )

    tokenizer = load_tokenizer(make_tokenizer("unigram", end_only))
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == ([], [1])


def test_without_special_pieces(make_tokenizer: Callable[..., Path]) -> None:
    def bare(tokenizer: object) -> None:
        tokenizer.post_processor = None  # type: ignore[attr-defined]

    tokenizer = load_tokenizer(make_tokenizer("byte-level-plain", bare))
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == ([], [])


def test_the_cache_gives_what_the_tokenizer_gave(
    mini_zh: EncoderTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nertune.tokens.tokenizer._CACHE_LIMIT", 5)
    tokenizer = EncoderTokenizer(mini_zh.backend, "mini-zh")
    units = [*"在1998年的北京", "1998", *"在上海见"]
    assert tokenizer.encode_units(units) == mini_zh.encode_units(units)
    assert tokenizer.encode_units(units[::-1]) == mini_zh.encode_units(units)[::-1]
    assert tokenizer.encode_units([]) == []


# -- refusals ----------------------------------------------------------------------------------


def test_a_slow_tokenizer_is_refused_with_the_reason() -> None:
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(TokenizerError, match=r"somebody/model: .*slow one, .*labels would shift"):
        EncoderTokenizer(slow, "somebody/model")


def refused(name: str | Path) -> str:
    with pytest.raises(NertuneError) as caught:
        load_tokenizer(name)
    message = str(caught.value)
    assert "\n" not in message
    assert str(name) in message
    return message


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no config.json" in refused(empty)
    (empty / "config.json").write_text('{"model_type": "bert"}')
    # transformers makes up a vocabulary of five special pieces; every character would be unknown.
    assert "nothing but 5 special tokens" in refused(empty)
    (empty / "tokenizer.json").write_text("{")
    assert "no tokenizer can be loaded" in refused(empty)
    (empty / "tokenizer.json").write_text('{"version": "1.0"}')
    assert "no tokenizer can be loaded" in refused(empty)
