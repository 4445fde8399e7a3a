from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.data.images import GRAY, SOLID
from unetpp.formats.readers import read_image, read_label
from unetpp.formats.writers import map_suffix, output_suffix, write_map, write_segmentation

SIZES = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}


@pytest.mark.parametrize(("unit", "factor"), [(None, 1e-3), ("µm", 1e-3), ("nm", 1e-6), ("mm", 1.0), ("cm", 10.0)])
def test_ome_sizes_are_read_in_mm_and_written_again(tmp_path: Path, unit: str | None, factor: float) -> None:
    units = {f"{key}Unit": unit for key in SIZES} if unit else {}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", SOLID, photometric="minisblack", metadata={"axes": "ZYX", **SIZES, **units}
    )
    image = read_image(tmp_path / "a.ome.tif")
    expected = np.array([2.0, 0.25, 0.5]) * factor
    np.testing.assert_allclose(image.geometry.spacing_mm, expected)
    assert image.geometry.affine is None
    assert output_suffix(image.geometry) == ".ome.tif"
    write_segmentation(SOLID, image.geometry, tmp_path / "out.ome.tif")
    write_map(SOLID / 4, image.geometry, tmp_path / f"map{map_suffix(image.geometry)}")
    for name in ("out.ome.tif", f"map{map_suffix(image.geometry)}"):
        again = read_label(tmp_path / name) if "out" in name else read_image(tmp_path / name)
        np.testing.assert_allclose(again.geometry.spacing_mm, expected)
        np.testing.assert_allclose(again.array[0], SOLID if "out" in name else SOLID / np.float32(4))


@pytest.mark.parametrize(
    ("unit", "factor"), [("um", 1e-3), ("micron", 1e-3), ("\\u00B5m", 1e-3), ("mm", 1), ("pixel", None), ("inch", None)]
)
def test_imagej_sizes_are_read_where_their_unit_is_a_length(tmp_path: Path, unit: str, factor: float | None) -> None:
    metadata = {"spacing": 2.5, "unit": unit, "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", SOLID, imagej=True, resolution=(4, 2), metadata=metadata)
    image = read_image(tmp_path / "a.tif")
    if factor is None:
        assert image.geometry.spacing_mm is None
        return
    np.testing.assert_allclose(image.geometry.spacing_mm, np.array([2.5, 0.5, 0.25]) * factor)
    write_segmentation(SOLID, image.geometry, tmp_path / "out.tif")
    np.testing.assert_allclose(read_label(tmp_path / "out.tif").geometry.spacing_mm, image.geometry.spacing_mm)


@pytest.mark.parametrize("options", [{}, {"resolution": (300, 300), "resolutionunit": "inch"}])
def test_dots_per_inch_are_no_physical_size(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY, **options)
    assert read_image(tmp_path / "a.tif").geometry.spacing_mm is None


def test_a_volume_without_a_distance_of_planes_has_no_size(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", SOLID, photometric="minisblack", metadata=metadata)
    assert read_image(tmp_path / "a.ome.tif").geometry.spacing_mm is None


def test_a_film_has_no_distance_of_planes(tmp_path: Path) -> None:
    metadata = {"axes": "TYX", **SIZES}
    tifffile.imwrite(tmp_path / "a.ome.tif", SOLID, photometric="minisblack", metadata=metadata)
    image = read_image(tmp_path / "a.ome.tif")
    assert image.array.shape == (1, *SOLID.shape)
    assert image.geometry.spacing_mm is None


def test_a_turned_image_has_exchanged_sizes(tmp_path: Path) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(tmp_path / "a.ome.tif", GRAY, metadata=metadata, extratags=[(274, 3, 1, 8, True)])
    image = read_image(tmp_path / "a.ome.tif")
    np.testing.assert_allclose(image.geometry.spacing_mm, [0.5e-3, 0.25e-3])
    write_segmentation(np.ones((9, 6), np.uint8), image.geometry, tmp_path / "out.ome.tif")
    np.testing.assert_allclose(read_image(tmp_path / "out.ome.tif").geometry.spacing_mm, [0.5e-3, 0.25e-3])
