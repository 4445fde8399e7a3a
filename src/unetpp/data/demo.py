"""Generated data for `unetpp demo` and the tests: cells in the plane, bodies in anisotropic volumes.

Both are made so that brightness alone does not solve them: the light is uneven, some objects are dark and some bright,
and there are specks that belong to the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetpp.files import write_atomically

CASES = {2: 40, 3: 20}
SHAPES: dict[int, tuple[int, ...]] = {2: (96, 112), 3: (16, 44, 40)}
SPACING_MM = (2.5, 1.0, 1.0)
"""Of the volumes, (Z, Y, X)."""


def write_demo_data(
    folder: Path, dims: int, *, cases: int | None = None, shape: Sequence[int] | None = None, seed: int = 0
) -> Path:
    """Write images and their masks in the plain layout: PNG in the plane, NIfTI for volumes.

    Args:
        folder: gets `images/` and `masks/` (0/255) in 2D, `images/` and `labels/` (0, 1, 2) in 3D.
        dims: 2 or 3.
        cases: how many; by default a number that a laptop learns from in two minutes.
        shape: voxels of each, (Y, X) or (Z, Y, X).
        seed: the same seed writes the same files.

    Returns:
        `folder`.
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
    """A grey picture of ring-like cells on an uneven background, and its mask (0, 1)."""
    image = _background(shape, generator)
    label = np.zeros(tuple(shape), np.uint8)
    for _ in range(generator.integers(5, 10)):
        radius = _ellipsoid(shape, generator, smallest=0.06, largest=0.16)
        inside = radius < 1
        brightness = generator.uniform(0.15, 0.4) * generator.choice([-1.0, 1.0], p=[0.3, 0.7])
        image += np.where(inside, brightness * (0.5 + 0.5 * radius**2), 0.0)
        label[inside] = 1
    for _ in range(generator.integers(6, 14)):
        image += np.where(_ellipsoid(shape, generator, smallest=0.008, largest=0.025) < 1, 0.35, 0.0)
    return _with_noise(image, generator), label


def draw_bodies(shape: Sequence[int], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A volume with bright bodies (class 1) and dark ones (class 2), longer than wide, and its label."""
    image = _background(shape, generator)
    label = np.zeros(tuple(shape), np.uint8)
    for kind, brightness in ((1, 0.3), (2, -0.3)):
        for _ in range(generator.integers(2, 4)):
            inside = _ellipsoid(shape, generator, smallest=0.12, largest=0.25) < 1
            image = np.where(inside, 0.5 + brightness * generator.uniform(0.6, 1.0), image)
            label[inside] = kind
    for _ in range(generator.integers(6, 12)):
        image += np.where(_ellipsoid(shape, generator, smallest=0.02, largest=0.05) < 1, 0.25, 0.0)
    return _with_noise(image, generator), label


def _background(shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    slope = np.sum([generator.uniform(-0.15, 0.15) * axis for axis in axes], axis=0)
    return 0.45 + slope + generator.uniform(-0.05, 0.05)


def _ellipsoid(shape: Sequence[int], generator: np.random.Generator, *, smallest: float, largest: float) -> np.ndarray:
    """Distance from a random centre in units of random radii, which are shares of each axis: below 1 is inside."""
    squared = np.zeros(tuple(shape))
    for axis in np.meshgrid(*[np.linspace(0, 1, size) for size in shape], indexing="ij"):
        squared += ((axis - generator.uniform(0.05, 0.95)) / generator.uniform(smallest, largest)) ** 2
    return np.sqrt(squared)


def _with_noise(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    noisy = image + generator.normal(0, generator.uniform(0.03, 0.08), image.shape)
    return (np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def _write_png(path: Path, array: np.ndarray) -> None:
    from PIL import Image

    with write_atomically(path) as aside:
        Image.fromarray(array).save(aside)


def _write_nifti(path: Path, array: np.ndarray) -> None:
    import nibabel

    affine = np.diag([*reversed(SPACING_MM), 1.0])
    with write_atomically(path) as aside:
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine), aside)
