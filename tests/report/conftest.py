"""Pages as users get them."""

from __future__ import annotations

import pytest
from tests.quick import lay_out_figures


@pytest.fixture(autouse=True)
def whole_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out_figures(monkeypatch)
