"""What a further training learns from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpp.formats.writers import write_segmentation
from unetpp.layouts.dataset import Case
from unetpp.serve import training_data
from unetpp.volume import Geometry


@pytest.mark.parametrize(("most", "taken"), [(10, 1), (129, 2), (10_000, 4)])
def test_large_cases_are_replayed_up_to_a_number_of_voxels(
    most: int, taken: int, tmp_path: Path, small_plan: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_data, "MOST_REPLAYED_VOXELS", most)
    cases = []
    for name in "abcd":
        path = tmp_path / f"{name}.tif"
        write_segmentation(np.zeros((8, 8), np.uint8), Geometry(), path)
        cases.append(Case(name, (path,)))
    assert training_data._bound(cases, small_plan().data) == cases[:taken]
