"""docs/annotation-tools.md word for word: its commands in their order, between what tools do."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from cassis import Cas, TypeSystem, load_cas_from_xmi
from jinja2 import Template

from helpers.commands import run
from helpers.serving import started
from helpers.tiny import SENTENCES, tiny_bert
from nertune.data.corpus import load_with, save_documents
from nertune.data.formats import ReadOptions
from nertune.types import Document, Entity

PAGE = (Path(__file__).parents[2] / "docs" / "annotation-tools.md").read_text(encoding="utf-8")
NAMED_ENTITY = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity"
TEXT = "王小明去了香港。"  # which no training file has
GOLD = (Entity(0, 3, "PER"), Entity(5, 7, "LOC"))
RECIPE = """
[data]
train = "train.conll"
dev = "dev.conll"
[model]
encoder = {encoder!r}
unit = "char"
tuning = "lora"
[lora]
targets = ["query", "value"]
[train]
epochs = 1
"""


def commands() -> list[str]:
    lines = re.findall(r"^    (nertune .*?)(?:\s{2,}#.*)?$", PAGE, re.MULTILINE)
    return [line.strip() for line in lines]


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return re.sub(r"^ +", "", found, flags=re.MULTILINE) if language == "xml" else str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page begins with: a recipe, its data, and its run."""
    monkeypatch.chdir(tmp_path)
    names = {"PERSON": "PER", "LOCATION": "LOC"}
    documents = [
        Document(
            d.text,
            tuple(Entity(e.start, e.end, names[e.label]) for e in d.entities if e.label in names),
            tokens=tuple((i, i + 1) for i in range(len(d.text))),
        )
        for d in SENTENCES
    ]
    for name in ("train", "dev"):
        save_documents(tmp_path / f"{name}.conll", documents, format="conll")
    Path("my.toml").write_text(RECIPE.format(encoder=str(tiny_bert())), encoding="utf-8")
    Path("texts.txt").write_text(f"{TEXT}\n李华在上海。\n", encoding="utf-8")
    done = run("train", "my.toml")
    assert done.code == 0, done.stderr
    return tmp_path


def post(url: str, body: dict[str, Any]) -> Any:
    answer = httpx.post(url, json=body, timeout=30)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def label_studio(url: str) -> None:
    """Predictions, which an annotator corrects; the webhook sends them, the export holds them."""
    task = {"id": 5, "data": {"text": TEXT}, "project": 2}
    config = block("xml")
    (found,) = post(f"{url}/label-studio/predict", {"tasks": [task], "label_config": config})[
        "results"
    ]
    assert found["model_version"] == "my"
    result = [
        {
            "id": str(e.start), "type": "labels", "from_name": "label", "to_name": "text",
            "value": {
                "start": e.start, "end": e.end, "labels": [e.label], "text": TEXT[e.start : e.end],
            },
        }
        for e in GOLD
    ]  # fmt: skip
    annotation = {"id": 9, "task": 5, "result": result, "was_cancelled": False}
    event = {
        "action": "ANNOTATION_CREATED", "annotation": annotation, "task": task,
        "project": {"id": 2, "label_config": config},
    }  # fmt: skip
    post(f"{url}/label-studio/webhook", event)
    Path("project.json").write_text(
        json.dumps([{**task, "annotations": [annotation]}]), encoding="utf-8"
    )


def inception(url: str) -> None:
    """The annotated document as it is sent to train, and as it is exported."""
    types = TypeSystem()
    layer = types.create_type(NAMED_ENTITY, "uima.tcas.Annotation")
    types.create_feature(layer, "value", "uima.cas.String")
    types.create_feature(layer, "inception_internal_predicted", "uima.cas.Boolean")
    types.create_feature(layer, "value_score", "uima.cas.Double")
    cas = Cas(typesystem=types)
    cas.sofa_string, cas.sofa_mime = TEXT, "text/plain"
    for e in GOLD:
        cas.add(layer(begin=e.start, end=e.end, value=e.label))
    about = {
        "layer": NAMED_ENTITY, "feature": "value", "projectId": 1, "anchoringMode": "characters",
        "crossSentence": False,
    }  # fmt: skip
    document = {"xmi": cas.to_xmi(), "documentId": 4, "userId": "ada"}
    request = {"metadata": about, "typeSystem": types.to_xml()}
    answer = post(f"{url}/inception/my-2/predict", {**request, "document": document})
    assert load_cas_from_xmi(answer["document"], typesystem=types).sofa_string == TEXT
    post(f"{url}/inception/my-2/train", {**request, "documents": [document]})
    Path("exported").mkdir()
    cas.to_xmi(Path("exported/4.xmi"))
    types.to_xml(Path("exported/TypeSystem.xml"))


def doccano(url: str) -> None:
    """Labels by the page's mapping, and an export."""
    answer = post(f"{url}/doccano/my-2", {"text": TEXT})
    labels = json.loads(Template(block("jinja")).render(input=answer))
    assert all({"label", "start_offset", "end_offset"} <= set(label) for label in labels)
    spans = [[e.start, e.end, e.label] for e in GOLD]
    record = {"id": 3, "text": TEXT, "label": spans, "Comments": []}
    Path("admin.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")


@pytest.mark.timeout(600)
def test_every_command_of_the_page_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = {"project.json": label_studio, "exported": inception, "admin.jsonl": doccano}
    trained = 0
    with ExitStack() as servers:
        for command in commands():
            arguments = shlex.split(command)[1:]
            if arguments[0] == "serve":
                servers.close()  # the folder of annotations belongs to one
                server = servers.enter_context(started(*arguments[1:]))
                monkeypatch.setenv("NERTUNE_SERVER", server.url)
                continue
            for file, work in tools.items():
                if file in arguments:
                    work(server.url)
            arguments = [a.replace("http://127.0.0.1:8000", server.url) for a in arguments]
            done = run(*arguments)
            assert done.code == 0, f"{command}\n{done.stderr}"
            if arguments[:2] == ["data", "convert"]:
                (document,) = load_with(Path("annotated.jsonl"), ReadOptions()).documents
                assert (document.text, document.entities) == (TEXT, GOLD), command
            elif arguments[:2] == ["data", "merge"]:
                documents = load_with(Path("all.jsonl"), ReadOptions()).documents
                assert len(documents) == len(SENTENCES) + 1
                assert GOLD in [d.entities for d in documents]
            elif arguments[0] == "train":
                trained += 1
                assert Path(f"runs/my-{trained + 1}/model/nertune.json").is_file()
        assert trained == 3
        for name in ("tasks.json", "documents", "import.jsonl"):
            assert [d.text for d in load_with(Path(name), ReadOptions()).documents] == [
                TEXT, "李华在上海。",
            ]  # fmt: skip
        names: dict[str, Any] = {}
        exec(block("python").replace("http://127.0.0.1:8000", server.url), names)
        assert [d.text for d in names["documents"]] == ["王小明到了北京。", "他在那里等人。"]
