"""A tagger is the same thing by folder and by name; an adapter finds its base by its hash."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.tiny import make_predictor, make_settings, save_predictor, tiny_bert, write_jsonl
from nertune.artifacts.manifest import hash_encoder, own_folder, trained_reading
from nertune.cli.commands import app
from nertune.config.run import parse_settings
from nertune.errors import ArtifactError, ConfigError, ModelError
from nertune.experiments.inspect import inspect_corpora
from nertune.inference.predictor import Predictor, load_model
from nertune.models import hub
from nertune.models.encoder import load_encoder, read_config
from nertune.models.heads.transfer import load_with_head
from nertune.storage import encoders
from nertune.storage.encoders import bundled_folder, encoder_folder
from nertune.tokens.tokenizer import load_tokenizer

TEXT = "王小明在北京 Tom"
NAME = "somebody/tagger"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of this test, without a connection."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_not_ours", set())
    return folder


@pytest.fixture
def upload(cache: Path) -> Callable[..., Path]:
    """`upload(folder, name)` puts a folder's files into the cache, as a download would."""

    def put(folder: Path, name: str = NAME) -> Path:
        revision = "0123456789abcdef0123456789abcdef01234567"
        repo = cache / f"models--{name.replace('/', '--')}"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text(revision)
        return Path(shutil.copytree(folder, repo / "snapshots" / revision))

    return put


def saved(folder: Path, variant: str, **sections: dict[str, Any]) -> tuple[Predictor, Path]:
    folder.mkdir(exist_ok=True)
    settings = make_settings(folder, variant, sections)
    predictor = make_predictor(settings)
    save_predictor(folder / "model", predictor, settings)
    return predictor, folder / "model"


@pytest.mark.parametrize("variant", ["full-crf", "lora-crf", "lstm-crf"])
def test_by_name_it_is_what_it_is_by_folder(
    variant: str, tmp_path: Path, upload: Callable[..., Path]
) -> None:
    predictor, folder = saved(tmp_path / "a", variant)
    upload(folder)
    by_folder, by_name = load_model(folder, device="cpu"), load_model(NAME, device="cpu")
    assert by_name.segmenter.unit == by_folder.segmenter.unit == "char"
    assert type(by_name.tagger.head).__name__ == "Crf"
    assert by_name.tag(TEXT) == by_folder.tag(TEXT) == predictor.tag(TEXT)
    assert trained_reading(NAME) == trained_reading(str(folder))


def test_its_files_are_checked(tmp_path: Path, upload: Callable[..., Path]) -> None:
    _, folder = saved(tmp_path / "a", "full-crf")
    snapshot = upload(folder)
    weights = bytearray((snapshot / "crf.safetensors").read_bytes())
    weights[-1] ^= 1
    (snapshot / "crf.safetensors").write_bytes(bytes(weights))
    with pytest.raises(ArtifactError, match="is not the file that was saved"):
        load_model(NAME, device="cpu")
    (snapshot / "crf.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"tagger: crf\.safetensors.*cannot be fetched"):
        load_model(NAME, device="cpu")


def test_its_transitions_go_on_in_training(tmp_path: Path, upload: Callable[..., Path]) -> None:
    predictor, folder = saved(tmp_path / "a", "full-crf")
    upload(folder)
    assert load_with_head(NAME, predictor.tagset).heads.keys() == {"crf"}


def test_a_model_that_is_not_ours(upload: Callable[..., Path]) -> None:
    upload(tiny_bert(), "somebody/encoder")
    assert own_folder("somebody/encoder") is None
    assert own_folder("nobody/nothing") is None
    assert own_folder("mini-zh") is None
    with pytest.raises(ModelError, match="is not a trained tagger"):
        load_model("somebody/encoder", device="cpu")
    with pytest.raises(ModelError, match="could not be fetched from the hub"):
        load_model("nobody/nothing", device="cpu")


def test_inspect_reads_as_it_does(tmp_path: Path, upload: Callable[..., Path]) -> None:
    from nertune.data.corpus import load_corpus

    _, folder = saved(tmp_path / "a", "lstm", model={"max_pieces": 20})
    upload(folder)
    corpus = load_corpus(write_jsonl(tmp_path / "data.jsonl"))
    found = [inspect_corpora([corpus], model=m).to_dict()["files"] for m in (NAME, str(folder))]
    assert found[0] == found[1]


# Where an adapter's base encoder is


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Predictor, Path, Path]:
    """A LoRA tagger whose base encoder is elsewhere now: tagger, its folder, the base."""
    base = tmp_path / "old"
    shutil.copytree(tiny_bert(), base)
    predictor, folder = saved(tmp_path / "run", "lora", model={"encoder": str(base)})
    return predictor, folder, base.rename(tmp_path / "new")


def test_the_encoder_option_says_where_it_is(moved: tuple[Predictor, Path, Path]) -> None:
    predictor, folder, base = moved
    with pytest.raises(ArtifactError, match=r"needs its base encoder.*--encoder") as caught:
        load_model(folder, device="cpu")
    assert "hub" not in str(caught.value)
    expected = predictor.tag(TEXT)
    assert load_model(folder, device="cpu", encoder=base).tag(TEXT) == expected
    assert Predictor.load(folder, device="cpu", encoder=str(base)).tag(TEXT).text == TEXT


def test_the_hash_decides(moved: tuple[Predictor, Path, Path]) -> None:
    _, folder, _ = moved
    for other in (tiny_bert(seed=1), "mini-zh"):
        with pytest.raises(ArtifactError, match="is not the one that this adapter was trained on"):
            load_model(folder, device="cpu", encoder=other)
    with pytest.raises(ArtifactError, match="no such folder"):
        load_model(folder, device="cpu", encoder="./nowhere")


def test_only_an_adapter_takes_an_encoder(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "a", "full")
    with pytest.raises(ConfigError, match="holds no adapter"):
        load_model(folder, device="cpu", encoder=tiny_bert())


def test_the_command_line_takes_it_too(moved: tuple[Predictor, Path, Path]) -> None:
    _, folder, base = moved
    gold = str(folder.parent / "data.jsonl")
    runner = CliRunner()
    for command in (["predict", str(folder), TEXT], ["evaluate", str(folder), gold]):
        assert runner.invoke(app, [*command, "--device", "cpu"]).exit_code != 0
        result = runner.invoke(app, [*command, "--device", "cpu", "--encoder", str(base)])
        assert result.exit_code == 0, result.output


def test_so_does_export(moved: tuple[Predictor, Path, Path]) -> None:
    predictor, folder, base = moved
    expected = predictor.tag(TEXT)
    arguments = ["export", str(folder), "--to", "transformers"]
    assert CliRunner().invoke(app, arguments).exit_code != 0
    result = CliRunner().invoke(app, [*arguments, "--encoder", str(base)])
    assert result.exit_code == 0, result.output
    found = load_model(f"{folder}-transformers", device="cpu").tag(TEXT)
    assert [e.key for e in found.entities] == [e.key for e in expected.entities]


def test_training_goes_on_from_an_adapter_whose_base_is_found_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nertune.experiments.train import train

    shutil.copytree(tiny_bert(), tmp_path / "project" / "encoder")
    monkeypatch.chdir(tmp_path / "project")
    _, folder = saved(tmp_path / "project" / "run", "lora", model={"encoder": "encoder"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    values = make_settings(Path.cwd(), "lora", {"train": {"epochs": 1}}).to_dict()
    values["model"] = {"start_from": str(folder), "tuning": "lora", "unit": "char"}
    train(parse_settings(values))
    assert load_model(values["run"]["dir"], device="cpu").tag(TEXT).text == TEXT


@pytest.mark.parametrize("recorded", ["encoder", "my/encoder", "./encoder"])
def test_a_relative_base_is_found_from_another_folder(
    recorded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(tiny_bert(), project / recorded)
    monkeypatch.chdir(project)
    predictor, folder = saved(project / "run", "lora", model={"encoder": recorded})
    assert json.loads((folder / "nertune.json").read_text())["encoder"] == recorded
    monkeypatch.chdir(elsewhere)
    assert load_model(folder, device="cpu").tag(TEXT) == predictor.tag(TEXT)
    shutil.rmtree(project / recorded)
    with pytest.raises(ArtifactError, match="--encoder") as caught:
        load_model(folder, device="cpu")
    assert "hub" not in str(caught.value)


def test_a_copy_of_a_bundled_encoder_is_found_by_its_hash(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(bundled_folder("mini-zh"), base)
    predictor, folder = saved(tmp_path / "a", "lora", model={"encoder": str(base)})
    shutil.rmtree(base)
    assert load_model(folder, device="cpu").tag(TEXT) == predictor.tag(TEXT)


def test_a_folder_named_as_a_bundled_encoder_hides_it_from_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predictor, folder = saved(tmp_path / "a", "lora", model={"encoder": "mini-zh"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini-zh").mkdir()  # holds no model, so it hides nothing
    bundled = hash_encoder("mini-zh")
    shutil.copytree(tiny_bert(), tmp_path / "mini-zh", dirs_exist_ok=True)
    assert hash_encoder("mini-zh") == hash_encoder(str(tiny_bert())) != bundled
    assert "is taken, not the bundled encoder" in caplog.text
    assert load_model(folder, device="cpu").tag(TEXT) == predictor.tag(TEXT)


def test_a_base_on_the_hub_is_named_so(tmp_path: Path, upload: Callable[..., Path]) -> None:
    upload(tiny_bert(), "somebody/encoder")
    predictor, folder = saved(tmp_path / "a", "lora", model={"encoder": "somebody/encoder"})
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "somebody/encoder"
    upload(folder)
    assert load_model(NAME, device="cpu").tag(TEXT) == predictor.tag(TEXT)


def test_weights_are_hashed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nertune.storage import hashing

    read: list[Path] = []
    real = hashing.hash_file
    monkeypatch.setattr(hashing, "hash_file", lambda path: read.append(path) or real(path))
    base = Path(shutil.copytree(tiny_bert(), tmp_path / "base"))
    first = [hash_encoder(str(base)) for _ in range(3)]
    assert len(read) == 1
    shutil.copy(tiny_bert(seed=1) / "model.safetensors", base)
    assert hash_encoder(str(base)) != first[0]
    assert len(read) == 2


@pytest.mark.parametrize("variant", ["full", "full-crf"])
def test_a_tagger_without_its_manifest_is_not_anybodys_model(
    variant: str, tmp_path: Path, upload: Callable[..., Path]
) -> None:
    # A cache that plain transformers filled holds config and weights alone.
    _, folder = saved(tmp_path, variant)
    snapshot = upload(folder)
    (snapshot / "nertune.json").unlink()
    for name in (NAME, str(snapshot)):
        with pytest.raises((ArtifactError, ModelError), match=r"no nertune\.json|nertune\.json is"):
            load_model(name, device="cpu")


def test_a_tagger_that_was_made_ones_own_loads_without_its_manifest(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "full")
    (folder / "nertune.json").unlink()
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["nertune_manifest"]
    path.write_text(json.dumps(config), encoding="utf-8")
    assert load_model(folder, device="cpu").tag_texts([TEXT])


class TestWithoutConnection:
    """huggingface_hub would ask six times for each file, for more than a minute."""

    @pytest.fixture(autouse=True)
    def online(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(encoders, "_reached", set())
        monkeypatch.setattr(encoders, "_PAUSE_SECONDS", 0.0)

    def answer_at(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)

    @pytest.mark.parametrize(
        "load", [load_model, load_tokenizer, load_encoder, read_config, encoder_folder, own_folder]
    )
    @pytest.mark.parametrize("name", ["runs/my", "bert-base-chinese"])
    def test_an_unknown_name_is_refused_at_once(
        self, load: Callable[[str], object], name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as closed:  # nobody else listens there meanwhile
            closed.bind(("127.0.0.1", 0))
            self.answer_at(f"http://127.0.0.1:{closed.getsockname()[1]}", monkeypatch)
            started = time.monotonic()
            for _ in range(2):
                with pytest.raises(ModelError, match=rf"{name}: no folder .* cannot be reached"):
                    load(name)
        assert time.monotonic() - started < 10

    def test_what_is_in_the_cache_is_not_asked_for(
        self, tmp_path: Path, upload: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload(saved(tmp_path / "a", "full-crf")[1])
        asked: list[str] = []
        monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", asked.append)
        encoders.reach_hub(NAME)
        assert not asked
        encoders.reach_hub("somebody/else")
        assert len(asked) == 1

    def test_a_hub_that_answers_leaves_it_to_the_loader(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Refuses(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_error(404)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            self.answer_at(f"http://127.0.0.1:{closed.getsockname()[1]}", monkeypatch)
            with pytest.raises(ModelError, match="cannot be reached"):
                encoders.reach_hub("somebody/else")
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.answer_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
            encoders.reach_hub("somebody/else")  # the connection is there again
            server.shutdown()
