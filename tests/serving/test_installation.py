"""The steps of the Dockerfile in a clean environment under a plain user: no container runs here."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.serving import tiny_models
from helpers.tiny import SENTENCES, tiny_bert

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
UID = 65534


def instructions(name: str) -> list[str]:
    """The arguments of all instructions of a name."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def as_user() -> dict[str, int]:
    """A user without rights; tests that do not run as root are one already."""
    return {"user": UID, "group": UID} if os.getuid() == 0 else {}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that a plain user may read: pytest keeps its own for the user that runs it."""
    with tempfile.TemporaryDirectory(prefix="nertune-image-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def open_python() -> str:
    """A Python that the plain user may run: this one may lie in somebody's home."""
    found = [sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"]
    for python in found:
        command = [python, "-c", "import ensurepip, venv"]
        with suppress(OSError):
            if subprocess.run(command, cwd="/", check=False, **as_user()).returncode == 0:
                return python
    pytest.skip("there is no Python that a plain user may run")


def test_the_image_holds_what_its_steps_need() -> None:
    """What is copied is not left out by .dockerignore, and the package builds from it alone."""
    let_in = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    copied = {name.rstrip("/").removeprefix("./")
              for line in instructions("COPY") for name in line.split()[:-1]}  # fmt: skip
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    assert instructions("USER") == ["10001"]
    assert json.loads(instructions("ENTRYPOINT")[0])[:2] == ["nertune", "serve"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(sys.platform != "linux", reason="the image is one of Linux")
def test_the_steps_of_the_image_give_a_server(open_folder: Path) -> None:
    app, venv = open_folder / "app", open_folder / "venv"
    app.mkdir()
    for line in instructions("COPY"):
        for name in line.split()[:-1]:
            if (ROOT / name).is_dir():
                left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(ROOT / name, app / name, ignore=left_out)
            else:
                shutil.copy(ROOT / name, app)
    subprocess.run([open_python(), "-m", "venv", str(venv)], check=True)
    path = {"PATH": f"{venv}/bin:{os.environ['PATH']}"}
    for step in instructions("RUN"):
        if "pip install" not in step:
            continue
        # The build's own index may not be reached from here; the usual one has torch, too.
        step = re.sub(r'--index-url "\$TORCH_INDEX" ', "", step)
        done = subprocess.run(["bash", "-ec", step], cwd=app, env={**os.environ, **path},
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode and "connection" in done.stderr.lower():
            pytest.skip("the package index cannot be reached")
        assert done.returncode == 0, done.stderr[-2000:]
    models = open_folder / "models"
    shutil.copytree(tiny_models()["news"], models / "news")
    shutil.copytree(tiny_bert(), models / "encoder")
    subprocess.run(["chmod", "-R", "a+rX", str(models)], check=True)  # as docs/serving.md says
    serve_as_plain_user(venv, models, open_folder)


def serve_as_plain_user(venv: Path, models: Path, folder: Path) -> None:
    """The entry point with the image's variables, a root that cannot be written, and its check."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    writable = folder / "tmp"
    writable.mkdir()
    writable.chmod(0o777)
    before = sorted(models.rglob("*"))
    environment = dict(pair.split("=", 1) for line in instructions("ENV") for pair in line.split())
    environment |= {"PATH": f"{venv}/bin:/usr/bin:/bin", "HOME": str(writable),
                    "TMPDIR": str(writable), "OMP_NUM_THREADS": "1"}  # fmt: skip
    command = json.loads(instructions("ENTRYPOINT")[0])
    command[command.index("--port") + 1] = port
    arguments = [str(models / "news"), "--encoder", str(models / "encoder")]
    process = subprocess.Popen([str(venv / "bin" / command[0]), *command[1:], *arguments],
                               env=environment, cwd="/", stderr=subprocess.PIPE, text=True,
                               **as_user())  # fmt: skip
    (check,) = re.findall(r"CMD (\[.*\])", DOCKERFILE)
    health = [part.replace(":8000", f":{port}") for part in json.loads(check)]
    health[0] = str(venv / "bin" / "python")
    try:
        end = time.monotonic() + 240
        while subprocess.run(health, capture_output=True, check=False).returncode:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(1)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/tag",
            json.dumps({"text": SENTENCES[0].text}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["documents"][0]["entities"]
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
    assert sorted(models.rglob("*")) == before
