"""The service that the protocols' tests ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from helpers.annotation_service import WordEngine
from nertune.serving.app import build_app
from nertune.serving.protocols.annotations import AnnotationStore
from nertune.serving.tagging import Tagging


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnnotationStore]:
    with AnnotationStore(tmp_path / "annotations") as store:
        yield store


@pytest.fixture
def client(store: AnnotationStore) -> Iterator[TestClient]:
    with TestClient(build_app(Tagging(WordEngine()), annotations=store)) as client:
        yield client


@pytest.fixture
def forgetful() -> Iterator[TestClient]:
    """A service that keeps no annotations."""
    with TestClient(build_app(Tagging(WordEngine()))) as client:
        yield client
