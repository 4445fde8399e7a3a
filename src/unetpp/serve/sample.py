"""A generated image to try a server with, where it was started without data."""

from __future__ import annotations

import gzip
import io

import nibabel
import numpy as np
from PIL import Image

from unetpp.data.demo import SPACING_MM, draw_bodies, draw_cells

SHAPES: dict[int, tuple[int, ...]] = {2: (192, 224), 3: (24, 64, 64)}


def draw_sample(dims: int) -> bytes:
    """Draw an image as PNG, or a volume as compressed NIfTI; always the same."""
    generator = np.random.default_rng(1)
    if dims == 2:
        stream = io.BytesIO()
        Image.fromarray(draw_cells(SHAPES[2], generator)[0]).save(stream, "PNG")
        return stream.getvalue()
    volume, _ = draw_bodies(SHAPES[3], generator)
    image = nibabel.Nifti1Image(np.ascontiguousarray(volume.T), np.diag([*reversed(SPACING_MM), 1.0]))
    return gzip.compress(image.to_bytes(), mtime=0)
