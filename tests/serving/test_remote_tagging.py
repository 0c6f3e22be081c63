"""`nertune tag` against `nertune serve`: what `nertune predict` writes, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from helpers.commands import run
from helpers.serving import started, tiny_models
from helpers.tiny import SENTENCES, write_jsonl
from nertune.data.corpus import save_documents
from nertune.inference.predictor import Predictor
from nertune.serving.client import Client
from nertune.types import Document

_SCORE = re.compile(r"\b(?:0|1)\.\d+(?:e-\d+)?|\b\d(?:\.\d+)?e-\d+")
ARGUMENTS: tuple[tuple[str, ...], ...] = (
    ("王小明昨天到了北京。", "", "👩王 \u200dOK"),
    ("-f", "texts.txt"),
    ("-f", "texts.txt", "--whole", "--format", "jsonl"),
    ("-f", "long.txt", "--sentences", "--format", "jsonl"),
    ("-f", "data.jsonl", "--format", "jsonl"),
    ("-f", "data.jsonl", "--format", "conll"),
    ("-f", "data.jsonl", "-f", "texts.txt", "--format", "label-studio"),
    ("-f", "tokens.conll", "--format", "jsonl"),
    ("-f", "data.jsonl", "--min-score", "0.6", "--format", "predictions"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tiny_models()
    given = [f"{name}={models[name]}" for name in ("news", "law")]
    kept = tmp_path_factory.mktemp("kept") / "annotations"
    key = {"NERTUNE_API_KEY": "secret"}
    with started(*given, "--annotations", str(kept), environment=key) as found:
        yield found.url


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> Path:
    write_jsonl(tmp_path / "data.jsonl", SENTENCES * 9)
    texts = [document.text for document in SENTENCES]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    (tmp_path / "long.txt").write_text("".join(texts) * 20 + "\n", encoding="utf-8")
    spaced = [Document("Tom 在 上海", tokens=((0, 3), (4, 5), (6, 8)))]
    save_documents(tmp_path / "tokens.conll", spaced, format="conll")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NERTUNE_SERVER", server)
    monkeypatch.setenv("NERTUNE_API_KEY", "secret")
    return tmp_path


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=" ".join)
@pytest.mark.parametrize("name", ["news", "law"])
def test_the_output_is_that_of_predict(folder: Path, arguments: tuple[str, ...], name: str) -> None:
    local = run("predict", str(tiny_models()[name]), *arguments, "--device", "cpu")
    remote = run("tag", "--model", name, *arguments)
    assert (local.code, remote.code) == (0, 0), local.stderr + remote.stderr
    _compare(local.stdout, remote.stdout)
    assert remote.stdout.strip()


def _compare(local: str, remote: str) -> None:
    """Byte for byte, but for the last digits of scores.

    `predict` merges an adapter into its encoder, the server computes it beside.
    """
    assert _SCORE.sub("score", remote) == _SCORE.sub("score", local)
    found = [[float(score) for score in _SCORE.findall(output)] for output in (local, remote)]
    assert found[1] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.parametrize("suffix", [".jsonl", ".conll"])
def test_files_are_those_of_predict(folder: Path, suffix: str) -> None:
    for command, place in (("predict", str(tiny_models()["news"])), ("tag", "")):
        given = [place] if place else []
        done = run(command, *given, "-f", "data.jsonl", "-o", f"{command}{suffix}")
        assert (done.code, done.stdout) == (0, ""), done.stderr
    local, remote = (Path(f"{c}{suffix}").read_text(encoding="utf-8") for c in ("predict", "tag"))
    _compare(local, remote)


def test_the_client_finds_what_the_predictor_finds(folder: Path, server: str) -> None:
    documents = [Document(d.text, id=f"d{n}", meta={"n": n}) for n, d in enumerate(SENTENCES * 20)]
    predictor = Predictor.load(tiny_models()["news"], device="cpu")
    with Client(server) as client:
        assert client.labels == predictor.labels
        pairs = zip(
            predictor.tag_documents(documents), client.tag_documents(documents), strict=True
        )
        for local, remote in pairs:
            assert [e.key for e in local.entities] == [e.key for e in remote.entities]
            assert (local.id, local.meta) == (remote.id, remote.meta)
            for one, other in zip(local.entities, remote.entities, strict=True):
                assert one.score == pytest.approx(other.score, abs=1e-5)
            assert predictor.visible_units(local) == client.visible_units(local)


def test_texts_of_a_pipe(folder: Path) -> None:
    done = run("tag", "--format", "jsonl", stdin="王小明到了北京。\n李华\n".encode())
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == [
        "王小明到了北京。", "李华",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (("--server", "http://127.0.0.1:9"), {}, "cannot be reached"),
        (("--server", "ftp://x"), {}, "is no address"),
        ((), {"NERTUNE_API_KEY": "wrong"}, "asks for another key than that in NERTUNE_API_KEY"),
        (("--model", "sport"), {}, "serves no model 'sport'; it serves news, law"),
        (("-f", "texts.txt"), {}, "give texts or --file, not both"),
        (("--join", "x"), {}, "expected auto, none, space"),
    ],
)
def test_errors_are_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    told: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = run("tag", "王", *arguments)
    assert done.code == 2
    assert told in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/label-studio/health"),
        ("POST", "/label-studio/predict"),
        ("POST", "/label-studio/webhook"),
        ("POST", "/inception/news/predict"),
        ("POST", "/inception/news/train"),
        ("POST", "/doccano/news"),
    ],
)
def test_protocols_ask_for_the_key(server: str, method: str, path: str) -> None:
    """By a token, or as the password of Basic authentication, which Label Studio can send."""
    body = (
        None if method == "GET" else {"text": "王", "action": "X", "tasks": [], "label_config": ""}
    )
    refused = httpx.request(method, server + path, json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "no_key")
    token = {"authorization": "Bearer secret"}
    assert httpx.request(method, server + path, json=body, headers=token).status_code != 401
    assert (
        httpx.request(method, server + path, json=body, auth=("any", "secret")).status_code != 401
    )
