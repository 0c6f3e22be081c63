"""The vocabulary of a new encoder (`nertune pretrain --from-scratch`), learned from its text.

Characters of unspaced scripts are tokens each, words of all others are cut into tokens.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nertune.errors import DataError
from nertune.tokens.tokenizer import EncoderTokenizer
from nertune.tokens.units import is_unspaced

__all__ = ["Vocabulary", "build_tokenizer", "learn_vocabulary", "read_tokenizer"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ASCII = "".join(c for c in string.printable if not c.isspace() and c == c.lower())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the tokens are.

    Attributes:
        tokens: in the order of their ids: special tokens, ASCII characters, `##` continuations,
            the text's characters by frequency, then longer tokens.
        covered: share of the text's characters (white space aside) that have a token.
    """

    tokens: tuple[str, ...]
    covered: float


def learn_vocabulary(
    texts: Iterable[str], *, max_tokens: int, min_count: int = 10, word_tokens: int = 1000
) -> Vocabulary:
    """Count characters and learn WordPiece tokens (Wu et al., 2016) for runs of letters.

    The same texts give the same vocabulary: ties are broken by the tokens themselves.

    Args:
        texts: lines of text.
        max_tokens: size of the vocabulary, at most.
        min_count: a rarer character gets no token.
        word_tokens: at most so many of the tokens stand for two or more characters.

    Raises:
        DataError: the text is empty, or `max_tokens` leaves no room for its characters.
    """
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normalizer, cutter = BertNormalizer(lowercase=True), BertPreTokenizer()
    characters: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    for text in texts:
        for word, _ in cutter.pre_tokenize_str(normalizer.normalize_str(text)):
            if len(word) == 1:
                characters[word] += 1
            else:
                runs[word] += 1
                characters.update(word)
    if not characters:
        raise DataError("the text is empty: there is no vocabulary to learn")
    fixed = [*SPECIAL, *_ASCII]
    inside = sorted({c for run in runs for c in run if not is_unspaced(c)} | set(_ALNUM))
    inside = [c for c in inside if c in _ALNUM or characters[c] >= min_count]
    fixed += [f"##{c}" for c in inside]
    room = max_tokens - len(fixed)
    if room < 1:
        raise DataError(
            f"a vocabulary of {max_tokens} tokens has no room for characters: it needs more than "
            f"{len(fixed)}"
        )
    known = set(fixed)
    counted = sorted(characters.items(), key=lambda item: (-item[1], item[0]))
    single = [c for c, n in counted if n >= min_count and c not in known]
    single = single[: max(room - word_tokens, room // 2)]
    merged = _learn_words(runs, known | set(single), min(word_tokens, room - len(single)))
    tokens = (*fixed, *single, *merged)
    kept = set(tokens)
    total = sum(characters.values())
    return Vocabulary(tokens, sum(n for c, n in characters.items() if c in kept) / total)


_ALNUM = string.ascii_lowercase + string.digits


def _learn_words(runs: Counter[str], known: set[str], limit: int) -> list[str]:
    """The most useful tokens of two and more characters.

    tokenizers' trainer numbers single characters in the order of a hash map, and breaks ties by
    those numbers; given as special tokens, they are numbered in the order given.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.trainers import WordPieceTrainer

    usable = {
        run: n
        for run, n in runs.items()
        if n > 1 and all(c in known and not is_unspaced(c) for c in run)
    }
    if limit < 1 or not usable:
        return []
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    alphabet = sorted({c for run in usable for c in run})
    single = ["[UNK]", *alphabet, *(f"##{c}" for c in alphabet)]
    trainer = WordPieceTrainer(
        vocab_size=limit + len(single), special_tokens=single, show_progress=False
    )
    cap = 1000  # a run counts at most so often, so that a few frequent ones do not fill the room
    tokenizer.train_from_iterator(
        (" ".join([run] * min(n, cap)) for run, n in sorted(usable.items())), trainer
    )
    learned = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    longer = [p for p, _ in learned if len(p.removeprefix("##")) > 1 and p != "[UNK]"]
    return [p for p in longer if p not in known][:limit]


def build_tokenizer(vocabulary: Vocabulary, *, max_tokens: int) -> Any:
    """A transformers `BertTokenizer` with this vocabulary, lower-casing.

    Args:
        max_tokens: the longest input, said in its files.
    """
    from transformers import BertTokenizer

    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    return BertTokenizer(vocab=ids, do_lower_case=True, model_max_length=max_tokens)


def read_tokenizer(folder: Path) -> EncoderTokenizer:
    """A tokenizer that `build_tokenizer` made and `save_pretrained` wrote."""
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    return EncoderTokenizer(backend, str(folder))
