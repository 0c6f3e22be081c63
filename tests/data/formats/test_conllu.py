"""CoNLL-U Plus and CoNLL-U, on samples written by hand, and with the `conllu` library as oracle."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.corpus import Corpus, load_corpus, load_with, save_corpus, save_documents
from nertune.data.formats import Findings, ReadOptions, Source, WriteOptions, all_formats
from nertune.data.formats.conllu import ConlluPlus
from nertune.errors import ConfigError, DataError
from nertune.types import Document, Entity

PLUS = """\
# global.columns = ID FORM UPOS MISC NER
# newdoc id = d-1
# newpar
# sent_id = s-1
# text = Ana va al Palau, sí.
# source = a = b
1 Ana PROPN _ B-PER
2 va VERB Gloss=goes O
3-4 al _ _ _
3 a ADP _ O
4 el DET _ O
4.1 _ _ _ _
5 Palau PROPN SpaceAfter=No B-LOC
6 , PUNCT _ O
7 sí INTJ SpaceAfter=No|Lang=es O
8 . PUNCT _ O

# sent_id = s-2
1 Fi NOUN _ O

# newdoc
1 Ara ADV _ _

"""
TEN = "{0}\t{1}\t_\t_\t_\t_\t_\t_\t_\t{2}\n"


def tabs(text: str) -> str:
    lines = [x if x.startswith("#") else x.replace(" ", "\t") for x in text.split("\n")]
    return "\n".join(lines)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def load(path: Path, text: str, **options: Any) -> Corpus:
    return load_with(write(path, text), ReadOptions(**options))


def found(document: Document) -> list[tuple[str, str]]:
    return [(document.surface(e), e.label) for e in document.entities]


def test_named_columns(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path / "a", tabs(PLUS)))
    assert (corpus.format, corpus.reason) == ("conllu-plus", "its first line names columns")
    one, two, three = corpus.documents
    assert one.text == "Ana va al Palau, sí."
    assert found(one) == [("Ana", "PER"), ("Palau", "LOC")]
    assert [one.text[a:b] for a, b in one.tokens or ()] == [
        "Ana", "va", "al", "Palau", ",", "sí", "."
    ]  # fmt: skip
    assert one.id == "s-1"
    assert {k: v for k, v in one.meta.items() if k != "columns"} == {
        "id": "s-1", "document": "d-1", "comments": ["newpar"], "source": "a = b"
    }  # fmt: skip
    columns = one.meta["columns"]
    assert columns["ID"] == ["1", "2", "3-4", "3", "4", "4.1", "5", "6", "7", "8"]
    assert columns["MISC"] == ["_", "Gloss=goes", *["_"] * 6, "Lang=es", "_"]
    assert (two.id, two.meta["document"]) == ("s-2", "d-1")
    assert (two.meta["columns"], two.text) == ({"UPOS": ["NOUN"]}, "Fi")
    assert (three.id, three.meta["document"], three.entities) == ("a:22", 2, ())
    assert corpus.notices == ("scheme BIO recognised",)
    texts = load_corpus(tmp_path / "a", ignore_tags=True)
    assert (texts.num_entities, texts.documents[0].text) == (0, one.text)


def test_a_file_comes_back(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path / "a.conllup", tabs(PLUS)))
    save_corpus(tmp_path / "b.conllup", corpus)
    written = (tmp_path / "b.conllup").read_text(encoding="utf-8")
    assert written.startswith("# global.columns = ID FORM UPOS MISC NER\n# newdoc id = d-1\n")
    assert "nertune" not in written
    again = load_corpus(tmp_path / "b.conllup")
    assert again.documents[:2] == corpus.documents[:2]
    assert again.documents[2].meta == corpus.documents[2].meta
    save_documents(tmp_path / "c.conllup", corpus.documents)  # with all columns of CoNLL-U
    assert [d.meta for d in load_corpus(tmp_path / "c.conllup").documents] == [
        d.meta for d in corpus.documents
    ]
    save_corpus(tmp_path / "d.conllup", load_corpus(tmp_path / "c.conllup"))
    assert (tmp_path / "d.conllup").read_bytes() == (tmp_path / "c.conllup").read_bytes()


def test_what_is_written(tmp_path: Path) -> None:
    tokens = ((1, 3), (3, 4), (7, 12))
    meta = {"id": "7", "document": "d", "page": [3], "text": "x", "note": "a b"}
    documents = [
        Document(" ab.\t\\ a\tb c!\n", (Entity(1, 4, "X:y"),), "7", tokens, meta),
        Document("one", (Entity(0, 3, "X"),), "", ((0, 3),), {"document": 3}),
        Document("two", (), "", ((0, 3),), {"document": 3}),
        Document("no", (), "", ((0, 2),)),
    ]
    path = tmp_path / "a.conllup"
    save_documents(path, documents, scheme="BIOES")
    assert path.read_text(encoding="utf-8") == (
        "# global.columns = ID FORM MISC NER\n"
        "# newdoc id = d\n# sent_id = 7\n# note = a b\n# text = ab. a b c\n"
        '# nertune = {"meta": {"page": [3], "text": "x"}, "before": " ", "after": "!\\n"}\n'
        "1\tab\tSpaceAfter=No\tB-X:y\n2\t.\tSpacesAfter=\\t\\\\\\s\tE-X:y\n"
        "3\ta b c\tSpacesInToken=a\\tb\\sc\tO\n\n"
        '# newdoc\n# text = one\n# nertune = {"meta": {"document": 3}}\n1\tone\t_\tS-X\n\n'
        '# text = two\n# nertune = {"meta": {"document": 3}}\n1\ttwo\t_\tO\n\n'
        '# text = no\n# nertune = {"meta": {"document": null}}\n1\tno\t_\tO\n\n'
    )
    corpus = load_corpus(path)
    assert corpus.scheme == "BIOES"
    for expected, again in zip(documents, corpus.documents, strict=True):
        assert (again.text, again.entities) == (expected.text, expected.entities)
        assert (again.tokens, again.meta) == (expected.tokens, expected.meta)


@pytest.mark.parametrize(
    ("meta", "is_in_columns"),
    [
        ({"UPOS": ["X", "_"]}, True),
        ({"UPOS": ["X"]}, False),
        ({"UPOS": ["_", "_"]}, False),
        ({"UPOS": ["X", "a\tb"]}, False),
        ({"UPOS": ["X", 1]}, False),
        ({"OTHER": ["X", "Y"]}, False),
        ({"MISC": ["Gloss=a", "_"]}, True),
        ({"MISC": ["SpaceAfter=No", "_"]}, False),
        ({"ID": ["1", "2"], "FORM": ["a", "b"]}, False),
        ({"ID": ["3", "4"], "FORM": ["a", "b"]}, True),
        ({"ID": ["1-2", "1", "2", "3"], "FORM": ["a", "x", "y", "b"]}, True),
        ({"ID": ["1-2", "1", "2", "3"], "FORM": ["z", "x", "y", "b"]}, False),
        ({"ID": ["1-2", "1", "3", "3"], "FORM": ["a", "x", "y", "b"]}, False),
        ({"ID": ["0.1", "1", "2"], "FORM": ["_", "a", "b"], "MISC": ["_", "_", "A"]}, True),
        ("x", False),
        ({}, False),
    ],
)
def test_columns_that_fit_are_written_as_such(
    meta: Any, is_in_columns: bool, tmp_path: Path
) -> None:
    entities = (Entity(0, 1, "X"), Entity(2, 3, "Y"))
    document = Document("a b", entities, "", ((0, 1), (2, 3)), {"columns": meta})
    path = tmp_path / "a.conllup"
    save_documents(path, [document])
    assert ("nertune" not in path.read_text(encoding="utf-8")) == is_in_columns
    (again,) = load_corpus(path).documents
    assert (again.meta, again.entities, again.text) == (document.meta, entities, "a b")


def test_spaces_and_texts(tmp_path: Path) -> None:
    head = "# global.columns = ID FORM MISC NER\n"
    rows = "1\ta\tSpaceAfter=No\tB-X\n2\tb\t_\tI-X\n3\tc\tSpacesAfter=\\n\tO\n"
    for text, expected, notice in (
        ("ab c", "ab c", ""),
        ("a b  c", "a b  c", "1 sentences whose '# text' has other spaces than SpaceAfter says"),
        ("ab cd", "ab c", "1 sentences whose '# text' is not made of their words"),
        ("", "ab c", "1 sentences whose '# text' is not made"),
    ):
        corpus = load(tmp_path / "a", f"{head}# text = {text}\n{rows}")
        assert corpus.documents[0].text == expected
        told = [n for n in corpus.notices if "# text" in n]
        assert (told[0][: len(notice)] if told else "") == notice
        assert "1 sentences with white space at their ends in MISC, which is not read" in (
            corpus.notices
        )
    spaced = "1\ta\tSpacesAfter=\\s\\s\\p\\\\t\tO\n2\tb\tSpacesBefore=\\t\tO\n"
    assert load(tmp_path / "a", head + spaced).documents[0].text == "a  |\\t\tb"
    parted = "1  a  _  B-X\n2  b c  _  O\n"
    corpus = load(tmp_path / "a", head + parted)
    assert corpus.documents[0].text == "a b c"
    assert "2 lines have spaces between columns, not TABs alone" in corpus.notices


def test_which_column_holds_the_entities(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for names, notice in (
        ("ID FORM X:NE", "entities are read from X:NE"),
        ("id form tags", "entities are read from TAGS"),
    ):
        corpus = load(path, f"# global.columns = {names}\n1\ta\tB-X\n2\tb\tO\n")
        assert corpus.num_entities == 1
        assert notice in corpus.notices
    several = "# global.columns = ID FORM NER NER:2\n1\ta\tB-X\tO\n2\tb\tI-X\tB-Y\n"
    with pytest.raises(DataError, match="may stand in A:NER and B:NER: say which with the option"):
        load(path, several.replace("NER NER:2", "A:NER B:NER"))
    none = load(path, "# global.columns = ID FORM UPOS\n1\ta\tX\n")
    assert "no entities: none of ID, FORM, UPOS holds tags" in none.notices
    more = {"column": "ner, ner:2"}
    both = load(path, several, more=more)
    assert found(both.documents[0]) == [("a b", "X"), ("b", "Y")]
    for wrong in ("LEMMA", "UPOS:x", "NER:x"):
        with pytest.raises(ConfigError, match="expected one of ID, FORM, NER, NER:2, or MISC:KEY"):
            load(path, several, more={"column": wrong})
    with pytest.raises(ConfigError, match="it has: column"):
        load(path, several, more={"columns": "NER"})
    plain = load(path, "# global.columns = FORM NER\n#\tB-X\n# \tO\n")
    assert found(plain.documents[0]) == [("#", "X")]


def test_entities_in_misc(tmp_path: Path) -> None:
    path = tmp_path / "a"
    text = TEN.format(1, "Ana", "NER=B-PER|SpaceAfter=No") + TEN.format(2, "!", "X=1")
    corpus = load(path, text)
    assert corpus.reason == "its lines are the ten columns of CoNLL-U"
    assert found(corpus.documents[0]) == [("Ana", "PER")]
    assert corpus.documents[0].meta == {"columns": {"MISC": ["_", "X=1"]}}
    assert "entities are read from MISC:NER" in corpus.notices
    both = text.replace("X=1", "name=O")
    with pytest.raises(DataError, match="may stand in MISC:NER and MISC:name"):
        load(path, both)
    assert load(path, both, more={"column": "MISC:name"}).num_entities == 0
    other = load(path, text.replace("B-PER", "P_1"))
    assert "NER= in MISC is not read: its values are no tags" in other.notices
    token = (  # a tag on a token of two words alone
        TEN.format("1-2", "al", "ner=B-X") + TEN.format(1, "a", "_") + TEN.format(2, "el", "_")
        + TEN.format(3, "b", "ner=I-X")
    )  # fmt: skip
    assert found(load(path, token).documents[0]) == [("al b", "X")]
    inner = (
        TEN.format("1-2", "al", "_") + TEN.format(1, "a", "ner=O") + TEN.format(2, "el", "ner=B-X")
        + TEN.format(3, "b", "ner=I-X")
    )  # fmt: skip
    widened = load(path, inner)
    assert found(widened.documents[0]) == [("al b", "X")]
    assert any("1 entities that begin or end inside a multiword" in n for n in widened.notices)


def test_brackets(tmp_path: Path) -> None:
    cells = [
        "Entity=(e1-person-1-a-b(e2-place-1)", "Entity=e1)|Gloss=x", "Entity=(e3-org[1/2]-1)",
        "Entity=(e4-time(e5-_)", "Entity=(e3-org[2/2]-1)e4)e9)", "Entity=(e6-org",
    ]  # fmt: skip
    rows = [TEN.format(n, f"w{n}", cell) for n, cell in enumerate(cells, 1)]
    rows.insert(1, TEN.format("1.1", "_", "Entity=(e7-person-)"))
    head = "# global.Entity = eid-etype-head-other\n"
    corpus = load(tmp_path / "a", head + "".join(rows) + "\n" + TEN.format(1, "x", "Entity=e6)"))
    one, two = corpus.documents
    assert found(one) == [
        ("w1", "place"), ("w1 w2", "person"), ("w3 … w5", "org"), ("w4 w5", "time")
    ]  # fmt: skip
    assert two.entities == ()
    assert one.meta["columns"]["MISC"] == ["_", "_", "Gloss=x", *["_"] * 4]
    assert set(corpus.notices) == {
        "entities are read from MISC:Entity",
        "1 mentions without a type, which are not read",
        "1 mentions of empty nodes alone, which are not read",
        "1 closing brackets without an opening one, which are skipped",
        "1 mentions that go over the end of a sentence, which are not read",
    }
    untyped = load(tmp_path / "a", TEN.format(1, "x", "Entity=(1)"))
    assert untyped.num_entities == 0
    assert "1 sentences with Entity= of which no '# global.Entity' names the type" in (
        untyped.notices
    )


def test_a_file_without_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.conllu", "1\ta\tX\tB-P\t_\n2\tb\tX\tO\tSpaceAfter=No\n3\t.\tX\tO\t_\n"
    )
    corpus = load_corpus(path)
    assert corpus.documents[0].text == "a b."
    assert corpus.num_entities == 1
    assert corpus.notices[0] == (
        "no line names the columns, which are taken for 1 ID, 2 FORM, 3 COLUMN3, 4 NER, 5 MISC"
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("1\ta\n", 2, "expected 3 columns with TABs between, got 2: '1"),
        ("1\t\tO\n", 2, "column 2 is empty"),
        ("x\ta\tO\n", 2, "expected an id such as 3, 3-4 or 3.1, got 'x'"),
        ("1-2\ta\tO\n1\tb\tO\n\n", 3, "expected word 2 of the range before, but"),
        ("1-2\ta\tO\n2\tb\tO\n", 3, "expected word 1 of the range before, got 2"),
        ("2-1\ta\tO\n", 2, "the range 2-1 is not in order"),
        ("1-3\ta\tO\n2-3\ta\tO\n", 3, "begins inside another one"),
        ("1.1\ta\tO\n", 2, "the sentence has no word"),
        ("1\ta\tB-X\n2\tb\tY\n", 3, "tag 'Y' has no prefix"),
    ],
)
def test_what_is_refused(text: str, line: int, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a", "# global.columns = ID FORM NER\n" + text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_corpus(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# global.columns = ID NER\n1\tO\n", "the column FORM is missing"),
        ("# global.columns = ID FORM form\n", "a column is named twice"),
        ("# global.columns = ID FORM\n\n# x\n", "the file holds no sentence"),
    ],
)
def test_headers_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_corpus(write(tmp_path / "a", text))


def test_what_does_not_fit() -> None:
    format, options = ConlluPlus(), WriteOptions()
    document = Document("a b", (Entity(0, 1, "X Y"),), "", ((0, 1), (1, 2), (2, 3)))
    fitted = format.fit(document, options)
    assert [loss.kind for loss in fitted.losses] == ["tokens", "entity"]
    assert fitted.document is not None
    assert fitted.document.tokens == ((0, 1), (2, 3))
    assert format.fit(Document("\0"), options).document is None
    assert format.fit(Document("a"), options).document is None
    null = format.fit(Document("a", (), "", ((0, 1),), {"document": None}), options)
    assert [loss.kind for loss in null.losses] == ["metadata"]
    neighbours = (Entity(0, 1, "X"), Entity(2, 3, "X"))
    one = format.fit(Document("a b", neighbours, "", ((0, 1), (2, 3))), WriteOptions(scheme="IO"))
    assert [loss.reason for loss in one.losses] == ["scheme IO cannot keep it apart"]
    for bad in (
        Document("ab", (Entity(0, 1, "X"),), "", ((0, 2),)),
        Document("ab", (Entity(0, 1, "X"), Entity(0, 1, "Y")), "", ((0, 1),)),
        Document("ab", (Entity(0, 2, "X Y"),), "", ((0, 2),)),
        Document(" ", (), "", ((0, 1),)),
        Document("ab"),
    ):
        with pytest.raises(DataError, match="cannot be written as CoNLL-U Plus"):
            format.write([bad], io.StringIO(), options)
    wide = io.StringIO()
    format.write(
        [Document("ab", (Entity(0, 1, "X"),), "", ((0, 2),))], wide, WriteOptions(misfit="widen")
    )
    assert "1\tab\t_\tB-X" in wide.getvalue()


def test_no_other_format_claims_such_a_file(tmp_path: Path) -> None:
    files = [
        tabs(PLUS),
        "# global.columns = ID FORM NER\n1\ta\tB-X\n2\tb\tO\n",
        "# global.columns = FORM NER\na\tB-X\nb\tO\n",
        TEN.format(1, "a", "_") + TEN.format(2, "O", "SpaceAfter=No"),
    ]
    for text in files:
        seen = Source(write(tmp_path / "a", text)).glimpse()
        claims = [f.name for f in all_formats() if f.reads and f.recognise(seen)]
        assert claims == ["conllu-plus"], text
    for text in ("a\tB-X\nb\tO\n", TEN.format(1, "a", "B-X") + TEN.format(2, "b", "O")):
        assert ConlluPlus().recognise(Source(write(tmp_path / "a", text)).glimpse()) is None


@given(st.binary(max_size=80) | st.text('1-2.3ab\t\n#=_BIO|\\ {}"').map(str.encode))
def test_damaged_files_are_read_or_refused(data: bytes) -> None:
    for head in (b"# global.columns = ID FORM MISC NER\n1\ta\t_\tO\n", b""):
        try:
            documents = list(
                ConlluPlus().read(Source(Path("a"), head + data), ReadOptions(), Findings())
            )
        except DataError:
            continue
        assert documents


def test_real_files(real_data: Path) -> None:
    folder = real_data / "formats" / "conllu_plus"
    counts = {
        "train.conllup": (5, 14),
        "train.conllu": (4, 11),
        "universal_dependencies.conllu": (1, 0),
    }
    for name, expected in counts.items():
        corpus = load_corpus(folder / name)
        assert (corpus.format, len(corpus.documents), corpus.num_entities) == (
            "conllu-plus",
            *expected,
        )
        for document, text in zip(
            corpus.documents, re.findall("# text = (.*)", (folder / name).read_text()), strict=True
        ):
            assert document.text == text


CELL = st.text(st.sampled_from("ab明é👩-:"), min_size=1, max_size=4)


@given(st.data())
def test_the_conllu_library_reads_and_writes_the_same(data: st.DataObject) -> None:
    conllu = pytest.importorskip("conllu")
    words = data.draw(st.lists(CELL, min_size=1, max_size=5))
    gaps = data.draw(st.lists(st.sampled_from(["", " ", "  ", "\t\n"]), min_size=len(words)))
    text, tokens = "", []
    for word, gap in zip(words, gaps, strict=False):
        text += gap if text else ""
        tokens.append((len(text), len(text) + len(word)))
        text += word
    start = data.draw(st.integers(0, len(tokens) - 1))
    entity = Entity(tokens[start][0], tokens[-1][1], "X")
    columns = {"UPOS": ["NOUN"] * len(words), "HEAD": ["0"] * len(words)}
    meta = {"id": "s", "document": "d", "columns": columns, "k": "v w", "page": [1]}
    document = Document(text, (entity,), "s", tuple(tokens), meta)
    stream = io.StringIO()
    ConlluPlus().write([document, document], stream, WriteOptions())

    theirs = conllu.parse(stream.getvalue())
    assert len(theirs) == 2
    for sentence in theirs:
        assert [token["form"] for token in sentence] == words
        assert [token["upos"] for token in sentence] == columns["UPOS"]
        assert [token["ner"] for token in sentence] == [
            "O" if i < start else "B-X" if i == start else "I-X" for i in range(len(words))
        ]
        assert (sentence.metadata["sent_id"], sentence.metadata["k"]) == ("s", "v w")
        assert json.loads(sentence.metadata["nertune"]) == {"meta": {"page": [1]}}
    assert theirs[0].metadata["newdoc id"] == "d"
    header = stream.getvalue().split("\n", 1)[0]
    written = header + "\n" + "".join(
        s.serialize().replace(header + "\n", "") for s in theirs
    )  # fmt: skip
    again = list(ConlluPlus().read(Source(Path("a"), written.encode()), ReadOptions(), Findings()))
    assert [(d.text, d.entities, d.tokens, d.meta) for d in again] == [
        (text, document.entities, document.tokens, meta)
    ] * 2
