"""Pictures of validation cases while a network learns: small, in the order of steps, and never a reason to stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unetpp.measure.growing_views import LONGEST_SIDE, GrowingViews


class HeldCase:
    """A prepared case in memory."""

    def __init__(self, id: str, shape: tuple[int, ...]) -> None:
        self.id = id
        self._label = np.zeros(shape, np.uint8)
        self._label[..., 2:6, 3:9] = 1
        if len(shape) == 3:
            self._label[0] = 0
        self._image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)

    def label(self) -> np.ndarray:
        return self._label

    def image(self) -> np.ndarray:
        return self._image


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGBA"))


@pytest.mark.parametrize("shape", [(20, 30), (4, 20, 30)])
def test_cases_grow_step_by_step(shape: tuple[int, ...], small_plan: Callable[..., Any], tmp_path: Path) -> None:
    cases: Any = [HeldCase(f"case {number}", shape) for number in range(7)]
    views = GrowingViews(tmp_path / "growing", cases, small_plan(dims=len(shape)).data)
    heard: list[dict[str, Any]] = []
    listen = views.listen(lambda **values: heard.append(values))
    for step in (10, 20):
        for case in cases:
            views.take(case, case.label() if step == 20 else np.zeros(shape, bool))
        listen(kind="train", step=step)
        listen(kind="validation", step=step, dice=0.5)
    assert [each["kind"] for each in heard] == ["train", "validation"] * 2 and views.seconds > 0
    folder = tmp_path / "growing"
    assert json.loads((folder / "cases.json").read_text()) == ["case 0", "case 2", "case 4"]
    names = {path.name for path in folder.iterdir()}
    each = {f"{number}_{what}.png" for number in range(3) for what in ("image", "label", 10, 20)}
    assert names == each | {"cases.json"}
    before, after, outlines = (read(folder / f"0_{what}.png") for what in (10, 20, "label"))
    assert not before[..., 3].any() and (after[2:6, 3:9, 3] == 255).all() and after[..., 3].sum() == 24 * 255
    assert (outlines[2:6, 3, 3] == 255).all() and not outlines[4, 5, 3]


def test_large_images_are_thinned_out(small_plan: Callable[..., Any], tmp_path: Path) -> None:
    cases: Any = [HeldCase("a", (20, 3 * LONGEST_SIDE + 1))]
    views = GrowingViews(tmp_path, cases, small_plan().data)
    views.take(cases[0], cases[0].label())
    views.write(1)
    assert max(read(tmp_path / "0_image.png").shape) <= LONGEST_SIDE


def test_what_cannot_be_written_is_left_out(small_plan: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "growing").write_text("a file where the folder should be")
    cases: Any = [HeldCase("a", (20, 30))]
    views = GrowingViews(tmp_path / "growing", cases, small_plan().data)
    views.take(cases[0], cases[0].label())
    views.write(1)
    assert (tmp_path / "growing").is_file()
