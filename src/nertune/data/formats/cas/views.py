"""Which view of a CAS is read, and which annotations are in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nertune.data.formats.cas.model import Annotation, Cas, Types
from nertune.data.formats.offsets import Offsets
from nertune.errors import DataError

__all__ = ["Views"]

_DEFAULT = "_InitialView"


@dataclass(slots=True)
class Views:
    """The views of a file while it is read; ids are as the file has them.

    Attributes:
        texts: by the id of a subject of analysis, its name and text.
        annotations: each with its own id and that of its subject.
        members: by the id of a subject, the ids of what is indexed.
    """

    texts: dict[Any, tuple[str, str | None]] = field(default_factory=dict)
    annotations: list[tuple[Any, Any, Annotation]] = field(default_factory=list)
    members: dict[Any, frozenset[Any]] = field(default_factory=dict)

    def add_members(self, sofa: Any, ids: Iterable[Any]) -> None:
        """Note what is indexed in a view."""
        self.members[sofa] = frozenset(ids) | self.members.get(sofa, frozenset())

    def initial(self, path: Path) -> Any:
        """The id of the initial view's subject, or of the only one that has a text.

        Raises:
            DataError: none has a text, or several have, and none is the initial one.
        """
        with_text = self._with_text()
        chosen = [id for id, name in with_text.items() if name == _DEFAULT] or list(with_text)
        if len(chosen) != 1:
            names = ", ".join(with_text.values()) or "none"
            told = f"expected a view {_DEFAULT} with a text; views with a text are: {names}"
            raise DataError(told, path=path)
        return chosen[0]

    def cas(self, types: Types, offsets: Offsets, seen: Counter[str], path: Path) -> Cas:
        """The initial view, or the only one that has a text.

        Raises:
            DataError: as for `initial`.
        """
        sofa = self.initial(path)
        text = self.texts[sofa][1]
        assert text is not None
        if others := len(self._with_text()) - 1:
            seen["views beside the initial one, which are not read"] += others
        indexed = self.members.get(sofa)
        found = []
        for id, of, annotation in self.annotations:
            if of == sofa and (indexed is None or id in indexed):
                found.append(annotation)
            elif of == sofa or of not in self.texts:
                seen["annotations that are in no view, which are not read"] += 1
        return Cas(text, tuple(found), types, offsets)

    def _with_text(self) -> dict[Any, str]:
        return {id: name for id, (name, text) in self.texts.items() if text is not None}
