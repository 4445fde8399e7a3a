"""What predicting a store block by block takes: tasks, bytes and objects counted, one block measured."""

from __future__ import annotations

import sys
import time
from math import prod
from typing import Any

import numpy as np
import psutil

from unetpp.data.normalize import Scales, join_slabs
from unetpp.infer.block_tasks import PredictBlock, measure_layer
from unetpp.infer.predictor import Predictor
from unetpp.infer.selected import SelectedPredictor
from unetpp.parts import Part
from unetpp.results import BlockPlan

PAUSED = 0.8
"""Share of its memory at which a worker of Dask is given no more work; at 0.95 its nanny ends it."""
_TENSORS = 8
"""Tensors of the widest level that a forward pass holds, about."""


def plan_blocks(predict: PredictBlock, part: Part) -> BlockPlan:
    """Count the work of all parts, measure one block of it here, and say what each of the parts takes."""
    images, cuts = predict.images, predict.store.cuts
    layers = images.list_layers() if images.is_measured else []
    scales, layer_s = _measure_layer(predict) if layers else (None, 0.0)
    block_s, itemsize, share = _measure_block(predict, scales)
    source = images.source(0)
    voxels = sum(prod(cut.shape) for cut in cuts) * len(predict.store.names)
    blocks = len(cuts[0])
    measured = len(layers) * len(images)
    shrunk = sum(map(len, cuts[1:]))
    chunks = prod(own // size for own, size in zip(cuts[0].block, cuts[0].chunk, strict=True))
    objects = (blocks + shrunk) * len(predict.store.names) * (chunks if predict.store.zarr_format == 2 else 1)
    return BlockPlan(
        block=cuts[0].block,
        layers=measured,
        blocks=blocks,
        shrunk=shrunk,
        layer_seconds=layer_s,
        block_seconds=block_s,
        hours=(measured * layer_s + block_s / share) / part.count / 3600,
        parts=part.count,
        memory_gb=_peak_bytes() / 1e9,
        read_gb=prod(source.shape) * len(images) * source.dtype.itemsize / 1e9,
        written_gb=voxels * itemsize / 1e9,
        objects=objects,
    )


def describe_tightness(predict: PredictBlock, predictor: Predictor | SelectedPredictor, limit: int) -> str | None:
    """Say that a block may take more memory than a worker has; None: it fits.

    Args:
        predict: the task.
        predictor: its model, loaded in this process.
        limit: bytes of a worker.
    """
    need = psutil.Process().memory_info().rss + estimate_block_bytes(predict, predictor)
    if need <= PAUSED * limit:
        return None
    return (
        f"note: a block takes about {need / 1e9:.1f} GB, of workers of {limit / 1e9:.1f} GB, which Dask pauses at "
        f"{PAUSED:.0%} and ends at 95 %. Give them {need / PAUSED / 1e9:.1f} GB, or a smaller `predict.tile`"
    )


def estimate_block_bytes(predict: PredictBlock, predictor: Predictor | SelectedPredictor) -> int:
    """Estimate what a block takes beside the loaded model: its image with what is around it, its sums, and a batch."""
    members = [predictor] if isinstance(predictor, Predictor) else predictor.members
    cut, source = predict.store.cuts[0], predict.images.source(0)
    block, shape = cut.block[-len(source.shape[1:]) :], source.shape[1:]
    found = []
    for member in members:
        tile, model = member.plan.predict.tile, member.plan.model
        sides = zip(block, tile, shape, strict=True)
        around = prod(min(own + 2 * reach, size) for own, reach, size in sides)
        held = (4 * len(predict.images.data.channels) + source.dtype.itemsize) * around  # and the pieces that are read
        sums = (4 * model.out_channels * len(predict.store.names) + 8) * prod(block)
        batch = 4 * _TENSORS * model.widths[0] * member.plan.predict.batch * prod(tile)
        found.append(held + sums + batch)
    return max(found)


def _measure_layer(predict: PredictBlock) -> tuple[Scales, float]:
    """Measure the middle layer of the first image, and the seconds that it takes."""
    layers, started = predict.images.list_layers(), time.perf_counter()
    found = measure_layer(predict.images, 0, layers[(len(layers) - 1) // 2])
    return join_slabs(found, predict.images.data.normalization), time.perf_counter() - started


def _measure_block(predict: PredictBlock, scales: Scales | None) -> tuple[float, int, float]:
    """Predict the block in the middle; of two along an axis the first, as the last one may be cut off.

    Returns:
        Its seconds, the bytes of a voxel of labels, and its share of all voxels.
    """
    cut = predict.store.cuts[0]
    middle = [(count - 1) // 2 for count in cut.counts]
    whole = cut.area(int(np.ravel_multi_index(middle, cut.counts)))
    image, area = predict.images.find(whole)
    predict.model.load()
    started = time.perf_counter()
    found: list[Any] = predict.predict(image, area, scales)
    seconds = time.perf_counter() - started
    return seconds, found[0].itemsize, prod(part.stop - part.start for part in whole) / prod(cut.shape)


def _peak_bytes() -> int:
    """Return the largest memory that this process has had; where the system does not say, what it has now."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
