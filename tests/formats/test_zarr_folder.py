"""OME-Zarr folders as images like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import unetpp
from tests.conftest import toy_plan
from tests.tiny import write_png
from tests.zarr_images import write_image
from unetpp.errors import DataError
from unetpp.formats import is_image
from unetpp.formats.readers import open_image, read_grid
from unetpp.layouts.inputs import find_images

pytest.importorskip("zarr", reason="the extra cluster is not installed")
pytest.importorskip("obstore", reason="the extra cluster is not installed")


@pytest.mark.parametrize(("name", "version"), [("a.zarr", "0.4"), ("b.ome.zarr", "0.5")])
def test_a_folder_is_read_whole(tmp_path: Path, name: str, version: str) -> None:
    array = np.random.default_rng(0).integers(0, 255, (2, 5, 20, 24)).astype(np.uint8)
    write_image(tmp_path / name, array, "czyx", (1, 2, 8, 8), version)
    assert is_image(tmp_path / name)
    source = open_image(tmp_path / name)
    assert np.array_equal(source.read((slice(0, 5), slice(0, 20), slice(0, 24))), array)
    assert source.geometry.spacing_mm == (0.001, 0.0005, 0.0005)
    assert read_grid(tmp_path / name)[0] == (5, 20, 24)


def test_what_is_no_image_is_one_problem(tmp_path: Path) -> None:
    write_image(tmp_path / "film.zarr", np.zeros((3, 20, 24), np.uint8), "tyx", (1, 8, 8))
    with pytest.raises(DataError, match="3 time points"):
        open_image(tmp_path / "film.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(DataError, match="no Zarr group"):
        open_image(tmp_path / "empty.zarr")
    (tmp_path / "file.zarr").touch()
    assert not is_image(tmp_path / "file.zarr")


def test_folders_of_images_hold_stores_too(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.zarr", np.zeros((20, 24), np.uint8), "yx", (8, 8))
    write_png(tmp_path / "in" / "b.png", np.zeros((20, 24), np.uint8))
    found = find_images([tmp_path / "in"])
    assert [case.id for case in found.cases] == ["a", "b"]
    assert not found.skipped
    assert [case.id for case in find_images([tmp_path / "in" / "a.zarr"]).cases] == ["a"]


def test_a_data_set_of_stores_is_checked(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(4):
        image = random.integers(0, 255, (24, 24)).astype(np.uint8)
        write_image(tmp_path / "images" / f"{number}.zarr", image, "yx", (8, 8), levels=1)
        write_png(tmp_path / "masks" / f"{number}.png", (image > 128).astype(np.uint8))
    checked = unetpp.check(tmp_path, progress=False)
    assert checked.exit_code == 0, checked.to_text()


def test_predictions_of_a_store_are_tiff_files(tmp_path: Path, make_model: object) -> None:
    assert callable(make_model)
    write_image(tmp_path / "a.zarr", np.zeros((20, 24), np.uint8), "yx", (8, 8))
    done = unetpp.predict(make_model(toy_plan(2)), tmp_path / "a.zarr", tmp_path / "out", device="cpu", progress=False)
    assert [path.name for path in done.files] == ["a.tif"]
