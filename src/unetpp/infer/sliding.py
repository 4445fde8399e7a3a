"""Prediction of an image of any size in bounded memory and linear time.

Tiles run in row order over the network's grid. Their probabilities are added up with Gaussian weights in a buffer as high
as one tile; rows that no later tile reaches leave it as a band.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from unetpp.infer.bands import Band, collect, rows_at_once
from unetpp.infer.confidence import Disagreement
from unetpp.infer.mirror import ORIGINAL, mirror, mirrorings
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import MEAN
from unetpp.infer.tiles import Span, Tile, TiledImage, TileGrid, TileProgress, read_tile
from unetpp.labels.classes_torch import compact_probabilities
from unetpp.model.network import HeadOutputs
from unetpp.plan import PredictPlan
from unetpp.runtime.device import autocast
from unetpp.runtime.runner import Runner

_T = TypeVar("_T")


def predict_tiles(
    networks: Sequence[Runner],
    image: TiledImage,
    plan: PredictPlan,
    depths: Sequence[int],
    device: torch.device,
    options: PredictOptions = DEFAULTS,
    progress: TileProgress | None = None,
) -> dict[int, np.ndarray]:
    """Class indices (*grid) on the network's grid, for each depth. Arguments as `stream_bands`."""
    bands = stream_bands(networks, image, plan, depths, device, options, progress)
    return {depth: found.segmentation for depth, found in collect(bands, image.shape[1:], depths, options).items()}


def stream_bands(
    networks: Sequence[Runner],
    image: TiledImage,
    plan: PredictPlan,
    depths: Sequence[int],
    device: torch.device,
    options: PredictOptions = DEFAULTS,
    progress: TileProgress | None = None,
) -> Iterator[Band]:
    """Probabilities on the network's grid, in bands from the first row to the last.

    Args:
        networks: in evaluation mode, on `device`; their probabilities are averaged.
        image: the prepared image.
        plan: tile, overlap, batch and precision.
        depths: heads that answer, all in one pass; MEAN: the mean of all of them.
        device: where the networks are.
        options: with disagreement, the last channel is how far the heads down to each depth, of all networks and copies, differ.
        progress: called with (tiles done, tiles in all).
    """
    grid = TileGrid(image.shape[1:], plan.tile, plan.overlap)
    rows: _OpenRows | None = None
    done = 0
    for tiles, batch in _read_ahead(image, grid, plan.batch):
        outputs = _tile_probabilities(networks, batch.to(device), depths, plan.precision, options)
        rows = rows or _OpenRows(grid, outputs)
        for tile, values in zip(tiles, outputs, strict=True):
            if tile[0].inside.start > rows.top:
                yield from rows.finished(tile[0].inside.start)
            rows.add(tile, values)
        done += len(tiles)
        if progress:
            progress(done, len(grid))
    if rows:
        yield from rows.finished(grid.shape[0])


class _OpenRows:
    """Weighted sums of the rows that tiles still reach; the first of them is `top`."""

    def __init__(self, grid: TileGrid, outputs: Tensor) -> None:
        height = min(grid.tile[0], grid.shape[0])
        self.top = 0
        self._sums = torch.zeros((*outputs.shape[1:3], height, *grid.shape[1:]), device=outputs.device)
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

    def finished(self, end: int) -> Iterator[Band]:
        """Give the rows before `end`, then go on without them."""
        count = end - self.top
        some = rows_at_once(self._sums[:, :, 0].numel())
        for start in range(0, count, some):
            yield Band(self.top + start, self._sums[:, :, start : min(start + some, count)])
        height = self._sums.shape[2]
        for start in range(0, height - count, count):  # piece by piece: source and target must not overlap
            stop = min(start + count, height - count)
            self._sums[:, :, start:stop] = self._sums[:, :, start + count : stop + count]
        self._sums[:, :, height - count :] = 0
        self.top = end


@torch.inference_mode()
def _tile_probabilities(
    networks: Sequence[Runner],
    images: Tensor,
    depths: Sequence[int],
    precision: str,
    options: PredictOptions,
) -> Tensor:
    """Mean over networks and mirror copies: (B, depths, channels, *tile) float32; last, if it is asked for, the disagreement."""
    total: Tensor | None = None
    copies = mirrorings(images.ndim - 2) if options.tta else ORIGINAL
    disagreement = options.uncertainty == "disagreement"
    answers = {depth: Disagreement() for depth in depths} if disagreement else {}
    for network, axes in itertools.product(networks, copies):
        with torch.cuda.device_of(images), autocast(images.device, precision):
            outputs = _outputs(network, mirror(images, axes), depths, disagreement)
        heads = {
            depth: mirror(compact_probabilities(logits), axes)
            for depth, logits in zip(outputs.depths, outputs.logits, strict=True)
        }
        for wanted, depth in itertools.product(answers, outputs.depths):
            if depth <= wanted or wanted == MEAN:
                answers[wanted].add(heads[depth])
        if MEAN in depths:
            heads[MEAN] = torch.stack(list(heads.values())).mean(dim=0)
        del outputs
        found = (
            heads[depths[0]][:, None] if len(depths) == 1 else torch.stack([heads[depth] for depth in depths], dim=1)
        )
        total = found if total is None else total.add_(found)
    if total is None:
        raise ValueError("networks: got none; expected at least one.")
    total.div_(len(networks) * len(copies))
    return (
        torch.cat([total, torch.stack([each.value() for each in answers.values()], dim=1)[:, :, None]], dim=2)
        if answers
        else total
    )


def _outputs(network: Runner, images: Tensor, depths: Sequence[int], every: bool) -> HeadOutputs:
    """The heads that are needed for `depths`, and maybe more; with `every` all down to the deepest of them."""
    if MEAN in depths:
        return cast(HeadOutputs, network(images, heads=True))
    if len(depths) == 1 and not every:
        return HeadOutputs((depths[0],), (cast(Tensor, network(images, depth=depths[0])),))
    return cast(HeadOutputs, network(images, depth=max(depths), heads=True))


def _read_ahead(image: TiledImage, grid: TileGrid, batch: int) -> Iterator[tuple[list[Tile], Tensor]]:
    """Batches of tiles, of which the next is read while the network works on the one before."""

    def read(tiles: list[Tile]) -> Tensor:
        return torch.from_numpy(np.stack([read_tile(image, tile, grid.tile) for tile in tiles]))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tiles") as pool:
        waiting: tuple[list[Tile], Future[Tensor]] | None = None
        for tiles in _batches(grid, batch):
            following = (tiles, pool.submit(read, tiles))
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting:
            yield waiting[0], waiting[1].result()


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
