"""The notebook's code cells, run in their order on fewer documents and for one epoch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "first-tagger.ipynb"
SMALLER = {  # what a cell says -> what the test runs
    'nertune.read("sample:train")': 'nertune.read("sample:train")[:24]',
    'nertune.read("sample:dev")': 'nertune.read("sample:dev")[:8]',
    'nertune.read("sample:test")': 'nertune.read("sample:test")[:40]',
    '"epochs": 10': '"epochs": 1',
}


def test_the_code_cells_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = _code_cells()
    assert len(cells) >= 8
    assert all(any(text in cell for cell in cells) for text in SMALLER)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells, 1):
        for text, smaller in SMALLER.items():
            cell = cell.replace(text, smaller)
        exec(compile(cell, f"cell {number}", "exec"), names)
    assert names["record"]["status"] == "finished"
    assert len(names["record"]["epochs"]) == 1
    assert "北京" in names["mine"]._repr_html_()
    assert names["scores"].num_documents == len(names["test"]) == 40
    assert (tmp_path / "runs" / "first" / "model" / "nertune.json").is_file()
    written = (tmp_path / "predicted.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in written] == [d.text for d in names["test"]]


def test_stored_outputs_are_those_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs that need no training, computed again."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    compared = []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "nertune.train(" in source:
            break
        if cell["cell_type"] != "code":
            continue
        exec(compile(source, "cell", "exec"), names)
        stored = ["".join(o["data"]["text/plain"]) for o in cell["outputs"] if "data" in o]
        last = source.splitlines()[-1]
        if stored:
            assert stored == [repr(eval(last, names))], last
            compared.append(last)
    assert compared == ["len(train), len(dev), len(test)", "train[0]", "mine", "mine.to_dict()"]


def test_it_is_a_notebook_with_short_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    outputs = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(len(json.dumps(output)) < 4000 for output in outputs)
    errors = [o for output in outputs for o in output if o["output_type"] == "error"]
    assert not errors
    text = "".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links
    assert all((NOTEBOOK.parent / link).exists() for link in links)


def _code_cells() -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
