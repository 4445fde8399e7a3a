"""The page for everybody: WCAG AA by axe-core, in light and dark, wide and narrow; and its three steps by keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.serve.browsing import AXE, Serve, open_result, require_browser
from tests.serve.conftest import MakeState

pytestmark = pytest.mark.browser
require_browser()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN = "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})"


def find_violations(page: Any, what: str) -> list[str]:
    """Run axe on the page as it is, in both themes and at both widths."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            for violation in page.evaluate(RUN, RULES)["violations"]:
                places = [node["html"][:120] for node in violation["nodes"]][:4]
                reason = violation["nodes"][0]["failureSummary"][:300]
                found.append(f"{what}, {theme} {width}: {violation['id']}: {places} {reason}")
    return found


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci --ignore-scripts in web/")
def test_no_state_of_the_page_violates_wcag_aa(page: Any, serve: Serve, make_state: MakeState, trained: Path) -> None:
    page.goto(serve(make_state([trained, trained], run=trained)))
    page.wait_for_selector("#welcome:not([hidden])")
    page.wait_for_selector("#growing-cases .found[src]")
    found = find_violations(page, "the empty page, with a training")
    page.click("#sample")
    open_result(page)
    found += find_violations(page, "a result")
    page.select_option("#beside", "size 1")
    page.wait_for_selector("#loading-beside", state="hidden")
    page.click("#paint-start")
    found += find_violations(page, "correcting, two results side by side")
    assert not found, "\n".join(found)
    assert page.failures == []


def press_until(page: Any, selector: str, key: str = "Tab") -> None:
    """Press a key until an element has the focus."""
    wanted = page.locator(selector)
    for _ in range(80):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{selector} cannot be reached by {key}")


def test_three_steps_by_keyboard_alone(page: Any, serve: Serve, make_state: MakeState) -> None:
    page.on("filechooser", lambda chooser: None)  # from now on; just before the key it may come too late
    page.goto(serve(make_state()))
    page.wait_for_selector("#welcome:not([hidden])")
    press_until(page, "#files")
    with page.expect_file_chooser():
        page.keyboard.press("Enter")
    press_until(page, "#sample")
    page.keyboard.press("Enter")
    open_result(page)
    press_until(page, "#dial")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#dial-text:has-text('1;')")
    press_until(page, "#paint-start")
    page.keyboard.press("Enter")
    press_until(page, "#canvas", "Shift+Tab")
    whole = page.locator("#canvas").screenshot()
    page.keyboard.press("+")
    page.wait_for_timeout(300)
    assert page.locator("#canvas").screenshot() != whole
    page.keyboard.press("0")
    page.wait_for_timeout(300)
    assert page.locator("#canvas").screenshot() == whole
    for key in ("ArrowLeft", "Shift+ArrowUp", "Space"):
        page.keyboard.press(key)
    press_until(page, "#save")
    page.keyboard.press("Enter")
    page.wait_for_selector("#corrected li")
    press_until(page, "#train", "Shift+Tab")
    assert page.failures == []
