"""What workers are told and what they answer, as plain values and as JSON; nothing heavy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nertune.types import Document

if TYPE_CHECKING:
    from nertune.models.graphs.onnx import Backend

__all__ = ["OutputFormat", "Reject", "Tagged", "Tagging", "join_tagged", "pack_documents",
           "unpack_documents"]  # fmt: skip

OutputFormat = Literal["jsonl", "parquet"]


@dataclass(frozen=True, slots=True)
class Tagging:
    """How documents are tagged and written.

    Attributes:
        model: a folder or hub name.
        device, backend, encoder: as for `Predictor.load`.
        threads: of one worker.
        by_sentence: tag a sentence at a time.
        min_score: leave out entities that are less probable.
        format: of what is written.
    """

    model: str
    device: str = "auto"
    backend: Backend = "torch"
    encoder: str | None = None
    threads: int = 1
    by_sentence: bool = False
    min_score: float = 0.0
    format: OutputFormat = "jsonl"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the arguments of the class."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reject:
    """A document, a line or the rest of a file that has no answer.

    Attributes:
        id: of the document, or the file and the line.
        reason: why, and what to do.
    """

    id: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON values, the arguments of the class."""
        return {"id": self.id, "reason": self.reason}


@dataclass(slots=True)
class Tagged:
    """A tagged chunk.

    Attributes:
        data: what is written: lines of JSON, or Arrow streams one behind the other.
        num_documents: how many are in it.
        num_units: characters or words that were labelled.
        entities: how many of each label.
        losses: how many of each kind the format could not hold, see `formats.values.LossKind`.
        rejects: documents that are not in it.
        notices: warnings for the user.
    """

    data: bytes = b""
    num_documents: int = 0
    num_units: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All but `data`, as plain JSON values."""
        notices = {"notices": self.notices} if self.notices else {}
        return {
            "documents": self.num_documents,
            "units": self.num_units,
            "entities": dict(self.entities),
            "losses": dict(self.losses),
            "rejects": [reject.to_dict() for reject in self.rejects],
            **notices,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], data: bytes = b"") -> Tagged:
        """What `to_dict` gave."""
        return cls(
            data,
            values["documents"],
            values["units"],
            Counter(values["entities"]),
            Counter(values["losses"]),
            [Reject(**reject) for reject in values["rejects"]],
            values.get("notices", []),
        )


def join_tagged(parts: Sequence[Tagged]) -> Tagged:
    """Several in one, in order."""
    whole = Tagged(data=b"".join(part.data for part in parts))
    for part in parts:
        whole.num_documents += part.num_documents
        whole.num_units += part.num_units
        whole.entities.update(part.entities)
        whole.losses.update(part.losses)
        whole.rejects += part.rejects
        whole.notices += part.notices
    return whole


def pack_documents(documents: Sequence[Document]) -> list[list[Any]]:
    """Documents without entities as plain JSON values."""
    return [[d.text, d.id, d.tokens, dict(d.meta)] for d in documents]


def unpack_documents(values: Sequence[Sequence[Any]]) -> list[Document]:
    """What `pack_documents` gave."""
    return [
        Document(
            text, id=id, tokens=None if tokens is None else tuple(map(tuple, tokens)), meta=meta
        )
        for text, id, tokens, meta in values
    ]
