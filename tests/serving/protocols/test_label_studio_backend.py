"""Label Studio's ML backend, with requests as Label Studio sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from helpers.annotation_service import FAILS
from nertune.data.corpus import load_with
from nertune.data.formats import ReadOptions
from nertune.errors import DataError
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.serving.protocols.labelling_config import read_labelling_config
from nertune.types import Entity

CONFIG = """<View>
  <Header value="Mark names"/>
  <Labels name="label" toName="text">
    <Label value="Person" alias="PER" background="red"/>
    <Label value="Place" predicted_values="GPE, LOC"/>
    <Label value="ORG"/>
  </Labels>
  <Text name="text" value="$sentence" granularity="word"/>
</View><!-- {"data": {"sentence": "…"}} -->"""
TEXT = "👩王明在北京\nUNO"


def task(number: int, text: Any = TEXT, **data: Any) -> dict[str, Any]:
    """A task as `TaskSimpleSerializer` gives it."""
    return {
        "id": number, "data": {"sentence": text, **data}, "meta": {}, "project": 2,
        "created_at": "2026-01-01T10:00:00Z", "updated_at": "2026-01-01T10:00:00Z",
        "is_labeled": False, "overlap": 1, "file_upload": None, "annotations": [],
        "predictions": [],
    }  # fmt: skip


def predict(client: TestClient, *tasks: dict[str, Any], config: str = CONFIG, at: str = "") -> Any:
    body = {
        "tasks": list(tasks), "project": "2.1700000000", "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }  # fmt: skip
    headers = {"User-Agent": "heartex/1.13", "Accept": "*/*"}
    answer = client.post(f"/label-studio{at}/predict", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def event(action: str, annotation: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a webhook sends, with the keys that are of no use here among them."""
    whole = {
        "lead_time": 3.5, "completed_by": 7, "ground_truth": False, "was_cancelled": False,
        "prediction": {}, "result_count": 0, "task": 19, **annotation,
    }  # fmt: skip
    project = {"id": 2, "title": "News", "label_config": CONFIG, "organization": 1}
    return {"action": action, "annotation": whole, "project": project, "task": task(19), **more}


def region(start: int, end: int, label: str, text: str, **more: Any) -> dict[str, Any]:
    value = {"start": start, "end": end, "text": text, "labels": [label]}
    about = {"id": "abc", "from_name": "label", "to_name": "text", "origin": "manual"}
    return {"type": "labels", "value": value, **about, **more}


def kept(store: AnnotationStore, name: str = "label-studio-2") -> list[Any]:
    """What a training would read."""
    if not store.file(name).read_bytes():
        return []
    return list(load_with(store.file(name), ReadOptions()).documents)


# The backend


@pytest.mark.parametrize("prefix", ["/label-studio", "/label-studio/law"])
def test_a_backend_is_connected(client: TestClient, prefix: str) -> None:
    """GET health, then POST setup, as when a user enters the URL."""
    health = client.get(f"{prefix}/health")
    assert (health.status_code, health.json()["status"]) == (200, "UP")
    body = {
        "project": "2.1700000000", "schema": CONFIG, "hostname": "http://localhost:8080",
        "access_token": "secret", "extra_params": None,
    }  # fmt: skip
    setup = client.post(f"{prefix}/setup", json=body)
    assert setup.status_code == 200
    model = "law" if prefix.endswith("law") else "news"
    assert setup.json() == {"model_version": model, "notices": []}


def test_predictions(client: TestClient) -> None:
    """Offsets count code points, labels are the project's, a task has its least score."""
    answer = predict(client, task(1), task(2, "nobody"))
    first, second = answer["results"]
    assert [(r["value"], r["score"]) for r in first["result"]] == [
        ({"start": 1, "end": 3, "text": "王明", "labels": ["PER"]}, 0.75),
        ({"start": 4, "end": 6, "text": "北京", "labels": ["Place"]}, 0.5),
        ({"start": 7, "end": 10, "text": "UNO", "labels": ["ORG"]}, 0.25),
    ]
    for one in first["result"]:
        assert (one["from_name"], one["to_name"], one["type"]) == ("label", "text", "labels")
    assert len({one["id"] for one in first["result"]}) == 3
    assert first["score"] == 0.25
    assert second == {"result": [], "score": None, "model_version": "news"}
    assert answer["model_version"] == first["model_version"] == "news"
    assert predict(client, task(1), at="/law")["model_version"] == "law"


def test_label_studio_takes_the_predictions(client: TestClient) -> None:
    """By its own SDK: the regions fit the labelling interface and the text."""
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface(CONFIG)
    for result in predict(client, task(1))["results"]:
        assert interface.validate_prediction(result)
        for one in result["result"]:
            assert interface.validate_region(one)
            value = one["value"]
            assert TEXT[value["start"] : value["end"]] == value["text"]


def test_labels_that_the_project_lacks_are_said(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    config = CONFIG.replace('<Label value="ORG"/>', "")
    setup = client.post("/label-studio/setup", json={"project": "2.1", "schema": config})
    (notice,) = setup.json()["notices"]
    assert "model 'news' finds ORG" in notice
    answer = predict(client, task(1), config=config)
    assert [r["value"]["labels"] for r in answer["results"][0]["result"]] == [["PER"], ["Place"]]
    assert answer["notices"] == [
        "1 entities ORG left out: the labelling interface has no such label"
    ]
    assert "ORG left out" in caplog.text
    assert "王明" not in caplog.text


def test_a_task_that_fails_does_not_fail_the_others(client: TestClient) -> None:
    """It has no `result`, so that Label Studio saves no empty prediction for it."""
    tasks = (
        task(1),
        task(2, None),
        task(3, f"王明{FAILS}"),
        task(4, "Ada" * 50_000),
        task(5, "Ada"),
    )
    results = predict(client, *tasks)["results"]
    assert ["result" in result for result in results] == [True, False, False, False, True]
    assert "task '2' has no text in its data under 'sentence'" in results[1]["error"]["message"]
    assert results[3]["error"]["code"] == "text_too_long"


def test_many_tasks_keep_their_order(client: TestClient) -> None:
    results = predict(client, *(task(n, "x" * n + "Ada") for n in range(300)))["results"]
    assert [r["result"][0]["value"]["start"] for r in results] == list(range(300))


def test_several_texts_and_controls(client: TestClient) -> None:
    config = """<View><Text name="a" value="$one"/><Text name="b" value="$two"/>
      <Labels name="people" toName="a,b"><Label value="PER"/></Labels>
      <Labels name="places" toName="b"><Label value="LOC"/></Labels></View>"""
    data = {"one": "Ada 北京", "two": "王明北京"}
    (result,) = predict(client, {"id": 1, "data": data}, config=config)["results"]
    assert [(r["to_name"], r["from_name"], r["value"]["text"]) for r in result["result"]] == [
        ("a", "people", "Ada"), ("b", "people", "王明"), ("b", "places", "北京"),
    ]  # fmt: skip
    assert len({r["id"] for r in result["result"]}) == 3


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("<View></View>", "has no <Labels"),
        ("", "not well-formed"),
        ("<View", "not well-formed"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>', "declares entities"),
        ('<View><Labels name="l" toName="t"/><HyperText name="t" value="$t"/></View>', "HyperText"),
        ('<View><Labels name="l" toName="t"/><Text name="t" value="t"/></View>', "the key of"),
        ('<View><Labels name="l" toName="t"/><Text name="t" value="$t" valueType="url"/></View>',
         "not fetched"),
    ],
)  # fmt: skip
def test_a_labelling_interface_that_cannot_be_used(
    client: TestClient, config: str, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        read_labelling_config(config)
    setup = client.post("/label-studio/setup", json={"project": "2.1", "schema": config})
    answer = client.post("/label-studio/predict", json={"tasks": [], "label_config": config})
    for refused in (setup, answer):
        assert refused.status_code == 422
        assert refused.json()["error"]["code"] == "labelling_interface"
        assert told in refused.json()["error"]["message"]


def test_unknown_models_and_other_bodies_are_refused(client: TestClient) -> None:
    assert client.get("/label-studio/sport/health").json()["error"]["code"] == "unknown_model"
    for body in (b"", b"[]", b'{"tasks": "x", "label_config": 3}', b'{"tasks": [3]}'):
        answer = client.post("/label-studio/predict", content=body)
        assert answer.status_code == 422, body
        assert answer.json()["error"]["message"]


# The webhook


def send(client: TestClient, body: dict[str, Any]) -> str:
    answer = client.post("/label-studio/webhook", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "ok"
    return str(answer.json()["result"])


def test_annotations_are_kept_changed_and_removed(
    client: TestClient, store: AnnotationStore
) -> None:
    """Created, sent again, changed, another one, skipped, deleted: the file is what holds."""
    created = event("ANNOTATION_CREATED", {"id": 17, "result": [region(1, 3, "PER", "王明")]})
    assert send(client, created) == "1 annotations changed in label-studio-2.jsonl"
    (document,) = kept(store)
    assert document.text == TEXT
    assert document.entities == (Entity(1, 3, "PER"),)
    about = {"project": 2, "task": 19, "annotation": 17, "annotator": 7}
    assert document.meta == {"id": "label-studio-2-17", "label_studio": about}
    assert send(client, created).startswith("0 annotations changed")
    other = event("ANNOTATION_CREATED", {"id": 18, "result": []})
    assert send(client, other).startswith("1 ")
    both = [region(1, 3, "PER", "王明"), region(6, 10, "ORG", "\\nUNO")]
    updated = event("ANNOTATION_UPDATED", {"id": 17, "result": both})
    assert send(client, updated).startswith("1 ")
    assert [d.entities for d in kept(store)] == [(Entity(1, 3, "PER"), Entity(6, 10, "ORG")), ()]
    skipped = event("ANNOTATION_UPDATED", {"id": 18, "result": [], "was_cancelled": True})
    assert send(client, skipped).startswith("1 ")
    assert len(kept(store)) == 1
    project = {"id": 2, "label_config": CONFIG}
    deleted = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 17}], "project": project}
    assert send(client, deleted) == "1 annotations removed from label-studio-2.jsonl"
    assert kept(store) == []
    assert send(client, deleted).startswith("0 ")


def test_several_annotations_at_once(client: TestClient, store: AnnotationStore) -> None:
    """`ANNOTATIONS_CREATED`, when predictions become annotations."""
    one = event("ANNOTATIONS_CREATED", {"id": 1, "result": [region(1, 3, "PER", "王明")]})
    two = event("", {"id": 2, "task": 20, "result": [region(0, 3, "PER", "Ada")]})
    one["annotation"] = [one["annotation"], two["annotation"]]
    one["task"] = [task(19), task(20, "Ada")]
    assert send(client, one).startswith("2 ")
    assert [d.text for d in kept(store)] == [TEXT, "Ada"]


@pytest.mark.parametrize("action", ["PROJECT_UPDATED", "TASKS_CREATED", "START_TRAINING"])
def test_other_events_change_nothing(
    client: TestClient, store: AnnotationStore, action: str
) -> None:
    """Label Studio makes the webhook itself, for all its events."""
    body = {"action": action, "tasks": [task(3)], "project": {"id": 2, "label_config": ""}}
    assert "nothing is done" in send(client, body)
    assert not store.file("label-studio-2").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"annotation": None}, "tick Send payload"),
        ({"project": None}, "the project has no id"),
        ({"project": {"id": "../x"}}, "the project has no id"),
        ({"project": {"id": 2}}, "without its labelling interface"),
        ({"project": {"id": 2, "label_config": "\ud800"}}, "not well-formed"),
        ({"task": None}, "update it"),
        ({"annotation": {"id": 1, "result": None}}, "no list of regions"),
        ({"annotation": {"id": 1, "result": [region(1, 99, "PER", "x")]}}, "out of range"),
        ({"annotation": {"id": 1, "result": [region(1, 3, "PER", "北京")]}}, "says its text is"),
        ({"task": task(19, None)}, "is not a string"),
        ({"task": task(19, "\ud800")}, "half a surrogate pair"),
        (
            {"task": [task(1), task(2)], "annotation": {"id": 1, "task": {}, "result": []}},
            "comes without its task",
        ),
        ({"project": {"id": 10**200, "label_config": CONFIG}}, "no name of a file"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    client: TestClient, store: AnnotationStore, change: dict[str, Any], told: str
) -> None:
    body = {**event("ANNOTATION_CREATED", {"id": 1, "result": []}), **change}
    headers = {"content-type": "application/json"}
    answer = client.post("/label-studio/webhook", content=json.dumps(body), headers=headers)
    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]
    assert not store.file("label-studio-2").exists()


def test_a_server_without_a_folder_says_so(forgetful: TestClient) -> None:
    body = event("ANNOTATION_CREATED", {"id": 1, "result": []})
    answer = forgetful.post("/label-studio/webhook", json=body)
    assert answer.status_code == 403
    assert "--annotations FOLDER" in answer.json()["error"]["message"]
    assert forgetful.post("/label-studio/webhook", json={"action": "X"}).status_code == 200


def test_paths_are_logged_and_counted_whole(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "nertune.access"):
        for prefix in ("/label-studio", "/label-studio/law"):
            client.get(f"{prefix}/health")
    paths = [json.loads(f"{{{record.getMessage()}}}")["path"] for record in caplog.records]
    assert paths == ["/label-studio/health", "/label-studio/{model}/health"]
    counts = client.get("/metrics").text
    for path in paths:
        assert f'nertune_requests_total{{method="GET",path="{path}",status="200"}} 1.0' in counts


def test_texts_are_in_no_log(
    client: TestClient, caplog: pytest.LogCaptureFixture, store: AnnotationStore
) -> None:
    caplog.set_level("DEBUG", "nertune")
    regions = [region(1, 3, "PER", "王明"), {"type": "choices", "to_name": "text", "value": {}}]
    send(client, event("ANNOTATION_CREATED", {"id": 1, "result": regions}))
    assert "results of type choices, which are not read" in caplog.text
    assert "王明" not in caplog.text
    assert json.loads(store.file("label-studio-2").read_text(encoding="utf-8"))["text"] == TEXT
