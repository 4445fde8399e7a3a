from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.images import FLAT, RNG, SOLID
from unetpp import scratch
from unetpp.errors import UsageError, WriteError
from unetpp.formats.readers import read_image, read_label
from unetpp.formats.writers import map_suffix, output_suffix, write_map, write_segmentation
from unetpp.volume import Geometry


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg", ".ome.tif"])
def test_classes_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(FLAT).save(tmp_path / "image.png")
    geometry = Geometry(suffix)
    path = tmp_path / f"out{output_suffix(geometry)}"
    write_segmentation(FLAT, geometry, path)
    np.testing.assert_array_equal(read_label(path).array[0], FLAT)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_more_than_255_classes(tmp_path: Path, suffix: str) -> None:
    many = np.arange(54, dtype=np.uint16).reshape(6, 9) * 100
    write_segmentation(many, Geometry(suffix), tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(read_label(tmp_path / f"out{suffix}").array[0], many)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_large_segmentation_is_written_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, dtype: type
) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    segmentation = scratch.allocate_array((700, 1100), dtype)
    segmentation[:] = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, segmentation.shape)
    header = (300, 300) if suffix == ".png" else {"resolution": (300, 300), "resolutionunit": 2}
    write_segmentation(segmentation, Geometry(suffix, header=header), tmp_path / f"a{suffix}")
    found = read_label(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.array[0], segmentation)
    if suffix == ".png":
        assert found.geometry.header == pytest.approx((300, 300), rel=1e-3)
    else:
        assert found.geometry.header["resolution"] == (300, 300)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [(".png", ".tif"), (".jpg", ".tif"), (".tiff", ".tif"), (".nii.gz", ".nii.gz"), (".mhd", ".mha")],
)
def test_maps_keep_their_fractions(tmp_path: Path, suffix: str, expected: str) -> None:
    if expected == ".mha":
        pytest.importorskip("SimpleITK")
    values = RNG.random((4, 5, 6) if "." + expected[1:] in (".nii.gz", ".mha") else (5, 6))
    geometry = Geometry(suffix, affine=np.eye(4))
    assert map_suffix(geometry) == expected
    write_map(values, geometry, tmp_path / f"out{expected}")
    np.testing.assert_array_equal(read_image(tmp_path / f"out{expected}").array[0], values.astype(np.float32))


def test_another_suffix_than_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected '.png'"):
        write_segmentation(FLAT, Geometry(".jpg"), tmp_path / "out.jpg")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz", ".mha"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if suffix == ".mha":
        pytest.importorskip("SimpleITK")
    array = SOLID if suffix in (".nii.gz", ".mha") else FLAT
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"precious")

    def full(handle: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        write_segmentation(array, Geometry(suffix, affine=np.eye(4)), path)
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
