"""INCEpTION's external recommender, version 1: suggestions for a document, and its annotations.

INCEpTION appends `predict` and `train` to the URL that a user gives, e.g.
`http://HOST:8000/inception/news`. Both send UIMA CAS as XMI, a string within JSON:

    {"metadata": {"layer": "de.tudarmstadt…NamedEntity", "feature": "value", "projectId": 1,
                  "anchoringMode": "tokens", "crossSentence": false},
     "document": {"xmi": "<xmi:XMI …", "documentId": 42, "userId": "ada"},
     "typeSystem": "<typeSystemDescription …"}

The answer to `predict` is the same CAS with annotations more, which INCEpTION tells from a user's
by the feature `inception_internal_predicted`; `FEATURE_score` is their probability. `train` answers
204: the annotations are kept to train on later, nothing is trained.

Sources: "External recommender" in INCEpTION's developer guide (`external_recommender.adoc`);
github.com/inception-project/inception, `…/recommendation/imls/external/v1` (requests) and
`SpanSuggestionSupport.java` (what becomes of suggestions).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from nertune.data.formats.base import ReadOptions, Source
from nertune.data.formats.cas.editing import add_annotations
from nertune.data.formats.cas.model import Annotation, Types
from nertune.data.formats.cas.reading import DocumentReader
from nertune.data.formats.cas.xmi import read_type_system, read_views
from nertune.data.formats.layers import NAMED_ENTITY
from nertune.data.formats.offsets import count_units
from nertune.data.formats.values import say_counts
from nertune.errors import DataError
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.serving.protocols.exchange import in_thread, require_store
from nertune.serving.tagging import Tagging
from nertune.types import Document

__all__ = [
    "CasDocument",
    "Metadata",
    "PredictRequest",
    "PredictResponse",
    "TrainRequest",
    "router",
]

_LOG = logging.getLogger("nertune")
_PREDICTED = "inception_internal_predicted"
_ON_TOKENS = ("tokens", "singleToken")  # anchoring modes in which INCEpTION moves or drops spans
_CUSTOM = "webanno.custom."
_ENDS = ("Governor", "Dependent")  # features of a layer of relations


class Metadata(BaseModel):
    """What is to be predicted; `range`, which part of the document is shown, is not needed.

    Attributes:
        layer: the full name of a type.
        feature: of that layer, which holds labels.
        projectId: the project.
        anchoringMode: `characters`, `singleToken`, `tokens` or `sentences`.
        crossSentence: whether annotations may go beyond a sentence.
    """

    layer: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$", max_length=200)
    feature: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)
    projectId: int = Field(ge=0)
    anchoringMode: str = "tokens"
    crossSentence: bool = False


class CasDocument(BaseModel):
    """A document.

    Attributes:
        xmi: its CAS.
        documentId: what the project calls it.
        userId: whose annotations these are.
    """

    xmi: str
    documentId: int = Field(default=0, ge=0)
    userId: str = ""


class PredictRequest(BaseModel):
    """A document that wants suggestions."""

    metadata: Metadata
    document: CasDocument
    typeSystem: str


class TrainRequest(BaseModel):
    """The annotated documents of a user; all of them, every time."""

    metadata: Metadata
    documents: list[CasDocument]
    typeSystem: str


class PredictResponse(BaseModel):
    """The CAS with suggestions."""

    document: str


def router(serve: Tagging, store: AnnotationStore | None = None) -> APIRouter:
    """The endpoints.

    Args:
        serve: tags.
        store: keeps what annotators finish; `None` refuses it.
    """
    api = APIRouter(prefix="/inception/{model}", tags=["INCEpTION"])

    @api.post("/predict")
    async def predict(model: str, body: PredictRequest, request: Request) -> PredictResponse:
        """The document with suggestions."""
        serve.find(model)
        read = await in_thread(lambda: _read(body), code="cas")
        (tagged,) = await serve.tag([read.document], model, client_gone=request.is_disconnected)
        written = await in_thread(lambda: _write(body, read, tagged), code="cas")
        return PredictResponse(document=written)

    @api.post("/train", status_code=204, response_class=Response)
    async def train(model: str, body: TrainRequest) -> None:
        """Keep the documents' annotations; nothing is trained."""
        serve.find(model)
        kept = require_store(store)
        await in_thread(lambda: _keep(kept, body), code="cas")

    return api


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of a request.

    Attributes:
        document: the text, its tokens and sentences.
        sofa: the `xmi:id` of the text in the XMI.
        has_score: whether the layer has a feature for scores.
    """

    document: Document
    sofa: str
    has_score: bool


def _read(body: PredictRequest) -> _Read:
    """The document of a request.

    Raises:
        DataError: XML is damaged, or the layer is not as INCEpTION has it.
    """
    layer, feature = body.metadata.layer, body.metadata.feature
    types = read_type_system(_source("typeSystem", body.typeSystem))
    _check_layer(types, body.metadata)
    if _range(types, layer, _PREDICTED) is None:
        raise DataError(
            f"the layer {layer} has no feature {_PREDICTED}, without which INCEpTION ignores "
            "suggestions: send the type system that INCEpTION sends"
        )
    source = _source("document.xmi", body.document.xmi)
    views = read_views(source)
    reader = DocumentReader(ReadOptions(ignore_tags=True))
    document = reader.document(views.cas(types, "utf16", reader.seen, source.path), "", source.path)
    has_score = _range(types, layer, f"{feature}_score") is not None
    return _Read(document, views.initial(source.path), has_score)


def _check_layer(types: Types, metadata: Metadata) -> None:
    layer, feature = metadata.layer, metadata.feature
    if layer not in types.ranges:
        raise DataError(f"the type system has no layer {layer!r}, which the request is about")
    if all(_range(types, layer, end) for end in _ENDS):
        raise DataError(
            f"the layer {layer!r} holds relations, while nertune finds spans: choose a span layer "
            "in the recommender's settings"
        )
    kind = _range(types, layer, feature)
    if kind is None or not types.is_a(kind, "uima.cas.String"):
        told = f"it is {kind}" if kind else "there is none"
        raise DataError(
            f"the feature {feature!r} of {layer} has to be a string to hold labels, and {told}: "
            "choose another feature in the recommender's settings"
        )


def _range(types: Types, layer: str, feature: str) -> str | None:
    """The type of a feature's values, also of one that the layer inherits."""
    known: set[str] = set()
    while layer not in known:
        if found := types.ranges.get(layer, {}).get(feature):
            return found
        known.add(layer)
        layer = types.parents.get(layer, layer)
    return None


def _write(body: PredictRequest, read: _Read, tagged: Document) -> str:
    """The request's XMI with the entities as annotations."""
    layer, feature = body.metadata.layer, body.metadata.feature
    places = count_units(tagged.text, "utf16")
    annotations = []
    for entity in tagged.entities:
        features = {_PREDICTED: "true", feature: entity.label}
        if read.has_score and entity.score is not None:
            features[f"{feature}_score"] = repr(float(entity.score))
        annotations.append(Annotation(layer, places[entity.start], places[entity.end], features))
    _say_moved(body.metadata, tagged)
    return add_annotations(body.document.xmi.encode(), read.sofa, annotations)


def _say_moved(metadata: Metadata, tagged: Document) -> None:
    """Warn of entities that INCEpTION will shrink to whole tokens, or drop."""
    if metadata.anchoringMode not in _ON_TOKENS or not tagged.tokens:
        return
    starts = {start for start, _ in tagged.tokens}
    ends = {end for _, end in tagged.tokens}
    entities = tagged.entities
    moved = sum(entity.start not in starts or entity.end not in ends for entity in entities)
    several = 0
    if metadata.anchoringMode == "singleToken":
        single = set(tagged.tokens)
        several = sum((e.start, e.end) not in single for e in entities) - moved
    if moved or several:
        _LOG.warning(
            "INCEpTION: of %d entities %d begin or end inside a token and %d have several tokens; "
            "INCEpTION moves or drops them, since annotations of the layer %s are anchored on %s: "
            "set its granularity to characters",
            len(entities), moved, several, metadata.layer, metadata.anchoringMode,
        )  # fmt: skip


def _keep(store: AnnotationStore, body: TrainRequest) -> None:
    """Keep the annotations of all documents.

    Raises:
        DataError: XML is damaged, the layer is missing, or nothing can be written.
    """
    metadata = body.metadata
    types = read_type_system(_source("typeSystem", body.typeSystem))
    _check_layer(types, metadata)
    own = metadata.layer.removeprefix(_CUSTOM)
    layer = "NamedEntity" if metadata.layer == NAMED_ENTITY else own
    name = f"inception-{metadata.projectId}-{layer}-{metadata.feature}"
    store.file(name)
    options = ReadOptions(more={"layer": metadata.layer, "feature": metadata.feature})
    seen: Counter[str] = Counter()
    read = []
    for given in body.documents:
        source = _source(f"document {given.documentId}", given.xmi)
        reader = DocumentReader(options)
        cas = read_views(source).cas(types, "utf16", reader.seen, source.path)
        document = reader.document(cas, "", source.path)
        seen += reader.seen
        read.append((f"{given.documentId} {given.userId}", _named(document, given, metadata)))
    seen["documents without annotations, which may not be begun, are not kept"] = sum(
        not document.entities for _, document in read
    )
    for notice in say_counts(seen):
        _LOG.warning("INCEpTION: %s", notice)
    for key, document in read:
        if document.entities:
            store.keep(name, key, [document], event="train")
        else:
            store.remove(name, key, event="train")


def _named(document: Document, given: CasDocument, metadata: Metadata) -> Document:
    user = re.sub(r"[^\w.@-]", "_", given.userId)
    id = f"inception-{metadata.projectId}-{given.documentId}{f'-{user}' if user else ''}"
    about = {"project": metadata.projectId, "document": given.documentId, "user": given.userId}
    return replace(document, id=id, meta={**document.meta, "id": id, "inception": about})


def _source(name: str, xml: str) -> Source:
    return Source(Path(name), xml.encode())
