"""Comparison with SimpleITK, and mutation of text headers."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from unetpp.errors import DataError
from unetpp.formats.itk import Grid
from unetpp.formats.readers import read_image

_WORDS = (b"-1", b"0", b"9" * 20, b"nan", b"inf", b"x" * 3000, b"\0", b"LIST", b"/etc/passwd", b"none", b"()", b"gzip")


VOXELS = np.arange(24, dtype="<i2")
DETACHED = ["a.raw", "p%02d.raw 1 4 1", "LIST\np01.raw\np02.raw\np03.raw\np04.raw"]
"""How headers name the files of `write_detached`."""


def write_detached(folder: Path) -> None:
    """Write VOXELS into one file, and plane by plane into four."""
    (folder / "a.raw").write_bytes(VOXELS.tobytes())
    for number, plane in enumerate(VOXELS.reshape(4, 6), start=1):
        (folder / f"p{number:02d}.raw").write_bytes(plane.tobytes())


def count_refused(path: Path, header: str) -> int:
    """Damage a header 300 times, before VOXELS; count how often the file is refused, as any other error is raised."""
    draw, refused = random.Random(0), 0
    for _ in range(300):
        path.write_bytes(mutate_header(header.encode() + VOXELS.tobytes(), draw))
        try:
            read_image(path)
        except DataError:
            refused += 1
    return refused


def assert_read_as_itk_does(path: Path) -> None:
    """Compare voxels, number type and grid with what SimpleITK reads."""
    sitk = pytest.importorskip("SimpleITK")
    image, found = sitk.ReadImage(str(path)), read_image(path)
    expected = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        expected = np.moveaxis(expected, -1, 0)
    elif expected.ndim < 4:
        expected = expected[None]
    np.testing.assert_array_equal(found.array, expected)
    assert found.array.dtype == expected.dtype
    grid = found.geometry.header
    assert isinstance(grid, Grid)
    dims, count = image.GetDimension(), len(grid.spacing)
    assert grid.spacing == pytest.approx(image.GetSpacing()[:count])
    assert grid.origin == pytest.approx(image.GetOrigin()[:count])
    direction = np.reshape(image.GetDirection(), (dims, dims))[:count, :count]
    assert grid.direction == pytest.approx(direction.reshape(-1))


def mutate_header(content: bytes, draw: random.Random) -> bytes:
    """Damage a file in its first half: other bytes, foreign words, parts that are missing."""
    damaged = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 4])):
        place = draw.randrange(max(1, len(damaged) // 2))
        kind = draw.randrange(4)
        if kind == 0:
            damaged[place] = draw.randrange(256)
        elif kind == 1:
            damaged[place:place] = draw.choice(_WORDS)
        elif kind == 2:
            del damaged[place : place + draw.choice([1, 5, 40])]
        else:
            start = damaged.find(b" ", place) + 1
            damaged[start : start + draw.randrange(1, 8)] = draw.choice(_WORDS)
    return bytes(damaged) or b"N"
