"""The browser in which the page is tested, and why there is none."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def find_reason_without() -> str | None:
    """Say why the page cannot be tested here; None: it can be."""
    if find_spec("playwright") is None:
        return "the extra browser (playwright) is not installed"
    return None if CHROMIUM else "no Chromium is installed"
