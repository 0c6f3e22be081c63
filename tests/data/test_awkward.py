"""Awkward files: each loads with a stated result, or its error names the file and the line."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data.corpus import Corpus, load_corpus, save_corpus
from nertune.errors import DataError


@dataclass(frozen=True)
class Bad:
    """A file that must be refused: its name, bytes, the line blamed, part of the message."""

    case: str
    name: str
    data: bytes
    line: int | None
    fragment: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Good:
    """A file that must load: texts, and surfaces with labels over all documents."""

    case: str
    name: str
    data: bytes
    texts: list[str]
    entities: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    notice: str = ""


def conll(case: str, text: str, line: int | None, fragment: str, **options: Any) -> Bad:
    return Bad(case, "a.conll", text.encode(), line, fragment, options)


def jsonl(case: str, text: str, line: int | None, fragment: str) -> Bad:
    return Bad(case, "a.jsonl", text.encode(), line, fragment)


FIVE = "EU NNP B-NP x B-ORG\n"
OK = '{"text": "abc", "entities": []}\n'


def entity(span: str) -> str:
    """A second line with this entity."""
    return OK + '{"text": "abc", "entities": [' + span + "]}\n"


BAD = [
    # the file as a whole
    Bad("empty", "a.conll", b"", None, "the file is empty: it holds no sentence"),
    Bad("empty JSONL", "a.jsonl", b"", None, "the file is empty"),
    Bad("only a BOM", "a.conll", b"\xef\xbb\xbf", None, "holds no sentence"),
    Bad("only blank lines", "a.conll", b"\n \n\t\n\r\n", None, "holds no sentence"),
    Bad("only blank lines, JSONL", "a.jsonl", b"\n\n", None, "holds no sentence"),
    Bad("only -DOCSTART-", "a.conll", b"-DOCSTART- O\n\n", None, "holds no sentence"),
    Bad("UTF-16", "a.conll", "a O\n".encode("utf-16"), None, "got UTF-16 text: convert"),
    Bad("UTF-16 BE", "a.conll", b"\xfe\xff\0a\0 \0O", None, "got UTF-16 text"),
    Bad(
        "UTF-16 without BOM",
        "a.conll",
        "a O\n".encode("utf-16-le"),
        1,
        "or UTF-16 text without a mark",
    ),
    Bad("UTF-32", "a.conll", "a O\n".encode("utf-32"), None, "got UTF-32 text"),
    Bad("GB18030", "a.conll", "a O\n王 O\n".encode("gb18030"), 2, "byte 1 of this line (0xCD)"),
    Bad("invalid UTF-8", "a.conll", b"a O\n\nbc\xff O\n", 3, "byte 3 of this line (0xFF) is not"),
    Bad("invalid UTF-8, JSONL", "a.jsonl", b'{"text": "\xe4"}', 1, "byte 11 of this line (0xE4)"),
    Bad("cut UTF-8", "a.conll", "a O\n王".encode()[:-1], 2, "byte 1 of this line (0xE7)"),
    Bad("binary", "a.conll", b"a O\nb\0 O\n", 2, "byte 2 of this line is NUL"),
    Bad("PNG", "a.conll", b"\x89PNG\r\n\x1a\n\0\0", 1, "is the file binary"),
    Bad("ZIP", "a.conll", b"PK\x03\x04....", None, "a ZIP archive"),
    Bad(
        "gzip without .gz",
        "a.conll",
        gzip.compress(b"a O\n", mtime=0),
        None,
        "give it a name that ends",
    ),
    Bad("empty .gz", "a.conll.gz", b"", None, "the file is empty"),
    Bad(".gz of nothing", "a.conll.gz", gzip.compress(b"", mtime=0), None, "the file is empty"),
    Bad(
        "truncated gzip",
        "a.conll.gz",
        gzip.compress(b"a O\n" * 99, mtime=0)[:-9],
        None,
        "cut short",
    ),
    Bad("not gzip", "a.conll.gz", b"a O\n", None, "ends in .gz, but it is not gzip data"),
    Bad("error in .gz", "a.conll.gz", gzip.compress(b"a O\nb\n", mtime=0), 2, "expected 2 columns"),
    # columns
    conll("one column", "a O\n\nb\n", 3, "expected 2 columns (token, tag) with a space between"),
    conll("one column, first", "a\nb O\n", 1, "expected 2 columns"),
    conll("a line of U+3000", "a\tO\n\u3000\n", 2, "got 1: '\\u3000'"),
    conll("five columns and two", FIVE + "a O\n", 1, "got 5 in 'EU NNP B-NP x B-ORG'; if all"),
    conll("five columns: what to do", FIVE + "a O\n", 1, "set the option columns to 0,4"),
    conll(
        "five and four columns",
        FIVE * 60 + "a b c O\n",
        61,
        "got 4 columns in 'a b c O', expected 5, as in line 1",
    ),
    conll("five and four by TAB", "a\tb\tO\n" * 60 + "a\tO\n", 61, "got 2 columns in"),
    conll("no column of tags", "aa bb cc\ndd ee ff\n", 1, "set the option columns to 0,2"),
    conll("three columns later", "a\tO\nb\tO\tO\n", 2, "got 3 in 'b\\tO\\tO'"),
    conll(
        "TAB file, spaced line", "a\tO\nb O\n", 2, "expected TAB between token and tag, as line 1"
    ),
    conll("spaced file, TAB line", "a O\nb\tO\n", 2, "as line 1 has it, got TAB in 'b\\tO'"),
    conll("aligned columns", "EU   O\nx O\n", 1, "squeeze them with sed -E"),
    conll("comment in a sentence", "a O\n# a = b c\n", 2, "stands before a sentence; remove"),
    conll("hashtag without a tag", "#x\na O\n", 1, "a comment begins with '# '"),
    conll("no tag", "a\tO\nb\t\n", 2, "ends in TAB, so its tag is empty"),
    conll("no token", "a\tO\n\tO\n", 2, "begins with TAB, so its token is empty"),
    conll("no token, space", "a O\n O\n", 2, "begins with a space, so its token is empty"),
    conll("old Mac line ends", "a O\rb O\rc O\r", 1, "a carriage return stands inside"),
    conll("lone CR inside a tag", "a\tB-X\rb\n", 1, "white space in or around the tag 'B-X\\rb'"),
    conll("long line", "a O\n" + "x" * 100_000 + "\n", 2, f"got 1: '{'x' * 40}'…"),
    # tags
    conll("unknown prefix", "a B-X\n\nb O\nc X-PER\n", 4, "tag 'X-PER' has no prefix, others do"),
    conll("prefix without type", "a B-X\nb I-\n", 2, "tag 'I-' has no prefix"),
    conll("mixed schemes", "a B-X\nb I-X\n\nc S-X\nd U-X\n", 5, "mixes schemes"),
    conll("S alone", "a O\nb S\n", 2, "tag 'S' is not in a known scheme"),
    conll("lower case, no B or I", "a O\nb e-mail\n", 2, "tag 'e-mail' is not in a known scheme"),
    conll("prefix behind, no B or I", "a O\nb PER-S\n", 2, "tag 'PER-S' is not in a known"),
    conll("slash items, no tag", "a/O b/O\n" * 50 + "\n\na/O /O\n", 53, "expected token/TAG, got"),
    conll("columns swapped", "O a\nB-PER b\nO c\n", 1, "no tag is O and none has a prefix"),
    conll("other scheme said", "a B-X\nb I-X\n", 2, "'I-X' is not in scheme BMES", scheme="BMES"),
    conll("IO, said BIO", "a O\nb PER\n", 2, "'PER' is not in scheme BIO", scheme="BIO"),
    conll(
        "orphan, strict", "a O\nb I-X\nc O\nd B-X\n", 2, "strict reading refuses it", strict=True
    ),
    conll("not closed, strict", "a B-X\nb O\nc S-X\n", 1, "is not closed", strict=True),
    conll("blank before a tag", "a\tO\nb\t B-X\n", 2, "white space in or around the tag ' B-X'"),
    conll("U+3000 behind a tag", "a\tO\nb\tB-X\u3000\n", 2, "white space in or around the tag"),
    # JSONL
    jsonl("bad JSON", OK + '{"text": "a"\n', 2, "not JSON (Expecting"),
    jsonl("pretty-printed", '{\n  "text": "a"\n}\n', 1, "objects over several lines: jq"),
    jsonl(
        "array in one line",
        '[{"text": "a"}]\n',
        1,
        "got a list; if the file holds one JSON array: jq -c",
    ),
    jsonl("not an object", OK + "7\n", 2, "expected one JSON object a line"),
    jsonl("deep nesting", OK + "[" * 100_000 + "\n", 2, "cannot be read"),
    jsonl("huge integer", OK + '{"text": "a", "x": ' + "9" * 5000 + "}\n", 2, "cannot be read"),
    jsonl("no text", OK + '{"sentence": "a"}\n', 2, "has no \"text\" (its keys: 'sentence')"),
    jsonl("text is null", OK + '{"text": null}\n', 2, '"text" is null or missing'),
    jsonl("text is a list", OK + '{"text": ["a"]}\n', 2, '"text" is a list, expected a string'),
    jsonl("entities is an object", '{"text": "a", "entities": {}}', 1, '"entities" is an object'),
    jsonl("label is an object later", OK + '{"text": "a", "label": {}}', 2, '"label" is an object'),
    jsonl("key twice", OK + '{"text": "a", "text": "b"}', 2, "'text' stands twice in one object"),
    jsonl("two keys", '{"text": "a", "entities": [], "label": [[0, 1, "X"]]}', 1, "both"),
    jsonl("end too far", entity('[0, 4, "X"]'), 2, '[0, 4, "X"] is out of range: the text has 3'),
    jsonl("negative start", entity('[-1, 2, "X"]'), 2, "is out of range"),
    jsonl("float offset", entity('[0, 2.0, "X"]'), 2, "are not both integers"),
    jsonl("bool offset", entity('[false, true, "X"]'), 2, "are not both integers"),
    jsonl("string offset", entity('["0", "2", "X"]'), 2, "are not both integers"),
    jsonl("missing offset", entity('{"start": 0, "label": "X"}'), 2, "are not both integers"),
    jsonl("empty span", entity('[1, 1, "X"]'), 2, "is empty: expected start < end"),
    jsonl("reversed span", entity('[2, 1, "X"]'), 2, "is reversed: expected start < end"),
    jsonl("two items", entity("[0, 1]"), 2, "expected [start, end, label]"),
    jsonl("four items", entity('[0, 1, "X", 1]'), 2, "expected [start, end, label]"),
    jsonl("entity is a string", entity('"X"'), 2, 'an entity is "X", expected'),
    jsonl("empty label", entity('[0, 1, ""]'), 2, "is an empty string"),
    jsonl("label is null", entity("[0, 1, null]"), 2, "is null or missing"),
    jsonl("bad score", entity('{"start":0,"end":1,"label":"X","score":1.5}'), 2, "from 0 to 1"),
    jsonl("NaN score", entity('{"start":0,"end":1,"label":"X","score":NaN}'), 2, "from 0 to 1"),
    jsonl(
        "other text", entity('{"start":0,"end":1,"label":"X","text":"b"}'), 2, "there stands 'a'"
    ),
    jsonl("lone surrogate", OK + '{"text": "a\\ud83d"}\n', 2, "half a surrogate pair (\\ud83d at"),
    jsonl("lone surrogate in a label", entity('[0, 1, "\\udc00"]'), 2, "a label holds half a"),
]


GOOD = [
    Good("O only", "a.conll", b"a O\nb O\n", ["ab"], notice="scheme BIO recognised"),
    Good("UTF-8 BOM", "a.conll", "\ufeff王 B-X\n".encode(), ["王"], ["王/X"]),
    Good("UTF-8 BOM, JSONL", "a.jsonl", b'\xef\xbb\xbf{"text": "a"}', ["a"]),
    Good("CRLF", "a.conll", b"a\tB-X\r\n\r\nb\tO\r\n", ["a", "b"], ["a/X"]),
    Good("no line end at the end", "a.conll", b"a O\nb B-X", ["ab"], ["b/X"]),
    Good("CR at the very end", "a.conll", b"a O\r\nb B-X\r", ["ab"], ["b/X"]),
    Good("lone CR inside a token", "a.conll", b"a\rb\tB-X\n", ["a\rb"], ["a\rb/X"]),
    Good("TAB-only blank lines", "a.conll", b"a\tO\r\n\t\r\nb\tO\r\n \t \nc\tO\n", ["a", "b", "c"]),
    Good("many blank lines", "a.conll", b"\n\n\na O\n\n\n\nb O\n\n\n", ["a", "b"]),
    Good("token U+3000", "a.conll", "\u3000\tO\n王\tB-X\n".encode(), ["\u3000王"], ["王/X"]),
    Good("token NBSP", "a.conll", "\xa0 O\n王 B-X\n".encode(), ["\xa0王"], ["王/X"]),
    Good("token is a blank, TAB", "a.conll", b" \tO\nb\tB-X\n", [" b"], ["b/X"]),
    Good("token is a space, space", "a.conll", b"a O\n  O\nb B-X\n", ["a b"], ["b/X"]),
    Good("token is a TAB, space", "a.conll", b"a O\n\t O\nb B-X\n", ["a\tb"], ["b/X"]),
    Good("token holds spaces", "a.conll", b"a b\tB-X\nc\tO\n", ["a b c"], ["a b/X"]),
    Good("U+2028", "a.conll", "\u2028\tO\nb\tB-X\n".encode(), ["\u2028b"], ["b/X"]),
    Good("U+0085", "a.conll", "\x85\tO\nb\tB-X\n".encode(), ["\x85b"], ["b/X"]),
    Good(
        "separators of files",
        "a.conll",
        b"\x1c\tO\n\x0b\tO\n\x0c\tB-X\n",
        ["\x1c\x0b\x0c"],
        ["\x0c/X"],
    ),
    Good(
        "blank at the line end",
        "a.conll",
        b"a O \nb\tO\n".replace(b"\t", b" "),
        ["ab"],
        notice="white space at the end of 1 line dropped",
    ),
    Good(
        "blanks behind tags",
        "a.conll",
        b"a\tO\t\nb\tB-X \n \nc\tO\n",
        ["ab", "c"],
        ["b/X"],
        notice="white space at the end of 2 lines dropped",
    ),
    Good(
        "CR CR LF",
        "a.conll",
        b"a O\r\r\nb B-X\r\r\n\r\r\nc O\r\r\n",
        ["ab", "c"],
        ["b/X"],
        notice="4 lines end in \\r\\r\\n",
    ),
    Good(
        "mixed line ends", "a.conll", b"a O\r\nb B-X\n\r\nc O\r\r\n\nd O", ["ab", "c", "d"], ["b/X"]
    ),
    Good("comment", "a.conll", b"# a = b c\na O\nb O\n", ["ab"], notice="1 comment skipped (first"),
    Good(
        "comments of a word",
        "a.conll",
        b"# newdoc\nParis B-LOC\nis O\n\n# sent2\n#\na O\n",
        ["Paris is", "a"],
        ["Paris/LOC"],
        notice="3 comments skipped (first: line 1, '# newdoc')",
    ),
    Good(
        "# with a tag",
        "a.conll",
        b"# B-X\na O\n\n# O\nb O\n\nc O\n# I-X\n",
        ["#a", "#b", "c#"],
        ["#/X", "#/X"],
    ),
    Good("# with a bare type", "a.conll", b"# X\na O\n\nb X\nc O\n", ["#a", "bc"], ["#/X", "b/X"]),
    Good(
        "untyped",
        "a.conll",
        b"a O\nb B\nc I\nd B\n",
        ["abcd"],
        ["bc/ENTITY", "d/ENTITY"],
        notice="tags in another spelling: B as B-ENTITY, I as I-ENTITY",
    ),
    Good(
        "lower case",
        "a.conll",
        b"a o\nb b-per\nc i-per\n",
        ["abc"],
        ["bc/per"],
        notice="b-per as B-per",
    ),
    Good(
        "prefix behind",
        "a.conll",
        b"a O\nb PER-B\nc PER-I\n",
        ["abc"],
        ["bc/PER"],
        notice="PER-B as B-PER",
    ),
    Good(
        "slash items",
        "a.conll",
        "王/B-PER 小/I-PER //O\n\n李/B-PER  来/O \n".encode(),
        ["王小/", "李来"],
        ["王小/PER", "李/PER"],
        notice="token/TAG items recognised",
    ),
    Good("slash items without a type", "a.txt", b"a/B b/I c/O\nd/O\n", ["abc", "d"], ["ab/ENTITY"]),
    Good(
        "spaCy's older form",
        "a.jsonl",
        '["王在", {"entities": [[0, 1, "PER"]]}]\n'.encode(),
        ["王在"],
        ["王/PER"],
    ),
    Good(
        "spaCy's older form by content",
        "a.txt",
        b'["ab", {"entities": [[0, 1, "X"]]}]\n',
        ["ab"],
        ["a/X"],
    ),
    Good(
        "Prodigy",
        "a.jsonl",
        b'{"text": "ab", "tokens": [{"start": 0, "end": 1, "id": 0}], "spans": '
        b'[{"start": 0, "end": 1, "token_start": 0, "label": "X"}], "answer": "accept"}',
        ["ab"],
        ["a/X"],
    ),
    Good("# is a token", "a.conll", b"# O\na B-X\n", ["#a"], ["a/X"]),
    Good("tag O as a token", "a.conll", b"O O\nO B-X\n", ["OO"], ["O/X"]),
    Good(
        "orphans",
        "a.conll",
        b"a I-X\nb O\nc B-X\n",
        ["abc"],
        ["a/X", "c/X"],
        notice="1 tag repaired",
    ),
    Good("underscores", "a.conll", b"a B_X\nb I_X\nc O\n", ["abc"], ["ab/X"]),
    Good("type with a dash", "a.conll", b"a B-x-y\nb I-x-y\n", ["ab"], ["ab/x-y"]),
    Good("type with a blank", "a.conll", b"a\tB-x y\nb\tI-x y\n", ["ab"], ["ab/x y"]),
    Good("types like prefixes", "a.conll", b"a O\nb B\n", ["ab"], ["b/B"], {"scheme": "IO"}),
    Good("IO merges neighbours", "a.conll", b"a X\nb X\nc Y\nd O\n", ["abcd"], ["ab/X", "c/Y"]),
    Good(
        "-DOCSTART-", "a.conll", b"-DOCSTART- -X- -X- O\n\na O\n", ["a"], notice="1 -DOCSTART- line"
    ),
    Good(
        "long token", "a.conll", b"x" * 100_000 + b" B-X\n", ["x" * 100_000], ["x" * 100_000 + "/X"]
    ),
    Good(
        "one long sentence", "a.conll", "字 B-X\n".encode() * 3000, ["字" * 3000], ["字/X"] * 3000
    ),
    Good("gzip", "a.conll.gz", gzip.compress(b"a B-X\n", mtime=0), ["a"], ["a/X"]),
    Good("gzip, JSONL", "a.jsonl.gz", gzip.compress(OK.encode(), mtime=0), ["abc"]),
    Good(
        "two gzip members",
        "a.conll.gz",
        gzip.compress(b"a O\n", mtime=0) + gzip.compress(b"b O\n", mtime=0),
        ["ab"],
    ),
    Good("JSONL by content", "a.txt", OK.encode(), ["abc"]),
    Good("JSONL by choice", "a.conll", OK.encode(), ["abc"], options={"format": "jsonl"}),
    Good("brace as a token", "a.txt", b"{ O\n} B-X\n", ["{}"], ["}/X"]),
    Good(
        "astral escapes",
        "a.jsonl",
        b'{"text":"\\ud83d\\ude00b","label":[[1,2,"X"]]}',
        ["😀b"],
        ["b/X"],
    ),
    Good("empty text", "a.jsonl", b'{"text": "", "entities": []}', [""]),
    Good(
        "nested spans",
        "a.jsonl",
        entity('[0,3,"X"],[1,2,"Y"]').encode(),
        ["abc", "abc"],
        ["abc/X", "b/Y"],
        notice="1 texts with overlapping",
    ),
    Good(
        "identical spans",
        "a.jsonl",
        entity('[0,1,"X"],[0,1,"X"]').encode(),
        ["abc", "abc"],
        ["a/X"],
        notice="1 identical",
    ),
    Good("U+2028 in JSONL", "a.jsonl", '{"text": "a\u2028b"}\n'.encode(), ["a\u2028b"]),
    Good("CRLF, JSONL", "a.jsonl", OK.replace("\n", "\r\n").encode() * 2, ["abc", "abc"]),
]


def load(case: Bad | Good, folder: Path) -> Corpus:
    path = folder / case.name
    path.write_bytes(case.data)
    return load_corpus(path, **case.options)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.case)
def test_refused_with_file_and_line(case: Bad, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(case, tmp_path)
    message = str(caught.value)
    where = f"{tmp_path / case.name}" + (f":{case.line}" if case.line else "")
    assert message.startswith(f"{where}: ")
    assert case.fragment in message
    assert (caught.value.path, caught.value.line) == (tmp_path / case.name, case.line)
    assert "\n" not in message
    assert len(message) < len(where) + 400


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.case)
def test_loads(case: Good, tmp_path: Path) -> None:
    corpus = load(case, tmp_path)
    assert [document.text for document in corpus.documents] == case.texts
    found = [f"{d.surface(e)}/{e.label}" for d in corpus.documents for e in d.entities]
    assert found == case.entities
    assert case.notice in "\n".join(corpus.notices)
    for document in corpus.documents:
        assert document.id.startswith(f"{case.name}:")


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("a O\n")
    with pytest.raises(
        DataError, match=r"trian\.conll: no such file: did you mean .*train\.conll\?"
    ):
        load_corpus(tmp_path / "trian.conll")
    with pytest.raises(DataError, match=r"no such file$"):
        load_corpus(tmp_path / "nowhere" / "x.conll")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this folder holds no text"):
        load_corpus(tmp_path)


PARTS = [
    "a",
    "字",
    "O",
    "B-X",
    "I-X",
    "S-X",
    "B_Y",
    "X",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\u3000",
    "#",
]
JSON_PARTS = [*'{}[]",:\\', '"text"', '"label"', "0", "1", "-", "null", "\n", "\\ud800", "x", " "]
RECORDS = ['{"text": "ab", "label": [', "[0, 1", ', "X"', "], ", "[1, 2", "]", "]}", "\n"]


def files(parts: list[str]) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(parts), max_size=40).map(lambda items: "".join(items).encode())


@settings(max_examples=400)
@given(st.one_of(files(PARTS), files(JSON_PARTS), files(RECORDS), st.binary()), st.booleans())
def test_any_bytes_load_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, is_json: bool
) -> None:
    """And what loads can be saved and loaded again."""
    path = tmp_path_factory.getbasetemp() / ("any.jsonl" if is_json else "any.conll")
    path.write_bytes(data)
    corpus, message = None, ""
    try:
        corpus = load_corpus(path)
    except DataError as error:
        message = str(error)
    if corpus is None:
        assert message.startswith(str(path))
        return
    again = path.with_name(f"again.{corpus.format}")
    save_corpus(again, corpus)
    reloaded = load_corpus(again, format=corpus.format, scheme=corpus.scheme or "auto")
    assert reloaded.sha256 == corpus.sha256
    tokens = [document.tokens for document in reloaded.documents]
    assert tokens == [document.tokens for document in corpus.documents]
