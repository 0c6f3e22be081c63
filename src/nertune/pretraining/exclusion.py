"""Text that stands in an evaluation file must not be pre-trained on."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["WINDOW", "Exclusion"]

WINDOW = 24
"""Characters that a line must share with an evaluation text to be left out."""


class Exclusion:
    """Finds lines that share a window of 24 characters with any of some texts.

    White space is ignored on both sides, so that a line broken or spaced otherwise is found. A
    text shorter than the window is found where it is a whole line.

    Args:
        texts: what stands in the evaluation files.
    """

    def __init__(self, texts: Iterable[str]):
        self._windows: set[str] = set()
        self._short: set[str] = set()
        for text in texts:
            plain = "".join(text.split())
            if len(plain) < WINDOW:
                self._short.add(plain)
            self._windows.update(plain[i : i + WINDOW] for i in range(len(plain) - WINDOW + 1))
        self._short.discard("")

    def __len__(self) -> int:
        return len(self._windows) + len(self._short)

    def shares(self, line: str) -> bool:
        """Whether the line holds text of an evaluation file."""
        plain = "".join(line.split())
        if plain in self._short:
            return True
        windows = self._windows
        return any(plain[i : i + WINDOW] in windows for i in range(len(plain) - WINDOW + 1))
