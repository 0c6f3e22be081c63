"""The OpenAPI document against the service: no failure, and no status that it does not name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from helpers.serving import FakeEngine, in_thread
from nertune.serving.app import build_app
from nertune.serving.gate import Keys
from nertune.serving.limits import Limits
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.serving.server import bind
from nertune.serving.tagging import Tagging

FEW, MANY = 30, 400


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a thread, whose admin key is `a`."""
    folder: Path = tmp_path_factory.mktemp("annotations")
    listener = bind("127.0.0.1", 0)
    limits = Limits(max_texts=3, max_characters=200, queue_batches=100)
    with listener, AnnotationStore(folder) as store:
        tagging = Tagging(FakeEngine(["a", "b"]), limits, models=folder)
        gate = build_app(tagging, Keys(admin="a"), annotations=store)
        with in_thread(gate, listener, limits) as address:
            yield address


@schemathesis.serializer("application/x-ndjson")
def lines(ctx: Any, value: Any) -> bytes:
    return str(value).encode("utf-8", "replace")


def ask_one(operation: Any, wanted: list[Any], examples: int, seen: set[tuple[str, int]]) -> None:
    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        response = case.call(headers={"authorization": "Bearer a"}, timeout=30)
        seen.add((case.operation.path, response.status_code))
        case.validate_response(response, checks=wanted)

    ask()


def check(url: str, examples: int) -> set[tuple[str, int]]:
    """Ask what the document allows, and what it does not; the paths with the statuses they gave."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    seen: set[tuple[str, int]] = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        wanted = [checks.not_a_server_error]
        if operation.path.startswith("/v1"):
            wanted += [
                openapi_checks.status_code_conformance,
                openapi_checks.content_type_conformance,
                openapi_checks.response_schema_conformance,
            ]
        ask_one(operation, wanted, examples, seen)
    return seen


def test_the_service_does_what_its_document_says(url: str) -> None:
    seen = check(url, FEW)
    assert ("/v1/tag", 200) in seen
    assert ("/v1/documents", 200) in seen
    assert ("/v1/models", 200) in seen
    assert len({path for path, _ in seen}) >= 8


@pytest.mark.slow
def test_the_service_does_what_its_document_says_many_times(url: str) -> None:
    seen = check(url, MANY)
    for status in (200, 404, 413, 422):
        assert ("/v1/tag", status) in seen
