"""A data set of real size: synthetic CTs of 512 x 512 x 200..600 voxels with 8 organs of known shape.

python -m benchmarks.synthetic_ct FOLDER [--size small]

Cases depend on their number alone. They are written slab by slab into nnU-Net's layout, FOLDER/Dataset801_SyntheticCT:
2.5 GB of voxels in about 1 GB of files, which nobody should commit. `shapes.json` holds center and radii of each organ.
"""

from __future__ import annotations

import argparse
import gzip
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

NAME = "Dataset801_SyntheticCT"
PLANE_MM = 400.0
"""Width of the field of view."""
LENGTH_MM = 500.0
SLAB = 16
"""Planes that are in memory at once."""
AIR, FAT, NOISE = -1000, -90, 12
"""Hounsfield units; of the noise the standard deviation."""
BODY_MM = (110.0, 165.0)
"""Radii of the body along y and x; it reaches from one end to the other."""


@dataclass(frozen=True)
class Organ:
    """An ellipsoid: intensity, center relative to that of the body and radii in millimeters (z, y, x)."""

    name: str
    hounsfield: int
    center_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]


ORGANS = (
    Organ("liver", 60, (60, -10, -75), (70, 70, 65)),
    Organ("spleen", 50, (70, 45, 100), (45, 30, 28)),
    Organ("right_kidney", 35, (-50, 55, -65), (50, 25, 25)),
    Organ("left_kidney", 35, (-35, 55, 65), (50, 25, 25)),
    Organ("stomach", 20, (60, -45, 60), (40, 35, 45)),
    Organ("bladder", 5, (-180, -20, 0), (35, 35, 40)),
    Organ("aorta", 150, (20, 35, 12), (190, 11, 11)),
    Organ("spine", 400, (0, 75, 0), (240, 22, 22)),
)
SIZES = {"full": (12, 512, 200, 600), "small": (4, 48, 20, 50)}
"""Cases, voxels along x and y, fewest and most planes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="full")
    arguments = parser.parse_args()
    print(write_dataset(arguments.folder, arguments.size))


def write_dataset(folder: Path, size: str = "full") -> Path:
    """Write the data set, and return its folder."""
    cases, width, fewest, most = SIZES[size]
    root = folder / NAME
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shapes = {}
    for number in range(cases):
        planes = fewest + (most - fewest) * number // (cases - 1)
        organs = _vary(number)
        _write_case(root, f"ct_{number:03d}", organs, (planes, width, width), number)
        shapes[f"ct_{number:03d}"] = {organ.name: [organ.center_mm, organ.radii_mm] for organ in organs}
    (root / "shapes.json").write_text(json.dumps(shapes, indent=1))
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {organ.name: index for index, organ in enumerate(ORGANS, start=1)},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description, indent=1))
    return root


def _vary(number: int) -> list[Organ]:
    """Move the organs of one case by up to 3 mm, and shrink them by up to 15 %; they do not touch."""
    rng = np.random.default_rng(number)
    found = []
    for organ in ORGANS:
        center = np.add(organ.center_mm, rng.uniform(-3, 3, 3)).round(3)
        radii = np.multiply(organ.radii_mm, rng.uniform(0.85, 1, 3)).round(3)
        found.append(Organ(organ.name, organ.hounsfield, tuple(center.tolist()), tuple(radii.tolist())))
    return found


def _write_case(root: Path, name: str, organs: list[Organ], shape: tuple[int, int, int], seed: int) -> None:
    spacing = (LENGTH_MM / shape[0], PLANE_MM / shape[1], PLANE_MM / shape[2])
    axes = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(shape, spacing, strict=True)]
    rng = np.random.default_rng((seed, 1))
    noise = np.rint(rng.standard_normal((SLAB, *shape[1:]), np.float32) * NOISE).astype(np.int16)
    _, y, x = np.ix_(*axes)
    plane = np.where((y / BODY_MM[0]) ** 2 + (x / BODY_MM[1]) ** 2 <= 1, FAT, AIR).astype(np.int16)
    with ExitStack() as files:
        image, label = (
            files.enter_context(gzip.GzipFile(root / path, "wb", compresslevel=1, mtime=0))
            for path in (f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz")
        )
        image.write(_make_header(shape, spacing, np.int16))
        label.write(_make_header(shape, spacing, np.uint8))
        for start in range(0, shape[0], SLAB):
            marked = _draw_slab(organs, axes, slice(start, min(start + SLAB, shape[0])))
            values = np.asarray([0, *(organ.hounsfield for organ in organs)], np.int16)[marked]
            voxels = np.where(marked, values, plane)
            voxels += np.roll(noise, int(rng.integers(noise.size)))[: len(voxels)]
            image.write(voxels.astype("<i2", copy=False).data)
            label.write(marked.data)


def _draw_slab(organs: list[Organ], axes: list[np.ndarray], planes: slice) -> np.ndarray:
    """Draw the label of some planes; each organ is computed within its own box."""
    own = [axes[0][planes], *axes[1:]]
    found = np.zeros([len(axis) for axis in own], np.uint8)
    for index, organ in enumerate(organs, start=1):
        scaled = [
            (axis - center) / radius for axis, center, radius in zip(own, organ.center_mm, organ.radii_mm, strict=True)
        ]
        box = tuple(slice(*np.searchsorted(axis, (-1, 1))) for axis in scaled)
        z, y, x = np.ix_(*(axis[part] for axis, part in zip(scaled, box, strict=True)))
        found[box][z**2 + y**2 + x**2 <= 1] = index
    return found


def _make_header(shape: tuple[int, int, int], spacing: tuple[float, float, float], dtype: type[np.generic]) -> bytes:
    affine = np.diag([*spacing[::-1], 1.0])
    header = nibabel.nifti1.Nifti1Header()
    header.set_data_dtype(np.dtype(dtype).newbyteorder("<"))
    header.set_data_shape(shape[::-1])
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return bytes(header.binaryblock) + bytes(4)


if __name__ == "__main__":
    main()
