"""All settings with type, default and meaning, read off the settings themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nertune.config.pretrain import PretrainSettings
from nertune.config.run import Settings
from nertune.errors import ConfigError

__all__ = ["Setting", "list_settings", "settings_markdown"]

_NAMES = {int: "integer", float: "number", str: "string", bool: "true or false", Path: "path"}
_BOUNDS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        key: `section.key`.
        type: what it takes, with its bounds, for people.
        default: in TOML's notation; empty where one has to be given.
        description: what it decides; may be empty.
    """

    key: str
    type: str
    default: str
    description: str


def list_settings(section: str = "") -> list[Setting]:
    """The settings of a recipe, of one of its sections, or of `pretrain`.

    Raises:
        ConfigError: there is no such section.
    """
    sections: dict[str, Any] = {k: f.annotation for k, f in Settings.model_fields.items()}
    known = [*sections, "pretrain"]
    if section and section not in known:
        raise ConfigError(f"{section!r}: expected a section: {', '.join(known)}")
    if section == "pretrain":
        return _of(PretrainSettings, "")
    chosen = {section: sections[section]} if section else sections
    return [setting for name, kind in chosen.items() for setting in _of(kind, f"{name}.")]


def settings_markdown() -> str:
    """The reference as a Markdown page (`docs/settings-reference.md`)."""
    parts = [
        "# Settings reference",
        "A recipe is a TOML file with these sections. `--set section.key=value` overrides a key. "
        "[Settings](settings.md) explains how settings work together. This page is the output of "
        "`nertune settings --markdown`.",
    ]
    for section in [*Settings.model_fields, "pretrain"]:
        title = "`nertune pretrain`" if section == "pretrain" else f"`[{section}]`"
        rows = ["| key | takes | default | meaning |", "|---|---|---|---|"]
        for s in list_settings(section):
            default = f"`{s.default}`" if s.default else "required"
            cells = (f"`{s.key}`", s.type, default, s.description)
            rows.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
        parts += [f"## {title}", "\n".join(rows)]
        if section == "pretrain":
            parts.append(_other_defaults())
    return "\n\n".join(parts) + "\n"


def _other_defaults() -> str:
    """What `pretrain` does otherwise with two of its settings."""
    ways = (("from_scratch", {"from_scratch": "small"}), ("lora", {"encoder": "x", "lora": True}))
    plain = _defaults_of({"encoder": "x"})
    told = []
    for name, given in ways:
        other = {k: v for k, v in _defaults_of(given).items() if v != plain[k] and k not in given}
        found = ", ".join(f"`{key} = {json.dumps(value)}`" for key, value in other.items())
        told.append(f"With `{name}`, the defaults are {found}.")
    return " ".join(told)


def _defaults_of(given: Mapping[str, Any]) -> dict[str, Any]:
    needed = {"files": ["x"], "output": "x", "tokens": 1}
    values = PretrainSettings.model_validate({**needed, **given}).model_dump(mode="json")
    return {key: value for key, value in values.items() if key != "encoder"}


def _of(kind: type[BaseModel], prefix: str) -> list[Setting]:
    return [
        Setting(
            prefix + name,
            _type(field),
            _default(field),
            " ".join((field.description or "").split()),
        )
        for name, field in kind.model_fields.items()
    ]


def _type(field: FieldInfo) -> str:
    bounds = [
        text.format(
            f"{getattr(data, key):g}"
            if isinstance(getattr(data, key), float)
            else getattr(data, key)
        )
        for data in field.metadata
        for key, text in _BOUNDS.items()
        if getattr(data, key, None) is not None
    ]
    return _name(field.annotation) + (f" {', '.join(bounds)}" if bounds else "")


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(a)}`" for a in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_name(a) for a in arguments if a is not NoneType)
    if origin is not None and issubclass(origin, Mapping):
        return "table"
    if origin is not None and issubclass(origin, Sequence):
        return f"list of {_name(arguments[0])}"
    if hasattr(annotation, "__metadata__"):
        return _name(arguments[0])
    return _NAMES.get(annotation, "table")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, ensure_ascii=False, default=str)
