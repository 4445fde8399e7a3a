"""The prediction of one image. Needs no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Literal

import numpy as np

from unetpp.errors import Problem
from unetpp.labels.classes import index_type
from unetpp.scratch import allocate_array
from unetpp.size_names import SizeNames, find_noun
from unetpp.volume import Geometry

MEAN = 0
"""Stands for a depth: the mean of the probabilities of all heads, the accurate mode of the papers (Zhou et al. 2018,
section 3.2)."""
AUTO = -1
"""Stands for a depth: early exit, which chooses one for each tile."""


def name_depth(depth: int, sizes: SizeNames) -> int | str:
    """Name a size, a depth in a network of one width, as users do: "mean" and "auto" for MEAN and AUTO."""
    return {MEAN: "mean", AUTO: "auto"}.get(depth) or sizes.name(depth)


Uncertainty = Literal["entropy", "disagreement"]
"""entropy: of the probabilities; disagreement: between heads down to the depth, folds and mirrored copies
(`confidence.Disagreement`)."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The prediction of a network for one image, at one size."""

    depth: int
    """Depth of the head, with shells the number of the size; MEAN: the mean of all heads; AUTO: chosen for each
    tile."""
    segmentation: np.ndarray
    """Class indices (*spatial): uint8, or uint16 for more than 255 classes."""
    geometry: Geometry
    """Geometry of the image."""
    probabilities: np.ndarray | None = None
    """(num_classes, *spatial) float32, of regions (regions, *spatial)."""
    uncertainty: np.ndarray | None = None
    """(*spatial) float32, 0 to 1: entropy of the probabilities, divided by that of equally probable classes (of
    regions: their mean), or the disagreement."""
    dice_sums: np.ndarray | None = None
    """(3, foreground classes): what the confidence is made of, see `soft_dice`; None: it was not computed."""
    tiles: Mapping[int, int] = field(default_factory=dict)
    """Number of tiles that stopped at each depth; empty unless early exit chose the depth."""
    outside: tuple[str, ...] = ()
    """How the image differs from those of the training, see `data.training_range`."""
    size: str = ""
    """Name of the size: a depth, with shells also the width, or "mean", "auto"."""

    @property
    def confidence(self) -> float | None:
        """Soft Dice confidence, see `confidence.SoftDice`; None: no foreground was found, or it was not computed."""
        return None if self.dice_sums is None else soft_dice(self.dice_sums)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.segmentation.shape))
        confidence = "" if self.confidence is None else f", confidence {self.confidence:.3f}"
        maps = "".join(f", {name}" for name in ("probabilities", "uncertainty") if getattr(self, name) is not None)
        return f"<Prediction: {size}, {find_noun([self.size])} {self.size or self.depth}{confidence}{maps}>"

    def _repr_html_(self) -> str:
        draw = importlib.import_module("unetpp.report.notebook").draw_segmentation  # a layer above
        return f"<pre>{escape(repr(self))}</pre>{draw(self.segmentation)}"

    def viewed(self, view: Callable[[np.ndarray], np.ndarray]) -> Prediction:
        """Return the same prediction with a view of each of its arrays."""
        return replace(
            self,
            segmentation=view(self.segmentation),
            probabilities=None if self.probabilities is None else view(self.probabilities),
            uncertainty=None if self.uncertainty is None else view(self.uncertainty),
        )


def describe_infinite(where: str) -> Problem:
    """Return the problem of an image for which the network returns numbers that are NaN or infinite."""
    got, expected = "an output of the network that is NaN or infinite", "finite numbers"
    action = "Check the intensities of the image; if other images fail too, the model is damaged: copy it again."
    return Problem(where, got, expected, action, topic="values")


def empty_prediction(
    depth: int, shape: tuple[int, ...], num_classes: int, geometry: Geometry, maps: tuple[int, bool] = (0, False)
) -> Prediction:
    """Allocate a prediction without initializing its arrays; large ones lie on disk (`data.scratch`).

    Args:
        depth: number of the size, MEAN or AUTO.
        shape: shape of the image, (*spatial).
        num_classes: number of classes, background included.
        geometry: geometry of the image.
        maps: number of maps of probabilities to allocate, and whether to allocate the uncertainty.
    """
    return Prediction(
        depth,
        allocate_array(shape, index_type(num_classes)),
        geometry,
        allocate_array((maps[0], *shape), np.float32) if maps[0] else None,
        allocate_array(shape, np.float32) if maps[1] else None,
    )


def soft_dice(sums: np.ndarray) -> float | None:
    """Compute the soft Dice confidence from sums over an image: the mean over the foreground classes that were found.

    Args:
        sums: (3, foreground classes): probability everywhere, probability within the voxels of the class, these voxels.
    """
    total, hits, voxels = sums
    found = voxels > 0
    return float(np.mean(2 * hits[found] / (voxels[found] + total[found]))) if found.any() else None
