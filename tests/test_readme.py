"""The examples of README and tutorial, word for word: recipes and commands, on a few sentences."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import nertune
from helpers.commands import run
from nertune.data.corpus import load_corpus, save_documents
from nertune.data.formats import format_names
from nertune.data.samples import resolve_data

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "benchmarks" / "results" / "history.md",
]


TUTORIAL = (ROOT / "docs" / "first-tagger.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the commands name; recipes are the page's own, with fewer epochs."""
    for split, count in (("train", 24), ("dev", 8), ("test", 8)):
        documents = load_corpus(resolve_data(f"sample:{split}")).documents[:count]
        save_documents(
            tmp_path / f"{split}.conll",
            documents,
            format="conll",
            tokenize=lambda text: [(i, i + 1) for i in range(len(text)) if not text[i].isspace()],
        )
    texts = {
        "lora.toml": _recipe(README, epochs=1),
        "bert.toml": _recipe(README, epochs=1).replace('tuning = "lora"', 'tuning = "full"'),
        "texts.txt": "王小明到了北京。\n\n他在那里等人。\n",
        "domain.txt": "小明昨天到了北京，他在那里等人。\n" * 40,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def _recipe(page: str, *, epochs: int) -> str:
    (recipe,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert "epochs = 10" in recipe
    return recipe.replace("epochs = 10", f"epochs = {epochs}")


def _commands(page: str) -> list[str]:
    lines = re.findall(r"^    (nertune .*?)(?:\s{2,}#.*)?$", page, re.MULTILINE)
    return [line.strip() for line in lines]


def _run_commands(page: str, folder: Path, *, epochs: int) -> None:
    """Run a page's commands in their order, in `folder`, which is the working folder."""
    for command in _commands(page):
        words, arrow, target = command.partition(" > ")
        arguments = shlex.split(words)[1:]
        if "--seeds" in arguments:
            arguments[arguments.index("--seeds") + 1] = "1"
        if "--minutes" in arguments:
            arguments[arguments.index("--minutes") + 1] = "0.02"
        if arguments[0] == "pretrain":  # its speed is measured on whole batches first
            arguments += ["--set", "batch_tokens=256"]
        done = run(*arguments)
        assert done.code == 0, f"{command}\n{done.stderr}"
        if arguments[0] == "init":  # then the page shows a recipe to write in its place
            assert (folder / "my.toml").is_file()
            (folder / "my.toml").write_text(_recipe(page, epochs=epochs), encoding="utf-8")
        if "-o" in arguments and arguments[0] == "predict":  # then it goes into the file alone
            assert (folder / arguments[arguments.index("-o") + 1]).stat().st_size, command
        else:
            assert done.stdout, command
        if arrow:
            (folder / target.strip()).write_text(done.stdout, encoding="utf-8")
            assert len(done.stdout.strip().split("\n")) == 3


@pytest.mark.timeout(900)
def test_every_command_of_the_readme_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert len(_commands(README)) >= 8
    _run_commands(README, folder, epochs=2)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, Any] = {}
    for block in blocks:  # on the run that the commands left
        exec(block, names)
    assert names["document"].text == "王小明昨天到了北京。"
    assert 0 <= names["scores"].micro.f1 <= 1


def test_every_command_of_the_tutorial_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert len(_commands(TUTORIAL)) >= 7
    _run_commands(TUTORIAL, folder, epochs=1)
    entities = (folder / "entities.jsonl").read_text(encoding="utf-8")
    assert len(entities.strip().split("\n")) == 3


def test_every_block_of_the_python_page_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block.replace('"epochs": 10', '"epochs": 1'), names)
    assert len(names["record"]["epochs"]) == 1
    assert [d.text for d in names["documents"]] == ["王小明到了北京。", "他在那里等人。"]
    assert [d.text for d in names["answers"]] == ["王小明到了北京。", "他在那里等人。"]
    assert names["served"].describe("law").mixes
    assert names["scores"].num_documents == len(names["test"])
    assert "missing.conll" in capsys.readouterr().out


def test_the_python_page_names_what_the_package_offers() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    table = page.split("## Documents and entities")[0]
    rows = "\n".join(line for line in table.splitlines() if line.startswith("|"))
    named = re.findall(r"`(?:nertune\.)?(\w+)[(`]", rows)
    assert len(named) >= 15
    assert set(named) <= set(nertune.__all__)


def test_the_page_of_data_files_names_formats_that_exist() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    table = page.split("## Formats")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)
    assert len(named) >= 9
    assert set(named) <= set(format_names())


def test_the_block_of_the_page_of_data_files_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    parts = names["parts"]
    assert len(parts["train"].documents) > 8 * len(parts["test"].documents)
    assert "PER" in capsys.readouterr().out


def test_the_repository_layout_names_folders_that_exist() -> None:
    table = README.split("## Repository layout")[1]
    named = re.findall(r"^\| `([\w/-]+)/` \|", table, re.MULTILINE)
    assert len(named) >= 10
    assert not [name for name in named if not (ROOT / name).is_dir()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    links = [link for link in links if "://" not in link]
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:  # a heading, as GitHub makes anchors of them
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in [
                re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings
            ], link
