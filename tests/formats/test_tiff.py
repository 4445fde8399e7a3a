from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.data.images import GRAY, RGB, SOLID, problem_of
from unetpp import scratch
from unetpp.formats.readers import open_image, read_image, read_label
from unetpp.formats.writers import write_segmentation
from unetpp.volume import Geometry


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, ">u2", ">f4"])
def test_tiff_keeps_its_number_type(tmp_path: Path, dtype: str) -> None:
    stored = (GRAY * 3.0).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, byteorder=">" if str(dtype).startswith(">") else "<")
    array = read_image(tmp_path / "a.tif").array
    np.testing.assert_array_equal(array[0], stored)
    assert array.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((5, 6, 9), "ZYX", (1, 5, 6, 9)),
        ((5, 6, 9), "CYX", (5, 6, 9)),
        ((5, 2, 6, 9), "ZCYX", (2, 5, 6, 9)),
        ((1, 1, 6, 9), "TZYX", (1, 6, 9)),
    ],
)
def test_tiff_axes_become_channels_and_planes(
    tmp_path: Path, shape: tuple[int, ...], axes: str, expected: tuple[int, ...]
) -> None:
    stored = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    tifffile.imwrite(tmp_path / "a.ome.tif", stored, photometric="minisblack", metadata={"axes": axes})
    array = read_image(tmp_path / "a.ome.tif").array
    assert array.shape == expected
    assert array[(-1,) * array.ndim] == stored[(-1,) * stored.ndim]


def test_colors_of_a_tiff_volume(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([RGB, RGB]), photometric="rgb")
    assert read_image(tmp_path / "a.tif").array.shape == (3, 2, 6, 9)


def test_white_is_zero_tiff_is_inverted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array[0], 255 - GRAY)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">", "compression": "deflate"},
        {"compression": "deflate"},
        {"compression": "deflate", "rowsperstrip": 4},
        {"compression": "deflate", "tile": (16, 16)},
        {"planarconfig": "separate", "tile": (16, 16)},
    ],
)
def test_a_large_tiff_is_mapped_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    image = np.random.default_rng(0).integers(
        0, 255, (3, 37, 50) if "planarconfig" in options else (37, 50, 3), dtype=np.uint8
    )
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", **options)
    source = open_image(tmp_path / "a.tif")
    assert isinstance(source._array, np.memmap)  # type: ignore[attr-defined]
    expected = image if "planarconfig" in options else image.transpose(2, 0, 1)
    np.testing.assert_array_equal(source.read((slice(2, 35), slice(3, 49))), expected[:, 2:35, 3:49])


def test_a_large_volume_is_unpacked_plane_by_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    volume = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)
    tifffile.imwrite(
        tmp_path / "a.tif", volume, photometric="minisblack", compression="deflate", metadata={"axes": "ZYX"}
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array[0], volume)


@pytest.mark.parametrize("kind", ["bits", "white is zero", "palette", "several files", "missing tiles"])
def test_unusual_tiffs_are_the_same_when_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    image, path = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8), tmp_path / "a.tif"
    if kind == "bits":
        tifffile.imwrite(path, image > 99, photometric="minisblack", compression="deflate")
    elif kind == "white is zero":
        tifffile.imwrite(path, image, photometric="miniswhite", compression="deflate")
    elif kind == "palette":
        tifffile.imwrite(
            path,
            image,
            photometric="palette",
            colormap=np.random.default_rng(0).integers(0, 2**16, (3, 256), dtype=np.uint16),
            compression="deflate",
        )
    elif kind == "several files":
        path = write_ome_in_two_files(tmp_path, np.stack([image, image[::-1]]))
    else:
        with tifffile.TiffWriter(path) as tiff:
            tiles = [image[:16, :16].tobytes(), b"", *[image[:16, :16].tobytes()] * 10]
            tiff.write(
                iter(tiles), shape=(40, 50), dtype=np.uint8, tile=(16, 16), compression=None, photometric="minisblack"
            )
    expected = read_image(path).array
    monkeypatch.setattr(scratch, "LARGE", 10)
    np.testing.assert_array_equal(read_image(path).array, expected)


def write_ome_in_two_files(folder: Path, planes: np.ndarray) -> Path:
    """One plane in each; the metadata of both name both."""
    identifiers = [f"urn:uuid:00000000-0000-0000-0000-00000000000{number}" for number in range(2)]
    names = ["a.ome.tif", "b.ome.tif"]
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{identifier}</UUID></TiffData>'
        for z, (name, identifier) in enumerate(zip(names, identifiers, strict=True))
    )
    size = f'SizeX="{planes.shape[2]}" SizeY="{planes.shape[1]}" SizeZ="2" SizeC="1" SizeT="1"'
    for name, identifier, plane in zip(names, identifiers, planes, strict=True):
        text = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{identifier}"><Image ID="Image:0">'
        )
        text += f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" {size}>'
        text += f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
        tifffile.imwrite(
            folder / name, plane, photometric="minisblack", compression="deflate", description=text, metadata=None
        )
    return folder / names[0]


def test_tiff_keeps_resolution_and_distance_of_planes(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "image.tif",
        SOLID,
        imagej=True,
        resolution=(4, 4),
        metadata={"spacing": 2.5, "unit": "um", "axes": "ZYX"},
    )
    write_segmentation(SOLID, read_image(tmp_path / "image.tif").geometry, tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as out:
        assert out.imagej_metadata["spacing"] == 2.5
        assert out.pages.first.resolution == (4.0, 4.0)
    np.testing.assert_array_equal(read_label(tmp_path / "out.tif").array[0], SOLID)


@pytest.mark.parametrize("planes", [2, 3, 4])
def test_a_tiff_volume_of_few_planes_stays_a_volume(tmp_path: Path, planes: int) -> None:
    write_segmentation(SOLID[:planes], Geometry(".tif"), tmp_path / "out.tif")
    assert read_label(tmp_path / "out.tif").array.shape == (1, planes, 5, 6)


def test_too_many_pages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 8, 8), np.uint8), metadata=None)
    monkeypatch.setattr("unetpp.formats.tiff.MOST_PAGES", 8)
    assert problem_of(read_image, tmp_path / "a.tif").got == "9 pages"
