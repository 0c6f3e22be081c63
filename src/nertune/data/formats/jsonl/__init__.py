"""JSONL spans: one JSON object a line with a text and its entities."""

from __future__ import annotations

from nertune.data.formats.jsonl.format import Jsonl
from nertune.data.formats.jsonl.writer import document_to_json, dump, write

__all__ = ["Jsonl", "document_to_json", "dump", "write"]
