"""Raw text that is made up here, and pre-training runs that take a moment."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nertune.config.pretrain import PretrainSettings, parse_pretrain_settings
from nertune.pretraining.packing import EncodedLine, LineEncoder, LineSelection, PreparedText
from nertune.pretraining.text import Line
from nertune.pretraining.vocabulary import Vocabulary, build_tokenizer, learn_vocabulary
from nertune.pretraining.words import Word, WordTagger
from nertune.tokens.tokenizer import EncoderTokenizer

__all__ = [
    "TINY",
    "MadeUpTagger",
    "encode_text",
    "in_memory",
    "made_up_lines",
    "make_pretrain_settings",
    "prepare_text",
    "tiny_tokenizer",
    "tiny_vocabulary",
    "write_text",
]

_PAIRS = (
    "北京上海广州天气记者报道今天昨天公司经济发展学生老师学校医院医生河流山水工厂工人农民城市新闻火车飞机"
    "音乐电影王明李华张伟"
)
_WORDS = [_PAIRS[i : i + 2] for i in range(0, len(_PAIRS), 2)] + [
    "图书馆",
    "科学家",
    *"大小的在和了年",
]
_LATIN = ["Linux", "GPU", "OK", "Paris", "river", "model", "data", "Berlin"]

TINY: dict[str, Any] = {
    "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 300, "length": 32, "batch_tokens": 256,
    "held_out": 0.1, "device": "cpu", "precision": "fp32", "compile": "no",
    "architecture": "bert", "optimizer": "adamw", "rate": 1e-3, "embedding_factor": 1.0,
    "ramp": 0.0, "short_length": 0, "weight_decay": 0.01,
}  # fmt: skip
"""Settings of a model of some ten thousand weights, whose steps are all alike."""


@cache
def made_up_lines(count: int = 300, seed: int = 0) -> tuple[str, ...]:
    """Lines of Chinese words, with Latin ones and numbers among them; no two alike."""
    draw = random.Random(seed)
    lines: dict[str, None] = {}
    while len(lines) < count:
        words = [_word(draw) for _ in range(draw.randint(4, 14))]
        lines["".join(words) + draw.choice("。！？")] = None
    return tuple(lines)


def _word(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.8:
        return draw.choice(_WORDS)
    return draw.choice(_LATIN) if kind < 0.9 else str(draw.randint(0, 2026))


def write_text(path: Path, lines: Iterable[str]) -> Path:
    """One line each."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def make_pretrain_settings(folder: Path, **changes: Any) -> PretrainSettings:
    """A run in `folder/run` on `made_up_lines`, from scratch unless `encoder` is given.

    Args:
        folder: an existing folder; gets `text.txt` if it has none.
        changes: values that replace `TINY` and 2,000 tokens.
    """
    text = folder / "text.txt"
    if not text.exists():
        write_text(text, made_up_lines())
    values = {"files": [text], "output": folder / "run", "tokens": 2000, **TINY}
    if "encoder" not in changes:
        values["from_scratch"] = "tiny"
    if "minutes" in changes:
        values.pop("tokens")
    return parse_pretrain_settings(values | changes)


@cache
def tiny_vocabulary() -> Vocabulary:
    """Learned from `made_up_lines`."""
    return learn_vocabulary(made_up_lines(), max_tokens=300, min_count=2, word_tokens=60)


@cache
def tiny_tokenizer() -> EncoderTokenizer:
    """With `tiny_vocabulary`."""
    return EncoderTokenizer(build_tokenizer(tiny_vocabulary(), max_tokens=64), "tiny")


def in_memory(*files: Sequence[str]) -> Callable[[tuple[int, int]], Iterator[Line]]:
    """Opens lists of lines as `text.read_lines` opens files."""

    def lines(skip: tuple[int, int]) -> Iterator[Line]:
        for number, file in enumerate(files):
            for line, text in enumerate(file, 1):
                if (number, line) > skip and text:
                    yield Line(number, line, text)

    return lines


def encode_text(encoder: LineEncoder, text: str) -> EncodedLine:
    """One line that stands alone."""
    (encoded,) = encoder.encode([Line(0, 1, text)])
    return encoded


class MadeUpTagger:
    """A word tagger that looks at nothing but the text; `cut_text` says how."""

    name = "made up 1"
    tags: tuple[str, ...] = ("x",)
    entity_tags: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        return self.name

    def cut_text(self, text: str) -> Iterator[Word]:
        yield len(text), self.tags[0]

    def cut(self, lines: Iterable[Line]) -> Iterator[list[Word]]:
        for line in lines:
            yield list(self.cut_text(line.text))


def prepare_text(
    folder: Path,
    lines: Sequence[str] | None = None,
    *,
    words: WordTagger | None = None,
    block_tokens: int = 10**6,
    held_out: float = 0.1,
) -> PreparedText:
    """`made_up_lines`, or others, in the tokens of `tiny_tokenizer`."""
    return PreparedText(
        folder,
        in_memory(made_up_lines() if lines is None else lines),
        LineEncoder(tiny_tokenizer(), "char", word_share=0.25, words=words),
        block_tokens=block_tokens,
        selection=LineSelection(held_out=held_out),
    )
