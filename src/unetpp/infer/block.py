"""Prediction of one block of an image, of any size, to the last bit as the prediction of the whole image has it.

Nothing of the whole image is needed but its shape and its scales (`data.normalize`). A block runs the tiles that reach
it, in their order, each at its place within a batch of the same size as in the whole: how a vector unit computes a
voxel depends on both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unetpp.data.preprocess import PreparedImage
from unetpp.formats.sources import Slices
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.restore import find_region, resample_region
from unetpp.infer.sliding import make_zeros, predict_batch
from unetpp.infer.tiles import Tile, TileGrid, read_tile
from unetpp.labels.coding_torch import CLASSES, TensorCoding
from unetpp.plan import PredictPlan
from unetpp.runtime.runner import Runner
from unetpp.size_names import SizeNames

_ROWS, _AT_ONCE = 64, 2**24
"""Rows of an image that are read at once, or as many times that as have so many voxels: chunks of as many rows, or of a
half, a quarter, ... of them, are read once."""
NumberedTile = tuple[int, Tile]
"""The number of a tile in the order of `TileGrid`, and the tile."""


def predict_block(
    networks: Sequence[Runner],
    image: PreparedImage,
    area: Slices,
    plan: PredictPlan,
    depths: Sequence[int],
    device: torch.device,
    options: PredictOptions = DEFAULTS,
    sizes: SizeNames | None = None,
    coding: TensorCoding = CLASSES,
) -> Tensor:
    """Predict the probabilities of a block (depths, channels, *area), as `sliding.stream_bands` makes them.

    Args:
        networks: in evaluation mode, on `device`; their probabilities are averaged.
        image: the prepared image.
        area: the block on the image's own grid, turned to the axes of the network: one slice for each axis.
        plan: tile, overlap, batch and precision.
        depths: numbers of the sizes, all computed in one pass.
        device: device of the networks.
        options: with disagreement, the last channel is that.
        sizes: those of the networks, if they have shells.
        coding: what the logits mean.
    """
    grid, shape = image.shape[1:], image.turned_shape
    region = find_region(area, grid, shape, image.thick)
    tiles = TileGrid(grid, plan.tile, plan.overlap)
    reaching = find_tiles(tiles, region)
    if not reaching:
        raise ValueError(f"area: got {area}, which no tile reaches; expected a part of an image of {shape}.")
    held = _HeldImage(image, _join_extents([tile for _, tile in reaching]))
    sums = torch.empty(0)
    for size, batch in fill_batches(reaching, len(tiles), plan.batch):
        images = np.zeros((size, image.shape[0], *plan.tile), np.float32)
        for slot, tile in batch.items():
            images[slot] = read_tile(held, tile, plan.tile)
        found = predict_batch(
            networks, torch.from_numpy(images).to(device), depths, plan.precision, options, sizes, coding
        )
        if not sums.numel():
            sums = make_zeros((*found.shape[1:3], *(part.stop - part.start for part in region)), found.device)
        for slot, tile in batch.items():
            _add(sums, found[slot], tile, region)
    return resample_region(sums, region, area, grid, shape, image.thick)


def find_tiles(tiles: TileGrid, region: Slices) -> list[NumberedTile]:
    """Find the tiles that reach a region of the network's grid, in their order, with their numbers."""
    axes = [
        [
            (place, span)
            for place, span in enumerate(spans)
            if max(span.inside.start, part.start) < min(span.inside.stop, part.stop)
        ]
        for spans, part in zip(tiles.axes, region, strict=True)
    ]
    counts = [len(spans) for spans in tiles.axes]
    return [
        (int(np.ravel_multi_index([place for place, _ in chosen], counts)), tuple(span for _, span in chosen))
        for chosen in itertools.product(*axes)
    ]


def fill_batches(tiles: Iterable[NumberedTile], count: int, batch: int) -> Iterator[tuple[int, dict[int, Tile]]]:
    """Fill batches with some of the tiles of an image, each at the place that it has when all of them run.

    Args:
        tiles: in their order.
        count: number of all tiles of the image.
        batch: size of a batch; the last one of the image may be smaller.

    Yields:
        The size of a batch, and its tiles by their places, in their order; other places are empty.
    """
    first_of_last = count - count % batch
    size, waiting = batch, dict[int, Tile]()
    for number, tile in tiles:
        place, own = number % batch, batch if number < first_of_last else count - first_of_last
        if waiting and (own != size or place <= max(waiting)):
            yield size, waiting
            waiting = {}
        size, waiting[place] = own, tile
    if waiting:
        yield size, waiting


def _join_extents(tiles: Sequence[Tile]) -> Slices:
    return tuple(
        slice(min(span.inside.start for span in spans), max(span.inside.stop for span in spans))
        for spans in zip(*tiles, strict=True)
    )


def _add(sums: Tensor, values: Tensor, tile: Tile, region: Slices) -> None:
    """Add the probabilities (depths, channels, *tile) of a tile where it lies in the region."""
    weights: Tensor | None = None
    place: list[slice] = []
    within: list[slice] = []
    for span, part in zip(tile, region, strict=True):
        start, stop = max(span.inside.start, part.start), min(span.inside.stop, part.stop)
        own = torch.from_numpy(span.weights[start - span.inside.start : stop - span.inside.start]).to(values.device)
        weights = own if weights is None else weights[..., None] * own
        place.append(slice(start - part.start, stop - part.start))
        offset = span.within.start - span.inside.start
        within.append(slice(start + offset, stop + offset))
    if weights is not None:
        sums[_in_all(place)].addcmul_(values[_in_all(within)], weights)


def _in_all(place: list[slice]) -> tuple[Any, ...]:
    return (..., *place)


class _HeldImage:
    """A part of an image that is read once, from its first row on; rows before those of the tiles at hand are let go.

    Tiles come in their order, in which none begins before the one ahead of it.
    """

    def __init__(self, image: PreparedImage, extent: Slices) -> None:
        self.shape = image.shape
        self._image, self._extent = image, extent
        rest = prod(part.stop - part.start for part in extent[1:])
        self._step = _ROWS * max(1, _AT_ONCE // (_ROWS * rest))
        self._start = self._stop = extent[0].start
        self._values = np.empty((image.shape[0], 0, *(part.stop - part.start for part in extent[1:])), np.float32)

    def read(self, slices: Slices) -> np.ndarray:
        """View a block within the part."""
        rows = slices[0]
        if rows.stop > self._stop:
            self._advance(rows)
        inner = (
            slice(part.start - own.start, part.stop - own.start)
            for part, own in zip(slices[1:], self._extent[1:], strict=True)
        )
        return self._values[(slice(None), slice(rows.start - self._start, rows.stop - self._start), *inner)]

    def _advance(self, rows: slice) -> None:
        """Let go of the rows before some, and read up to their end, and on to whole chunks."""
        first = max(self._stop, rows.start)
        last = min(-(-rows.stop // self._step) * self._step, self._extent[0].stop)
        kept = self._values[:, rows.start - self._start : first - self._start]
        if self._values.shape[1] < last - rows.start:
            channels, _, *rest = self._values.shape
            self._values = np.empty((channels, last - rows.start, *rest), np.float32)
        self._values[:, : first - rows.start] = kept  # also within one array: two of them would be much memory
        self._values[:, first - rows.start : last - rows.start] = self._image.read(
            (slice(first, last), *self._extent[1:])
        )
        self._start, self._stop = rows.start, last
