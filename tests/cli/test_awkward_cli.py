"""Awkward files through `data inspect`, `train` and `predict --file`.

Each works, or gives one line with file and line; never a traceback, never something half-written.
"""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from helpers.commands import Outcome, run
from helpers.tiny import make_predictor, make_settings, save_predictor, session_folder

OK = ""


@dataclass(frozen=True)
class Case:
    """A file and what each command makes of it.

    Attributes:
        case: what is awkward about it.
        name: the file's; `a.txt` and the like hold a text a line for `predict`.
        data: its bytes; `None`: there is no such file.
        inspect, train, predict: part of the message, or `OK`.
        line: the line that is blamed, if any.
    """

    case: str
    name: str
    data: bytes | None
    inspect: str = OK
    train: str = OK
    predict: str = OK
    line: int | None = None


def wrong_tags(case: str, data: bytes, error: str, line: int) -> Case:
    """A file that can be predicted on, which needs its tokens alone."""
    return Case(case, "a.conll", data, error, error, OK, line)


def same(case: str, name: str, data: bytes | None, error: str, line: int | None = None) -> Case:
    """A file that all three refuse alike."""
    return Case(case, name, data, error, error, error, line)


def fine(case: str, name: str, text: str | bytes) -> Case:
    """A file that all three take."""
    return Case(case, name, text.encode() if isinstance(text, str) else text)


def lines(case: str, data: bytes, predict: str = OK, line: int | None = None) -> Case:
    """A text file, which only `predict` takes."""
    return Case(case, "a.txt", data, "expected 2 columns", "expected 2 columns", predict, line)


def span(case: str, entity: str, error: str) -> Case:
    """A record that can be predicted on, which needs its text alone."""
    text = JSON + '{"text": "王小明", "entities": [' + entity + "]}\n"
    return Case(case, "a.jsonl", text.encode(), error, error, OK, 2)


NO_ENTITY = "holds no entity to learn from"
TAGGED = "王 B-PER\n小 I-PER\n明 I-PER\n在 O\n\n北 B-LOC\n京 I-LOC\n"
JSON = '{"text": "王小明在北京", "entities": [[0, 3, "PER"], [4, 6, "LOC"]]}\n'

CASES = [
    # Nothing, or nothing that can be read
    same("missing", "absent.conll", None, "no such file"),
    same("a folder", "folder/", None, "this folder holds no text"),
    same("empty", "a.conll", b"", "the file is empty"),
    same("empty JSONL", "a.jsonl", b"", "the file is empty"),
    same("only a BOM", "a.conll", b"\xef\xbb\xbf", "holds no sentence"),
    same("only blank lines", "a.conll", b"\n\n \n\t\n", "holds no sentence"),
    same("blank JSONL", "a.jsonl", b"\n \n", "holds no sentence"),
    same("empty gzip", "a.conll.gz", gzip.compress(b"", mtime=0), "the file is empty"),
    same("binary", "a.conll", bytes(range(256)) * 9, "line"),
    same("NUL", "a.conll", b"a O\nb\0 O\n", "is NUL", 2),
    same("invalid UTF-8", "a.conll", b"a O\nb O\n\xff O\n", "is not UTF-8", 3),
    same("GB18030", "a.conll", TAGGED.encode("gb18030"), "iconv -f GB18030", 1),
    same("UTF-16", "a.conll", TAGGED.encode("utf-16"), "got UTF-16 text"),
    same("UTF-16 without a mark", "a.conll", "a O\n".encode("utf-16-le"), "UTF-16 text", 1),
    same("UTF-32", "a.conll", TAGGED.encode("utf-32"), "got UTF-32 text"),
    same(
        "truncated gzip",
        "a.conll.gz",
        gzip.compress(TAGGED.encode() * 99, mtime=0)[:-9],
        "cut short",
    ),
    same("not gzip", "a.conll.gz", TAGGED.encode(), "not gzip data"),
    same("gzip without .gz", "a.conll", gzip.compress(b"a O\n", mtime=0), "ends in .gz"),
    # Columns and tags
    same("one column", "a.conll", b"a O\nb\n", "expected 2 columns", 2),
    same("five columns and two", "a.conll", b"EU NNP B-NP x B-ORG\na O\n", "got 5", 1),
    fine("four columns", "a.conll", TAGGED.replace(" ", " x y ")),
    same("three columns later", "a.conll", b"a\tO\n\nb\tO\tO\n", "got 3", 3),
    same("mixed separators", "a.conll", b"a\tO\nb O\n", "expected TAB", 2),
    same("comment in a sentence", "a.conll", b"a O\n# one two\n", "stands before a sentence", 2),
    fine("comment", "a.conll", "# one two\n" + TAGGED),
    wrong_tags("unknown tag", b"a B-X\nb WAT\n", "has no prefix, others do", 2),
    wrong_tags("prefix without type", b"a B-X\nb I-\n", "has no prefix", 2),
    wrong_tags("mixed schemes", b"a B-X\nb I-X\n\nc S-X\nd U-X\n", "mixes schemes", 5),
    same("old Mac line ends", "a.conll", b"a O\rb B-X\r", "carriage return", 1),
    same("line of 100,000 in CoNLL", "a.conll", b"a O\n" + b"x" * 100_000 + b"\n", "got 1", 2),
    fine("orphan tags", "a.conll", "a I-PER\nb O\nc B-PER\nd I-LOC\n"),
    fine("BOM", "a.conll", "\ufeff" + TAGGED),
    fine("CRLF", "a.conll", TAGGED.replace("\n", "\r\n")),
    fine("TAB-only blank lines", "a.conll", TAGGED.replace("\n\n", "\n\t\n \t\n")),
    fine("no line end at the end", "a.conll", TAGGED.rstrip("\n")),
    fine("BMES", "a.conll", "王 B-PER\n小 M-PER\n明 E-PER\n京 S-LOC\n"),
    fine("bare types", "a.conll", "王 PER\n小 PER\n在 O\n"),
    fine("duplicate sentences", "a.conll", (TAGGED + "\n") * 30),
    fine("token of 100,000", "a.conll", "x" * 100_000 + " B-PER\n京 B-LOC\n"),
    fine("sentence of 3,000", "a.conll", "字 O\n" * 2999 + "京 B-LOC\n"),
    fine("white space as tokens", "a.conll", "\u3000\tO\n \tB-LOC\n京\tI-LOC\n"),
    fine("zero width and controls", "a.conll", "\u200b B-PER\n\x01 I-PER\n\x7f O\n京 B-LOC\n"),
    fine("emoji and marks", "a.conll", "👨‍👩‍👧 B-PER\n🇨🇳 B-LOC\ne\u0301 O\n\u0301 O\n"),
    fine("U+2028 and U+0085", "a.conll", "\u2028\tO\n\x85\tB-LOC\n京\tI-LOC\n"),
    fine("labels like markup", "a.conll", "王 B-[/red]\n小 I-[/red]\n京 B-[bold]\n在 O\n"),
    fine("one token", "a.conll", "京 B-LOC\n"),
    Case("only O", "a.conll", b"a O\nb O\n", train=NO_ENTITY),
    # JSONL
    fine("astral escapes", "a.jsonl", '{"text": "\\ud83d\\ude00京", "label": [[1, 2, "LOC"]]}\n'),
    fine("overlapping spans", "a.jsonl", JSON + JSON.replace("[4, 6", "[0, 2")),
    fine("leading spaces", "a.jsonl", '{"text": "  王 ", "entities": [[0, 3, "PER"]]}\n'),
    fine("white space alone", "a.jsonl", '{"text": " \\t ", "label": [[0, 3, "L"]]}\n' + JSON),
    fine("controls", "a.jsonl", '{"text": "\\u0000王\\u001b", "entities": [[0, 2, "PER"]]}\n'),
    fine("empty text", "a.jsonl", '{"text": "", "entities": []}\n' + JSON),
    fine("line ends in a text", "a.jsonl", '{"text": "王\\n\\r京", "entities": [[0,4,"X"]]}\n'),
    fine("text of 20,000", "a.jsonl", json.dumps({"text": "京" * 20_000, "label": [[0, 1, "L"]]})),
    fine("CRLF, JSONL", "a.jsonl", JSON.replace("\n", "\r\n") * 2),
    Case("texts alone", "a.jsonl", b'{"text": "a"}\n', train=NO_ENTITY),
    same("not JSON", "a.jsonl", JSON.encode() + b'{"text": "a"\n', "not JSON", 2),
    same("lone surrogate", "a.jsonl", b'{"text": "a\\ud83d"}\n', "half a surrogate pair", 1),
    same("an array", "a.jsonl", b'[{"text": "a"}]\n', "got a list", 1),
    same("deep nesting", "a.jsonl", b"[" * 100_000, "cannot be read", 1),
    span("reversed offsets", '[3, 1, "X"]', "is reversed"),
    span("empty span", '[1, 1, "X"]', "is empty"),
    span("offset beyond the text", '[0, 9, "X"]', "out of range"),
    span("negative offset", '[-1, 1, "X"]', "out of range"),
    span("float offset", '[0.0, 1, "X"]', "not both integers"),
    span("no label", '[0, 1, ""]', "an empty string"),
    # Plain text, for `predict` alone
    lines("a text a line", "王小明在北京。\n\n  前面有空格\n\t\n🙂👨‍👩‍👧\n".encode()),
    lines("line of 100,000", ("京" * 100_000 + "\n短\n").encode()),
    lines("zero width, bidi, marks", "\u200b\u200d\n\u202eabc\u202c\n\u0301e\u0301\n".encode()),
    lines("no line end", "王小明".encode()),
    Case("lines of GB18030", "a.txt", "王\n".encode("gb18030"), "GB18030", "GB18030", "GB18030", 1),
    Case("lines with NUL", "a.txt", b"a\0b\n", "NUL", "NUL", "NUL", 1),
    Case("no lines", "a.txt", b"", "the file is empty", "the file is empty"),
]


@cache
def model() -> Path:
    """A shaken tagger of characters, which finds entities everywhere."""
    settings = make_settings(session_folder(), "lstm-crf")
    save_predictor(session_folder() / "awkward", make_predictor(settings, noise=1.0), settings)
    return session_folder() / "awkward"


@pytest.fixture
def path(case: Case, tmp_path: Path) -> Path:
    found = tmp_path / case.name
    if case.name.endswith("/"):
        found.mkdir()
    elif case.data is not None:
        found.write_bytes(case.data)
    return found


cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.case)


def check(done: Outcome, expected: str, path: Path, line: int | None, *, answered: int = 0) -> bool:
    """Whether the command worked; if it should not have, its message is checked.

    So many lines before the one with an error are answered.
    """
    assert "Traceback" not in done.stderr
    if expected == OK:
        assert done.code == 0, done.stderr
        return True
    assert done.code == 2
    assert bool(done.stdout) == bool(answered)
    where = f"error: {path}:{line}: " if line else f"error: {path}:"
    assert done.error.startswith(where)
    assert expected in done.error
    assert len(done.error) < len(where) + 400
    assert done.stderr.count("error: ") == 1
    return False


@cases
def test_inspect(case: Case, path: Path) -> None:
    done = run("data", "inspect", path, "--json")
    if check(done, case.inspect, path, case.line):
        assert json.loads(done.stdout)["files"][0]["statistics"]["documents"] > 0
        assert run("data", "inspect", path, "--model", model()).code == 0


@cases
def test_train(case: Case, path: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f'[run]\ndir = "{tmp_path}/run"\ndevice = "cpu"\nthreads = 1\n'
        f'[data]\ntrain = "{path}"\ntest = "{path}"\n'
        '[model]\nemitter = "lstm"\ndecoder = "crf"\n'
        "[lstm]\nembedding_size = 4\nhidden_size = 4\nlayers = 1\n"
        "[train]\nepochs = 1\nbatch_tokens = 4096\n",
        encoding="utf-8",
    )
    done = run("train", recipe, "--test")
    left = sorted(p.name for p in (tmp_path / "run").iterdir())
    if check(done, case.train, path, case.line if case.train == case.inspect else None):
        assert left == ["log.jsonl", "model", "record.json", "test.predictions.jsonl"]
        record = json.loads((tmp_path / "run" / "record.json").read_text(encoding="utf-8"))
        assert record["test"]["micro"]["support"] > 0
    else:
        assert left == []


# A text of 100,000 characters takes seconds: once is enough.
FORMATS = [
    pytest.param(case, format, id=f"{case.case}-{format}")
    for case in CASES
    for format in ("jsonl", "conll", "text")
    if len(case.data or b"") < 20_000 or (case.case == "line of 100,000" and format == "conll")
]


@pytest.mark.parametrize(("case", "format"), FORMATS)
def test_predict(case: Case, format: str, path: Path) -> None:
    done = run("predict", model(), "--file", path, "--format", format)
    answered = 1 if case.case == "not JSON" else 0  # its first line is one
    if not check(done, case.predict, path, case.line, answered=answered):
        if format == "jsonl":
            assert done.stdout.count("\n") == answered
        return
    if format == "conll" and done.stderr:
        assert done.stderr.count("\n") == 1
        assert "entities are not written as they are, since format conll" in done.stderr
    else:
        assert done.stderr == ""
    if format == "jsonl":
        for record in map(json.loads, done.stdout.split("\n")[:-1]):
            for entity in record["entities"]:
                assert entity["text"] == record["text"][entity["start"] : entity["end"]] != ""
    if format == "conll" and done.stdout:
        for line in done.stdout.split("\n"):
            assert not line or line.rpartition("\t")[2][:2] in ("O", "B-", "I-")


def test_there_are_enough_of_them() -> None:
    assert len({case.case for case in CASES}) == len(CASES) >= 60


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
@pytest.mark.parametrize(
    "command",
    [
        "select PIPE --strategy random --documents 2",
        "select PIPE --model MODEL --documents 2",
        "pretrain PIPE --encoder mini-zh --tokens 1000 -o OUT",
        "annotate PIPE --model MODEL -o OUT",
        "distill RECIPE --teacher MODEL --unlabelled PIPE",
        "self-train RECIPE --unlabelled PIPE -o OUT",
    ],
)
def test_a_pipe_that_would_be_read_twice_is_refused_at_once(command: str, tmp_path: Path) -> None:
    """Nothing writes to it, so a command that opened it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[data]\ntrain = "sample:train"\ndev = "sample:dev"\n'
        f'[model]\nemitter = "lstm"\n[run]\ndir = "{tmp_path / "run"}"\n'
    )
    names = {"PIPE": tmp_path / "pipe", "MODEL": model(), "OUT": tmp_path / "out"}
    names["RECIPE"] = recipe
    done = run(*(names.get(word, word) for word in command.split()))
    assert done.code == 2, done.stderr
    assert "is no file but a pipe or device" in done.error
    left = [path for path in (tmp_path / "out").rglob("*") if not path.name.endswith("lock")]
    assert not left


@pytest.mark.parametrize("given", ["texts.jsonl", "*.jsonl"])
def test_predict_does_not_write_over_what_it_reads(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = '{"text": "王明在京", "entities": [[0, 2, "PER"]]}\n'
    Path("texts.jsonl").write_text(before, encoding="utf-8")
    done = run("predict", model(), "--file", given, "-o", tmp_path / "texts.jsonl")
    assert done.code == 2
    assert "IN and OUT are the same file" in done.error
    assert Path("texts.jsonl").read_text(encoding="utf-8") == before
