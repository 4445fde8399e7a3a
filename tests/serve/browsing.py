"""A Chromium, and a server of this process that it opens: what the tests of the page share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.serve.chromium import CHROMIUM, find_reason_without

from unetpp.serve.http_server import HttpServer, listen, start_in_thread
from unetpp.serve.state import ServerState

OPTIONS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
Serve = Callable[[ServerState], str]


def require_browser() -> Any:
    """Return Playwright's library, or skip the module where it or Chromium is missing."""
    if reason := find_reason_without():
        pytest.skip(reason, allow_module_level=True)
    return import_module("playwright.sync_api")


def serve_states() -> Iterator[Serve]:
    """Yield a function that serves a state and returns the address; the servers stop afterwards."""
    running: list[Any] = []

    def start(state: ServerState) -> str:
        server, opened = HttpServer(state), listen("127.0.0.1", 0)
        address = f"http://127.0.0.1:{opened.getsockname()[1]}"
        running.append((server, start_in_thread(server, opened)))
        return address

    yield start
    for server, thread in running:
        server.stop()
        thread.join(30)


def launch_browser(playwright: Any) -> Iterator[Any]:
    """Yield a Chromium."""
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


def open_page(browser: Any, **options: Any) -> Iterator[Any]:
    """Yield a page of its own that collects its errors; a small one, because its volumes are drawn by the processor."""
    context = browser.new_context(**{"viewport": {"width": 1120, "height": 640}, **options})
    opened = context.new_page()
    opened.set_default_timeout(180_000)
    opened.failures = []
    opened.on("pageerror", lambda error: opened.failures.append(str(error)))
    yield opened
    context.close()


def drop_files(page: Any, *paths: Path) -> None:
    """Drop files or folders on the page, as a person does from another window."""
    session = page.context.new_cdp_session(page)
    box = page.locator("#drop").bounding_box()
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 10, "data": data}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place})
    session.detach()


def open_result(page: Any) -> None:
    """Wait until the image that was opened is drawn."""
    page.wait_for_selector("#viewer:not([hidden])")
    page.wait_for_selector("#loading", state="hidden")
    page.wait_for_timeout(500)


def paint(page: Any, start: tuple[float, float], stop: tuple[float, float]) -> None:
    """Drag over the image between two places, as fractions of it; the image is square and fills the height."""
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    side = min(box["width"], box["height"])
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    page.mouse.move(left + start[0] * side, top + start[1] * side)
    page.mouse.down()
    page.mouse.move(left + stop[0] * side, top + stop[1] * side, steps=12)
    page.mouse.up()
