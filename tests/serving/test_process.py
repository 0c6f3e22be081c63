"""`nertune serve` as a process: signals, clients that hang, leave or are killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from helpers.commands import run
from helpers.serving import started, tiny_models
from helpers.tiny import SENTENCES

TEXTS = [document.text for document in SENTENCES]
LONG = "".join(TEXTS) * 60


@pytest.fixture(scope="module")
def served() -> Iterator[started]:
    models = tiny_models()
    with started(*(f"{name}={folder}" for name, folder in models.items())) as process:
        yield process


def connect(served: started) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def is_well(served: started) -> bool:
    answer = httpx.post(f"{served.url}/v1/tag", json={"text": TEXTS[0]}, timeout=30)
    return answer.status_code == 200


def metric(served: started, name: str) -> float:
    text = httpx.get(f"{served.url}/metrics").text
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


def wait_for(condition: object, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_it_answers_and_says_where(served: started) -> None:
    assert is_well(served)
    assert served.url.startswith("http://127.0.0.1:")
    assert not [line for line in served.lines if "warning" in line]
    assert "nertune" in httpx.get(f"{served.url}/").text


def test_clients_that_send_nonsense_or_nothing_do_no_harm(served: started) -> None:
    held = [connect(served) for _ in range(20)]
    for number, client in enumerate(held):
        if number % 2:
            client.sendall(b"\x16\x03\x01 GET nonsense \r\n\r\n")
        else:
            client.sendall(b"POST /v1/tag HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert is_well(served)
    assert held[1].recv(1000).startswith(b"HTTP/1.1 400")
    for client in held:
        client.close()
    assert wait_for(lambda: metric(served, "nertune_requests_in_flight") == 0)
    assert is_well(served)


def test_a_client_that_is_killed_leaves_nothing_behind(served: started) -> None:
    code = (
        "import httpx, sys\n"
        "print('begin', flush=True)\n"
        "while True:\n"
        "    httpx.post(sys.argv[1] + '/v1/tag', json={'texts': [sys.argv[2]] * 20}, timeout=60)\n"
    )
    clients = [
        subprocess.Popen([sys.executable, "-c", code, served.url, LONG], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for client in clients:
        assert client.stdout is not None
        client.stdout.readline()
    assert wait_for(lambda: metric(served, "nertune_requests_in_flight") >= 1)
    for client in clients:
        client.send_signal(signal.SIGKILL)
        client.wait()
        assert client.stdout is not None
        client.stdout.close()
    assert wait_for(lambda: metric(served, "nertune_requests_in_flight") == 0)
    assert wait_for(lambda: metric(served, "nertune_queue_texts") == 0)
    assert is_well(served)


def test_a_killed_stream_leaves_nothing_behind(served: started) -> None:
    client = connect(served)
    client.sendall(b"POST /v1/documents HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    line = json.dumps({"text": TEXTS[0]}).encode() + b"\n"
    client.sendall(f"{len(line):x}\r\n".encode() + line + b"\r\n")
    assert b"200" in client.recv(10_000)
    assert metric(served, "nertune_requests_in_flight") == 1
    client.close()
    assert wait_for(lambda: metric(served, "nertune_requests_in_flight") == 0)


def test_documents_stream_both_ways(served: started) -> None:
    """The first answer comes before the second line is sent."""
    with connect(served) as client:
        head = b"POST /v1/documents?model=law HTTP/1.1\r\nhost: x\r\n"
        client.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        received = b""
        for number in range(3):
            line = json.dumps({"text": TEXTS[number], "id": number}).encode() + b"\n"
            client.sendall(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            while received.count(b'"id"') <= number:
                received += client.recv(65536)
        client.sendall(b"0\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += client.recv(65536)


def ask_until(stop: threading.Event, url: str, results: list[httpx.Response]) -> None:
    """Ask again and again, until the server has ended."""
    with httpx.Client(base_url=url, timeout=60) as client:
        while not stop.is_set():
            try:
                results.append(client.post("/v1/tag", json={"texts": TEXTS}))
            except httpx.TransportError:  # it has ended, or closed an idle connection
                return
            time.sleep(0.002)


def test_what_was_accepted_is_answered_after_sigterm_and_nothing_else() -> None:
    models = tiny_models()
    results: list[httpx.Response] = []
    stop = threading.Event()
    arguments = (f"news={models['news']}", f"web={models['web']}", "--deadline", "300")
    with started(*arguments) as process:
        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(ask_until, stop, process.url, results) for _ in range(5)]
            assert wait_for(lambda: len(results) > 20)
            body = {"texts": [LONG * 2] * 4}
            url = f"{process.url}/v1/tag"
            for _ in range(100):  # the others may fill the queue just now
                long = pool.submit(httpx.post, url, json=body, timeout=300)
                time.sleep(0.3)
                if not long.done():
                    break
            process.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert not long.done()
            refused = httpx.post(url, json={"text": "a"})
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "draining"
            assert httpx.get(f"{process.url}/readyz").status_code == 503
            results.append(long.result())
            assert long.result().status_code == 200
            assert process.process.wait(60) == 0
            stop.set()
            for one in asked:
                one.result()
        log = [json.loads(line) for line in process.rest()]
    assert {answer.status_code for answer in results} <= {200, 503}
    answered = [answer for answer in results if answer.status_code == 200]
    assert {len(answer.json()["documents"]) for answer in answered} == {4, len(TEXTS)}
    others = [answer for answer in results if answer.status_code == 503]
    assert {answer.json()["error"]["code"] for answer in others} <= {"draining", "overloaded"}
    # Every request that was accepted was answered in full: none is logged that no client got.
    accepted = [line for line in log if line.get("status") == 200 and line["path"] == "/v1/tag"]
    assert len(accepted) == len(answered)
    assert not [line for line in log if line.get("status") in (499, 500)]


@pytest.mark.slow
def test_a_hanging_client_does_not_keep_it_from_ending() -> None:
    arguments = (f"news={tiny_models()['news']}", "--drain", "1")
    with started(*arguments) as process:
        clients = [connect(process) for _ in range(3)]
        clients[1].sendall(b"POST /v1/tag HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        clients[2].sendall(b"GET /v1/mod")
        time.sleep(0.2)
        begun = time.monotonic()
        assert process.stop(30) == 0
        assert time.monotonic() - begun < 15
        for client in clients:
            client.close()


@pytest.mark.slow
def test_an_open_address_without_a_key_is_warned_of() -> None:
    with started(f"news={tiny_models()['news']}", "--host", "0.0.0.0") as process:
        assert "NERTUNE_API_KEY" in process.lines[0]
        process.stop()
    environment = {"NERTUNE_API_KEY": "secret"}
    arguments = (f"news={tiny_models()['news']}", "--host", "0.0.0.0")
    with started(*arguments, environment=environment) as process:
        assert len(process.lines) == 1
        assert httpx.get(f"{process.url}/v1/models").status_code == 401
        process.stop()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "99999"], "65535"),
        (["--host", "192.0.2.1"], "no address of this machine"),
        (["--host", "no.such.host.invalid"], "no address of this machine"),
        (["--models", "nowhere"], "is no folder"),
        (["--backend", "tensorrt"], "expected torch, onnx, onnx-int8"),
        (["--admin-key", "ä"], "printable ASCII"),
    ],
)
def test_options_that_cannot_be_are_told_before_anything_is_loaded(
    arguments: list[str], told: str
) -> None:
    done = run("serve", "no/such/model", *arguments)
    assert done.code == 2
    assert told in " ".join(done.stderr.split())


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = run("serve", "no/such/model", "--port", str(other.getsockname()[1]))
    assert done.code == 2
    assert "is in use; choose another with --port" in done.stderr


def test_a_model_that_cannot_be_loaded_is_told() -> None:
    done = run("serve", "no/such/model", "--port", "0")
    assert done.code == 2
    assert "no/such/model" in done.stderr


@pytest.mark.slow
def test_an_interrupt_ends_it_too() -> None:
    with started(f"news={tiny_models()['news']}") as process:
        os.kill(process.process.pid, signal.SIGINT)
        assert process.process.wait(30) == 0
