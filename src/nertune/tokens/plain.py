"""A fast tokenizer from its files alone, without transformers, which takes a second to import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nertune.errors import TokenizerError
from nertune.tokens.tokenizer import EncoderTokenizer, EncodingStyle

__all__ = ["is_plain", "load_plain_tokenizer"]

_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


class _PlainBackend:
    """What `EncoderTokenizer` asks of a tokenizer of transformers.

    Args:
        tokenizer: from `tokenizer.json`.
        config: `tokenizer_config.json`, which names the special tokens.

    Raises:
        KeyError: a special token is not in the vocabulary.
        TypeError: a special token is no text.
    """

    is_fast = True

    def __init__(self, tokenizer: Any, config: dict[str, Any]):
        self.backend_tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        found = {name: _content(config.get(f"{name}_token")) for name in _NAMES}
        self._ids = {name: self._id(token) for name, token in found.items() if token}
        more = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
        others = more.values() if isinstance(more, dict) else more
        self.all_special_ids = [
            *dict.fromkeys([*self._ids.values(), *(self._id(_content(t)) for t in others)])
        ]

    def _id(self, token: str) -> int:
        found: int | None = self.backend_tokenizer.token_to_id(token)
        if found is None:
            raise KeyError(token)
        return found

    def __getattr__(self, name: str) -> int | None:
        special = name.removesuffix("_token_id")
        if special == name or special not in _NAMES:
            raise AttributeError(name)
        return self._ids.get(special)

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size())

    def get_vocab(self) -> dict[str, int]:
        found: dict[str, int] = self.backend_tokenizer.get_vocab()
        return found

    def __call__(
        self,
        text: Any,
        *,
        add_special_tokens: bool,
        split_special_tokens: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        inner = self.backend_tokenizer
        inner.encode_special_tokens = split_special_tokens
        if isinstance(text, str):
            return {"input_ids": inner.encode(text, add_special_tokens=add_special_tokens).ids}
        found = inner.encode_batch(
            text, is_pretokenized=True, add_special_tokens=add_special_tokens
        )
        return {"input_ids": [encoding.ids for encoding in found]}


def _content(token: Any) -> str:
    """A special token as text; it may be stored with how it is stripped."""
    if isinstance(token, dict):
        token = token["content"]
    if not isinstance(token, str | None):
        raise TypeError(f"a special token is {token!r}")
    return token or ""


def load_plain_tokenizer(folder: Path, style: EncodingStyle) -> EncoderTokenizer:
    """The tokenizer of a folder that has a `tokenizer.json` and a `tokenizer_config.json`.

    Not every such folder can be read so (`is_plain`): transformers changes what some files say.

    Args:
        folder: where the files are.
        style: how it encodes units.

    Raises:
        TokenizerError: a file is missing, damaged or of another kind.
    """
    from tokenizers import Tokenizer

    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        backend = _PlainBackend(Tokenizer.from_file(str(folder / "tokenizer.json")), dict(config))
    except Exception as error:  # those of tokenizers have no common base but this one
        raise TokenizerError(f"{folder}: its tokenizer cannot be read: {error}") from error
    return EncoderTokenizer(backend, str(folder), style)


def is_plain(folder: Path, tokenizer: EncoderTokenizer) -> bool:
    """Whether `load_plain_tokenizer` gives the same tokenizer.

    Args:
        folder: where `tokenizer` was loaded from, with transformers.
        tokenizer: that.
    """
    try:
        plain = load_plain_tokenizer(folder, tokenizer.style)
    except TokenizerError:
        return False
    return _facts(plain) == _facts(tokenizer)


def _facts(tokenizer: EncoderTokenizer) -> tuple[Any, ...]:
    """All that decides the tokens and how windows are made of them."""
    return (
        tokenizer.fingerprint(),
        tokenizer.pad_id,
        tokenizer.mask_id,
        tokenizer.prefix_ids,
        tokenizer.suffix_ids,
        tokenizer.backend.unk_token_id,
        sorted(tokenizer.backend.all_special_ids),
    )
