"""Volumes that are hardly volumes, and headers that are wrong: from check to prediction."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tests.tiny import TINY_3D

import unetpp

PIXDIM, CODES = 76, 252
"""Bytes of a NIfTI header: voxel sizes as float32, from the second on, and the codes of its two places as int16."""


def write_volumes(root: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Path:
    random = np.random.default_rng(0)
    for number in range(5):
        label = np.zeros(shape, np.uint8)
        label[tuple(slice(size // 3, max(size // 3 + 1, 2 * size // 3)) for size in shape)] = 1
        image = (random.normal(size=shape) + 3 * label).astype(np.float32)
        for folder, array in (("images", image), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), root / folder / f"case{number}.nii.gz")
    return root


def state_no_size(root: Path) -> Path:
    """Set the first voxel size of all headers to 0, and take their other statements of it away."""
    for path in root.rglob("*.nii.gz"):
        content = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into("<f", content, PIXDIM + 4, 0.0)
        struct.pack_into("<hh", content, CODES, 0, 0)
        path.write_bytes(gzip.compress(bytes(content)))
    return root


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 32, 1), (1, 1, 5)), ((1, 40, 32), (5, 1, 1)), ((3, 3, 3), (1, 1, 1)), ((16, 16, 12), (999, 1, 1))],
)
def test_volumes_of_a_slice_of_few_voxels_and_of_huge_ones_go_all_the_way(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], tmp_path: Path
) -> None:
    data = write_volumes(tmp_path / "data", shape, spacing)
    checked = unetpp.check(data)
    assert not checked.problems
    sizes = [note for note in checked.notes if "a voxel size of" in note]
    assert len(sizes) == (max(spacing) > 50)
    settings = {"model.widths": [8, 16], "train.steps_per_epoch": 2, "train.validations": 1}
    unetpp.train(data, tmp_path / "run", epochs=1, device="cpu", set=settings, progress=False)
    image = data / "images" / "case0.nii.gz"
    assert unetpp.load(tmp_path / "run", device="cpu").predict(image).shape == shape[::-1]


def test_headers_without_a_voxel_size_are_told_once_and_taken_for_1_mm(tmp_path: Path) -> None:
    data = state_no_size(write_volumes(tmp_path / "data", (12, 12, 12), (2, 2, 2)))
    (note,) = unetpp.check(data).notes
    assert note == "case0.nii.gz and 4 more: the header states no voxel size (pixdim is 0); taken as 1 mm"
    planned = unetpp.plan(data, tmp_path / "run", epochs=1, device="cpu", set=TINY_3D, progress=False)
    assert planned.plan.data.spacing_mm == (2, 2, 1)


def test_a_voxel_size_that_no_instrument_makes_is_told(tmp_path: Path) -> None:
    data = write_volumes(tmp_path / "data", (8, 8, 8), (999, 1, 1))
    (note,) = unetpp.check(data).notes
    assert note.startswith("case0, case1, case2 and 2 more: a voxel size of 1 x 1 x 999 mm; no instrument makes such")
