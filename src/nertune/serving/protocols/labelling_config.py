"""The labelling interface of a Label Studio project: which texts it shows, and which labels.

<View>
  <Labels name="label" toName="text">
    <Label value="Person" alias="PER"/> <Label value="ORG"/>
  </Labels>
  <Text name="text" value="$text"/>
</View>
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nertune.data.formats.source import Source
from nertune.data.formats.xml_parsing import iterate_elements
from nertune.errors import DataError
from nertune.storage.files import shorten

__all__ = ["Control", "ShownText", "read_labelling_config"]

_ELSEWHERE = ("HyperText", "Paragraphs")  # whose offsets are places in elements


@dataclass(frozen=True, slots=True)
class Control:
    """A `<Labels>`.

    Attributes:
        name: as results name it.
        labels: what it can say, by the label of the model. A label of the model is one of the
            project if it is its alias, its value, or among its `predicted_values`.
    """

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ShownText:
    """A `<Text>` that has labels.

    Attributes:
        name: as results name it.
        key: of a task's data, which holds the text.
        controls: its `<Labels>`, in the order of the configuration.
    """

    name: str
    key: str
    controls: tuple[Control, ...]

    def find(self, label: str) -> tuple[str, str] | None:
        """The control and the project's label that stand for a label of the model."""
        for control in self.controls:
            if label in control.labels:
                return control.name, control.labels[label]
        return None


def read_labelling_config(config: str) -> tuple[ShownText, ...]:
    """The texts of a labelling interface that have labels.

    Raises:
        DataError: it is no XML, it has no `<Labels>` for a `<Text>`, or where a text comes from
            is not in the task.
    """
    source = Source(Path("label_config"), config.encode(errors="surrogatepass"))
    elements = [
        element
        for _, root in iterate_elements(source, lambda _, depth: depth == 1)
        for element in root.iter()
    ]
    controls: dict[str, list[Control]] = {}
    for element in elements:
        if element.tag != "Labels":
            continue
        labels: dict[str, str] = {}
        for label in element.iter("Label"):
            value = label.get("alias") or label.get("value")
            if not value:
                continue
            predicted = label.get("predicted_values", "").split(",")
            for name in (value, label.get("value"), *(name.strip() for name in predicted)):
                if name:
                    labels.setdefault(name, value)
        for target in element.get("toName", "").split(","):
            controls.setdefault(target.strip(), []).append(Control(element.get("name", ""), labels))
    texts = []
    for element in elements:
        name = element.get("name", "")
        if element.tag == "Text" and name in controls:
            texts.append(ShownText(name, _key(element.attrib), tuple(controls[name])))
    if not texts:
        tags = sorted({element.tag for element in elements if element.tag in _ELSEWHERE})
        told = f"; it has {' and '.join(tags)}, whose spans nertune cannot give" if tags else ""
        raise DataError(
            'the labelling interface has no <Labels toName="text"> for a <Text name="text" '
            f'value="$text">{told}: set it up under Settings > Labeling Interface'
        )
    return tuple(texts)


def _key(attributes: Mapping[str, str]) -> str:
    value = attributes.get("value", "")
    if attributes.get("valueType") == "url":
        told = "is an URL, which is not fetched: import the text itself"
        raise DataError(f"the text of <Text value={shorten(value)}> {told}")
    if not value.startswith("$") or len(value) < 2:
        told = 'expected the key of a task\'s data, e.g. value="$text"'
        raise DataError(f"<Text value={shorten(value)}>: {told}")
    return value[1:]
