"""Images for which an exported file is compared with its network, and those that it is calibrated with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetpp.data.cases import find_images
from unetpp.data.patches import PatchSampler
from unetpp.data.preprocess import prepare_case_image
from unetpp.data.store import StoredCase
from unetpp.errors import UnetppError
from unetpp.infer.tiles import TileGrid, read_tile
from unetpp.measure.stored_cases import find_stored_split
from unetpp.plan import Plan

CALIBRATING, COMPARING = 48, 16
"""Tiles, at most."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Tiles as the network sees them."""

    calibrating: tuple[np.ndarray, ...]
    """(C, *tile) float32: of training cases, or of images that were named."""
    comparing: tuple[np.ndarray, ...]
    """The same: of validation cases, or of images that were named, or else random numbers."""
    labels: tuple[np.ndarray, ...]
    """(*tile) class indices of `comparing`, where they are known."""
    origin: str
    """Of `comparing`, in words."""


def find_samples(model: Path, plan: Plan, images: Sequence[Path], calibrate: bool) -> Samples:
    """Tiles of `images`; where there are none, those that the training of the model left in its run folder.

    Args:
        calibrate: whether tiles to calibrate with are wanted; of the images, they are others than those to compare.

    Raises:
        DataError: an image that cannot be used; where cases are needed to calibrate with, a run folder that cannot.
    """
    count = CALIBRATING if calibrate else 0
    if images:
        tiles = _tiles_of(images, plan, count + COMPARING)
        apart = min(COMPARING, (len(tiles) + 1) // 2) if calibrate else len(tiles)
        return Samples(tiles[apart:], tiles[:apart], (), "the images that were given")
    try:
        training, validation = find_stored_split(model, plan.data)
    except UnetppError:
        if calibrate:
            raise
        training, validation = [], []  # random numbers do for a comparison
    if validation:
        comparing, labels = zip(*_cut(validation, plan, COMPARING), strict=True)
        return Samples(tuple(image for image, _ in _cut(training, plan, count)), comparing, labels, "validation cases")
    noise = np.random.default_rng(0).standard_normal((2, plan.model.in_channels, *plan.predict.tile)).astype(np.float32)
    return Samples((), tuple(noise), (), "random numbers, as no run folder and no images are at hand")


def _cut(cases: list[StoredCase], plan: Plan, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tiles with their labels, half of them around foreground."""
    sampler = PatchSampler(cases, plan.predict.tile, 1, 0.5, seed=0)
    return [sampler.read(sampler.draw(number, 0)) for number in range(count)] if cases else []


def _tiles_of(images: Sequence[Path], plan: Plan, count: int) -> tuple[np.ndarray, ...]:
    """At most `count` different tiles, about as many of each image, in a fixed random order."""
    rng = np.random.default_rng(0)
    cases = find_images(list(images), len(plan.data.channels))
    cases = [cases[number] for number in rng.permutation(len(cases))[:count]]
    tiles: list[np.ndarray] = []
    for number, case in enumerate(cases):
        image = prepare_case_image(case, plan.data)
        every = list(TileGrid(image.shape[1:], plan.predict.tile, plan.predict.overlap))
        wanted = -(-(count - len(tiles)) // (len(cases) - number))
        chosen = [every[place] for place in rng.permutation(len(every))[:wanted]]
        tiles += [np.ascontiguousarray(read_tile(image, tile, plan.predict.tile)) for tile in chosen]
    return tuple(tiles[number] for number in rng.permutation(len(tiles)))
