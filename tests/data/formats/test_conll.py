"""Two-column CoNLL: round trips, decisions said aloud, what cannot be written."""

from __future__ import annotations

from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nertune.data.corpus import load_corpus, load_with, save_corpus, save_documents, save_with
from nertune.data.formats import conll
from nertune.data.formats.base import Findings, ReadOptions, Source, WriteOptions
from nertune.data.formats.conll import ConllStyle
from nertune.data.formats.registry import find_format
from nertune.data.formats.values import TagRepair
from nertune.errors import ConfigError, DataError
from nertune.labels.schemes import SCHEMES
from nertune.types import Document, Entity

NAME = Path("x.conll")
STYLES = [
    ConllStyle(scheme, separator, mark, newline, final_newlines)
    for scheme, separator, mark, newline, final_newlines in [
        ("BIO", "\t", "-", "\n", 2),
        ("BIO", " ", "-", "\r\n", 1),
        ("IOB1", "\t", "_", "\n", 0),
        ("BIOES", " ", "-", "\n", 2),
        ("BIOS", "\t", "-", "\n", 2),
        ("BMES", " ", "-", "\n", 1),
        ("BILOU", "\t", "_", "\r\n", 2),
    ]
]


def tokens(separator: str) -> st.SearchStrategy[str]:
    """Any token that a file with this separator can hold."""
    anything = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\n\0" + separator), min_size=1
    )
    awkward = st.sampled_from(
        [
            "\u3000",
            "\xa0",
            "\u2028",
            "\x85",
            "\x1c",
            "\x0b",
            "\r",
            "\ufeff",
            "#",
            "O",
            "👩‍👩‍👧",
            "e\u0301",
        ]
    )
    blank = st.sampled_from([" ", "  "] if separator == " " else [" ", " x "])
    return st.one_of(anything, awkward, blank).filter(lambda token: token != "-DOCSTART-")


@st.composite
def corpora(draw: st.DrawFn) -> tuple[ConllStyle, str, list[Document]]:
    """A layout, what joins tokens, and documents that the layout can hold."""
    style, glue = draw(st.sampled_from(STYLES)), draw(st.sampled_from(["", " "]))
    documents = []
    for words in draw(st.lists(st.lists(tokens(style.separator), min_size=1), min_size=1)):
        spans, offset = [], 0
        for word in words:
            spans.append((offset, offset + len(word)))
            offset += len(word) + len(glue)
        cuts = draw(st.lists(st.integers(0, len(words)), unique=True).map(sorted))
        entities = [
            Entity(
                spans[first][0], spans[last - 1][1], draw(st.sampled_from(["PER", "组织", "a-b"]))
            )
            for first, last in pairwise(cuts)
            if draw(st.booleans())
        ]
        documents.append(Document(glue.join(words), tuple(entities), tokens=tuple(spans)))
    return style, glue, documents


@given(corpora())
@example((STYLES[0], "", [Document("\ufeffa", tokens=((0, 1), (1, 2)))]))
@example((STYLES[3], "", [Document("\t ", tokens=((0, 1), (1, 2)))]))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, corpus: tuple[ConllStyle, str, list[Document]]
) -> None:
    style, glue, documents = corpus
    folder = tmp_path_factory.getbasetemp()
    path, again = folder / "round.conll", folder / "again.conll"
    with path.open("w", encoding="utf-8", newline="") as stream:
        conll.write(stream, documents, style=style)
    has_entities = any(document.entities for document in documents)
    read = load_corpus(path, scheme=style.scheme, join="space" if glue else "none", strict=True)
    assert read.repairs == ()
    for got, expected in zip(read.documents, documents, strict=True):
        assert (got.text, got.entities) == (expected.text, expected.entities)
        assert got.tokens == expected.tokens
    assert read.style is not None
    assert read.style.separator == style.separator
    if has_entities:
        assert read.style.mark == style.mark
        recognised = load_corpus(path, join="space" if glue else "none")
        assert [d.entities for d in recognised.documents] == [d.entities for d in documents]
    save_corpus(again, read)
    assert again.read_bytes().removeprefix(b"\xef\xbb\xbf") == path.read_bytes().removeprefix(
        b"\xef\xbb\xbf"
    )


class File:
    """What is read of a file with this content."""

    def __init__(self, text: str, options: ReadOptions):
        file = conll.ConllFile(Source(NAME, text.encode()), options)
        self.documents = tuple(file.documents())
        self.notices, self.repairs = file.notices, file.repairs
        self.style, self.join = file.style, file.join


def read(text: str, **options: str) -> File:
    return File(text, ReadOptions(**options))  # type: ignore[arg-type]


def test_ids_name_the_line_of_the_first_token() -> None:
    file = read("\n\na O\nb O\n\n\nc O\n")
    assert [document.id for document in file.documents] == ["x.conll:3", "x.conll:7"]


def test_offsets_count_code_points() -> None:
    (document,) = read("𠮷\tB-PER\n野\tI-PER\n👩‍👩‍👧\tO\n京\tB-LOC\n", join="none").documents
    assert [document.surface(e) for e in document.entities] == ["𠮷野", "京"]
    assert document.entities[1] == Entity(7, 8, "LOC")


@pytest.mark.parametrize(
    ("text", "join"),
    [
        ("北 O\n京 O\n", "none"),
        ("Beijing O\nis O\n", "space"),
        ("北 O\n京 O\n我 O\n爱 O\nBeijing O\n", "none"),  # exactly 80 %
        ("北 O\n京 O\n我 O\nBeijing O\n", "space"),
    ],
)
def test_character_level_data_joins_without_a_space(text: str, join: str) -> None:
    file = read(text)
    assert file.join == join
    assert any(notice.startswith("tokens joined with") for notice in file.notices)
    assert read(text, join="none").join == "none"
    assert read(text, join="space").join == "space"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_recognised_scheme_is_said_and_can_be_overridden(scheme: str) -> None:
    tags = {
        "BIO": "B-A I-A O",
        "IOB1": "I-A I-A O",
        "BIOES": "B-A E-A O",
        "BIOS": "B-A I-A S-A",
        "BMES": "B-A M-A E-A",
        "BILOU": "B-A L-A O",
        "IO": "A A O",
    }[scheme]
    text = "".join(f"x\t{tag}\n" for tag in tags.split())
    assert f"scheme {scheme} recognised" in read(text).notices
    overridden = read(text, scheme=scheme)
    assert overridden.style.scheme == scheme
    assert not any("recognised" in notice for notice in overridden.notices)
    assert overridden.documents == read(text).documents


def test_orphan_tags_are_repaired_counted_and_listed() -> None:
    file = read("a B-X\nb O\n\nc I-X\nd I-Y\n")
    assert [e.key for e in file.documents[1].entities] == [(0, 1, "X"), (1, 2, "Y")]
    reason = "nothing opened this entity"
    assert file.repairs == [TagRepair(4, "I-X", reason), TagRepair(5, "I-Y", reason)]
    assert "2 tags repaired as conlleval does (first: line 4, I-X: " + reason + ")" in file.notices


def test_strict_refuses_them() -> None:
    with pytest.raises(DataError, match=r"^x\.conll:4: tag 'I-X': nothing opened this entity"):
        File("a B-X\nb O\n\nc I-X\n", ReadOptions(strict=True))


def test_docstart_lines_are_skipped_and_counted() -> None:
    file = read("-DOCSTART- -X- O O\n\na O\n-DOCSTART-\nb O\n-DOCSTART- O\n")
    assert [document.text for document in file.documents] == ["a", "b"]
    assert "3 -DOCSTART- lines skipped" in file.notices
    assert [document.meta for document in file.documents] == [{"document": 1}, {"document": 2}]
    # A single one says nothing of borders: the rest of the file may hold many documents.
    top = read("-DOCSTART- O\n\na O\n\nb O\n")
    assert [document.meta for document in top.documents] == [{}, {}]


@pytest.mark.parametrize("name", ["scheme", "join"])
def test_an_unknown_choice_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}='IOB2' is unknown, expected one of auto"):
        read("a O\n", **{name: "IOB2"})


FIVE = "-DOCSTART- -X- -X- -X- O\n\n# comment\n王 a b c B-PER\n明 a b c I-PER\n# a b c O\n\n"
LABEL_OF_WORDS = "1\t王 a\tB-geo loc\n2\t明\tI-geo loc\n3\t来\tO\n"
BY_TAB = "1\t王\tx\tB-PER\tO\n2\t明 x\tx\tI-PER\tO\n\n1\t#\tx\tO\tO\n"


@pytest.mark.parametrize(
    ("text", "columns", "tokens", "entities", "said"),
    [
        (FIVE, "", ["王明#"], ["王明"], "columns 1 (token) and 5 (tag) of 5 are read"),
        (BY_TAB, "", ["王明 x", "#"], [], "columns 2 (token) and 5 (tag) of 5 are read"),
        (BY_TAB, "1,3", ["王明 x", "#"], ["王明 x"], "columns 2 (token) and 4 (tag) of 5 are read"),
        (BY_TAB, "token=1, tag=-2", ["王明 x", "#"], ["王明 x"], "columns 2 (token) and 4 (tag)"),
        ("a  x   O\nb x B-X\n", "", ["ab"], ["b"], "columns 1 (token) and 3 (tag) of 3 are read"),
        ("a B-X _\nb O _\n", "", ["ab"], ["a"], "columns 1 (token) and 2 (tag) of 3 are read"),
        (LABEL_OF_WORDS, "1,2", ["王 a明来"], ["王 a明"], "columns 2 (token) and 3 (tag) of 3"),
        ("O a\nB-X b\n", "1,0", ["ab"], ["b"], "columns 2 (token) and 1 (tag) of 2 are read"),
    ],
)
def test_more_columns(
    text: str, columns: str, tokens: list[str], entities: list[str], said: str
) -> None:
    more = {"columns": columns} if columns else {}
    file = File(text, ReadOptions(join="none", more=more))
    assert [d.text for d in file.documents] == tokens
    assert [d.surface(e) for d in file.documents for e in d.entities] == entities
    assert any(notice.startswith(said) for notice in file.notices)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("0,9", "the file has columns 0 to 4"),
        ("-6,0", "the file has columns 0 to 4"),
        ("1,1", "names a column twice"),
        ("a,b", "expected e.g. 0,3 or token=0,tag=3"),
    ],
)
def test_columns_that_cannot_be(columns: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"columns='{columns}': {message}"):
        File(FIVE, ReadOptions(more={"columns": columns}))


# Writing


def written(document: Document, **options: object) -> str:
    stream = StringIO()
    conll.write(stream, [document], **options)  # type: ignore[arg-type]
    return stream.getvalue()


def by_space(text: str) -> list[tuple[int, int]]:
    spans, offset = [], 0
    for word in text.split(" "):
        spans.append((offset, offset + len(word)))
        offset += len(word) + 1
    return spans


def test_documents_without_tokens_are_cut_by_the_caller() -> None:
    document = Document("Ann Lee left", (Entity(0, 7, "PER"),))
    assert written(document, tokenize=by_space) == "Ann\tB-PER\nLee\tI-PER\nleft\tO\n\n"
    own = Document("Ann Lee", tokens=((0, 3),))
    assert written(own, tokenize=by_space) == "Ann\tO\n\n"


def test_an_entity_inside_a_token_is_refused_or_widened() -> None:
    document = Document("the Annex of", (Entity(4, 7, "PER"),), id="d7")
    with pytest.raises(DataError, match=r"document d7 .* PER 'Ann' at \[4, 7\) does not begin and"):
        written(document, tokenize=by_space)
    text = written(document, tokenize=by_space, misfit="widen")
    assert text == "the\tO\nAnnex\tB-PER\nof\tO\n\n"


TAB, SPACE, IO = ConllStyle(), ConllStyle(separator=" "), ConllStyle(scheme="IO")


@pytest.mark.parametrize(
    ("document", "style", "fragment"),
    [
        (Document("ab"), TAB, "it has no tokens"),
        (Document("", tokens=()), TAB, "it has no token, and"),
        (Document("a\tb", tokens=((0, 3),)), TAB, r"its token 'a\\tb' holds the separator \(TAB\)"),
        (Document("a b", tokens=((0, 3),)), SPACE, r"holds the separator \(a space\)"),
        (Document("a\nb", tokens=((0, 3),)), TAB, "holds a line end"),
        (Document("a\0b", tokens=((0, 3),)), TAB, "holds a NUL"),
        (Document("\ud800", tokens=((0, 1),)), TAB, "half a surrogate pair"),
        (Document("-DOCSTART-", tokens=((0, 10),)), TAB, "marks the start of a document"),
        (Document("ab", (Entity(0, 1, "a b"),), tokens=((0, 1),)), SPACE, "the label 'a b'"),
        (Document("ab", (Entity(0, 1, "a\n"),), tokens=((0, 1),)), TAB, "the label"),
        (Document("ab", (Entity(0, 1, "O"),), tokens=((0, 1),)), IO, "the label 'O'"),
        (Document("ab", (Entity(0, 1, " x"),), tokens=((0, 1),)), TAB, "the label ' x'"),
        (Document("a b", (Entity(1, 2, "X"),), tokens=((0, 1), (2, 3))), TAB, "does not begin"),
        (
            Document(
                "abc", (Entity(0, 2, "X"), Entity(1, 3, "Y")), tokens=((0, 1), (1, 2), (2, 3))
            ),
            TAB,
            "Y 'bc' overlaps",
        ),
        (
            Document("ab", (Entity(0, 1, "X"), Entity(0, 1, "Y")), tokens=((0, 1), (1, 2))),
            TAB,
            "Y 'a' overlaps",
        ),
        (
            Document("ab", (Entity(0, 1, "X"), Entity(1, 2, "X")), tokens=((0, 1), (1, 2))),
            IO,
            "scheme IO cannot keep two X entities apart",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_refused(
    document: Document, style: ConllStyle, fragment: str
) -> None:
    with pytest.raises(DataError, match="cannot be written as two columns: ") as caught:
        written(document, style=style)
    assert caught.match(fragment)


def test_widening_that_makes_entities_overlap_is_refused() -> None:
    document = Document("Annex", (Entity(0, 2, "X"), Entity(3, 5, "Y")))
    with pytest.raises(DataError, match="overlaps"):
        written(document, tokenize=by_space, misfit="widen")


def test_nothing_written_for_no_document(tmp_path: Path) -> None:
    save_documents(tmp_path / "none.conll", [])
    assert (tmp_path / "none.conll").read_bytes() == b""


GERMEVAL = """\
#\thttp://example.org/a\t[2009-08-13]
1\tTU\tB-ORG\tO
2\tHamburg\tI-ORG\tB-LOC
3\tund\tO\tO

1\tHamburg\tB-LOC\tO
"""


def test_two_tag_columns_are_layers(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(GERMEVAL, encoding="utf-8")
    corpus = load_corpus(path)
    assert "columns 2 (token) and 3 (tag) and 4 (tag) of 4 are read" in corpus.notices
    found = [[(d.surface(e), e.label) for e in d.entities] for d in corpus.documents]
    assert found == [[("TU Hamburg", "ORG"), ("Hamburg", "LOC")], [("Hamburg", "LOC")]]
    save_corpus(tmp_path / "b.conll", corpus)
    written = (tmp_path / "b.conll").read_text(encoding="utf-8").splitlines()
    assert written[1] == "Hamburg\tI-ORG\tB-LOC"
    how = ReadOptions(more={"columns": "0,1,2"})
    again = load_with(tmp_path / "b.conll", how)
    assert [d.entities for d in again.documents] == [d.entities for d in corpus.documents]
    one = load_with(path, ReadOptions(more={"columns": "token=1,tag=3"}))
    assert [len(d.entities) for d in one.documents] == [1, 0]
    for wrong in ("1,2,2", "1,2,7", "1,2,x"):
        with pytest.raises(ConfigError, match="columns="):
            load_with(path, ReadOptions(more={"columns": wrong}))


def test_layers_are_written_and_what_has_none_is_listed(tmp_path: Path) -> None:
    entities = (Entity(0, 6, "A"), Entity(0, 3, "B"), Entity(2, 6, "C"), Entity(2, 3, "D"))
    document = Document("abcdef", entities, tokens=tuple((i, i + 1) for i in range(6)))
    options = WriteOptions(more={"layers": "2"})
    fitted = find_format("conll").fit(document, options)
    assert [(loss.entity.label, loss.reason) for loss in fitted.losses if loss.entity] == [
        ("B", "it overlaps an entity in each of 2 layers"),
        ("D", "it overlaps an entity in each of 2 layers"),
    ]
    assert fitted.document is not None
    save_with(tmp_path / "a.conll", [fitted.document], options, format="conll")
    again = load_with(tmp_path / "a.conll", ReadOptions(join="none", more=options.more))
    assert again.documents[0].entities == fitted.document.entities
    with pytest.raises(DataError, match="overlaps"):
        save_with(tmp_path / "b.conll", [document], options, format="conll")
    for wrong in ("0", "10", "x"):
        with pytest.raises(ConfigError, match="layers="):
            find_format("conll").fit(document, WriteOptions(more={"layers": wrong}))


def test_commas_between_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('王,B-PER\n明,I-PER\n",",O\n,,O\n京,B-LOC\n\n来,O\n', encoding="utf-8")
    corpus = load_corpus(path, format="conll")
    assert "columns 1 (token) and 2 (tag) of 2 are read with commas between" in corpus.notices
    assert [d.text for d in corpus.documents] == ["王明,,京", "来"]
    assert [e.label for e in corpus.documents[0].entities] == ["PER", "LOC"]


def test_borders_of_documents_come_back(tmp_path: Path) -> None:
    text = "-DOCSTART- O\n\na O\n\nb O\n\n-DOCSTART- O\n\nc B-X\n"
    (tmp_path / "a.conll").write_text(text, encoding="utf-8")
    corpus = load_corpus(tmp_path / "a.conll")
    assert [d.meta for d in corpus.documents] == [{"document": n} for n in (1, 1, 2)]
    save_corpus(tmp_path / "b.conll", corpus)
    assert (tmp_path / "b.conll").read_text(encoding="utf-8") == text
    named = [Document("a", id="x", tokens=((0, 1),), meta={"document": d}) for d in ("n", "n", "m")]
    fitted = find_format("conll").fit(named[0], WriteOptions())
    assert (fitted.document, fitted.losses) == (named[0], ())
    save_documents(tmp_path / "c.conll", named)
    again = load_corpus(tmp_path / "c.conll")
    assert [d.meta["document"] for d in again.documents] == [1, 1, 2]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_a_file_of_one_token_that_looks_like_a_comment(separator: str, tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(f"#{separator}O\n\n", encoding="utf-8")
    assert [d.text for d in load_corpus(tmp_path / "a.conll").documents] == ["#"]


def test_one_line_longer_than_a_csv_field(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("王" * 200_000 + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected 2 columns"):
        load_corpus(tmp_path / "a.conll")


@pytest.mark.parametrize("tag", ["X", "-", "_", "BX"])
def test_a_tag_that_is_not_in_the_scheme_that_was_asked_for_is_refused(tag: str) -> None:
    with pytest.raises(DataError, match=r"x\.conll:1: tag .* is not in scheme BIO"):
        read(f"a {tag}\nb O\n", scheme="BIO")


def test_repairs_of_layers_are_counted_apart() -> None:
    text = "1\ta\tI-A\tI-B\n2\tb\tO\tO\n\n1\tc\tI-A\tI-A\n"
    findings = Findings()
    source = Source(NAME, text.encode())
    list(find_format("conll").read(source, ReadOptions(scheme="BIO"), findings))
    told = [notice for notice in findings.notices if "repaired" in notice]
    assert [notice.partition(" ")[0] for notice in told] == ["2", "2"]
    assert [repair.tag for repair in findings.repairs] == ["I-A", "I-A", "I-B", "I-A"]
