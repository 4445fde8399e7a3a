"""The loop that people come for, by mouse: drop an image, look, paint, save; strokes land where they are seen."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes
from PIL import Image
from tests.conftest import REAL_DATA
from tests.serve.browsing import Serve, drop_files, open_result, paint, require_browser
from tests.serve.conftest import MakeState
from tests.serve.test_display import turn_affine

pytestmark = pytest.mark.browser
require_browser()


def find_nucleus_image(folder: Path) -> Path:
    """Find a real image of nuclei that is square; where there is none, draw one."""
    for path in sorted((REAL_DATA / "nuclei" / "images").glob("*.png")):
        with Image.open(path) as image:
            if image.size == (256, 256):
                return path
    rows, columns = np.mgrid[:256, :256]
    nuclei = sum(40.0 * (np.hypot(rows - row, columns - column) < 20) for row, column in ((60, 80), (150, 170)))
    Image.fromarray(np.asarray(nuclei + 10, np.uint8)).save(folder / "nuclei.png")
    return folder / "nuclei.png"


def read_brain() -> np.ndarray:
    """Read a real volume of a hippocampus; where there is none, draw noise of that size."""
    for path in sorted((REAL_DATA / "hippocampus" / "imagesTr").glob("hippocampus_*.nii.gz")):
        return np.asarray(nibabel.load(path).dataobj, dtype=np.float32)
    return np.random.default_rng(0).normal(80, 10, (35, 51, 35)).astype(np.float32)


def see(page: Any) -> np.ndarray:
    """Return the canvas as a person sees it, (rows, columns, 3)."""
    return np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB")).astype(int)


def test_a_dropped_nucleus_image_is_corrected(
    page: Any, serve: Serve, make_state: MakeState, trained: Path, tmp_path: Path
) -> None:
    image = find_nucleus_image(tmp_path)
    state = make_state()
    page.goto(serve(state))
    page.wait_for_selector("#welcome:not([hidden])")
    (tmp_path / "volume.zarr").mkdir()
    drop_files(page, tmp_path / "volume.zarr")
    page.wait_for_selector("#message:has-text('volume.zarr: a folder cannot be dropped')")
    drop_files(page, image)
    open_result(page)
    assert page.inner_text("#viewer-title") == image.stem and not page.is_visible("#message")
    page.fill("#opacity", "0")
    page.dispatch_event("#opacity", "input")
    without = see(page)
    page.fill("#opacity", "1")
    page.fill("#dial", "0")
    page.wait_for_selector("#dial-text:has-text('1;')")
    job = state.store.list()[0]
    found = np.asarray(Image.open(state.store.results_of(job.id) / job.sizes[0].file)) > 0
    page.wait_for_timeout(300)
    shown = (see(page) != without).any(axis=-1)
    assert found.any() and shown.any() and shown.mean() < 1, "the segmentation lies over the image"
    page.click("#paint-start")
    paint(page, (0.6, 0.7), (0.8, 0.7))
    page.check("#unsaid")
    page.click("#save")
    page.wait_for_selector("#corrected li")
    mask = np.asarray(Image.open(next((tmp_path / "served/corrections/data/labels").iterdir())))
    rows, columns = np.nonzero(mask == 255)
    height, width = mask.shape
    assert abs(rows.mean() / height - 0.7) < 0.03 and abs(columns.mean() / width - 0.7) < 0.03
    assert columns.max() - columns.min() > 0.15 * width and rows.max() - rows.min() < 0.06 * height
    assert page.failures == []


def test_a_person_undoes_and_takes_an_object_away(
    page: Any, serve: Serve, make_state: MakeState, tmp_path: Path
) -> None:
    state = make_state()
    page.goto(serve(state))
    page.click("#sample")
    open_result(page)
    job = state.store.list()[0]
    found = np.asarray(Image.open(state.store.results_of(job.id) / job.sizes[-1].file))
    rows, columns = np.nonzero(found)
    row, column = rows[len(rows) // 2], columns[len(rows) // 2]
    page.click("#paint-start")
    paint(page, (0.3, 0.3), (0.6, 0.6))
    page.click("#undo")
    page.click("#save")
    assert page.inner_text("#paint-state") == "Nothing is painted yet."
    page.click("[data-tool=eraser]")
    assert page.get_attribute("[data-tool=eraser]", "aria-pressed") == "true"
    page.click("[data-tool=remove]")
    paint(page, *[place_of(found.shape, row, column)] * 2)
    page.wait_for_selector("#paint-state:has-text('was taken away')")
    page.click("#save")
    page.wait_for_selector("#corrected li")
    mask = np.asarray(Image.open(next((tmp_path / "served/corrections/data/labels").iterdir())))
    assert mask[row, column] == 0 and (mask != found).sum() > 0 and not mask[found == 0].any()
    page.click("#corrected button")
    page.wait_for_selector("#corrected li", state="detached")
    page.click("#jobs .small")
    page.wait_for_selector("#welcome:not([hidden])")
    assert page.failures == []


def place_of(shape: tuple[int, ...], row: int, column: int) -> tuple[float, float]:
    """Return where a pixel is seen, as fractions of the square in the middle of the canvas."""
    side = max(shape)
    return 0.5 + (column + 0.5 - shape[1] / 2) / side, 0.5 + (row + 0.5 - shape[0] / 2) / side


def test_strokes_on_an_oblique_flipped_volume_land_where_they_are_seen(
    page: Any,
    serve: Serve,
    make_state: MakeState,
    make_model: Callable[..., Path],
    small_plan: Callable[..., Any],
    tmp_path: Path,
) -> None:
    brain = np.clip(read_brain(), 0, np.percentile(read_brain(), 90))
    bright = np.zeros(brain.shape, bool)
    bright[4:14, 30:38, 20:30] = True  # in no plane of symmetry
    brain[bright] = 8 * brain.max()
    affine = turn_affine([2, 0, 1], [-1, 1, -1], 0.3, (1.0, 1.2, 0.9))
    assert "".join(aff2axcodes(affine)) != "RAS"
    nibabel.save(nibabel.Nifti1Image(brain, affine), tmp_path / "hippocampus.nii.gz")
    state = make_state([make_model(small_plan(dims=3))], data=None)
    page.goto(serve(state))
    page.wait_for_selector("#welcome:not([hidden])")
    drop_files(page, tmp_path / "hippocampus.nii.gz")
    open_result(page)
    page.fill("#dial", "0")
    page.select_option("#beside", "size 1")
    page.wait_for_selector("#loading-beside", state="hidden")
    page.select_option("#beside", "")
    page.click("[data-plane='4']")
    assert see(page).std() > 5, "a surface is drawn in 3D"
    page.click("[data-plane='0']")
    page.fill("#opacity", "0")
    planes = np.flatnonzero(as_shown(bright, affine).any(axis=(0, 1)))
    page.click("#paint-start")
    for plane in (planes[0] + 1, planes[-1] - 1):
        page.fill("#slice-2", str(plane))
        page.wait_for_timeout(200)
        paint_bright(page)
    page.click("#between")
    page.check("#unsaid")
    page.click("#save")
    page.wait_for_selector("#corrected li")
    saved = nibabel.load(next((tmp_path / "served/corrections/toy/labels").iterdir()))
    assert np.allclose(saved.affine, affine, atol=1e-5)
    painted = np.asarray(saved.dataobj) == 1
    assert painted.any() and (painted & bright).sum() > 0.9 * painted.sum(), "what was seen as bright is painted"
    filled = np.flatnonzero(as_shown(painted, affine).any(axis=(0, 1)))
    assert [*filled] == [*range(planes[0] + 1, planes[-1])], "the planes between two strokes are filled"
    assert page.failures == []


def as_shown(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Turn voxels of a file to the right, the front and the head, without what the server does."""
    return np.asarray(nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels.astype(np.uint8), affine)).dataobj)


def paint_bright(page: Any) -> None:
    """Drag the brush through the middle of the only bright part that is seen."""
    page.locator("#canvas").scroll_into_view_if_needed()
    seen, box = see(page), page.locator("#canvas").bounding_box()
    rows, columns = np.nonzero((seen.min(axis=-1) > 200) & (np.ptp(seen, axis=-1) < 20))
    left, right = np.quantile(columns, (0.3, 0.7))
    row = box["y"] + (np.median(rows) + 0.5) * box["height"] / seen.shape[0]
    scale = box["width"] / seen.shape[1]
    page.mouse.move(box["x"] + left * scale, row)
    page.mouse.down()
    page.mouse.move(box["x"] + right * scale, row, steps=8)
    page.mouse.up()
