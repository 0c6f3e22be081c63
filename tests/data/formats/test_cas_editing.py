"""Annotations that are added to XMI: dkpro-cassis reads them, and all that was there."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from cassis import load_cas_from_xmi, load_typesystem
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data.corpus import save_with
from nertune.data.formats import WriteOptions
from nertune.data.formats.base import Source
from nertune.data.formats.cas.editing import add_annotations
from nertune.data.formats.cas.model import Annotation
from nertune.data.formats.cas.xmi import read_views
from nertune.data.formats.layers import NAMED_ENTITY
from nertune.data.formats.offsets import count_units
from nertune.data.formats.xml_parsing import unwritable
from nertune.types import Document, Entity

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: not unwritable(text)
)


@settings(max_examples=60)
@given(st.data())
def test_what_was_there_stays_and_what_is_added_is_indexed(data: st.DataObject) -> None:
    text = data.draw(TEXTS)
    spans = st.lists(
        st.tuples(st.integers(0, len(text) - 1), st.integers(1, 5)).map(
            lambda pair: (pair[0], min(sum(pair), len(text)))
        ),
        max_size=4,
        unique=True,
    )
    own, added = data.draw(spans), data.draw(spans)
    document = Document(text, tuple(Entity(a, b, "own\n<&\"'>\t") for a, b in own))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        save_with(out, [document], WriteOptions(), format="cas-xmi")
        (path,) = out.glob("*.xmi")
        types = load_typesystem(io.BytesIO((out / "TypeSystem.xml").read_bytes()))
        before = path.read_bytes()
        sofa = read_views(Source(path)).initial(path)
        places = count_units(text, "utf16")
        annotations = [
            Annotation(NAMED_ENTITY, places[a], places[b], {"value": 'new\r\n\t&<"'})
            for a, b in added
        ]
        after = add_annotations(before, sofa, annotations)
    read = load_cas_from_xmi(after, typesystem=types)
    assert read.sofa_string == text
    shown = sorted((a.begin, a.end, a.value) for a in read.select(NAMED_ENTITY))
    expected = [(a, b, "own\n<&\"'>\t") for a, b in own]
    expected += [(a, b, 'new\r\n\t&<"') for a, b in added]
    assert shown == sorted(expected)
    again = add_annotations(after.encode(), sofa, [])
    assert again == after


def test_a_file_with_other_prefixes_and_a_view_without_members() -> None:
    xmi = (
        '<x:XMI xmlns:x="http://www.omg.org/XMI" xmlns:c="http:///uima/cas.ecore" '
        'xmlns:nertune0="http:///other.ecore" x:version="2.0"><c:NULL x:id="0"/>'
        '<c:Sofa x:id="7" sofaNum="1" sofaID="_InitialView" sofaString="ab"/>'
        '<c:View sofa="7"/></x:XMI>'
    )
    after = add_annotations(xmi.encode(), "7", [Annotation("a.b.C", 0, 1, {"value": "X"})])
    views = read_views(Source(Path("a.xmi"), after.encode()))
    (found,) = views.annotations
    assert (found[0], found[1], found[2].type, found[2].features) == (
        "8",
        "7",
        "a.b.C",
        {"value": "X"},
    )
    assert views.members == {"7": frozenset({"8"})}
