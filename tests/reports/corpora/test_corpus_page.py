"""The page to look through a corpus: complete, escaped, and it works in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.reports.corpora.corpus_page import MOST_LEVELS, corpus_page, mark_parts
from nertune.reports.html import to_html
from nertune.types import Document, Entity

EVIL = "</script><script>alert(1)</script><!--\u2028&amp;"
TEXT = "abcdefghijkl"
entities = st.lists(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(1, 4)).map(lambda s: (s[0], min(12, sum(s)))),
        min_size=1,
        max_size=3,
    ).map(lambda spans: Entity.of_fragments(spans, "X")),
    max_size=8,
)


def data_of(html: str) -> Any:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@given(entities)
@settings(deadline=None)
def test_marks_lie_in_each_other_and_cover_what_entities_cover(found: list[Entity]) -> None:
    document = Document(TEXT, tuple(found))
    parts, deeper = mark_parts(document)
    assert "".join(part for part in parts if isinstance(part, str)) == TEXT
    assert not deeper
    stack: list[int] = []
    covered: list[set[int]] = [set() for _ in found]
    shown = [0] * len(found)
    position = 0
    for part in parts:
        if isinstance(part, str):
            assert part
            for number in stack:
                covered[number] |= set(range(position, position + len(part)))
            position += len(part)
        elif part % 3 == 0:
            stack.append(part // 3)
        else:
            assert stack.pop() == part // 3
            shown[part // 3] += part % 3 == 1
    assert not stack
    for entity, places in zip(document.entities, covered, strict=True):
        assert places == {i for start, end in entity.spans for i in range(start, end)}
    assert shown == [1] * len(found)  # each label stands there once


def test_what_is_nested_too_deep_is_named() -> None:
    text = "x" * 100
    document = Document(text, tuple(Entity(0, 100 - i, "A") for i in range(MOST_LEVELS + 14)))
    parts, deeper = mark_parts(document)
    assert len([p for p in parts if not isinstance(p, str) and p % 3 == 0]) == MOST_LEVELS
    assert len(deeper) == 14
    (shown,) = data_of(to_html(corpus_page([document], name="a")))
    assert shown["more"].startswith("A xxx")
    assert shown["more"].endswith("and 4 more")


def test_counts_and_documents() -> None:
    documents = [
        Document("王明在北京", (Entity(0, 2, "PER"), Entity(3, 5, "LOC", 0.93)), "d1"),
        Document("王明", (Entity(0, 2, "PER"),), "d2", meta={"id": "d2", "document": 7}),
        Document("", (), "d3"),
    ]
    page = corpus_page(documents, name="a.jsonl", about="Read as x.", notices=["one notice"])
    assert page.browser is not None
    assert [(x.label, x.entities, x.documents) for x in page.browser.labels] == [
        ("PER", 2, 2), ("LOC", 1, 1)
    ]  # fmt: skip
    html = to_html(page)
    shown = data_of(html)
    assert [item["id"] for item in shown] == ["d1", "d2", "d3"]
    assert shown[0]["parts"] == [0, "王明", 1, "在", 3, "北京", 4]
    assert shown[0]["entities"][1] == [1, "LOC [3, 5), score 0.93: 北京"]
    assert shown[1]["meta"] == "document = 7"
    assert "meta" not in shown[0]
    assert shown[2]["parts"] == []
    assert "<td>王明</td>" in html
    assert "<blockquote><p>one notice</p></blockquote>" in html
    assert html.index('id="documents"') < html.index("<h2>Labels</h2>")
    assert "without entities<small>1</small>" in html


def test_nothing_breaks_out_and_nothing_is_loaded() -> None:
    evil = Document(EVIL, (Entity(0, 9, EVIL),), EVIL, meta={EVIL: EVIL})
    html = to_html(corpus_page([evil, Document("\ud83d a")], name=EVIL, about=EVIL))
    assert html.count("<script") == 2
    assert html.count("</script>") == 2
    assert "<!--" not in html
    assert "innerHTML" not in html
    html.encode()  # half a surrogate pair is no character of a file
    assert data_of(html)[0]["id"] == EVIL
    assert data_of(html)[1]["parts"] == ["\ud83d a"]
    assert not re.search(r"""(?:src|href)=|url\(|@import|https?://""", html)
    assert "default-src 'none'" in html


def test_a_corpus_without_entities() -> None:
    html = to_html(corpus_page([Document("a")], name="a"))
    assert "<h2>Labels</h2>" not in html
    assert len(data_of(html)) == 1


_STEPS = """<script>
const told = [];
const found = () => document.querySelector(".found").textContent;
told.push(found(), document.querySelectorAll("article").length);
chips[1].click(); told.push(found(), document.querySelectorAll("mark.pale").length);
chips[1].click();
without.click(); told.push(found()); without.click();
byId("query").value = "第７7"; filter();
told.push(found(), document.querySelector(".who").textContent);
byId("query").value = "absent"; filter(); told.push(found());
byId("query").value = ""; filter();
byId("page").value = 99; byId("page").dispatchEvent(new Event("change")); told.push(found());
document.querySelectorAll(".step")[0].click(); told.push(found());
byId("query").value = "across"; filter();
told.push([...document.querySelectorAll("mark")].map((m) => m.textContent + m.className));
told.push(document.documentElement.scrollWidth <= innerWidth);
document.title = JSON.stringify(told);
</script></body>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    documents = [
        Document(f"王明第{i}次在北京" + "长" * 300, (Entity(0, 2, "PER"),), f"d{i}")
        for i in range(100)
    ]
    apart = Entity(0, 5, "LOC", fragments=((0, 1), (3, 5)))
    documents += [Document("x" * 500), Document("abcdef", (apart, Entity(1, 4, "LOC")), "across")]
    html = to_html(corpus_page(documents, name="w" * 200, page_size=20))
    (tmp_path / "a.html").write_text(html.replace("</body>", _STEPS), encoding="utf-8")
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
         (tmp_path / "a.html").as_uri()],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout.decode(), re.DOTALL)
    assert title is not None
    assert json.loads(unescape(title[1])) == [
        "1–20 of 102 documents", 20,
        "1–1 of 1 documents", 0,
        "1–1 of 1 documents",
        "1–1 of 1 documents", "d77",
        "no document has this",
        "101–102 of 102 documents",
        "81–100 of 102 documents",
        ["aapart opens", "bcdLOC", "dapart opens", "eLOC ⋯2apart"],
        True,
    ]  # fmt: skip
