"""Documents in a pandas table."""

from __future__ import annotations

import re

import pytest

import nertune
from nertune.errors import DataError
from nertune.types import Document, Entity

pandas = pytest.importorskip("pandas")

DOCUMENTS = [
    Document("王小明到了北京。", (Entity(0, 3, "PER", 0.5), Entity(5, 7, "LOC")), id="a"),
    Document("", id="b"),
    Document("两 词", (), tokens=((0, 1), (2, 3)), meta={"source": "web", "n": [1, 2]}),
]


def test_there_and_back() -> None:
    assert nertune.from_pandas(nertune.to_pandas(DOCUMENTS)) == DOCUMENTS
    assert nertune.from_pandas(nertune.to_pandas([])) == []
    only_text = pandas.DataFrame({"text": ["一", "二"]})
    assert nertune.from_pandas(only_text) == [Document("一"), Document("二")]


def test_a_row_an_entity() -> None:
    table = nertune.to_pandas(DOCUMENTS, by="entity")
    assert table[["index", "start", "end", "label", "surface"]].values.tolist() == [
        [0, 0, 3, "PER", "王小明"],
        [0, 5, 7, "LOC", "北京"],
    ]
    assert table["score"].isna().tolist() == [False, True]
    with pytest.raises(ValueError, match="by: got 'row'"):
        nertune.to_pandas(DOCUMENTS, by="row")


def test_what_is_missing_or_further() -> None:
    table = pandas.DataFrame(
        {
            "text": ["北京", "上海"],
            "entities": [[[0, 2, "LOC"]], None],
            "id": ["x", pandas.NA],
            "rating": [float("nan"), 3.0],
        }
    )
    assert nertune.from_pandas(table) == [
        Document("北京", (Entity(0, 2, "LOC"),), id="x"),
        Document("上海", meta={"rating": 3.0}),
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sentence": ["x"]}, "the table has no column 'text'; its columns: sentence"),
        ({"text": ["北京", None]}, "row 1 of the table: expected a text"),
        ({"text": ["北京"], "meta": ["web"]}, "row 0 of the table: "),
        ({"text": ["北京"], "tokens": [[3]]}, "row 0 of the table: "),
        ({"text": ["北京"], "entities": [[[0, 5, "LOC"]]]}, "row 0 of the table: LOC [0, 5)"),
    ],
)
def test_a_table_that_is_none_of_documents(table: dict[str, list[object]], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        nertune.from_pandas(pandas.DataFrame(table))
