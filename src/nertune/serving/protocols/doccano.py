"""doccano's auto labelling by a "Custom REST Request".

doccano posts the body that a user writes, with the text in the place of `{{ text }}`, and maps the
answer to its labels by a template:

    POST /doccano/news   {"text": "王明在京"}
    {"labels": [{"label": "PER", "start_offset": 0, "end_offset": 2}], "notices": []}

    {{ input.labels | tojson }}

With that template an error of the server is an error in doccano too; one that loops over labels
would find none and say nothing.

Offsets count UTF-16 units, as doccano's editor does (`v-annotator`), or graphemes, in projects that
have "Count grapheme clusters as one character".

Sources: github.com/doccano/auto-labeling-pipeline, `models.py` (the request), `mappings.py` and
`label.py` (the answer); github.com/doccano/doccano, `backend/auto_labeling`.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from nertune.data.formats.json_files.values import keep_whole_units
from nertune.data.formats.offsets import count_units
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.serving.tagging import Tagging
from nertune.types import Document

__all__ = ["DoccanoRequest", "router"]


class DoccanoRequest(BaseModel):
    """The body that a user writes in doccano; other keys are not used.

    Attributes:
        text: `{{ text }}` there.
        offsets: what doccano counts in this project.
        min_score: entities that are less probable are left out.
    """

    text: str
    offsets: Literal["utf16", "grapheme", "codepoint"] = "utf16"
    min_score: float = Field(default=0.0, ge=0, le=1)


def router(serve: Tagging, store: AnnotationStore | None = None) -> APIRouter:
    """The endpoint.

    Args:
        serve: tags.
        store: not used; doccano sends nothing back.
    """
    api = APIRouter(tags=["doccano"])

    @api.post("/doccano/{model}")
    async def label(model: str, body: DoccanoRequest, request: Request) -> dict[str, Any]:
        """The entities of a text as doccano's labels."""
        (tagged,) = await serve.tag(
            [Document(body.text)], model, client_gone=request.is_disconnected
        )
        probable = [e for e in tagged.entities if (e.score or 0.0) >= body.min_score]
        document, losses = keep_whole_units(tagged.with_entities(probable), body.offsets)
        places = count_units(body.text, body.offsets)
        labels = [
            {"label": e.label, "start_offset": places[e.start], "end_offset": places[e.end]}
            for e in document.entities
        ]
        notices = [f"an entity is left out: {loss.reason}" for loss in losses]
        return {"labels": labels, "notices": notices}

    return api
