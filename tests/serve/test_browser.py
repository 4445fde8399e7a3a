"""The page in a browser, as people use it: look, choose a size, paint, save, train further, reload."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.serve.browsing import Serve, open_result, paint, require_browser
from tests.serve.conftest import MakeState

from unetpp.progress import Stage
from unetpp.serve import views
from unetpp.serve.job import Job
from unetpp.serve.job_prediction import JobPrediction

pytestmark = pytest.mark.browser
require_browser()


def test_a_person_corrects_an_image(page: Any, serve: Serve, make_state: MakeState, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "square.png")
    page.goto(serve(make_state()))
    page.wait_for_selector("#welcome:not([hidden])")
    assert page.is_visible("#welcome") and "Three steps" in page.inner_text("#welcome")
    page.set_input_files("#files", tmp_path / "square.png")
    open_result(page)
    assert page.inner_text("#viewer-title") == "square"
    page.fill("#dial", "0")
    assert page.inner_text("#dial-text").startswith("1;")
    page.check("#doubt")
    page.uncheck("#doubt")
    page.click("#paint-start")
    page.check("#pens input[value='1']")
    paint(page, (0.1, 0.1), (0.4, 0.1))  # left and above
    page.check("#unsaid")
    page.click("#save")
    page.wait_for_selector("#corrected li")
    mask = np.asarray(Image.open(tmp_path / "served/corrections/data/labels/square.png"))
    rows, columns = np.nonzero(mask == 255)
    assert rows.size and rows.max() < 16 and columns.max() < 40, "what was painted above and to the left is there"
    assert set(np.unique(mask)) == {254, 255}
    page.fill("#minutes", "0.2")
    page.click("#train")
    page.wait_for_selector("#training-charts canvas")
    page.wait_for_selector("#stop-training", state="hidden", timeout=300_000)
    assert "Dice" in page.inner_text("#training-state")
    page.reload()
    open_result(page)
    assert page.locator("#jobs li").count() == 1 and page.locator("#corrected li").count() == 1
    assert page.failures == []


def test_a_stroke_suggests_the_rest_of_its_object(
    page: Any, serve: Serve, make_state: MakeState, tmp_path: Path
) -> None:
    rows, columns = np.mgrid[:128, :128]
    disc = np.hypot(rows - 64, columns - 64) < 30
    Image.fromarray((200 * disc).astype(np.uint8)).save(tmp_path / "disc.png")
    page.goto(serve(make_state()))
    page.wait_for_selector("#welcome:not([hidden])")
    page.set_input_files("#files", tmp_path / "disc.png")
    open_result(page)
    page.click("#paint-start")
    for index in (0, 1):  # one of both is not what the model of this test has found
        page.check(f"#pens input[value='{index}']")
        with page.expect_response("**/suggestion") as answer:
            paint(page, (0.35, 0.5), (0.65, 0.5))
        assert answer.value.ok
    page.wait_for_timeout(300)
    if page.is_visible("#suggestion"):
        page.click("#suggestion-drop")
        assert not page.is_visible("#suggestion")
        with page.expect_response("**/suggestion"):
            paint(page, (0.4, 0.45), (0.6, 0.45))
        page.wait_for_timeout(300)
    offered = page.is_visible("#suggestion")
    if offered:
        page.click("#suggestion-take")
    page.check("#unsaid")
    page.click("#save")
    page.wait_for_selector("#corrected li")
    mask = np.asarray(Image.open(tmp_path / "served/corrections/data/labels/disc.png"))
    said = mask != 254
    assert said.any() and (not offered or said[disc].mean() > 0.3) and said[~disc].mean() < 0.05
    assert page.failures == []


def test_two_results_lie_side_by_side(page: Any, serve: Serve, make_state: MakeState, trained: Path) -> None:
    page.goto(serve(make_state([trained, trained])))
    page.click("#sample")
    open_result(page)
    assert page.locator("#beside option").all_inner_texts()[:3] == ["Nothing", "Size 1", "Size 2"]
    page.select_option("#beside", "size 1")
    page.wait_for_selector("#loading-beside", state="hidden")
    assert page.inner_text("#caption-beside") == "Size 1" and page.is_visible("#canvas-beside")
    page.locator("#beside option").last.evaluate("option => { option.parentElement.value = option.value; }")
    page.dispatch_event("#beside", "change")
    page.wait_for_selector("#caption-beside:has-text(', size 2')")
    page.wait_for_selector("#loading-beside", state="hidden")
    assert page.locator("#jobs li").count() == 2
    page.select_option("#beside", "")
    assert not page.is_visible("#stage-beside")
    assert page.failures == []


def test_a_training_is_watched(page: Any, serve: Serve, make_state: MakeState, trained: Path) -> None:
    page.goto(serve(make_state([], data=None, run=trained)))
    page.wait_for_selector("#growing-cases .found[src]")
    page.wait_for_selector("#live-charts canvas")
    assert page.locator("#growing-cases figure").count() == 2 and "Step" in page.inner_text("#growing-text")
    page.uncheck("#growing-labels")
    assert not page.is_visible("#growing-cases .label >> nth=0")
    assert page.failures == []


def test_many_images_wait_for_room_while_strokes_stay(
    page: Any, serve: Serve, make_state: MakeState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delay_first_image(monkeypatch)
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if request.url.endswith("/events") else None)
    page.goto(serve(make_state(limits={"queued": 2, "together": 1})))
    page.click("#sample")
    open_result(page)
    page.click("#paint-start")
    paint(page, (0.3, 0.3), (0.6, 0.6))
    for number in range(6):
        Image.fromarray(np.full((40, 40), number, np.uint8)).save(tmp_path / f"{number}.png")
    title, before = page.inner_text("#viewer-title"), len(streams)
    page.set_input_files("#files", [tmp_path / f"{number}.png" for number in range(6)])
    page.wait_for_selector("#sending-text:has-text('3 of 6 images are sent; the queue of the server is full')")
    page.click("button[aria-label='Cancel 0']")
    page.locator("#jobs .open:not([disabled])").nth(5).wait_for()
    assert page.locator("#jobs small:has-text('cancelled')").count() == 1 and not page.is_visible("#sending")
    assert page.inner_text("#viewer-title") == title and len(set(streams[before:])) == len(streams[before:])
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.click("#jobs .open >> nth=0")
    assert "not saved" in asked[0] and page.inner_text("#viewer-title") == title
    page.click("#by-doubt")
    assert page.inner_text("#order") == "6 finished images, the most doubtful first."
    page.set_input_files("#files", [tmp_path / f"{number}.png" for number in range(6)])
    page.wait_for_selector("#sending-text:has-text('3 of 6 images are sent; the queue of the server is full')")
    page.click("#sending-stop")
    page.wait_for_selector("#sending", state="hidden")
    page.click("#by-time")
    assert page.locator("#jobs li").count() == 10
    page.click("button[aria-label='Cancel 0']")
    assert page.failures == []


def delay_first_image(patch: pytest.MonkeyPatch) -> None:
    """Let predictions of an image named 0 last until they are cancelled."""
    run = JobPrediction.run

    def run_slowly(prediction: JobPrediction, job: Job, progress: Stage) -> dict[str, Any]:
        while job.name == "0":
            progress(0.1, 1)
            time.sleep(0.02)
        return run(prediction, job, progress)

    patch.setattr(JobPrediction, "run", run_slowly)


def test_each_result_has_an_address(page: Any, serve: Serve, make_state: MakeState, tmp_path: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(serve(make_state()))
    page.wait_for_selector("#welcome:not([hidden])")
    for name in ("one", "two"):
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / f"{name}.png")
        page.set_input_files("#files", tmp_path / f"{name}.png")
        page.wait_for_selector(f"#viewer-title:has-text('{name}')")
    page.go_back()
    page.wait_for_selector("#viewer-title:has-text('one')")
    open_result(page)
    page.click("#copy-link")
    page.wait_for_selector("#copied:has-text('Copied')")
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)
    open_result(page)
    assert page.inner_text("#viewer-title") == "one", "not the newest"
    page.click("button[aria-label='Remove one']")
    page.wait_for_selector("#viewer", state="hidden")
    page.evaluate("link => { location.href = link; }", link)
    page.wait_for_selector("#message:has-text('not on the server any more')")
    assert page.failures == []


def test_strokes_stay_when_the_channel_changes(
    page: Any, serve: Serve, make_state: MakeState, two_channel_model: Path, tmp_path: Path
) -> None:
    files = [tmp_path / f"a_000{number}.png" for number in (0, 1)]
    for number, file in enumerate(files):
        Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) + 200 * number, (40, 1))).save(file)
    page.goto(serve(make_state([two_channel_model], data=None)))
    page.wait_for_selector("#welcome:not([hidden])")
    page.set_input_files("#files", files)
    open_result(page)
    assert float(page.input_value("#high")) < 40
    page.click("#paint-start")
    paint(page, (0.1, 0.1), (0.4, 0.1))
    page.select_option("#channel", "1")
    page.wait_for_selector("#low[min^='18']")  # its own window begins at 200
    paint(page, (0.1, 0.9), (0.4, 0.9))
    page.check("#unsaid")
    page.click("#save")
    page.wait_for_selector("#corrected li")
    mask = np.asarray(Image.open(next((tmp_path / "served/corrections/toy/labels").iterdir())))
    rows, _ = np.nonzero(mask != 255)
    assert rows.min() < 8 and rows.max() > 32, "what was painted on both channels"
    assert page.failures == []


def test_a_large_image_is_shown_in_tiles_and_corrected_in_parts(
    page: Any, serve: Serve, make_state: MakeState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "LONGEST_SIDE", 64)
    picture = np.random.default_rng(0).integers(0, 255, (80, 120), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "large.png")
    page.goto(serve(make_state()))
    page.wait_for_selector("#welcome:not([hidden])")
    page.set_input_files("#files", tmp_path / "large.png")
    open_result(page)
    page.wait_for_selector("#tiles canvas")
    assert not page.is_visible("#paint-card")
    page.fill("#dial", "0")
    page.select_option("#beside", "size 2")
    page.wait_for_selector("#tiles-beside canvas")
    page.select_option("#beside", "")
    page.check("#outlines")
    with page.expect_response("**/tiles/doubt/**") as answer:
        page.check("#doubt")
    assert answer.value.ok
    page.click("#closer")
    page.wait_for_selector("#paint-card")
    page.click("#paint-start")
    paint(page, (0.45, 0.5), (0.55, 0.5))
    page.click("#save")
    page.wait_for_selector("#corrected li")
    page.click("#whole")
    page.wait_for_selector("#tiles canvas")
    assert page.failures == []


def test_errors_are_one_sentence(page: Any, serve: Serve, make_state: MakeState, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"not an image")
    page.goto(serve(make_state()))
    page.wait_for_selector("#welcome:not([hidden])")  # before that nobody listens for files
    page.set_input_files("#files", tmp_path / "notes.png")
    page.wait_for_selector("#message:not([hidden])")
    assert "notes.png: got" in page.inner_text("#message") and "{" not in page.inner_text("#message")


def test_nothing_is_wider_than_the_page(page: Any, serve: Serve, make_state: MakeState) -> None:
    page.goto(serve(make_state()))
    page.wait_for_selector("#welcome:not([hidden])")
    require_width(page)
    page.click("#sample")
    open_result(page)
    require_width(page)


def require_width(page: Any) -> None:
    """Require that nothing is wider than the page, on a desk and on a phone."""
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_server_with_tokens_asks_for_one(page: Any, serve: Serve, make_state: MakeState) -> None:
    token = "a-token-of-a-test"
    page.goto(serve(make_state(tokens=(token,))))
    page.wait_for_selector("#login:not([hidden])")
    page.fill("#token", token)
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:not([hidden])")


def test_the_page_of_the_api_is_drawn_offline(page: Any, serve: Serve, make_state: MakeState) -> None:
    elsewhere: list[str] = []
    address = serve(make_state())
    page.on("request", lambda request: None if request.url.startswith(address) else elsewhere.append(request.url))
    page.goto(f"{address}/docs")
    page.wait_for_selector("text=Predict an image")
    assert [url for url in elsewhere if not url.startswith(("data:", "blob:"))] == []
