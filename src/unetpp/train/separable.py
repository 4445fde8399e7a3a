"""Separable linear filters: one matrix for each axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def multiply_axes(image: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Multiply an array (C, *spatial) by a matrix (new, old size) along each axis; None leaves an axis as it is."""
    last = image.ndim - 1
    for axis, matrix in enumerate(matrices, start=1):
        if matrix is not None and axis == last:
            image = image @ matrix.T
        elif matrix is not None:
            shape = (*image.shape[:axis], len(matrix), *image.shape[axis + 1 :])
            image = torch.matmul(matrix, image.flatten(axis + 1)).reshape(shape)
    return image
