"""Pictures with outlines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.plans import small_plan

from unetpp import slabs
from unetpp.formats.sources import ArraySource
from unetpp.infer import overlay
from unetpp.infer.overlay import choose_colors, find_outlines, write_overlay
from unetpp.plan import LabelPlan
from unetpp.volume import Geometry

GREEN, PINK = (53, 224, 140), (255, 95, 162)


def draw(image: np.ndarray, segmentation: np.ndarray, path: Path, geometry: Geometry | None = None) -> np.ndarray:
    data = small_plan(classes=3).data
    write_overlay(ArraySource(image, geometry or Geometry()), segmentation.astype(np.uint8), data, path)
    return np.array(Image.open(path))


def find_color(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    found: np.ndarray = (picture == color).all(axis=-1)
    return found


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_classes_are_outlined_in_their_colors(tmp_path: Path, channels: int, dtype: type) -> None:
    segmentation = np.zeros((60, 128))
    segmentation[10:30, 10:50], segmentation[40:50, 100:110] = 1, 2
    picture = draw(np.full((channels, 60, 128), 7, dtype), segmentation, tmp_path / "a.png")
    assert picture.shape == (240, 512, 3)
    rows, columns = np.nonzero(find_color(picture, GREEN))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 119, 40, 199)
    assert not find_color(picture, GREEN)[60:100, 60:180].any()
    assert find_color(picture, PINK)[160:200, 400:440].any()


def test_a_large_image_is_shrunk_and_read_in_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "LONGEST_SIDE", 100)
    monkeypatch.setattr(overlay, "SMALLEST_SIDE", 1)
    monkeypatch.setattr(slabs, "SLAB_VALUES", 7 * 300)
    segmentation = np.zeros((205, 300))
    segmentation[60:90, 90:150] = 1
    ramp = np.arange(205 * 300, dtype=np.float32).reshape(1, 205, 300)
    picture = draw(ramp, segmentation, tmp_path / "a.png")
    assert picture.shape == (69, 100, 3)
    rows, columns = np.nonzero(find_color(picture, GREEN))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 29, 30, 49)
    assert (np.diff(picture[:, 0, 0].astype(int)) >= 0).all()


def test_of_a_volume_the_fullest_slices_are_shown_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "SMALLEST_SIDE", 1)
    monkeypatch.setattr(slabs, "SLAB_VALUES", 3 * 20 * 30)
    segmentation = np.zeros((10, 20, 30))
    segmentation[7, 2:8, 3:13] = 1
    volume = np.zeros((1, 10, 20, 30), np.int16)
    geometry = Geometry(".nii.gz", (2.0, 1.0, 1.0), np.diag([1.0, 1.0, 2.0, 1.0]))
    picture = draw(volume, segmentation, tmp_path / "a.png", geometry)
    assert picture.shape == (20, 30 + overlay.GAP + 30 + overlay.GAP + 20, 3)
    green = find_color(picture, GREEN)
    rows, columns = np.nonzero(green[:, :30])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 17, 3, 12)  # front at the top: flipped
    rows, _ = np.nonzero(green[:, 38:68])
    assert (rows.min(), rows.max()) == (4, 5)  # slice 7 of 10, each 2 pixels high, head at the top


def test_nothing_found_is_drawn_without_outlines(tmp_path: Path) -> None:
    for shape in ((40, 50), (4, 40, 50)):
        picture = draw(np.zeros((1, *shape), np.uint8), np.zeros(shape), tmp_path / "a.png")
        assert not find_color(picture, GREEN).any()


def test_outlines_lie_inside() -> None:
    segmentation = np.array([[0, 0, 0, 0], [0, 1, 1, 2], [0, 1, 1, 2]])
    assert find_outlines(segmentation).tolist() == [[False] * 4, [False, True, True, True], [False, True, True, True]]


def test_colors_of_the_labels_are_kept() -> None:
    data = small_plan(classes=3).data
    assert choose_colors(data) == [GREEN, PINK]
    labels = LabelPlan(kind="colors", colors=((0, 0, 0), (255, 0, 0), (0, 0, 255)))
    assert choose_colors(data.model_copy(update={"labels": labels})) == [(255, 0, 0), (0, 0, 255)]
