"""`nertune settings`, `init` and `encoders`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helpers.commands import run
from helpers.tiny import write_jsonl
from nertune.config.pretrain import PretrainSettings
from nertune.config.reference import list_settings, settings_markdown
from nertune.config.run import Settings, load_settings, parse_settings
from nertune.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_the_docs_is_that_of_the_code() -> None:
    page = (DOCS / "settings-reference.md").read_text(encoding="utf-8")
    assert page == settings_markdown(), (
        "run: nertune settings --markdown > docs/settings-reference.md"
    )


def test_names_of_other_tools_in_the_docs_are_told_by_an_error() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    table = page.partition("## If you know")[2].partition("\n\nA recipe")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    for there, here in rows:
        names = re.findall(r"[a-z_0-9]{2,}|\br\b", there.replace("LoraConfig", ""))
        told = re.findall(r"[a-z_]+\.[a-z_]+", here) or ["no setting here"]
        for name in names:
            if f"train.{name}" in told:  # the same name, which a recipe may have
                continue
            with pytest.raises(ConfigError, match="|".join(map(re.escape, told))):
                parse_settings({"data": {"train": "x"}, "train": {name: 1}})


def test_every_setting_is_listed_with_its_default() -> None:
    found = {setting.key: setting for setting in list_settings()}
    values = parse_settings({"data": {"train": "x"}}).to_dict()
    keys = {f"{section}.{key}" for section, part in values.items() for key in part}
    assert found.keys() == keys
    assert found["data.train"].default == ""
    assert json.loads(found["lora.rank"].default) == Settings.model_fields["lora"].annotation().rank  # type: ignore[misc, union-attr]
    assert len(list_settings("pretrain")) == len(PretrainSettings.model_fields)


def test_settings_of_a_section() -> None:
    done = run("settings", "lora")
    assert done.code == 0
    assert done.stdout.startswith("lora.rank = ")
    assert "train.epochs" not in done.stdout
    listed = json.loads(run("settings", "lora", "--json").stdout)["settings"]
    assert [s["key"] for s in listed] == [s.key for s in list_settings("lora")]
    refused = run("settings", "lroa")
    assert (refused.code, "expected a section: run, data" in refused.error) == (2, True)
    assert run("settings", "--markdown").stdout == settings_markdown()


@pytest.mark.parametrize("decoder", ["", "softmax", "crf"])
@pytest.mark.parametrize("method", ["lora", "full", "lstm"])
def test_a_recipe_for_ones_data(method: str, decoder: str, tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl")
    recipe = tmp_path / "fresh.toml"
    asked = ["--decoder", decoder] if decoder else []
    done = run("init", train, "--dev", train, "--method", method, *asked, "-o", recipe)
    assert done.code == 0, done.stderr
    settings = load_settings(recipe)
    assert settings.data.train == settings.data.dev == str(train)
    assert settings.run.dir == Path("runs/fresh")
    assert (settings.model.emitter == "lstm") == (method == "lstm")
    if method != "lstm":
        assert settings.model.tuning == method
    default = "crf" if method == "lstm" else "softmax"
    assert settings.model.decoder == (decoder or default)
    assert "# labels: LOCATION, ORGANIZATION, PERSON, TIME" in recipe.read_text(encoding="utf-8")
    assert "exists; use --overwrite" in run("init", train, "-o", recipe).error
    assert run("init", train, "-o", recipe, "--overwrite").code == 0


def test_a_recipe_of_ones_data_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "train.jsonl")
    assert run("init", "train.jsonl", "--method", "lstm").code == 0
    done = run("train", "my.toml", "--set", "train.epochs=1", "--set", "lstm.hidden_size=4")
    assert done.code == 0, done.stderr
    assert (tmp_path / "runs" / "my" / "model" / "nertune.json").is_file()


def test_what_cannot_be_a_recipe_writes_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "x.toml"
    assert "no-such-file" in run("init", tmp_path / "no-such-file", "-o", recipe).error
    assert "expected lora, full, lstm" in run("init", "sample:train", "--method", "x").error
    assert "expected softmax or crf" in run("init", "sample:train", "--decoder", "x").error
    assert "does not exist" in run("init", "sample:train", "-o", tmp_path / "no" / "x.toml").error
    assert not list(tmp_path.iterdir())


def test_bundled_encoders() -> None:
    listed = json.loads(run("encoders", "--json").stdout)["encoders"]
    assert [(e["name"], e["layers"], e["hidden_size"]) for e in listed] == [("mini-zh", 4, 320)]
    assert listed[0]["bytes"] > 10_000_000
    assert "google-bert/bert-base-chinese" in run("encoders").stdout
