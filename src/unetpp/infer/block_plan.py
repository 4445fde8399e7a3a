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
from unetpp.parts import Part
from unetpp.results import BlockPlan


def plan_blocks(predict: PredictBlock, part: Part) -> BlockPlan:
    """Count the work of all parts, measure one block of it here, and say what each of the parts takes."""
    images, cuts = predict.images, predict.store.cuts
    layers = images.list_layers() if images.is_measured else []
    scales, layer_s = _measure_layer(predict) if layers else (None, 0.0)
    block_s, itemsize = _measure_block(predict, scales)
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
        hours=(measured * layer_s + blocks * block_s) / part.count / 3600,
        parts=part.count,
        memory_gb=_peak_bytes() / 1e9,
        read_gb=prod(source.shape) * len(images) * source.dtype.itemsize / 1e9,
        written_gb=voxels * itemsize / 1e9,
        objects=objects,
    )


def _measure_layer(predict: PredictBlock) -> tuple[Scales, float]:
    """Measure the middle layer of the first image, and the seconds that it takes."""
    layers, started = predict.images.list_layers(), time.perf_counter()
    found = measure_layer(predict.images, 0, layers[len(layers) // 2])
    return join_slabs(found, predict.images.data.normalization), time.perf_counter() - started


def _measure_block(predict: PredictBlock, scales: Scales | None) -> tuple[float, int]:
    """Predict the block in the middle, and return the seconds that it takes and the bytes of a voxel of labels."""
    cut = predict.store.cuts[0]
    middle = [count // 2 for count in cut.counts]
    image, area = predict.images.find(cut.area(int(np.ravel_multi_index(middle, cut.counts))))
    predict.model.load()
    started = time.perf_counter()
    found: list[Any] = predict.predict(image, area, scales)
    return time.perf_counter() - started, found[0].itemsize


def _peak_bytes() -> int:
    """Return the largest memory that this process has had; where the system does not say, what it has now."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
