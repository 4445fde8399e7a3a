"""Tiles to calibrate an exported file with, and to compare it with its network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetpp.data.parts import list_planes
from unetpp.data.patches import PatchSampler
from unetpp.data.preprocess import prepare_case_image
from unetpp.data.store import StoredCase
from unetpp.errors import UnetppError
from unetpp.infer.tiles import TileGrid, read_tile
from unetpp.layouts.inputs import find_images
from unetpp.measure.stored_cases import find_stored_split
from unetpp.plan import Plan

CALIBRATING, COMPARING = 48, 16
"""Largest numbers of tiles."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Preprocessed tiles."""

    calibrating: tuple[np.ndarray, ...]
    """(C, *tile) float32, from training cases or given images."""
    comparing: tuple[np.ndarray, ...]
    """(C, *tile) float32, from validation cases or given images, otherwise random numbers."""
    labels: tuple[np.ndarray, ...]
    """(*tile) class indices of `comparing`, if known."""
    origin: str
    """Origin of `comparing`, in words."""


def find_samples(model: Path, plan: Plan, images: Sequence[Path], calibrate: bool) -> Samples:
    """Cut tiles from `images`, or from the cases that training cached in the run folder of the model.

    Args:
        model: the model file.
        plan: its plan.
        images: images or folders of them.
        calibrate: tiles to calibrate with are needed; they differ from those to compare.

    Returns:
        The tiles, without any to calibrate with if there are no cases and no images.

    Raises:
        DataError: an unusable image; or an unusable run folder whose cases are needed to calibrate with.
    """
    count = CALIBRATING if calibrate else 0
    if images:
        tiles = _tiles_of(images, plan, count + COMPARING)
        compared = min(COMPARING, (len(tiles) + 1) // 2) if calibrate else len(tiles)
        return Samples(tiles[compared:], tiles[:compared], (), "the given images")
    try:
        training, validation = find_stored_split(model, plan.data)
    except UnetppError:
        if calibrate:
            raise
        training, validation = [], []  # random numbers suffice for a comparison
    if validation:
        comparing, labels = zip(*_cut(validation, plan, COMPARING), strict=True)
        return Samples(tuple(image for image, _ in _cut(training, plan, count)), comparing, labels, "validation cases")
    noise = np.random.default_rng(0).standard_normal((2, plan.model.in_channels, *plan.predict.tile)).astype(np.float32)
    return Samples((), tuple(noise), (), "random numbers, without a run folder or images")


def _cut(cases: list[StoredCase], plan: Plan, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut tiles with their labels, half of them around foreground."""
    sampler = PatchSampler(cases, plan.predict.tile, 1, 0.5, seed=0)
    return [sampler.read(sampler.draw(number, 0)) for number in range(count)] if cases else []


def _tiles_of(images: Sequence[Path], plan: Plan, count: int) -> tuple[np.ndarray, ...]:
    """Cut at most `count` different tiles, about as many from each image, in a fixed random order."""
    rng = np.random.default_rng(0)
    found = find_images(list(images), plan.data.channels).cases
    cases = [found[number] for number in rng.permutation(len(found))[:count]]
    parts = [part for case in cases for part in list_planes(case, plan.data)] if plan.data.dims == 2 else cases
    if len(parts) > len(cases):  # planes of volumes
        cases = [parts[number] for number in rng.permutation(len(parts))[:count]]
    tiles: list[np.ndarray] = []
    for number, case in enumerate(cases):
        image = prepare_case_image(case, plan.data)
        every = list(TileGrid(image.shape[1:], plan.predict.tile, plan.predict.overlap))
        wanted = -(-(count - len(tiles)) // (len(cases) - number))
        chosen = [every[place] for place in rng.permutation(len(every))[:wanted]]
        tiles += [np.ascontiguousarray(read_tile(image, tile, plan.predict.tile)) for tile in chosen]
    return tuple(tiles[number] for number in rng.permutation(len(tiles)))
