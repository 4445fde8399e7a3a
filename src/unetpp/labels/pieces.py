"""Whether each value of a label is one connected piece, as numbers of objects are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_LOOKED_AT = 32
"""Number of values of a file that are looked at, evenly spread over all."""
_LARGEST = 2**25
"""Larger files are not looked at."""


@dataclass(frozen=True)
class Pieces:
    """Connected pieces of the values that were looked at."""

    looked_at: int
    """Number of values."""
    single: int
    """Values of one connected piece."""
    centers: Mapping[int, tuple[float, ...]]
    """Center of the box around each value, as a fraction of the size along each axis."""


def count_pieces(label: np.ndarray, counts: Mapping[int, int]) -> Pieces | None:
    """Look whether values above 0 are one connected piece each.

    Args:
        label: integers (*spatial).
        counts: voxels of each value.

    Returns:
        What was found; None for a file too large to look at.
    """
    from scipy import ndimage

    values = [value for value in counts if value > 0]
    if label.size > _LARGEST or not values:
        return None
    chosen = [values[index] for index in np.unique(np.linspace(0, len(values) - 1, _LOOKED_AT).astype(int))]
    numbered = np.searchsorted(np.asarray(values), label) + 1  # small numbers: find_objects makes a list of the highest
    numbered = np.where(label > 0, numbered, 0)
    boxes = ndimage.find_objects(numbered)
    structure = np.ones((3,) * label.ndim)
    single, centers = 0, {}
    for value in chosen:
        place = values.index(value)
        box = boxes[place]
        if box is None:
            continue
        pieces = ndimage.label(numbered[box] == place + 1, structure)[1]
        single += pieces == 1
        centers[value] = tuple((part.start + part.stop) / 2 / size for part, size in zip(box, label.shape, strict=True))
    return Pieces(len(centers), single, centers)


def join_pieces(parts: Sequence[Pieces]) -> Pieces | None:
    """Join what the parts of one file show; None if there are none."""
    centers = {value: center for part in parts for value, center in part.centers.items()}
    looked_at, single = (sum(getattr(part, name) for part in parts) for name in ("looked_at", "single"))
    return Pieces(looked_at, single, centers) if parts else None
