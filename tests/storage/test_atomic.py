"""A folder that is replaced is there at every moment, whenever the process is killed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nertune.storage import atomic
from nertune.storage.atomic import recover_folder, replace_folder


def make(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


class Killed(BaseException):
    """As a signal that ends the process."""


def test_the_new_one_takes_the_place(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for text in ("first", "second", "third"):
        replace_folder(make(tmp_path / ".draft", text), folder)
        assert (folder / "file").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_nobody_sees_it_missing(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", "0")
    if not atomic._swap(folder, make(tmp_path / "other", "0")):
        pytest.skip("this system swaps no folders")
    missing, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            try:
                (folder / "file").read_text()
            except FileNotFoundError:
                missing.append(1)

    thread = threading.Thread(target=watch)
    thread.start()
    for number in range(300):
        replace_folder(make(tmp_path / ".draft", str(number)), folder)
    done.set()
    thread.join()
    assert not missing


@pytest.mark.parametrize("step", [0, 1])
def test_a_kill_between_two_renames(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where folders cannot be swapped."""
    folder = make(tmp_path / "model", "old")
    monkeypatch.setattr(atomic, "_swap", lambda first, second: False)
    rename, calls = Path.rename, []

    def kill(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == step + 1:
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", kill)
        with pytest.raises(Killed):
            replace_folder(make(tmp_path / ".draft", "new"), folder)
    recover_folder(folder)
    assert (folder / "file").read_text() == "old"
    replace_folder(tmp_path / ".draft", folder)
    assert (folder / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
