"""CoNLL: a token and a tag a line, in columns; a blank line between sentences."""

from __future__ import annotations

from nertune.data.formats.conll.format import Conll
from nertune.data.formats.conll.layout import ConllStyle
from nertune.data.formats.conll.reader import ConllFile
from nertune.data.formats.conll.writer import write

__all__ = ["Conll", "ConllFile", "ConllStyle", "write"]
