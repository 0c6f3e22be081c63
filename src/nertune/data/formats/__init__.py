"""File formats, one module each; `base.py` says how to add one."""

from __future__ import annotations

from nertune.data.formats.base import (
    Findings,
    Fitted,
    Format,
    Glimpse,
    Holds,
    ReadOptions,
    Source,
    WriteOptions,
)
from nertune.data.formats.registry import (
    all_formats,
    find_format,
    format_names,
    register,
    unregister,
)

__all__ = [
    "Findings",
    "Fitted",
    "Format",
    "Glimpse",
    "Holds",
    "ReadOptions",
    "Source",
    "WriteOptions",
    "all_formats",
    "find_format",
    "format_names",
    "register",
    "unregister",
]
