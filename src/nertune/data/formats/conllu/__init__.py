"""CoNLL-U Plus and CoNLL-U: a word a line in named columns, a blank line between sentences."""

from __future__ import annotations

from nertune.data.formats.conllu.format import ConlluPlus

__all__ = ["ConlluPlus"]
