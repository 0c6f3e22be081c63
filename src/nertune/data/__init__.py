"""Files to documents and back, what a corpus holds, and changes to it.

The functions behind `nertune data split`, `merge`, `map` and `dedupe` take and give documents:

    >>> from nertune.data import split_documents                    # doctest: +SKIP
    >>> parts = split_documents(documents, seed=1).parts            # doctest: +SKIP

They are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nertune.data.editing.dedupe import dedupe_documents
    from nertune.data.editing.labels import map_labels
    from nertune.data.editing.merge import merge_documents
    from nertune.data.editing.split import split_documents

__all__ = ["dedupe_documents", "map_labels", "merge_documents", "split_documents"]

_HOME = {
    "dedupe_documents": "nertune.data.editing.dedupe",
    "map_labels": "nertune.data.editing.labels",
    "merge_documents": "nertune.data.editing.merge",
    "split_documents": "nertune.data.editing.split",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'nertune.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
