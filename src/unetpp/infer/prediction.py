"""What a prediction is. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unetpp.data.scratch import allocate_array
from unetpp.data.volume import Geometry
from unetpp.labels.classes import index_type

MEAN = 0
"""In place of a depth: the mean of the probabilities of all heads, the accurate mode of the papers (Zhou et al. 2018, section 3.2)."""
AUTO = -1
"""In place of a depth: for each tile its own."""


def name_depth(depth: int) -> int | str:
    """A depth as people write it: "mean" and "auto" for MEAN and AUTO."""
    return {MEAN: "mean", AUTO: "auto"}.get(depth, depth)


Uncertainty = Literal["entropy", "disagreement"]
"""Of the probabilities; between all that answers: the heads down to the depth, of each fold, for each mirrored copy (`confidence.Disagreement`)."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says about one image, at one depth."""

    depth: int
    """That of the head; MEAN: all of them; AUTO: for each tile its own."""
    segmentation: np.ndarray
    """Class indices (*spatial): uint8, or uint16 for more than 256 classes."""
    geometry: Geometry
    """Of the image."""
    probabilities: np.ndarray | None = None
    """(num_classes, *spatial) float32."""
    uncertainty: np.ndarray | None = None
    """(*spatial) float32, 0 to 1: the entropy of the probabilities over that of equally probable classes, or how far heads and folds are apart."""
    expected_dice: float | None = None
    """What the probabilities promise, see `confidence.SoftDice`; None where no foreground was found."""


def empty_prediction(
    depth: int,
    shape: tuple[int, ...],
    num_classes: int,
    geometry: Geometry,
    probabilities: bool = False,
    uncertainty: bool = False,
) -> Prediction:
    """A prediction whose arrays are still to be filled; large ones lie on disk (`data.scratch`)."""
    return Prediction(
        depth,
        allocate_array(shape, index_type(num_classes)),
        geometry,
        allocate_array((num_classes, *shape), np.float32) if probabilities else None,
        allocate_array(shape, np.float32) if uncertainty else None,
    )
