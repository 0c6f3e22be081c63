"""The bodies of requests and answers, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nertune.data.formats.offsets import count_units
from nertune.errors import RequestError
from nertune.inference.mixed import ServedModel
from nertune.types import Document

__all__ = [
    "DocumentAnswer",
    "EntityAnswer",
    "ErrorAnswer",
    "ErrorDetail",
    "ModelAnswer",
    "ModelsAnswer",
    "TagAnswer",
    "TagRequest",
    "answer_of",
    "model_values",
]


class TagRequest(BaseModel):
    """Texts to tag: `text` or `texts`, not both."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = Field(None, description="One text.", examples=["王小明昨天到了北京。"])
    texts: list[str] | None = Field(None, description="Several texts.")
    model: str | None = Field(None, description="A model's name; the default one if left out.")
    labels: list[str] | None = Field(None, description="Answer with entities of these labels only.")
    min_score: float = Field(
        0.0, ge=0.0, le=1.0, allow_inf_nan=False,
        description="Leave out entities that are less probable.",
    )  # fmt: skip
    offsets: Literal["codepoint", "utf16", "byte"] = Field(
        "codepoint",
        description="What offsets count: Unicode code points, UTF-16 units (JavaScript, Java) or "
        "bytes of UTF-8.",
    )

    @model_validator(mode="after")
    def _has_texts(self) -> Self:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give either 'text' or 'texts'")
        return self

    @property
    def documents(self) -> list[Document]:
        """The texts, also where it is one."""
        texts = self.texts if self.text is None else [self.text]
        return [Document(text) for text in texts or []]

    def check_labels(self, model: ServedModel) -> None:
        """Refuse labels that the model does not know.

        Raises:
            RequestError: there is one.
        """
        unknown = sorted(set(self.labels or ()) - set(model.labels))
        if unknown:
            raise RequestError(
                f"model {model.name!r} has no label {unknown[0]!r:.80}; it has "
                f"{', '.join(model.labels)}",
                status=422,
                code="unknown_label",
            )


class EntityAnswer(BaseModel):
    """An entity. `start` is included, `end` is not."""

    start: int
    end: int
    label: str
    text: str
    score: float | None = Field(None, description="Its probability under the model's decoder.")
    fragments: list[tuple[int, int]] | None = Field(
        None, description="Of a discontinuous entity, its parts."
    )


class DocumentAnswer(BaseModel):
    """What was found in a text."""

    entities: list[EntityAnswer]


class TagAnswer(BaseModel):
    """`documents` in the order of the texts."""

    model: str
    offsets: Literal["codepoint", "utf16", "byte"]
    documents: list[DocumentAnswer]


class ModelAnswer(BaseModel):
    """A model that can be asked."""

    name: str
    labels: list[str]
    encoder: str
    method: str
    unit: str
    decoder: str
    mixes: bool = Field(description="Whether its texts share batches with other models'.")
    why_not: str = Field(description="Why they do not.")


class ModelsAnswer(BaseModel):
    """The models, the default one first."""

    default: str
    models: list[ModelAnswer]


class ErrorDetail(BaseModel):
    """What is wrong: `code` for programs, `message` for people."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """The answer to a request that is refused."""

    error: ErrorDetail


def answer_of(request: TagRequest, model: str, documents: list[Document]) -> dict[str, Any]:
    """The answer to a request, as JSON values."""
    return {
        "model": model,
        "offsets": request.offsets,
        "documents": [{"entities": _entities(request, document)} for document in documents],
    }


def _entities(request: TagRequest, document: Document) -> list[dict[str, Any]]:
    kept = [
        entity
        for entity in document.entities
        if (request.labels is None or entity.label in request.labels)
        and (entity.score is None or entity.score >= request.min_score)
    ]
    if not kept:
        return []
    is_plain = request.offsets == "codepoint" or document.text.isascii()
    places = None if is_plain else count_units(document.text, request.offsets)

    def place(offset: int) -> int:
        return offset if places is None else places[offset]

    return [
        {
            "start": place(entity.start),
            "end": place(entity.end),
            "label": entity.label,
            "text": document.surface(entity),
        }
        | ({} if entity.score is None else {"score": entity.score})
        | (
            {"fragments": [[place(a), place(b)] for a, b in entity.fragments]}
            if entity.fragments
            else {}
        )
        for entity in kept
    ]


def model_values(model: ServedModel) -> dict[str, Any]:
    """A model, as JSON values."""
    return {name: getattr(model, name) for name in ModelAnswer.model_fields}
