"""Views of cases, and the pictures that are drawn of them."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.report.test_html import ShiftedReference, make_cases

from unetpp.infer.options import PredictOptions
from unetpp.measured import ScoredCase, Scores
from unetpp.plan import Plan
from unetpp.report import ViewFolder
from unetpp.report.pictures import EXTRA, MISSED, PREDICTION, REFERENCE, draw_view
from unetpp.report.views import make_view, read_view
from unetpp.volume import Geometry, Volume


def test_a_volume_is_shown_where_it_has_most_foreground_across_its_widest_spacing() -> None:
    label = np.zeros((8, 10, 12), np.uint8)
    label[2:6, 3:9, 7] = 1
    label[3, 5, 6:9] = 1
    image = np.random.default_rng(0).normal(size=(1, 8, 10, 12)).astype(np.float32)
    view = make_view(
        "a",
        Volume(image, Geometry(".nii.gz", (1.0, 2.0, 4.0), np.diag([4.0, 2.0, 1.0, 1.0]))),
        label,
        label,
    )
    assert view.slice == "slice 8 of 12 along X"
    assert view.aspect == 0.5
    np.testing.assert_array_equal(view.reference, label[::-1, :, 7])
    assert view.image.dtype == np.uint8
    assert (view.image.min(), view.image.max()) == (0, 255)


@pytest.mark.parametrize(("sign", "first"), [(1, 9), (-1, 0)])
def test_a_picture_has_the_front_at_the_top(sign: int, first: int) -> None:
    """Whatever the direction in which the file counts its rows."""
    array = np.broadcast_to(np.arange(10, dtype=np.float32)[:, None], (1, 3, 10, 6)).copy()
    label = np.zeros((3, 10, 6), np.uint8)
    label[1, first] = 1
    image = Volume(array, Geometry(".nii.gz", (2.0, 1.0, 1.0), np.diag([1.0, sign, 2.0, 1.0])))
    view = make_view("a", image, label, label)
    assert view.reference[0].all()


def test_large_images_are_shown_small_and_colors_kept() -> None:
    image = np.zeros((3, 1500, 1000), np.uint8)
    image[0] = 200
    label = np.zeros((1500, 1000), np.uint8)
    view = make_view("a", Volume(image, Geometry(".png")), label, label)
    assert max(view.reference.shape) <= 640
    assert view.image.shape == (*view.reference.shape, 3)
    assert view.image[0, 0].tolist() == [200, 0, 0]


def test_views_of_the_worst_cases_are_kept(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    cases, labels = make_cases(tmp_path, 2, count=5)
    plan = small_plan()
    views = ViewFolder(tmp_path / "views", plan, most=3)
    predictor = ShiftedReference(plan, labels)
    for case in cases:
        views.add(case, labels[case.id], predictor.predict_case(case, PredictOptions("all")))
    (tmp_path / "views" / "worst.npz").write_bytes(b"of an earlier version")
    views.keep([ScoredCase(id=case.id, mean=Scores(dice=0.9 - number / 10)) for number, case in enumerate(cases)])
    found = [read_view(path).id for path in (tmp_path / "views").iterdir()]
    assert sorted(found) == ["case_0", "case_3", "case_4"]  # best, second, worst


def test_overlays_show_contours_and_errors(tmp_path: Path) -> None:
    label = np.zeros((64, 64), np.uint8)
    label[16:48, 16:48] = 1
    view = make_view("a", Volume(np.zeros((1, 64, 64), np.uint8), Geometry(".png")), label, np.roll(label, 8, axis=1))
    _, contours, differences = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("RGBA"))
        for each in re.findall(r'base64,([^"]+)"', draw_view(view, 2, "image-1"))
    )

    def has(picture: np.ndarray, color: str) -> bool:
        return bool((picture[..., :3] == list(bytes.fromhex(color[1:]))).all(axis=-1)[picture[..., 3] > 0].any())

    assert has(contours, REFERENCE) and has(contours, PREDICTION)
    assert has(differences, MISSED) and has(differences, EXTRA)
    assert (differences[..., 3] > 0).sum() == 2 * 8 * 32
    assert contours[0, 0, 3] == 0


def test_borders_of_several_classes_have_their_colors_and_dashes() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[10:30, 5:20], label[10:30, 20:35] = 1, 2
    image = Volume(np.zeros((1, 40, 40), np.uint8), Geometry(".png"))
    same, moved = (
        re.findall(r'base64,([^"]+)"', draw_view(make_view("a", image, label, prediction), 3, "image-1"))[1]
        for prediction in (label, np.roll(label, 3, axis=0))
    )
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(same))))
    assert [*np.unique(drawn)] == [0, 1, 2]
    assert len(same) < len(moved)


def test_a_slice_without_reference_is_shown_where_the_prediction_is() -> None:
    nothing, found = np.zeros((5, 6, 7), np.uint8), np.zeros((5, 6, 7), np.uint8)
    found[3, 2:4, 2:4] = 1
    image = Volume(np.zeros((1, 5, 6, 7), np.uint8), Geometry())
    assert make_view("a", image, nothing, found).slice == "slice 4 of 5 along Z"
    assert make_view("a", image, nothing, nothing).slice == "slice 3 of 5 along Z"
    both = nothing.copy()
    both[1, 1, 1] = 1
    assert make_view("a", image, both, found).slice == "slice 2 of 5 along Z"  # most label, not most prediction
