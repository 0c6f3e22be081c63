"""INCEpTION's external recommender: requests as it sends them, answers read by dkpro-cassis."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cassis import Cas, TypeSystem, load_cas_from_xmi, load_typesystem
from starlette.testclient import TestClient

from nertune.data.corpus import load_with
from nertune.data.formats import ReadOptions
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.types import Entity

DKPRO = "de.tudarmstadt.ukp.dkpro.core.api"
NE, TOKEN, SENTENCE = (
    f"{DKPRO}.{name}"
    for name in ("ner.type.NamedEntity", "segmentation.type.Token", "segmentation.type.Sentence")
)
META = "de.tudarmstadt.ukp.clarin.webanno.api.type.CASMetadata"
CUSTOM = "webanno.custom.Name"
PREDICTED = "inception_internal_predicted"
TEXT = '👩 王明 在\t北京\n"UNO" & <Ada>\r\n'
TOKENS = ((0, 1), (2, 4), (5, 6), (7, 9), (11, 14))


def make_types(layer: str = NE, *, inherited: bool = False) -> TypeSystem:
    """A project's layers with what INCEpTION adds to the one that is predicted."""
    types = TypeSystem()
    for name in (TOKEN, SENTENCE):
        types.create_type(name, "uima.tcas.Annotation")
    about = types.create_type(META, "uima.tcas.Annotation")
    types.create_feature(about, "username", "uima.cas.String")
    types.create_feature(about, "sourceDocumentId", "uima.cas.Long")
    parent = "uima.tcas.Annotation"
    if inherited:
        base = types.create_type(f"{layer}Base", parent)
        types.create_feature(base, "value", "uima.cas.String")
        parent = base.name
    own = types.create_type(layer, parent)
    if not inherited:
        types.create_feature(own, "value", "uima.cas.String")
    types.create_feature(own, "identifier", "uima.cas.String")
    types.create_feature(own, PREDICTED, "uima.cas.Boolean")
    types.create_feature(own, "value_score", "uima.cas.Double")
    types.create_feature(own, "value_score_explanation", "uima.cas.String")
    types.create_feature(own, "value_auto_accept", "uima.cas.String")
    return types


def make_cas(types: TypeSystem, layer: str = NE, labels: str | None = "PER") -> Cas:
    """A document with tokens, a sentence, and one annotation of a user."""
    cas = Cas(typesystem=types)
    cas.sofa_string, cas.sofa_mime = TEXT, "text/plain"
    length = len(TEXT)  # in Python, where cassis counts code points
    about = types.get_type(META)
    cas.add(about(begin=0, end=length, username="ada", sourceDocumentId=42))
    cas.add(types.get_type(SENTENCE)(begin=0, end=length))
    for start, end in TOKENS:
        cas.add(types.get_type(TOKEN)(begin=start, end=end))
    if labels:
        cas.add(types.get_type(layer)(begin=2, end=4, value=labels, identifier="http://a?b&c"))
    return cas


def metadata(layer: str = NE, mode: str = "characters", **more: Any) -> dict[str, Any]:
    found = {"layer": layer, "feature": "value", "projectId": 1, "anchoringMode": mode}
    return {**found, "crossSentence": False, "range": {"begin": 0, "end": 20}, **more}


def body(cas: Cas, **more: Any) -> dict[str, Any]:
    """What `/predict` gets."""
    document = {"xmi": cas.to_xmi(), "documentId": 42, "userId": "ada"}
    types = cas.typesystem.to_xml()
    return {"metadata": metadata(), "document": document, "typeSystem": types, **more}


def predict(client: TestClient, request: dict[str, Any], types: TypeSystem) -> Cas:
    answer = client.post("/inception/news/predict", json=request)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["document"]
    return load_cas_from_xmi(answer.json()["document"], typesystem=load_typesystem(types.to_xml()))


def found(cas: Cas, layer: str = NE) -> list[Any]:
    return [a for a in cas.select(layer) if getattr(a, PREDICTED)]


@pytest.mark.parametrize("layer", [NE, CUSTOM])
@pytest.mark.parametrize("inherited", [False, True])
def test_suggestions(client: TestClient, layer: str, inherited: bool) -> None:
    """cassis reads the answer; what was there stays, and each suggestion has its score."""
    types = make_types(layer, inherited=inherited)
    before = make_cas(types, layer)
    request = body(before, metadata=metadata(layer))
    after = predict(client, request, types)
    assert after.sofa_string == before.sofa_string == TEXT
    shown = [(a.get_covered_text(), a.value, a.value_score) for a in found(after, layer)]
    assert shown == [
        ("王明", "PER", 0.75), ("北京", "LOC", 0.5), ("UNO", "ORG", 0.25), ("Ada", "PER", 0.9),
    ]  # fmt: skip
    (own,) = [a for a in after.select(layer) if not getattr(a, PREDICTED)]
    assert (own.begin, own.end, own.value, own.identifier) == (2, 4, "PER", "http://a?b&c")
    for type in (TOKEN, SENTENCE, META):
        assert [(a.begin, a.end) for a in after.select(type)] == [
            (a.begin, a.end) for a in before.select(type)
        ]
    assert after.select(META)[0].sourceDocumentId == 42


def test_ids_and_order_are_as_uima_wants_them(client: TestClient) -> None:
    """No id twice, and what a view indexes stands in front of it."""
    import xml.etree.ElementTree as ET

    request = body(make_cas(make_types()))
    answer = client.post("/inception/news/predict", json=request).json()["document"]
    root = ET.fromstring(answer.encode())
    ids = [e.get("{http://www.omg.org/XMI}id") for e in root]
    known = [id for id in ids if id is not None]
    assert len(known) == len(set(known)) == len(root) - 1
    (view,) = root.findall("{http:///uima/cas.ecore}View")
    members = (view.get("members") or "").split()
    assert set(members) <= set(known[: list(root).index(view)])
    assert len(members) == len(set(members))


def test_a_layer_without_annotations_and_without_its_namespace(client: TestClient) -> None:
    types = make_types(CUSTOM)
    after = predict(client, body(make_cas(types, labels=None), metadata=metadata(CUSTOM)), types)
    assert len(found(after, CUSTOM)) == 4


def test_a_text_without_entities(client: TestClient) -> None:
    types = make_types()
    cas = Cas(typesystem=types)
    cas.sofa_string = "nobody"
    assert found(predict(client, body(cas), types)) == []


def test_an_old_type_system_without_scores(client: TestClient) -> None:
    types = make_types()
    request = body(make_cas(types))
    request["typeSystem"] = request["typeSystem"].replace("value_score<", "value_other<")
    answer = client.post("/inception/news/predict", json=request).json()["document"]
    assert "value_score" not in answer
    assert answer.count(f'{PREDICTED}="true"') == 4


def test_spans_that_inception_moves_are_warned_of(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    request = body(make_cas(make_types()), metadata=metadata(mode="tokens"))
    client.post("/inception/news/predict", json=request)
    assert "of 4 entities 1 begin or end inside a token and 0 have several" in caplog.text
    assert "Ada" not in caplog.text


def with_doctype() -> str:
    xmi = make_cas(make_types()).to_xmi()
    return '<!DOCTYPE a SYSTEM "a.dtd">' + xmi[xmi.index("<xmi:XMI") :]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metadata": metadata("webanno.custom.Other")}, "has no layer 'webanno.custom.Other'"),
        ({"metadata": metadata(feature="other")}, "there is none"),
        ({"metadata": metadata(feature="a b")}, "metadata.feature"),
        ({"metadata": metadata(feature=PREDICTED)}, "it is uima.cas.Boolean"),
        ({"typeSystem": "<a/>"}, "expected XML with the root"),
        ({"typeSystem": ""}, "not well-formed"),
        ({"document": {"xmi": "<a/>"}}, "expected XML with the root"),
        (
            {"document": {"xmi": with_doctype()}},
            "refers to other files",
        ),
        ({"document": {"xmi": '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}}, "declares entities"),
    ],
)
def test_requests_that_cannot_be_used(
    client: TestClient, change: dict[str, Any], told: str
) -> None:
    request = {**body(make_cas(make_types())), **change}
    answer = client.post("/inception/news/predict", json=request)
    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]


def test_a_type_system_of_another_tool(client: TestClient) -> None:
    """Without the feature that tells suggestions, INCEpTION would ignore them silently."""
    request = body(make_cas(make_types()))
    request["typeSystem"] = request["typeSystem"].replace(PREDICTED, "other")
    answer = client.post("/inception/news/predict", json=request)
    assert answer.status_code == 422
    assert "INCEpTION ignores suggestions" in answer.json()["error"]["message"]


def test_a_layer_of_relations(client: TestClient) -> None:
    """INCEpTION offers recommenders for them as well."""
    types = make_types()
    for end in ("Governor", "Dependent"):
        types.create_feature(types.get_type(NE), end, "uima.tcas.Annotation")
    answer = client.post("/inception/news/predict", json=body(make_cas(types)))
    assert answer.status_code == 422
    assert "nertune finds spans" in answer.json()["error"]["message"]


def train(client: TestClient, *cases: tuple[Cas, int], **more: Any) -> None:
    types = cases[0][0].typesystem.to_xml()
    documents = [{"xmi": c.to_xmi(), "documentId": id, "userId": "ada"} for c, id in cases]
    request = {"metadata": metadata(), "documents": documents, "typeSystem": types, **more}
    answer = client.post("/inception/news/train", json=request)
    assert (answer.status_code, answer.content) == (204, b""), answer.text


def test_annotations_are_kept(client: TestClient, store: AnnotationStore) -> None:
    """All documents come every time: what is the same changes nothing."""
    types = make_types()
    first, second, empty = (
        make_cas(types),
        make_cas(types, labels="ORG"),
        make_cas(types, labels=None),
    )
    train(client, (first, 42), (empty, 43))
    path = store.file("inception-1-NamedEntity-value")
    (document,) = load_with(path, ReadOptions()).documents
    assert (document.text, document.entities) == (TEXT, (Entity(2, 4, "PER"),))
    assert document.meta["inception"] == {"project": 1, "document": 42, "user": "ada"}
    changes = store.folder / ".changes" / path.name
    size = changes.stat().st_size
    train(client, (first, 42), (empty, 43))
    assert changes.stat().st_size == size
    train(client, (second, 42), (first, 43))
    labels = [[e.label for e in d.entities] for d in load_with(path, ReadOptions()).documents]
    assert labels == [["ORG"], ["PER"]]
    train(client, (empty, 42))
    assert [d.id for d in load_with(path, ReadOptions()).documents] == ["inception-1-43-ada"]


def test_layers_and_projects_have_files_of_their_own(
    client: TestClient, store: AnnotationStore
) -> None:
    types = make_types(CUSTOM)
    train(client, (make_cas(types, CUSTOM), 1), metadata=metadata(CUSTOM, projectId=9))
    assert store.file("inception-9-Name-value").is_file()


@pytest.mark.parametrize("feature", ["../../x", "a/b", ".", ""])
def test_no_path_comes_from_a_request(
    client: TestClient, store: AnnotationStore, feature: str
) -> None:
    types = make_types()
    request = {
        "metadata": metadata(feature=feature), "typeSystem": types.to_xml(),
        "documents": [{"xmi": make_cas(types).to_xmi(), "documentId": 1}],
    }  # fmt: skip
    answer = client.post("/inception/news/train", json=request)
    assert answer.status_code == 422
    assert "metadata.feature" in answer.json()["error"]["message"]
    assert [p.name for p in store.folder.iterdir()] == [".changes"]


def test_a_server_without_a_folder_says_so(forgetful: TestClient) -> None:
    types = make_types()
    request = {"metadata": metadata(), "typeSystem": types.to_xml(), "documents": []}
    answer = forgetful.post("/inception/news/train", json=request)
    assert answer.status_code == 403
    assert "--annotations FOLDER" in json.loads(answer.content)["error"]["message"]
