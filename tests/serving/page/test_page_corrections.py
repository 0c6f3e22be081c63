"""Entities corrected with mouse and keyboard, kept in a list, and downloaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from nertune.data.corpus import load_corpus
from nertune.types import Document, Entity

if TYPE_CHECKING:
    from page_driver import PageDriver

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="needs selenium").Keys

TEXT = "王小明昨天到了深圳湾。"
MARKED = ["王小明", "PERSON 0.98", "昨天", "TIME 0.55", "深圳", "LOCATION 0.93"]


def box_count(page: PageDriver) -> int:
    return len(page.run("return JSON.parse(localStorage['nertune.corrected.v1'] ?? '[]')"))


def test_with_the_mouse(page: PageDriver) -> None:
    page.tag(TEXT)
    assert page.marks() == MARKED
    page.select(5, 7)
    assert page.text(".bar .what") == "到了 – choose a label to add it"
    page.click_label("ORGANIZATION")
    added = [*MARKED[:4], "到了", "ORGANIZATION ✎", *MARKED[4:]]
    assert page.marks() == added
    assert page.text("#announce") == "Added: 到了, ORGANIZATION"

    page.click_mark("王小明")
    page.click_label("LOCATION")
    assert page.marks()[:2] == ["王小明", "LOCATION ✎"]

    page.click_mark("深圳")
    end = page.all(".edges [aria-label='End'] button")
    end[1].click()
    assert page.marks()[-2:] == ["深圳湾", "LOCATION ✎"]
    page.all(".edges [aria-label='Start'] button")[1].click()
    assert page.marks()[-2:] == ["圳湾", "LOCATION ✎"]

    page.one(".bar .delete").click()
    assert page.marks()[-2:] == ["到了", "ORGANIZATION ✎"]
    for _ in range(5):
        page.click("Undo")
    assert page.marks() == MARKED
    assert not page.one("article header button").is_enabled()
    page.click("Redo")
    assert page.marks() == added


def test_edges_are_dragged(page: PageDriver) -> None:
    page.tag(TEXT)
    page.click_mark("深圳")
    page.wait(lambda: len(page.all(".grip.placed")) == 2)
    grip = page.all(".grip.placed")[1].rect
    _, right, middle = page.place_of(10, behind=True)
    page.drag((grip["x"] + 3 - page.run("return scrollX"), middle), (right, middle))
    assert page.marks()[-2:] == ["深圳湾", "LOCATION ✎"]
    left, _, middle = page.place_of(5)
    grip = page.all(".grip.placed")[0].rect
    page.drag((grip["x"] + grip["width"] - 3, middle), (left, middle))
    assert page.marks()[-2:] == ["到了深圳湾", "LOCATION ✎"]
    page.click("Undo")
    page.click("Undo")
    assert page.marks() == MARKED


def test_the_bar_does_not_cover_what_is_selected(page: PageDriver) -> None:
    page.resize(390, 844)
    page.tag("今天没有新闻。" * 30 + "深圳")
    page.run("arguments[0].scrollIntoView({block: 'end'})", page.one(".seg"))
    page.click_mark("深圳")
    page.wait(lambda: page.one(".seg").rect["y"] + 20 < page.one(".bar").rect["y"])
    assert page.text(".bar .what") == "深圳 – LOCATION 0.93, by the model"


def test_with_the_keyboard_alone(page: PageDriver) -> None:
    page.type_text(TEXT)
    page.one("#text").send_keys(Keys.CONTROL, Keys.ENTER)
    page.wait(lambda: page.all("article"))
    for _ in range(30):
        page.press(Keys.TAB)
        if "scroll" in (page.focused.get_attribute("class") or ""):
            break
    assert page.focused.get_attribute("role") == "textbox"
    assert page.run("return getComputedStyle(document.activeElement).outlineWidth") == "2px"

    page.press("n")
    assert page.text("#announce") == "王小明, PERSON 0.98"
    page.press("2")
    assert page.marks()[:2] == ["王小明", "LOCATION ✎"]
    page.press("}")
    assert page.marks()[:2] == ["王小", "LOCATION ✎"]
    page.press("{")
    assert page.marks()[:2] == ["小", "LOCATION ✎"]
    page.press("{")  # nothing would be left
    assert page.text("#announce") == "An entity has at least one character."
    page.press("[", "]")
    assert page.marks()[:2] == ["王小明", "LOCATION ✎"]
    page.press("n", Keys.DELETE)
    assert "昨天" not in page.marks()

    page.press(Keys.HOME)
    page.press(*[Keys.ARROW_RIGHT] * 5)
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, holding=Keys.SHIFT)
    page.wait_text(".bar .what", "到了 – choose")
    page.press(Keys.ENTER)  # to the labels, and on to the fourth
    assert page.focused.get_attribute("data-label") == "PERSON"
    page.press(Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER)
    assert page.marks()[2:4] == ["到了", "TIME ✎"]
    assert page.focused.get_attribute("role") == "textbox"

    page.press("z", "z", holding=Keys.CONTROL)
    assert "昨天" in page.marks()
    page.press("y", holding=Keys.CONTROL)
    assert "昨天" not in page.marks()
    page.press(Keys.ENTER, holding=Keys.CONTROL)
    assert page.text(".kept-mark") == "✓ kept with 2"
    assert box_count(page) == 1


def test_arrows_take_a_letter_with_its_marks_and_an_emoji_as_one(page: PageDriver) -> None:
    text = "Zoe\u0301 👩‍🔬𠮷."
    page.tag(text)
    assert page.marks() == ["Zoe\u0301", "PERSON 0.80", "👩‍🔬", "PERSON 0.31"]
    page.one(".scroll").send_keys("n", "}")
    assert page.marks()[0] == "Zo"
    page.press("]", "n", "]")
    assert page.marks() == ["Zoe\u0301", "PERSON ✎", "👩‍🔬𠮷", "PERSON ✎"]


def test_another_label_and_one_that_stands_there_already(page: PageDriver) -> None:
    page.tag(TEXT)
    page.select(3, 5)
    page.click_label("TIME")
    assert page.text("#announce") == "This entity is there already."
    page.click_mark("昨天")
    page.one(".bar input").send_keys("日子", Keys.ENTER)
    assert page.marks()[2:4] == ["昨天", "日子 ✎"]
    assert "日子 1" in [chip.text for chip in page.all("#legend .chip")]
    page.select(3, 5)
    page.click_label("TIME")  # the same characters, with two labels
    page.click_label("日子")  # and again with one
    assert page.marks()[:4] == ["王小明", "PERSON 0.98", "昨天", "日子 ✎"]


def test_what_is_below_the_threshold_is_not_kept(page: PageDriver) -> None:
    page.tag(TEXT)
    page.one("#threshold").send_keys(*[Keys.PAGE_UP] * 6)
    page.wait(lambda: "昨天" not in page.marks())
    page.click_mark("深圳")
    page.press("]")
    page.keep()
    path = page.download("jsonl", "nertune-corrected.jsonl")
    entities = load_corpus(path).documents[0].entities
    assert entities == (Entity(0, 3, "PERSON"), Entity(7, 10, "LOCATION"))


def test_downloads_are_read_by_nertune(page: PageDriver) -> None:
    """Emojis, letters beyond the BMP, combining marks, RTL, line ends: no offset is off."""
    first = "🎉👩‍🔬 林小满\n在𠮷野家：Zoe\u0301 与ليلى حداد到了深圳🏙️。"
    page.tag(first)
    page.one(".scroll").send_keys("n")
    page.press(Keys.DELETE)
    start = page.run("return arguments[0].indexOf('𠮷')", first)  # in UTF-16 units, as the page
    page.select(start, start + 4)
    page.click_label("ORGANIZATION")
    page.keep()
    page.tag("今天没有新闻。")
    page.keep()

    def spans(*pairs: tuple[str, str]) -> tuple[Entity, ...]:
        return tuple(
            Entity(first.index(name), first.index(name) + len(name), label) for name, label in pairs
        )

    expected = spans(
        ("林小满", "PERSON"), ("𠮷野家", "ORGANIZATION"), ("Zoe\u0301", "PERSON"),
        ("ليلى حداد", "PERSON"), ("深圳", "LOCATION"),
    )  # fmt: skip
    files = {
        "jsonl": "nertune-corrected.jsonl",
        "doccano": "doccano-corrected.jsonl",
        "label-studio": "label-studio-corrected.json",
    }
    for kind, name in files.items():
        corpus = load_corpus(page.download(kind, name))
        assert corpus.format == kind
        assert not [notice for notice in corpus.notices if "nothing in the file decides" in notice]
        assert [d.text for d in corpus.documents] == [first, "今天没有新闻。"]
        assert corpus.documents[0].entities == expected, kind
        assert corpus.documents[1].entities == ()
        assert corpus.documents[0].meta["model"] == "news"
        ids = [str(d.meta["id"]) for d in corpus.documents]
        assert len(set(ids)) == 2
        assert all(id.startswith("page-") for id in ids)
    doccano = json.loads((page.downloads / files["doccano"]).read_text("utf-8").splitlines()[0])
    studio = json.loads((page.downloads / files["label-studio"]).read_text("utf-8"))
    place = first.index("林小满")
    in_utf16 = len(first[:place].encode("utf-16-le")) // 2
    assert in_utf16 == place + 3  # three characters before it have two units each
    assert doccano["label"][0] == [in_utf16, in_utf16 + 3, "PERSON"]
    value = studio[0]["annotations"][0]["result"][0]["value"]
    assert (value["start"], value["end"], value["text"]) == (place, place + 3, "林小满")


def test_the_list_survives_a_reload_and_is_changed_and_cleared(page: PageDriver) -> None:
    for text in ("王小明在深圳。", "林小满在武汉。"):
        page.tag(text)
        page.keep()
    page.tag("林小满在武汉。")
    page.keep()  # the same text again: it is replaced, not doubled
    assert page.text("#status").startswith("This text was in the list already")
    page.browser.refresh()
    page.wait(lambda: len(page.all("#kept li")) == 2)
    assert page.text("#kept-count") == "(2)"
    page.all("#kept .open")[0].click()  # the newest
    page.wait(lambda: page.marks() == ["林小满", "PERSON ✎", "武汉", "LOCATION ✎"])
    page.one(".scroll").send_keys("n", Keys.DELETE)
    page.keep()
    path = page.download("jsonl", "nertune-corrected.jsonl")
    documents = load_corpus(path).documents
    assert [d.entities for d in documents][1] == (Entity(4, 6, "LOCATION"),)
    assert isinstance(documents[0], Document)

    page.click("Remove")
    assert box_count(page) == 1
    page.one("#kept-yes").click()  # undo
    assert box_count(page) == 2
    page.one("#clear").click()
    assert "Delete 2 corrected documents for good?" in page.text("#kept-alert")
    page.one("#kept-no").click()
    assert box_count(page) == 2
    page.one("#clear").click()
    page.one("#kept-yes").click()
    assert box_count(page) == 0
    assert not page.one(".download").is_enabled()
    page.browser.refresh()
    assert page.all("#kept li") == []


def test_corrections_that_were_not_kept_are_asked_for(page: PageDriver) -> None:
    page.tag(TEXT)
    page.one(".scroll").send_keys("n", Keys.DELETE)
    page.choose("model", "law")
    assert "1 text has corrections that you have not kept." in page.text("#ask")
    page.one("#ask-cancel").click()
    assert page.one("#model").get_attribute("value") == "news"
    assert len(page.marks()) == 4
    page.click("English")
    page.one("#ask-keep").click()
    page.wait_text(".flow", "Harriet")
    assert box_count(page) == 1
    page.one(".scroll").send_keys("n", Keys.DELETE)
    page.click("عربي")
    page.one("#ask-drop").click()
    page.wait_text(".flow", "ليلى")
    assert box_count(page) == 1


def test_either_answer_of_a_comparison_can_be_corrected(page: PageDriver) -> None:
    page.compare("林小满在云雀科技", "news", "law")
    page.click("Correct B")
    page.wait(lambda: page.marks() == ["林小满", "ORGANIZATION 0.52", "云雀", "ORGANIZATION 0.60"])
    page.press("n", "n", "]")
    page.keep()
    page.click("Back to the comparison")
    assert page.marks(column=1)[2:] == ["云雀", "ORGANIZATION 0.60 · boundary"]
    stored = page.run("return JSON.parse(localStorage['nertune.corrected.v1'])[0]")
    assert stored["model"] == "law"
    assert stored["entities"] == [[0, 3, "ORGANIZATION"], [4, 7, "ORGANIZATION"]]


def test_a_list_that_cannot_be_read_is_left_alone(page: PageDriver) -> None:
    page.run("localStorage['nertune.corrected.v1'] = '[{\"text\": \"half'")
    page.browser.refresh()
    page.wait_text("#kept-alert", "cannot be read")
    page.tag(TEXT)
    page.keep()
    assert page.run("return localStorage['nertune.corrected.v1']") == '[{"text": "half'
    assert page.text(".kept-mark") == ""
    page.one("#kept-yes").click()
    page.keep()
    assert box_count(page) == 1


def test_a_full_storage_is_said(page: PageDriver) -> None:
    page.tag(TEXT)
    page.run(
        "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError') }"
    )
    page.keep()
    page.wait_text("#kept-alert", "storage is full")
    assert page.text(".kept-mark") == ""
