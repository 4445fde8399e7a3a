"""Generated data for `unetpp demo` and the tests: cells in 2D, bodies in anisotropic volumes.

Brightness alone does not separate the classes: the background is uneven, some objects are dark and some bright, and
bright specks belong to the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetpp.files import write_atomically

CASES = {2: 40, 3: 20}
SHAPES: dict[int, tuple[int, ...]] = {2: (96, 112), 3: (16, 44, 40)}
SPACING_MM = (2.5, 1.0, 1.0)
"""Voxel size of the volumes, (Z, Y, X)."""


def write_demo_data(
    folder: Path, dims: int, *, cases: int | None = None, shape: Sequence[int] | None = None, seed: int = 0
) -> Path:
    """Write images and their masks in the folder layout: PNG in 2D, NIfTI in 3D.

    Args:
        folder: gets `images/` and `masks/` (0/255) in 2D, `images/` and `labels/` (0, 1, 2) in 3D.
        dims: 2 or 3.
        cases: number of cases; by default as many as a laptop trains on in two minutes.
        shape: voxels of each image, (Y, X) or (Z, Y, X).
        seed: the same seed writes the same files.

    Returns:
        `folder`.

    Raises:
        WriteError: the files could not be written.
    """
    generator = np.random.default_rng(seed)
    for number in range(cases or CASES[dims]):
        size = tuple(shape or SHAPES[dims])
        image, label = draw_cells(size, generator) if dims == 2 else draw_bodies(size, generator)
        if dims == 2:
            _write_png(folder / "images" / f"cells_{number:02d}.png", image)
            _write_png(folder / "masks" / f"cells_{number:02d}.png", label * 255)
        else:
            _write_nifti(folder / "images" / f"volume_{number:02d}.nii.gz", image)
            _write_nifti(folder / "labels" / f"volume_{number:02d}.nii.gz", label)
    return folder


def draw_cells(shape: Sequence[int], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a gray image (Y, X) of ring-like cells on an uneven background, and its mask (0, 1); both uint8."""
    image = _draw_background(shape, generator)
    label = np.zeros(tuple(shape), np.uint8)
    for _ in range(generator.integers(5, 10)):
        radius = _draw_ellipsoid(shape, generator, smallest=0.06, largest=0.16)
        inside = radius < 1
        brightness = generator.uniform(0.15, 0.4) * generator.choice([-1.0, 1.0], p=[0.3, 0.7])
        image += np.where(inside, brightness * (0.5 + 0.5 * radius**2), 0.0)
        label[inside] = 1
    for _ in range(generator.integers(6, 14)):
        image += np.where(_draw_ellipsoid(shape, generator, smallest=0.008, largest=0.025) < 1, 0.35, 0.0)
    return _add_noise(image, generator), label


def draw_bodies(shape: Sequence[int], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a volume (Z, Y, X) with bright bodies (class 1) and dark ones (class 2), and its label; both uint8."""
    image = _draw_background(shape, generator)
    label = np.zeros(tuple(shape), np.uint8)
    for kind, brightness in ((1, 0.3), (2, -0.3)):
        for _ in range(generator.integers(2, 4)):
            inside = _draw_ellipsoid(shape, generator, smallest=0.12, largest=0.25) < 1
            image = np.where(inside, 0.5 + brightness * generator.uniform(0.6, 1.0), image)
            label[inside] = kind
    for _ in range(generator.integers(6, 12)):
        image += np.where(_draw_ellipsoid(shape, generator, smallest=0.02, largest=0.05) < 1, 0.25, 0.0)
    return _add_noise(image, generator), label


def _draw_background(shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    slope: np.ndarray = np.sum([generator.uniform(-0.15, 0.15) * axis for axis in axes], axis=0)
    return 0.45 + slope + generator.uniform(-0.05, 0.05)


def _draw_ellipsoid(
    shape: Sequence[int], generator: np.random.Generator, *, smallest: float, largest: float
) -> np.ndarray:
    """Draw an ellipsoid: distance from a random center in units of random radii (fractions of an axis); inside: < 1."""
    squared = np.zeros(tuple(shape))
    for axis in np.meshgrid(*[np.linspace(0, 1, size) for size in shape], indexing="ij"):
        squared += ((axis - generator.uniform(0.05, 0.95)) / generator.uniform(smallest, largest)) ** 2
    return np.sqrt(squared)


def _add_noise(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    noisy = image + generator.normal(0, generator.uniform(0.03, 0.08), image.shape)
    return (np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def _write_png(path: Path, array: np.ndarray) -> None:
    from PIL import Image

    with write_atomically(path) as temporary:
        Image.fromarray(array).save(temporary)


def _write_nifti(path: Path, array: np.ndarray) -> None:
    import nibabel

    affine = np.diag([*reversed(SPACING_MM), 1.0])
    with write_atomically(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine), temporary)
