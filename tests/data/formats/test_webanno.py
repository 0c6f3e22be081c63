"""WebAnno TSV 3: stacked and nested spans, parts of tokens, UTF-16 offsets, choice of the layer."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.corpus import load_with, save_with
from nertune.data.formats import ReadOptions, WriteOptions, find_format
from nertune.data.formats.recognition import recognise
from nertune.data.formats.source import Source
from nertune.errors import DataError
from nertune.types import Document, Entity

NE = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity"
SAMPLE = (
    f"#FORMAT=WebAnno TSV 3.3\n#T_SP={NE}|value\n\n\n"
    "#Sentence.id=s1\n"
    "#Text=👩 Rust-Farbe\\\\\n"
    "#Text=gut .\n"
    "1-1\t0-2\t👩\tan\\[n\\]\\_\\*\t\n"
    "1-2\t3-13\tRust-Farbe\tORG[1]|PER[2]\t\n"
    "1-2.1\t3-7\tRust\tLOC\t\n"
    "1-2.2\t8-13\tFarbe\tA B[3]\t\n"
    "1-3\t13-14\t\\\tORG[1]|A B[3]\t\n"
    "1-4\t15-18\tgut\tORG[1]|A B[3]\t\n"
    "1-5\t19-20\t.\t_\t\n\n"
    "#Text=Ende\n"
    "2-1\t21-25\tEnde\t\\->|x\\|y\t\n"
).replace("\\->|x\\|y", "\\->[4]|x\\|y[5]")
FOUND = [
    ("👩", "an[n]_*"),
    ("Rust", "LOC"),
    ("Rust-Farbe", "PER"),
    ("Rust-Farbe\\\ngut", "ORG"),
    ("Farbe\\\ngut", "A B"),
    ("Ende", "->"),
    ("Ende", "x|y"),
]


def read(path: Path, *, strict: bool = False, **more: str) -> tuple[Document, list[str]]:
    corpus = load_with(path, ReadOptions(strict=strict, more=more), format="webanno")
    return corpus.documents[0], list(corpus.notices)


def of(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_a_file_is_read_and_written_the_same(tmp_path: Path) -> None:
    path = of(tmp_path / "a.tsv", SAMPLE)
    document, notices = read(path)
    assert document.text == "👩 Rust-Farbe\\\ngut .\nEnde"
    assert [(document.surface(e), e.label) for e in document.entities] == FOUND
    assert (document.id, document.meta["id"]) == ("a", "a")
    assert document.meta["sentences"] == [[0, 19, "s1"], [20, 24]]
    assert [document.text[a:b] for a, b in document.tokens or ()] == [
        *("👩", "Rust-Farbe", "\\", "gut", ".", "Ende")
    ]
    assert notices == [f"entities are the feature value of the layer {NE}"]
    save_with(tmp_path / "out", [document, document], WriteOptions(), format="webanno")
    written = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in written] == ["000001-a.tsv", "000002-a.tsv"]
    again, _ = read(written[0])
    assert (again.text, again.entities, again.tokens) == (
        *(document.text, document.entities, document.tokens),
    )
    assert again.meta["sentences"] == document.meta["sentences"]
    assert without_ids(written[0].read_text("utf-8")) == without_ids(SAMPLE)


def without_ids(text: str) -> list[str]:
    """Ids may be numbered in any order, and values stacked in any."""
    plain = re.sub(r"\[\d+\]", "[]", text)
    return [
        "\t".join("|".join(sorted(re.split(r"(?<!\\)\|", cell))) for cell in line.split("\t"))
        for line in plain.split("\n")
    ]


def test_what_cannot_be_an_entity_is_counted(tmp_path: Path) -> None:
    text = (
        f"#FORMAT=WebAnno TSV 3.2\n#T_SP={NE}|identifier|value\n#T_RL=custom.R|x|BT_{NE}\n\n\n"
        "#Text=a b c\n1-1\t0-1\ta\t*\t*\t_\t_\t\n1-2\t2-3\tb\tQ1|*\tX|X\t_\t_\t\n"
        "1-2.1\t2-2\t\t*\tY\t_\t_\t\n1-3\t4-5\tc\t_\t_\t_\t_\t\n"
    )
    document, notices = read(of(tmp_path / "a.tsv", text))
    assert document.entities == (Entity(2, 3, "X"),)
    assert notices[1:] == [
        "features of the layer that are not read: identifier",
        "layers that are not read: custom.R",
        "1 annotations without a value, which are not read",
        "1 identical entities dropped",
        "1 annotations of no characters, which are not read",
    ]


def test_spans_of_an_id_go_from_its_first_unit_to_its_last(tmp_path: Path) -> None:
    text = (
        f"#FORMAT=WebAnno TSV 3.3\n#T_SP={NE}|value\n\n\n#Text=Haus am See\n"
        "1-1\t0-4\tHaus\tA[7]|B[8]\n1-1.1\t0-3\tHau\tB[8]\n1-2\t5-7\tam\t_\n1-3\t8-11\tSee\tA[7]\n"
    )
    document, notices = read(of(tmp_path / "a.tsv", text))
    assert [e.key for e in document.entities] == [(0, 3, "B"), (0, 11, "A")]
    assert "1 annotations that leave out tokens, which are read as one span" in notices


def table(*layers: str, row: str, version: str = "3.3") -> str:
    header = "".join(f"#T_SP={layer}\n" for layer in layers)
    return f"#FORMAT=WebAnno TSV {version}\n{header}\n\n#Text=ab\n1-1\t0-2\tab\t{row}\t\n"


def test_the_layer_is_found_or_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    pos = "de.tudarmstadt.ukp.dkpro.core.api.lexmorph.type.pos.POS|PosValue"
    slots = "custom.A|ROLE_custom.A:Roles_custom.Link|custom.B|kind"
    for layers, row, more, label in [
        ((pos, f"{NE}|value", "custom.B|value"), "NN\tPER\tx", {}, "PER"),
        ((pos, "custom.A|note|kind", "custom.B|value"), "NN\t*\t3\t_", {}, "3"),
        ((pos, "custom.A|value", "custom.B|value"), "NN\tx\ty", {"layer": "B"}, "y"),
        (("custom.A|value|kind",), "x\ty", {"layer": "custom.A", "feature": "kind"}, "y"),
        (("custom.A|",), "*", {}, "A"),
        ((slots,), "r\t1-1\tx", {}, "x"),
        (("custom.A|value",), "*", {}, None),
    ]:
        document, notices = read(of(path, table(*layers, row=row)), **more)
        assert [e.label for e in document.entities] == ([] if label is None else [label])
        assert ("no layer" in notices[0]) == (label is None)
    of(path, table("custom.A|value", "custom.B|value", row="x\ty"))
    with pytest.raises(DataError, match=r"option layer=custom\.A or layer=custom\.B"):
        read(path)
    with pytest.raises(DataError, match=r"no layer 'C'; there are: custom\.A, custom\.B"):
        read(path, layer="C")
    with pytest.raises(DataError, match="has no feature 'z'; it has: value"):
        read(path, layer="A", feature="z")
    assert load_with(path, ReadOptions(ignore_tags=True)).documents[0].text == "ab"


def test_files_of_a_folder_have_their_entities_in_one_layer(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    of(folder / "a.tsv", table(f"{NE}|value", row="X"))
    of(folder / "b" / "c.tsv", table("custom.A|value", row="*"))
    found = recognise(Source(folder))
    assert found is not None
    assert found.format.name == "webanno"
    corpus = load_with(folder, ReadOptions())
    assert [(d.id, len(d.entities)) for d in corpus.documents] == [("a", 1), ("b/c", 0)]
    assert "1 files without that layer" in corpus.notices
    of(folder / "b" / "c.tsv", table("custom.A|value", row="Y"))
    with pytest.raises(DataError, match=r"c\.tsv: entities would be custom\.A value, but .*a\.tsv"):
        load_with(folder, ReadOptions())


def test_older_versions_escape_as_java_does(tmp_path: Path) -> None:
    text = (
        "#FORMAT=WebAnno TSV 3\n\n\n"
        '#Text=\\"\\u738B\\uD83D\\uDE0A\\t\\101\n1-1\t0-1\t"\n1-2\t1-2\t王\n1-3\t2-4\t😊\n1-4\t5-6\tA\n'
    )
    assert read(of(tmp_path / "a.tsv", text))[0].text == '"王😊\tA'
    with pytest.raises(DataError, match=r"a\.tsv:4: .* half a surrogate pair"):
        read(of(tmp_path / "a.tsv", text.replace("\\uDE0A", "")))


def test_offsets_of_another_unit_and_texts_of_tokens_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    start = f"#FORMAT=WebAnno TSV 3.3\n#T_SP={NE}|value\n\n\n"
    of(path, f"{start}#Text=👩 ab\n1-1\t0-1\t👩\t_\n1-2\t2-4\tab\tX\n\n#Text=c\n2-1\t5-6\tc\tY\n")
    document, notices = read(path)
    assert [(document.surface(e), e.label) for e in document.entities] == [("ab", "X"), ("c", "Y")]
    assert "1 files whose offsets count code points, and not UTF-16 units" in notices
    of(path, f"{start}#Text=x\n1-1\t0-1\ta\tX[1]\n1-2\t3-4\tb\tX[1]\n\n#Text=c\n2-1\t0-1\tc\tY\n")
    document, notices = read(path)
    assert document.text == "a  b\nc"
    assert [(document.surface(e), e.label) for e in document.entities] == [
        ("a  b", "X"),
        ("c", "Y"),
    ]
    assert notices[1:] == [
        "1 sentences whose text is not that of their tokens, which is read",
        "1 sentences whose offsets begin anew, which are put on a new line",
    ]
    with pytest.raises(DataError, match=r"a\.tsv:6: 1-1 .0, 1. says its text is 'a', but its"):
        read(path, strict=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TSV 3.3", "TSV 2", ":1: expected #FORMAT=WebAnno TSV 3.3"),
        (f"#T_SP={NE}", "#T_XX=a", ":2: expected #T_SP="),
        ("#Text=Ende\n", "", ":16: expected #Text= before the tokens"),
        ("15-18", "15", ":13: expected 1-1, a TAB, BEGIN-END"),
        ("15-18", "9" * 15 + "-9", "is not|does not|far beyond|says"),
        ("2-1\t21-25", "2-1\t" + "9" * 12 + "-" + "9" * 13, "far beyond the end"),
        ("1-2\t3-13\tRust-Farbe", "1-2\t0-13\t👩 Rust-Farbe", "not behind the token before"),
        ("1-1\t0-2", "1-1.1\t0-2", "is a part of a token that is not there"),
        ("gut\tORG[1]", "gut\tXXX[1]", "an id stands for one annotation"),
    ],
)
def test_damage_has_file_and_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SAMPLE
    path = of(tmp_path / "bad.tsv", SAMPLE.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert re.match(rf"{re.escape(str(path))}:\d+: ", str(caught.value))


@given(data=st.data())
def test_damaged_bytes_are_refused_or_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(SAMPLE.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=5))
    path = tmp_path_factory.getbasetemp() / "damaged.tsv"
    path.write_bytes(raw)
    with suppress(DataError):
        read(path)


def test_what_the_format_cannot_hold_is_listed() -> None:
    format = find_format("webanno")
    text = "\n(ab  cd.\n\nef gh"
    sentences = [[1, 9], [11, 16]]
    document = Document(
        text,
        (Entity(2, 5, "A"), Entity(4, 6, "B"), Entity(4, 9, "C\r"), Entity(4, 7, "D")),
        tokens=((2, 4), (6, 8), (8, 9), (11, 13), (14, 16)),
        meta={"sentences": sentences, "page": 3},
    )
    fitted = format.fit(document, WriteOptions())
    assert fitted.document is not None
    assert fitted.document.text == " (ab  cd.\n\nef gh"
    assert [e.key for e in fitted.document.entities] == [(2, 4, "A"), (6, 7, "D")]
    assert (fitted.document.tokens or ())[0] == (1, 2)
    assert fitted.document.meta == {"sentences": [[1, 10], [11, 16]]}
    assert [loss.kind for loss in fitted.losses] == [
        *("tokens", "text", "entity", "entity", "entity", "entity", "metadata", "metadata")
    ]
    assert format.fit(fitted.document, WriteOptions()).losses == ()
    for wrong in ([[0, 9]], [[1, 9], [12, 16]], [[1, 9]], "x", [[1]], [[True, 9]], [], None):
        meta = {"sentences": wrong}
        other = format.fit(Document(text[1:], tokens=((0, 1), (10, 12)), meta=meta), WriteOptions())
        assert other.document is not None
        assert "sentences" not in other.document.meta
        assert "metadata" in {loss.kind for loss in other.losses}
    assert format.fit(Document("a"), WriteOptions()).document is None


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    for document in (Document("a"), Document("a b", (Entity(1, 3, "X"),), tokens=((0, 1), (2, 3)))):
        with pytest.raises(DataError, match="WebAnno TSV"):
            save_with(tmp_path / "out", [document], WriteOptions(), format="webanno")


FILES = [
    ("GUM_webanno_test.tsv", 4, {}),
    ("PosDep.tsv", 5, {}),
    ("test_input.tsv", 7, {}),
    ("test_input_multi_sentence_span.tsv", 7, {}),
    ("test_input_quotes.tsv", 7, {}),
    ("test_input_v3.3.tsv", 5, {"layer": "LetterEntity"}),
    ("test_input_v3.3.tsv", 6, {"layer": "Tex"}),
    ("webanno_testSubMultiTokenSpan_reference.tsv", 4, {}),
]


@pytest.mark.parametrize(("name", "column", "more"), FILES)
def test_real_files_have_the_entities_that_a_count_gives(
    name: str, column: int, more: dict[str, str], real_data: Path, tmp_path: Path
) -> None:
    path = real_data / "formats" / "webanno_tsv" / name
    document, notices = read(path, **more)
    rows = [line.split("\t") for line in path.read_text("utf-8").split("\n") if line[:1].isdigit()]
    alone, with_id = 0, set()
    for row in rows:
        for value in row[column - 1].split("|"):
            found = re.fullmatch(r"(.*)\[(\d+)\]", value)
            with_id |= {found[2]} if found else set()
            alone += value not in ("_", "*") and not found
    dropped = sum(int(n.split()[0]) for n in notices if "no characters" in n or "identical" in n)
    assert len(document.entities) == alone + len(with_id) - dropped
    tokens = [row[2] for row in rows if "." not in row[0]]
    assert [document.text[a:b] for a, b in document.tokens or ()] == tokens
    fitted = find_format("webanno").fit(document, WriteOptions())
    assert fitted.document is not None
    assert fitted.document.entities == document.entities
    save_with(tmp_path / "out", [fitted.document], WriteOptions(), format="webanno")
    again = load_with(tmp_path / "out", ReadOptions()).documents[0]
    assert (again.text, again.entities) == (fitted.document.text, document.entities)
    assert again.meta["sentences"] == document.meta["sentences"]
