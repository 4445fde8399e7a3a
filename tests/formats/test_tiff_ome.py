from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.data.images import SOLID, problem_of
from unetpp.formats.readers import open_images, read_image

START = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}"><Image ID="Image:0">'


def write_set(folder: Path, channels: int = 2, planes: int = 1, missing: int = 0) -> list[Path]:
    """Files of one channel each, whose headers name all of them."""
    names = [f"c{channel}.ome.tif" for channel in range(channels)]
    data = "".join(
        f'<TiffData FirstC="{channel}" FirstZ="0" IFD="0" PlaneCount="{planes}">'
        f'<UUID FileName="{name}">urn:uuid:{channel}</UUID></TiffData>'
        for channel, name in enumerate(names)
    )
    for channel, name in enumerate(names):
        text = (
            START.format(own=channel) + f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="6" SizeY="5"'
            f' SizeZ="{planes}" SizeC="{channels}" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
            f"{''.join(f'<Channel ID={chr(34)}C:{c}{chr(34)}/>' for c in range(channels))}{data}</Pixels></Image></OME>"
        )
        stored = SOLID[:planes] + channel * 10
        tifffile.imwrite(
            folder / name, stored[:, None], photometric="minisblack", description=text, metadata=None, rowsperstrip=5
        )
    for name in names[channels - missing :]:
        (folder / name).unlink()
    return [folder / name for name in names[: channels - missing]]


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("planes", [1, 3])
def test_a_file_of_a_set_is_read_alone(tmp_path: Path, planes: int, missing: int) -> None:
    for channel, path in enumerate(write_set(tmp_path, planes=planes, missing=missing)):
        image = read_image(path)
        expected = SOLID[:planes] + channel * 10
        np.testing.assert_array_equal(image.array[0], expected[0] if planes == 1 else expected)
        assert "read alone" in image.geometry.notes[0]
        assert (image.geometry.spacing_mm is not None) == (planes == 1)


def test_files_of_a_set_as_one_case_are_channels(tmp_path: Path) -> None:
    assert open_images(write_set(tmp_path, channels=3)).shape == (3, 5, 6)


def test_planes_that_are_missing_are_no_zeros(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", SOLID, photometric="minisblack", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as whole:
        text = whole.ome_metadata
    tifffile.imwrite(tmp_path / "b.ome.tif", SOLID[:2, None], photometric="minisblack", description=text, metadata=None)
    assert "4 planes, of which 2 are missing" in problem_of(read_image, tmp_path / "b.ome.tif").got
