"""Files as users bring them: what each folder of the shared inputs must do, as far as its files are concerned."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from tests.data.images import problem_of
from unetpp.data.inspect import Inspection, inspect_dataset
from unetpp.formats.readers import open_image, read_image, read_label
from unetpp.layouts.cases import find_cases
from unetpp.plan import ReadPlan


def inspect(folder: Path, **reading: str) -> Inspection:
    return inspect_dataset(find_cases(folder), ReadPlan.model_validate(reading))


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("2d/cmyk-tiff-among-rgb", "CMYK, converted to RGB"),
        ("2d/exif-turned-image", "turned by its orientation tag, its label has none"),
        ("2d/tiff-orientation-tag", "turned upright by its orientation tag (3)"),
        ("2d/four-bands-as-rgba", 'keep it with `data.axes="YXC"`'),
        ("2d/ome-files-of-a-set-one-missing", "one of several OME-TIFF files"),
        ("2d/gif-masks", ""),
        ("2d/images-that-are-arrays", ""),
        ("2d/webp-jp2-ppm-images", ""),
        ("3d/formats-that-are-not-read/numpy", '`data.axes="ZYX"`'),
    ],
)
def test_files_are_read_and_what_was_done_is_noted(cases: Path, name: str, note: str) -> None:
    found = inspect(cases / name)
    assert (found.problems, len(found.facts) > 1) == ([], True)
    assert note in "\n".join(found.notes)


def test_channels(cases: Path) -> None:
    assert len(inspect(cases / "2d/ome-files-of-a-set-one-missing").channels) == 1
    assert len(inspect(cases / "2d/two-channels-as-pages", axes="CYX").channels) == 2
    assert len(inspect(cases / "2d/four-bands-as-rgba", axes="YXC").channels) == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [("2d/exif-quarter-turn", "orientation tag"), ("2d/two-channels-as-pages", '`data.axes="CYX"`')],
)
def test_the_cause_of_two_sizes_is_named(cases: Path, name: str, words: str) -> None:
    problems = inspect(cases / name).problems
    assert all(words in problem.action for problem in problems) and problems


def test_images_of_a_tiff_are_upright(cases: Path) -> None:
    path = next((cases / "2d/tiff-orientation-tag/images").iterdir())
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path).array, np.asarray(image).transpose(2, 0, 1))


def test_sizes_of_ome_files(cases: Path) -> None:
    path = cases / "3d/tiff-voxel-size/images/p0.ome.tif"
    np.testing.assert_allclose(open_image(path).geometry.spacing_mm, [2e-3, 0.5e-3, 0.5e-3])
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(read_image(path).array[0], file.asarray())


def test_images_of_all_kinds_are_read(cases: Path) -> None:
    for folder in ("one-bit-palette-tiff", "predict-leaves-files-out"):
        for path in (cases / "2d" / folder / "inputs").iterdir():
            assert read_image(path).dims == 2


@pytest.mark.parametrize("name", ["2d/bmp-that-claims-three-gigabytes/inputs", "bad/headers-that-lie/images"])
def test_headers_that_lie_cost_nothing(cases: Path, name: str) -> None:
    before, free = psutil.Process().memory_info().rss, shutil.disk_usage("/var/tmp").free
    for path in (cases / name).iterdir():
        if path.name != "good.png":
            assert "claims too much" in problem_of(open_image, path).got
            assert "claims too much" in problem_of(read_label, path).got
    assert psutil.Process().memory_info().rss - before < 2**27
    assert free - shutil.disk_usage("/var/tmp").free < 2**28


def test_a_png_that_ends_early_is_an_error(cases: Path) -> None:
    found = inspect(cases / "bad/png-that-ends-early")
    assert any("ends before its last row" in problem.got for problem in found.problems)
