"""SentencePiece and byte-level BPE: units are encoded as in running text, one token a character."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from helpers.tiny import SENTENCES, make_predictor, make_settings, save_predictor
from nertune.artifacts.manifest import read_manifest
from nertune.inference.predictor import Predictor
from nertune.tokens.tokenizer import EncoderTokenizer, encode_document
from nertune.types import Document

SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
CHARACTERS = [*"cat在北京1,"]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def bytes_of(text: str) -> str:
    """As byte-level BPE spells it."""
    ((spelled, _),) = pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(text)
    return spelled


def unigram(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    words = ["▁", *CHARACTERS, "▁c", "▁cat", "cat", "▁北京", "北京"]
    pieces = [(p, 0.0) for p in SPECIAL] + [(w, -5.0 + len(w)) for w in words]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def sentencepiece_bpe() -> Tokenizer:
    merges = [("▁", "c"), ("▁c", "a"), ("▁ca", "t"), ("c", "a"), ("北", "京"), ("▁", "北")]
    tokens = [*SPECIAL, "▁", *CHARACTERS, *("".join(pair) for pair in merges)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=False))


def bpe_metaspace(scheme: str) -> Tokenizer:
    tokenizer = sentencepiece_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return tokenizer


def bpe_normalizer() -> Tokenizer:
    """As Llama's first tokenizers: white space becomes the sign before anything is split."""
    tokenizer = sentencepiece_bpe()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer


def byte_level(add_prefix_space: bool) -> Tokenizer:
    å, ľ, end = bytes_of("在")
    merges = [("Ġ", å), (å, ľ), (å + ľ, end), ("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t")]
    北, 京 = bytes_of("北"), bytes_of("京")
    merges += [(北[0], 北[1]), (北[:2], 北[2]), (京[0], 京[1]), (京[:2], 京[2]), (北, 京)]
    tokens = dict.fromkeys([*SPECIAL, *ALPHABET, *("".join(pair) for pair in merges)])
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    return tokenizer


def split_metaspace(scheme: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "unigram-always": lambda: unigram(pre_tokenizers.Metaspace(prepend_scheme="always")),
    "unigram-first": lambda: unigram(pre_tokenizers.Metaspace(prepend_scheme="first")),
    "unigram-never": lambda: unigram(pre_tokenizers.Metaspace(prepend_scheme="never")),
    "unigram-split": lambda: unigram(split_metaspace("always")),
    "bpe-always": lambda: bpe_metaspace("always"),
    "bpe-first": lambda: bpe_metaspace("first"),
    "bpe-never": lambda: bpe_metaspace("never"),
    "bpe-normalizer": bpe_normalizer,
    "byte-level": lambda: byte_level(add_prefix_space=False),
    "byte-level-prefix": lambda: byte_level(add_prefix_space=True),
}


def load(family: str, style: str = "running") -> EncoderTokenizer:
    backend = PreTrainedTokenizerFast(
        tokenizer_object=FAMILIES[family](), bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="<pad>", mask_token="<mask>",
    )  # fmt: skip
    return EncoderTokenizer(backend, family, style)  # type: ignore[arg-type]


def spelled(family: str, text: str, unit: str) -> list[tuple[str, list[str]]]:
    """Each unit with its pieces; those of bytes as the characters that they are."""
    tokenizer = load(family)
    encoding = encode_document(Document(text), tokenizer, unit)  # type: ignore[arg-type]
    names = {bytes_of(c): c for c in ["在", "北", "京", "北京"]}
    names |= {f"Ġ{spelling}": f"▁{c}" for spelling, c in names.items()}
    result = []
    for (start, end), ids in zip(encoding.units, encoding.piece_ids, strict=True):
        pieces = tokenizer.backend.convert_ids_to_tokens(ids)
        shown = [names.get(p, p.replace("Ġ", "▁")) for p in pieces]
        result.append((text[start:end], shown))
    return result


@pytest.mark.parametrize("family", FAMILIES)
def test_a_character_is_one_token_that_knows_it(family: str) -> None:
    text = "在北京 cat 在1,a\n北"
    found = spelled(family, text, "char")
    assert [unit for unit, _ in found] == [c for c in text if not c.isspace()]
    for unit, pieces in found:
        assert len(pieces) == 1, (unit, pieces)
        assert pieces[0].removeprefix("▁") == unit
    # The sign stands where white space does, if the vocabulary has such a piece.
    signs = [pieces[0] for _, pieces in found if pieces[0].startswith("▁")]
    assert signs == (["▁c", "▁北"] if family.startswith("bpe") else ["▁c"])


@pytest.mark.parametrize("family", FAMILIES)
def test_words_are_read_as_in_running_text(family: str) -> None:
    found = spelled(family, "cat,cat 在北京1cat", "word")
    assert found == [
        ("cat", ["▁cat"]),
        (",", [","]),
        ("cat", ["cat"] if family.startswith("unigram") else found[2][1]),
        ("在", ["在"]),
        ("北", ["北"]),
        ("京", ["京"]),
        ("1cat", found[6][1]),
    ]
    assert "".join(found[2][1]) == "cat"
    assert "".join(found[6][1]) == "1cat"
    assert "▁" not in [piece for _, pieces in found for piece in pieces]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_word_of_several_pieces_leaves_a_bare_sign_out(family: str) -> None:
    """Its tag is on the first piece, which knows a character of it."""
    found = spelled(family, "京在1 1在", "word")
    assert found[0] == ("京", ["京"])
    assert [pieces[0] for _, pieces in spelled(family, "11 11", "word")] == ["1", "1"]
    assert all(pieces[0] not in ("▁", "Ġ") for _, pieces in found)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_old_style_is_what_it_was(family: str) -> None:
    """Every unit a word of its own, for taggers that version 0.1.0 trained."""
    tokenizer = load(family, "isolated")
    together = tokenizer.encode_units([*"在c在"], [True, False, False])
    alone = [load(family, "isolated").encode_units([unit])[0] for unit in "在c在"]
    assert together == alone
    assert tokenizer.fingerprint() != load(family).fingerprint()
    if family.endswith("always"):
        assert tokenizer.backend.convert_ids_to_tokens(alone[0]) == ["▁", "在"]


def test_word_piece_is_the_same_in_both_styles() -> None:
    tokenizer = Tokenizer(
        models.WordPiece({"<unk>": 0, "c": 1, "##a": 2, "a": 3}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    running, isolated = (EncoderTokenizer(backend, "x", s) for s in ("running", "isolated"))
    for one in (running, isolated):
        assert one.encode_units(["c", "a", "ca"], [True, False, False]) == [[1], [3], [1, 2]]
    assert running.fingerprint() == isolated.fingerprint()


def test_special_pieces_and_half_pairs_in_a_word_are_text() -> None:
    for family in FAMILIES:
        tokenizer = load(family)
        ids = tokenizer.encode_units(["</s>", "<mask>", "\ud800", "a"], [False] * 4)
        special = set(tokenizer.backend.all_special_ids) - {tokenizer.backend.unk_token_id}
        assert not special & {i for row in ids for i in row}
        assert len(ids[3]) == 1


def test_an_artifact_keeps_its_style(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "full")
    predictor = make_predictor(settings)
    assert save_predictor(tmp_path / "model", predictor, settings).encoding == "running"
    loaded = Predictor.load(tmp_path / "model", device="cpu")
    assert loaded.segmenter.tokenizer.style == "running"
    path = tmp_path / "model" / "nertune.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"encoding": "running",', ""))
    assert read_manifest(tmp_path / "model").encoding == "isolated"  # as version 0.1.0 wrote it
    assert Predictor.load(tmp_path / "model", device="cpu").segmenter.tokenizer.style == "isolated"


@pytest.mark.parametrize("family", ["unigram-always", "byte-level"])
def test_threads_share_a_tokenizer_whose_cache_is_full(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [document.text for document in SENTENCES] * 20
    expected = [load(family).encode_units([*text]) for text in texts]
    monkeypatch.setattr("nertune.tokens.tokenizer._CACHE_LIMIT", 15)
    tokenizer = load(family)
    wrong: list[object] = []

    def work(offset: int) -> None:
        try:
            for i in range(len(texts)):
                k = (i + offset) % len(texts)
                if tokenizer.encode_units([*texts[k]]) != expected[k]:
                    wrong.append(k)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(3 * n,)) for n in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
