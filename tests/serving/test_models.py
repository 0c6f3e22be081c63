"""Models that come and go, and names of models."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from helpers.serving import make_engine, service, tiny_models
from helpers.tiny import SENTENCES
from nertune.errors import ConfigError
from nertune.serving.gate import Keys
from nertune.serving.start import name_models, read_keys

pytestmark = pytest.mark.anyio

KEYS = Keys(admin="a")
HEADERS = {"authorization": "Bearer a"}
TEXT = SENTENCES[0].text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models: `law` as a run's folder has it, `web` as it is."""
    shutil.copytree(tiny_models()["law"], tmp_path / "models" / "law" / "model")
    shutil.copytree(tiny_models()["web"], tmp_path / "models" / "web")
    shutil.copytree(tiny_models()["web"], tmp_path / "outside")
    return tmp_path / "models"


async def test_models_are_loaded_and_unloaded_while_others_are_answered(folder: Path) -> None:
    async with service(make_engine("news"), keys=KEYS, models=folder) as served:
        before = (await served.tag(text=TEXT)).json()
        for name in ("law", "web"):
            assert (await served.tag(text=TEXT, model=name)).status_code == 404
            loading = served.http.post(f"/v1/models/{name}/load", headers=HEADERS)
            answer, *others = await asyncio.gather(
                loading, *(served.tag(text=TEXT) for _ in range(5))
            )
            assert answer.status_code == 200, answer.text
            assert [one["name"] for one in answer.json()["models"]][-1] == name
            assert all(one.json() == before for one in others)
            assert (await served.tag(text=TEXT, model=name)).json()["model"] == name
        again = await served.http.post("/v1/models/law/load", headers=HEADERS)
        assert (again.status_code, again.json()["error"]["code"]) == (409, "already_loaded")
        gone = await served.http.post("/v1/models/law/unload", headers=HEADERS)
        assert [one["name"] for one in gone.json()["models"]] == ["news", "web"]
        assert (await served.tag(text=TEXT, model="law")).status_code == 404
        default = await served.http.post("/v1/models/news/unload", headers=HEADERS)
        assert (default.status_code, default.json()["error"]["code"]) == (409, "default_model")
        assert (await served.tag(text=TEXT)).json() == before


@pytest.mark.parametrize(
    "name", ["nothing", "..", "%2e%2e", "..%2foutside", "%2Fetc", "a%00b", "law%2fmodel", ".", "~"]
)
async def test_no_path_comes_from_a_request(folder: Path, name: str) -> None:
    async with service(make_engine("news"), keys=KEYS, models=folder) as served:
        answer = await served.http.post(f"/v1/models/{name}/load", headers=HEADERS)
        assert answer.status_code in (404, 405), answer.text
        assert [one.name for one in served.tagging.models()] == ["news"]


async def test_without_a_folder_nothing_is_loaded() -> None:
    async with service(make_engine("news"), keys=KEYS) as served:
        answer = await served.http.post("/v1/models/law/load", headers=HEADERS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_models_folder")


async def test_a_damaged_folder_is_refused_and_the_others_go_on(folder: Path) -> None:
    weights = folder / "law" / "model" / "adapter_model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    async with service(make_engine("news"), keys=KEYS, models=folder) as served:
        answer = await served.http.post("/v1/models/law/load", headers=HEADERS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "cannot_load")
        assert "sha256" in answer.json()["error"]["message"]
        assert (await served.tag(text=TEXT)).status_code == 200
        assert (await served.tag(text=TEXT, model="law")).status_code == 404


async def test_a_folder_that_is_deleted_while_it_is_served_does_no_harm(folder: Path) -> None:
    async with service(make_engine("news"), keys=KEYS, models=folder) as served:
        for name in ("law", "web"):
            await served.http.post(f"/v1/models/{name}/load", headers=HEADERS)
        before = [(await served.tag(text=TEXT, model=name)).json() for name in ("law", "web")]
        shutil.rmtree(folder)
        after = [(await served.tag(text=TEXT, model=name)).json() for name in ("law", "web")]
        assert after == before
        await served.http.post("/v1/models/law/unload", headers=HEADERS)
        answer = await served.http.post("/v1/models/law/load", headers=HEADERS)
        assert answer.status_code == 404


async def test_models_are_described() -> None:
    async with service(make_engine()) as served:
        answer = (await served.http.get("/v1/models")).json()
    assert answer["default"] == "news"
    news, law, web = answer["models"]
    assert (news["name"], news["method"], news["decoder"], news["mixes"], news["why_not"]) == (
        "news", "lora", "softmax", True, "",
    )  # fmt: skip
    assert (law["decoder"], law["labels"]) == ("crf", news["labels"])
    assert (web["method"], web["mixes"], web["unit"]) == ("full", False, "char")
    assert web["why_not"]


def test_models_are_named_after_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("runs/news/model", "runs/law", "here/model", "a=b"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    root = str(tmp_path)
    given = [f"{root}/runs/news/model", f"{root}/runs/law", "model", "x=owner/tagger",
             "owner/other.name", f"{root}/a=b", "y=../a=b"]  # fmt: skip
    with pytest.raises(ConfigError, match="'a=b' cannot be a model's name"):
        name_models(given)
    del given[5]
    assert name_models(given) == {
        "news": f"{root}/runs/news/model", "law": f"{root}/runs/law", "here": "model",
        "x": "owner/tagger", "other.name": "owner/other.name", "y": "../a=b",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["a/x", "b/x"], "two models are named 'x'"),
        (["x="], "got no model"),
        ([], "name a model"),
        (["my model"], "cannot be a model's name"),
    ],
)
def test_names_that_cannot_be_are_refused(given: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        name_models(given)


def test_keys_that_no_header_can_carry_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NERTUNE_API_KEY", "secret")
    assert read_keys("admin") == Keys(api="secret", admin="admin")
    assert "secret" not in repr(read_keys("admin"))
    for key in ("schlüssel", "a\nb", " a"):
        with pytest.raises(ConfigError, match="printable ASCII"):
            read_keys(key)
    with pytest.raises(ConfigError, match="are the same"):
        read_keys("secret")
