"""Every curl command of docs/serving.md, and what the page says of defaults."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from inspect import signature
from pathlib import Path

import pytest

from helpers.serving import started, tiny_models
from helpers.tiny import SENTENCES
from nertune.cli.serving import serve

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
COMMANDS = [
    command
    for block in re.findall(r"```bash\n(curl .*?)```", PAGE, re.DOTALL)
    for command in re.split(r"\n(?=curl )", block.strip())
]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_command_works(tmp_path: Path) -> None:
    models = tiny_models()
    shutil.copytree(models["web"], tmp_path / "runs" / "web")
    lines = [json.dumps({"text": d.text, "id": i}) for i, d in enumerate(SENTENCES)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert len(COMMANDS) == 6
    keys = {"NERTUNE_ADMIN_KEY": "admin"}
    arguments = (f"news={models['news']}", f"law={models['law']}")
    with started(*arguments, "--models", str(tmp_path / "runs"), environment=keys) as process:
        answers = []
        for command in COMMANDS:
            done = subprocess.run(
                ["bash", "-c", command.replace("http://127.0.0.1:8000", process.url)],
                capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **keys},
                check=True,
            )  # fmt: skip
            answers.append(done.stdout)
    one, two, _, models_answer, loaded, unloaded = answers
    assert json.loads(one)["documents"][0]["entities"]
    assert (json.loads(two)["model"], json.loads(two)["offsets"]) == ("law", "utf16")
    tagged = (tmp_path / "tagged.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in tagged] == list(range(len(SENTENCES)))
    told = (json.loads(answer)["models"] for answer in (models_answer, loaded, unloaded))
    names = [[model["name"] for model in found] for found in told]
    assert names == [["news", "law"], ["news", "law", "web"], ["news", "law"]]


def test_the_table_of_limits_gives_the_defaults() -> None:
    rows = re.findall(r"^\| `--([\w-]+)` \| ([\d,]+) \|", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for option, default in rows:
        found = signature(serve).parameters[option.replace("-", "_")].default
        assert found == float(default.replace(",", "")), option
