"""Sliding-window prediction of an image of any size in bounded memory and linear time.

Tiles run in row order over the network's grid. Their probabilities are accumulated with Gaussian weights in a buffer as
high as one tile; rows that no later tile reaches leave it as a band.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import reduce
from math import prod
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from unetpp import scratch
from unetpp.free_memory import measure_free_bytes
from unetpp.infer.bands import Band, collect, rows_per_chunk
from unetpp.infer.confidence import Disagreement
from unetpp.infer.mirror import mirror, mirrorings
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import MEAN
from unetpp.infer.tiles import Span, Tile, TiledImage, TileGrid, TileProgress, read_tile
from unetpp.labels.coding_torch import CLASSES, TensorCoding
from unetpp.model.network import HeadOutputs
from unetpp.plan import PredictPlan
from unetpp.runtime.device import autocast
from unetpp.runtime.runner import Runner
from unetpp.size_names import SizeNames


def predict_tiles(
    networks: Sequence[Runner],
    image: TiledImage,
    plan: PredictPlan,
    depths: Sequence[int],
    device: torch.device,
    coding: TensorCoding = CLASSES,
) -> dict[int, np.ndarray]:
    """Predict class indices (*grid) on the network's grid, for each depth; arguments as `stream_bands`."""
    bands = stream_bands(networks, image, plan, depths, device, coding=coding)
    found = collect(bands, image.shape[1:], depths, coding=coding)
    return {depth: prediction.segmentation for depth, prediction in found.items()}


def stream_bands(
    networks: Sequence[Runner],
    image: TiledImage,
    plan: PredictPlan,
    depths: Sequence[int],
    device: torch.device,
    options: PredictOptions = DEFAULTS,
    progress: TileProgress | None = None,
    sizes: SizeNames | None = None,
    coding: TensorCoding = CLASSES,
) -> Iterator[Band]:
    """Yield probabilities on the network's grid, in bands from the first row to the last.

    Args:
        networks: in evaluation mode, on `device`; their probabilities are averaged.
        image: the prepared image.
        plan: tile, overlap, batch and precision.
        depths: depths of the heads, with shells numbers of sizes, all computed in one pass; MEAN: the mean of all.
        device: device of the networks.
        options: with disagreement, the last channel is that between the heads down to each depth, networks and copies.
        progress: called with (tiles done, tiles in total).
        sizes: those of the networks, if they have shells; None: the numbers in `depths` are depths.
        coding: what the logits mean.
    """
    grid = TileGrid(image.shape[1:], plan.tile, plan.overlap)
    rows: _OpenRows | None = None
    done = 0
    for tiles, batch in _read_ahead(image, grid, plan.batch):
        outputs = predict_batch(networks, batch.to(device), depths, plan.precision, options, sizes, coding)
        rows = rows or _OpenRows(grid, outputs)
        for tile, values in zip(tiles, outputs, strict=True):
            if tile[0].inside.start > rows.top:
                yield from rows.pop(tile[0].inside.start)
            rows.add(tile, values)
        done += len(tiles)
        if progress:
            progress(done, len(grid))
    if rows:
        yield from rows.pop(grid.shape[0])


def make_zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Make a tensor of zeros; on disk if it is on the CPU and would take more than half of the free memory.

    Many classes over wide slices take gigabytes: 100 of them 10 GB for slices of 512 x 512 in tiles of 96.
    """
    size = 4 * prod(shape)
    if device.type != "cpu" or size <= scratch.LARGE or 2 * size <= measure_free_bytes():
        return torch.zeros(shape, device=device)
    array = scratch.allocate_array(shape, np.float32)
    array[...] = 0
    return torch.from_numpy(array)


class _OpenRows:
    """Weighted sums of the rows that tiles still reach; the first of them is `top`."""

    def __init__(self, grid: TileGrid, outputs: Tensor) -> None:
        height = min(grid.tile[0], grid.shape[0])
        self.top = 0
        self._sums = make_zeros((*outputs.shape[1:3], height, *grid.shape[1:]), outputs.device)
        self._weights: dict[Span, Tensor] = {
            span: torch.from_numpy(span.weights).to(outputs.device) for spans in grid.axes for span in spans
        }

    def add(self, tile: Tile, values: Tensor) -> None:
        """Add probabilities (depths, channels, *tile)."""
        height = tile[0].inside.stop - tile[0].inside.start
        place: tuple[Any, ...] = (..., slice(0, height), *(span.inside for span in tile[1:]))
        weights = self._weights[tile[0]]
        for span in tile[1:]:
            weights = weights[..., None] * self._weights[span]
        within: tuple[Any, ...] = (..., *(span.within for span in tile))
        self._sums[place].addcmul_(values[within], weights)

    def pop(self, end: int) -> Iterator[Band]:
        """Yield the rows before `end`, then remove them."""
        count = end - self.top
        step = rows_per_chunk(self._sums[:, :, 0].numel())
        for start in range(0, count, step):
            yield Band(self.top + start, self._sums[:, :, start : min(start + step, count)])
        height = self._sums.shape[2]
        for start in range(0, height - count, count):  # chunk by chunk: source and target must not overlap
            stop = min(start + count, height - count)
            self._sums[:, :, start:stop] = self._sums[:, :, start + count : stop + count]
        self._sums[:, :, height - count :] = 0
        self.top = end


@torch.inference_mode()
def predict_batch(
    networks: Sequence[Runner],
    images: Tensor,
    depths: Sequence[int],
    precision: str,
    options: PredictOptions,
    sizes: SizeNames | None,
    coding: TensorCoding,
) -> Tensor:
    """Average probabilities over networks and mirrored copies.

    Returns:
        (B, depths, channels, *tile) float32; with disagreement, it is the last channel.
    """
    copies = mirrorings(images.ndim - 2) if options.tta else ((),)
    every = options.uncertainty == "disagreement"
    sizes = sizes or SizeNames.of_depths([max(1, *depths)])
    disagreements = {depth: Disagreement(coding) for depth in depths} if every else {}

    def predict_each() -> Iterator[Tensor]:
        for network, axes in itertools.product(networks, copies):
            with torch.cuda.device(images.get_device()), autocast(images.device, precision):
                outputs = _run_heads(network, mirror(images, axes), depths, every, sizes)
            each = zip(outputs.depths, outputs.logits, strict=True)
            heads = {depth: mirror(coding.compact(logits), axes) for depth, logits in each}
            for wanted, depth in itertools.product(disagreements, outputs.depths):
                if wanted == MEAN or sizes.holds(wanted, depth):
                    disagreements[wanted].add(heads[depth])
            if MEAN in depths:
                heads[MEAN] = torch.stack(list(heads.values())).mean(dim=0)
            del outputs, each
            yield heads[depths[0]][:, None] if len(depths) == 1 else torch.stack([heads[d] for d in depths], dim=1)

    total = reduce(Tensor.add_, predict_each()).div_(len(networks) * len(copies))
    if not every:
        return total
    maps = torch.stack([each.value() for each in disagreements.values()], dim=1)
    return torch.cat([total, maps[:, :, None]], dim=2)


def _run_heads(network: Runner, images: Tensor, depths: Sequence[int], every: bool, sizes: SizeNames) -> HeadOutputs:
    """Run the heads of `depths`, and maybe more; with `every`, all that the largest of them holds."""
    if len(depths) == 1 and not every and MEAN not in depths:
        return HeadOutputs((depths[0],), (cast(Tensor, network(images, depth=depths[0])),))
    largest = None if MEAN in depths else sizes.join(depths)
    return cast(HeadOutputs, network(images, depth=largest, heads=True))


def _read_ahead(image: TiledImage, grid: TileGrid, batch: int) -> Iterator[tuple[list[Tile], Tensor]]:
    """Yield batches of tiles; the next one is read while the network runs on the current one."""

    def read(tiles: list[Tile]) -> Tensor:
        return torch.from_numpy(np.stack([read_tile(image, tile, grid.tile) for tile in tiles]))

    tiles = iter(grid)
    reading: list[tuple[list[Tile], Future[Tensor]]] = []
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tiles") as pool:
        while following := list(itertools.islice(tiles, batch)):
            reading.append((following, pool.submit(read, following)))
            if len(reading) > 1:
                current, future = reading.pop(0)
                yield current, future.result()
        for current, future in reading:
            yield current, future.result()
