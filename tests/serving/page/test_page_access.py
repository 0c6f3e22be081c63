"""Servers that are away, busy or refuse; keys, colours, focus."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from stub_server import StubServer

if TYPE_CHECKING:
    from page_driver import PageDriver

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="needs selenium").Keys

# Texts whose contrast is too low: `[what, ratio]`.
_CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const colour = (value) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = value;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const found = colour(getComputedStyle(e).backgroundColor);
    if (found[3] === 255) return found;
  }
  return [255, 255, 255, 255];
};
const low = [];
let seen = 0;
for (const element of document.querySelectorAll("body *")) {
  if (!element.checkVisibility() || element.closest(":disabled, script, style, option")) continue;
  const isTag = element.matches(".tag");
  const text = isTag ? element.dataset.tag
    : [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
  if (!text) continue;
  const back = light(behind(element));
  const front = light(colour(getComputedStyle(element, isTag ? "::after" : null).color));
  const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
  seen += 1;
  if (ratio < 4.5) low.push([text.slice(0, 30), Math.round(ratio * 100) / 100]);
}
return [seen, low];
"""


def test_a_server_that_is_away_is_said_and_asked_again(page: PageDriver) -> None:
    own = StubServer()
    page.open(own.url)
    page.type_text("王小明")
    port = own.server_address[1]
    own.stop()
    page.one("#tag").click()
    page.wait_text("#alert", "The server does not answer.")
    assert page.run("return document.getElementById('text').value") == "王小明"
    again = StubServer(port)
    try:
        page.click("Try again")
        page.wait(lambda: page.all("article"))
        assert not page.one("#alert").is_displayed()
    finally:
        again.stop()


def test_a_busy_server_is_asked_again(page: PageDriver, stub: StubServer) -> None:
    stub.busy = 1
    page.type_text("王小明")
    page.one("#tag").click()
    page.wait_text(
        "#status", "The server is busy: the queue is full. Trying again in 1 s (try 2 of 20)."
    )
    page.wait(lambda: page.all("article"))
    assert page.marks() == ["王小明", "PERSON 0.98"]
    assert len(stub.requests) == 2


def test_waiting_for_a_busy_server_can_be_cancelled(page: PageDriver, stub: StubServer) -> None:
    stub.busy = 99
    page.type_text("王小明")
    page.one("#tag").click()
    page.wait_text("#status", "busy")
    page.one("#cancel").click()
    page.wait_text("#status", "Cancelled.")
    assert not page.one("#cancel").is_displayed()
    assert page.all("article") == []


def test_a_newer_request_cancels_an_older(page: PageDriver, stub: StubServer) -> None:
    page.tag("深圳")
    stub.hold = threading.Event()
    page.type_text("王小明")
    page.one("#tag").click()
    page.wait(lambda: len(stub.requests) == 2)
    slow, stub.hold = stub.hold, None
    page.tag("武汉")
    slow.set()
    page.run("return new Promise((done) => setTimeout(done, 200))")
    assert page.marks() == ["武汉", "LOCATION 0.88"]
    assert page.text("#status").startswith("1 entity in 1 text")
    assert not page.one("#alert").is_displayed()


def test_a_key_is_asked_for_and_carried(page: PageDriver, stub: StubServer) -> None:
    stub.key = "s3cret"
    page.browser.refresh()
    page.wait_text("#key-form", "The server asks for a key.")
    assert page.focused.get_attribute("id") == "key"
    page.press("wrong", Keys.ENTER)
    page.wait_text("#key-form", "The server does not accept this key.")
    page.press("钥匙", Keys.ENTER)
    page.wait_text("#key-form", "letters, digits and signs")
    page.one("#key").clear()
    page.one("#key").send_keys("s3cret", Keys.ENTER)
    page.wait(lambda: page.one("#tag").is_enabled())
    page.tag("王小明")
    assert page.marks() == ["王小明", "PERSON 0.98"]
    page.browser.refresh()
    page.wait(lambda: page.one("#tag").is_enabled())
    assert "s3cret" not in page.run("return JSON.stringify(localStorage) + document.body.innerHTML")
    page.one("#change-key").click()
    page.wait(lambda: page.one("#key").is_displayed())


def test_a_model_that_is_gone_leaves_the_list(page: PageDriver, stub: StubServer) -> None:
    page.choose("model", "law")
    stub.models = ["news", "wide"]
    stub.reply = (404, {"error": {"code": "unknown_model", "message": "law is gone"}})
    page.type_text("王小明")
    page.one("#tag").click()
    page.wait_text("#alert", "law is gone (HTTP 404, unknown_model)")
    assert page.text("#model") == "newswide"
    stub.reply = None
    page.click("Try again")
    page.wait(lambda: page.marks() == ["王小明", "PERSON 0.98"])


def test_503_without_a_time_is_not_asked_again(page: PageDriver, stub: StubServer) -> None:
    stub.reply = (503, {"error": {"code": "model_failed", "message": "the model fails"}})
    page.type_text("王小明")
    page.one("#tag").click()
    page.wait_text("#alert", "The server cannot answer. the model fails (HTTP 503, model_failed)")
    assert len(stub.requests) == 1


def test_a_refusal_is_shown_as_the_server_says_it(page: PageDriver, stub: StubServer) -> None:
    stub.reply = (413, {"error": {"code": "too_long", "message": "split the text"}})
    page.type_text("王小明")
    page.one("#tag").click()
    page.wait_text("#alert", "split the text (HTTP 413, too_long)")


@pytest.mark.parametrize(
    ("entities", "told"),
    [
        ([{"start": 0, "end": 2, "label": "PERSON", "text": "小明"}], "stands at its place"),
        ([{"start": 0, "end": 9, "label": "PERSON"}], "is no span of its text"),
        ([{"start": 0, "end": 2, "label": ""}], "has no label"),
        ([{"start": 0, "end": 3, "label": "A", "fragments": [[0, 1], [2, 3]]}], "several parts"),
        (None, "no list of entities"),
    ],
)
def test_an_answer_that_does_not_fit_is_not_shown(
    page: PageDriver, stub: StubServer, entities: object, told: str
) -> None:
    answer = {"model": "news", "offsets": "utf16", "documents": [{"entities": entities}]}
    stub.reply = (200, answer)
    page.type_text("王小明")
    page.one("#tag").click()
    page.wait_text("#alert", told)
    assert page.all("article") == []


def test_answers_of_other_units_or_texts_are_refused(page: PageDriver, stub: StubServer) -> None:
    page.type_text("王小明")
    for answer, told in (
        ({"offsets": "codepoint", "documents": [{"entities": []}]}, "did not count offsets"),
        ({"offsets": "utf16", "documents": []}, "not of as many"),
        ("<html>", "did not count offsets"),
    ):
        stub.reply = (200, answer)
        page.one("#tag").click()
        page.wait_text("#alert", told)


def test_half_a_character_is_not_sent(page: PageDriver, stub: StubServer) -> None:
    page.run(
        "const box = document.getElementById('text'); box.value = '🎉a\\ud83d';"
        "box.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    page.one("#tag").click()
    page.wait_text("#alert", "Character 3 is half a surrogate pair")
    assert stub.requests == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_that_of_wcag_aa(page: PageDriver, scheme: str) -> None:
    page.prefer(prefers_color_scheme=scheme)
    page.choose("model", "wide")
    page.tag("甲乙丙丁戊己庚辛壬癸子丑寅卯，都是类型。")
    page.click_mark("甲")
    page.keep()
    page.one("#help summary").click()
    page.one("article details summary").click()
    seen, low = page.run(_CONTRAST)
    assert low == []
    assert seen > 90
    dark = page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 23)"
    assert dark == (scheme == "dark")
    page.compare("林小满在云雀科技，武汉", "news", "law")
    page.all("#legend .chip")[0].click()
    page.one("#clear").click()
    assert page.run(_CONTRAST)[1] == []


def test_the_theme_can_be_chosen_and_stays(page: PageDriver) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    assert page.run(paper) == "rgb(255, 255, 255)"
    page.choose("theme", "Dark")
    assert page.run(paper) == "rgb(15, 19, 23)"
    page.browser.refresh()
    assert page.run(paper) == "rgb(15, 19, 23)"
    page.choose("theme", "System")
    assert page.run(paper) == "rgb(255, 255, 255)"


def test_tab_goes_through_the_page_and_out_of_it(page: PageDriver) -> None:
    page.tag("王小明")
    page.keep()
    page.run("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)")
    page.browser.refresh()
    page.wait(lambda: page.one("#tag").is_enabled())
    page.tag("深圳")
    page.run("document.activeElement.blur(); document.body.tabIndex = -1; document.body.focus()")
    page.press(Keys.TAB)
    assert page.text(".skip") == page.focused.text
    assert page.focused.rect["y"] >= 0  # it comes into view
    page.press(Keys.ENTER, Keys.TAB)
    assert page.focused.get_attribute("id") == "threshold"

    page.run("document.body.focus(); getSelection().removeAllRanges(); document.body.blur()")
    page.run("document.querySelector('.skip').focus()")
    name = "const e = document.activeElement; return e.id || e.className || e.textContent"
    seen = [page.run(name)]
    for _ in range(50):
        page.press(Keys.TAB)
        seen.append(page.run(name))
        if seen[-1] in ("skip", "") or page.run("return document.activeElement === document.body"):
            break
        outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline not in ("none", "hidden"), seen[-1]
    assert len(seen) < 45, seen
    assert {"text", "model", "other", "lines", "tag", "threshold", "scores", "scroll"} <= set(seen)
    assert {"open", "Remove", "clear", "download"} <= set(seen)


def test_nothing_blinks_for_those_who_want_it_so(page: PageDriver) -> None:
    page.tag("王小明")
    animation = "return getComputedStyle(document.querySelector('.caret')).animationName"
    assert page.run(animation) == "blink"
    page.prefer(prefers_reduced_motion="reduce")
    assert page.run(animation) == "none"
