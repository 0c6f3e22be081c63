"""What the page shows: marks, threshold, types, two models, long and mixed texts."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from stub_server import EVIL, StubServer

if TYPE_CHECKING:
    from page_driver import PageDriver

EMOJI = "🎉 林小满 👩‍🔬 昨天在深圳，云雀科技。"
NESTED = "他在北京大学第三医院。"


def test_entities_are_marked_with_labels_and_scores(page: PageDriver) -> None:
    page.tag(EMOJI)
    assert page.marks() == [
        "林小满", "PERSON 0.97", "👩‍🔬", "PERSON 0.31", "昨天", "TIME 0.55",
        "深圳", "LOCATION 0.93", "云雀科技", "ORGANIZATION 0.71",
    ]  # fmt: skip
    assert page.text(".flow") == EMOJI
    assert page.text("#count") == f"{len(EMOJI)} characters"  # code points, not UTF-16 units
    page.one("#scores").click()
    page.wait(lambda: "PERSON" in page.marks())


def test_the_slider_hides_what_is_less_sure(page: PageDriver) -> None:
    page.tag(EMOJI)
    slider = page.one("#threshold")
    slider.send_keys(*["\ue00e"] * 6)  # PageUp: a tenth each
    page.wait_text("#threshold-value", "0.60")
    page.wait(lambda: page.marks()[1::2] == ["PERSON 0.97", "LOCATION 0.93", "ORGANIZATION 0.71"])
    assert "2 below the minimum score" in page.text("article header")
    legend = {chip.get_attribute("data-label"): chip.text for chip in page.all("#legend .chip")}
    assert legend["PERSON"] == "PERSON 1"
    assert legend["TIME"] == "TIME 0"
    assert "Keep 3 entities" in page.text("article header")
    slider.send_keys("\ue011")  # Home
    page.wait(lambda: len(page.marks()) == 10)


def test_the_legend_counts_and_filters_by_type(page: PageDriver) -> None:
    page.tag(EMOJI)
    chips = page.all("#legend .chip")
    assert [chip.text for chip in chips] == ["PERSON 2", "LOCATION 1", "ORGANIZATION 1", "TIME 1"]
    chips[0].click()
    page.wait(lambda: len(page.marks()) == 6)
    assert "林小满" not in page.marks()
    assert chips[0].get_attribute("aria-pressed") == "false"
    assert "2 of hidden types" in page.text("article header")
    assert "Keep 5 entities" in page.text("article header")  # hidden is not deleted
    chips[0].click()
    page.wait(lambda: len(page.marks()) == 10)


def test_two_models_stand_side_by_side_with_their_differences(page: PageDriver) -> None:
    page.compare("王小明昨天在北京大学。林小满坐高铁到深圳，云雀科技，武汉", "news", "law")
    assert page.marks(column=0) == [
        "王小明", "PERSON 0.98", "昨天", "TIME 0.55",
        "北京大学", "ORGANIZATION 0.91 · boundary, label", "林小满", "PERSON 0.97 · label",
        "深圳", "LOCATION 0.93", "云雀科技", "ORGANIZATION 0.71 · boundary",
        "武汉", "LOCATION 0.88 · only A",
    ]  # fmt: skip
    assert page.marks(column=1) == [
        "王小明", "PERSON 0.93", "昨天", "TIME 0.50",
        "北京", "LOCATION 0.87 · boundary, label", "林小满", "ORGANIZATION 0.52 · label",
        "坐高铁", "TIME 0.40 · only B", "深圳", "LOCATION 0.90",
        "云雀", "ORGANIZATION 0.60 · boundary",
    ]  # fmt: skip
    told = page.one("article > header .soft").text
    assert told == (
        "3 the same · 1 only in A · 1 only in B · 1 other boundary · 1 other label · "
        "1 other boundary and label"
    )
    page.one("article details summary").click()
    page.wait(lambda: len(page.all("article tbody tr")) == 5)
    page.one("article .scroll").send_keys("nn")
    here = page.run("return [...document.querySelectorAll('.here')].map((e) => e.textContent)")
    assert here == ["林小满", "林小满"]
    assert page.text("#announce").startswith("Difference 2 of 5, other label.")
    assert page.text("#legend") == "PERSON 2 / 1LOCATION 2 / 2ORGANIZATION 2 / 2TIME 1 / 2"


def test_the_threshold_counts_in_a_comparison_too(page: PageDriver) -> None:
    page.compare("林小满在云雀科技", "news", "law")
    page.one("#threshold").send_keys(*["\ue00e"] * 6)
    page.wait_text("article > header .soft", "1 only in A · 1 other boundary")


def test_what_stands_inside_another_entity_is_marked_too(page: PageDriver) -> None:
    page.choose("model", "nested")
    page.tag(NESTED)
    assert page.marks() == [
        "北京", "LOCATION 0.95", "大学", "ORGANIZATION 0.80", "第三", "TIME 0.30",
        "医院", "ORGANIZATION 0.90",
    ]  # fmt: skip
    assert page.text(".flow") == NESTED
    lines = page.run(
        "return [...document.querySelectorAll('.seg')].map((e) => "
        "getComputedStyle(e).backgroundImage.split('linear-gradient').length - 1)"
    )
    # 北京 lies in three entities; 大学 in those that hold it and in the one that crosses them.
    assert lines == [3, 3, 2, 1]
    seen = []
    for _ in range(4):
        page.click_mark("北京")
        seen.append(page.text(".bar .what"))
    assert [told.split(" – ")[0] for told in seen] == [
        "北京", "北京大学", "北京大学第三医院", "北京",
    ]  # fmt: skip


# For each piece of text, where it stands and what covers it.
_PIECES = """
const walker = document.createTreeWalker(document.querySelector(".flow"), NodeFilter.SHOW_TEXT);
const found = [];
let place = 0;
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const segment = node.parentElement.closest(".seg");
  found.push([place, place + node.length, segment ? segment.title.split(" · ").sort() : []]);
  place += node.length;
}
return found;
"""


def test_entities_that_cross_each_other_cover_what_they_cover(
    page: PageDriver, stub: StubServer
) -> None:
    chance = random.Random(18)
    text = "".join(chance.choice("甲乙 丙\n") for _ in range(6000))
    entities = []
    for number in range(400):
        start = chance.randrange(5900)
        end = start + chance.choice([1, 2, 5, 30, 99])
        entities.append({"start": start, "end": end, "label": f"L{number}", "score": 1.0})
    answer = {"model": "news", "offsets": "utf16", "documents": [{"entities": entities}]}
    stub.reply = (200, answer)
    page.tag(text)
    covered: list[list[str]] = [[] for _ in text]
    for entity in entities:
        for place in range(entity["start"], entity["end"]):
            covered[place].append(f"{entity['label']} 1.00")
    pieces = page.run(_PIECES)
    assert pieces[-1][1] == len(text)
    for start, end, tags in pieces:
        assert all(sorted(covered[place]) == tags for place in range(start, end))
    tags = [mark for mark in page.marks() if mark.endswith(" 1.00")]
    assert sorted(tags) == sorted(f"L{number} 1.00" for number in range(400))  # each once


def test_rtl_texts_run_from_the_right(page: PageDriver) -> None:
    page.tag("زارت ليلى حداد مدينة الإسكندرية.\nShe left.")
    assert page.marks() == ["ليلى حداد", "PERSON 0.95", "الإسكندرية", "LOCATION 0.90"]
    first, _, _ = page.place_of(0)
    later, _, _ = page.place_of(20)
    assert first > later
    page.one(".scroll").click()
    page.press(page_key("HOME"), holding=page_key("CONTROL"))
    page.press(page_key("ARROW_LEFT"))  # forward, in this script
    page.press(page_key("ARROW_LEFT"), page_key("ARROW_LEFT"), holding=page_key("SHIFT"))
    page.wait(lambda: "ار" in page.text(".bar .what"))
    assert page.text(".flow").startswith("زارت")


def page_key(name: str) -> str:
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    return str(getattr(keys, name))


def test_several_texts_one_a_line(page: PageDriver, stub: StubServer) -> None:
    page.one("#lines").click()
    page.tag("王小明\n\n  \n在深圳\n" + "\n".join(f"第{i}行" for i in range(58)))
    page.wait_text("#status", "60 texts")
    assert [len(request["texts"]) for request in stub.requests] == [32, 28]
    assert page.marks(0) == ["王小明", "PERSON 0.98"]
    assert page.marks(1) == ["深圳", "LOCATION 0.93"]
    assert len(page.all("article")) == 20
    page.one("#more").click()
    page.wait(lambda: len(page.all("article")) == 40)
    assert page.text("#more") == "Show 20 more of 20"
    boxes = page.all("article .scroll")
    boxes[0].send_keys(page_key("CONTROL"), page_key("ENTER"))  # kept, and on to the next
    assert page.run("return document.activeElement === arguments[0]", boxes[1])
    assert page.text(".kept-mark") == "✓ kept with 1"


def test_a_long_text_is_drawn_anew_only_where_it_changes(page: PageDriver) -> None:
    text = ("王小明昨天到了深圳。云雀科技在武汉，" + "很长" * 20) * 1740
    assert len(text) > 100_000
    page.tag(text)
    assert "8,700 entities" in page.text("article header")
    page.run(
        "window.before = [...document.querySelectorAll('.block > span')].map((e) => e.firstChild)"
    )
    page.click_mark("王小明")
    page.one(".bar .delete").click()
    page.wait_text("article header", "8,699 entities")
    same = page.run(
        "return [...document.querySelectorAll('.block > span')]"
        ".map((e, i) => e.firstChild === window.before[i])"
    )
    assert len(same) > 100
    assert same.count(False) == 1
    page.press("p")  # the last one, far below
    page.wait(lambda: page.run("return document.querySelector('.scroll').scrollTop") > 10_000)
    assert page.text(".bar .what").startswith("武汉")


def test_what_users_and_models_say_is_never_html(page: PageDriver, stub: StubServer) -> None:
    page.choose("model", EVIL)
    page.tag(f"王小明{EVIL}")
    page.click_mark("王小明")
    page.one("article details summary").click()
    page.keep()
    page.choose("other", "news")
    page.wait(lambda: page.all("article.compare"))
    stub.reply = (400, {"error": {"code": EVIL, "message": EVIL}})
    page.one("#tag").click()
    page.wait_text("#alert", EVIL)
    assert page.all("img, object, iframe, embed") == []
    assert page.browser.title == "nertune: try and correct"
    shown = page.text("#documents") + page.text("#kept-list") + page.text("#model")
    assert shown.count(EVIL) >= 4


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_scrolls_sideways(page: PageDriver, width: int) -> None:
    page.resize(width, 844)
    long = "W" * 300 + "王小明" + "https://example.org/" + "x" * 200 + " 北京大学。"
    page.tag(long)
    page.click_mark("王小明")
    page.keep()
    page.one("#help summary").click()
    page.one("article details summary").click()
    assert not page.is_scrolled_sideways()
    page.choose("other", "law")
    page.wait(lambda: page.all("article.compare"))
    page.one("article details summary").click()
    page.wait(lambda: page.all("article tbody tr"))
    assert not page.is_scrolled_sideways()
    boxes = [column.rect for column in page.all(".column")]
    assert (boxes[0]["y"] == boxes[1]["y"]) == (width == 1280)  # beside, or one below the other
