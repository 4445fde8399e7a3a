"""Measurements of an image in one pass over slabs: an image of any size in bounded memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from unetpp.formats import scratch
from unetpp.formats.sources import ImageSource
from unetpp.slabs import slabs

SAMPLE = 1000
"""Largest number of foreground voxels of a case whose intensities are sampled."""


@dataclass(frozen=True, eq=False)
class Intensities:
    """Measurements of one image. Tuples and the rows of the sample have one entry for each channel."""

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    sample: np.ndarray
    """Intensities (channels, at most `SAMPLE`) float32 of the foreground, evenly spread."""
    not_finite: int
    """Number of values that are NaN or infinite; with any, the rest is not meaningful."""
    is_gray: bool
    """Three channels that are equal everywhere."""
    digest: str
    """Hash of the voxels, equal for equal images."""


def measure_intensities(image: ImageSource, label: np.ndarray | None) -> Intensities:
    """Measure an image (C, *spatial). Voxels above 0 in `label` (*spatial) are the foreground; None: there is none."""
    channels, shape = image.shape[0], image.shape[1:]
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    marked = 0 if label is None else sum(np.count_nonzero(label[slices] > 0) for slices in slabs(shape))
    ranks = np.linspace(0, marked - 1, min(marked, SAMPLE)).astype(np.int64)
    samples = [np.empty((channels, 0), np.float32)]
    digest = hashlib.blake2b(f"{image.dtype} {image.shape}".encode(), digest_size=16)
    not_finite, passed, is_gray = 0, 0, channels == 3
    for slices in slabs(shape):
        block = image.read(slices)
        digest.update(block.reshape(-1).view(np.uint8).data)
        if block.dtype.kind == "f":
            not_finite += block.size - int(np.count_nonzero(np.isfinite(block)))
        flat = block.reshape(channels, -1)
        low, high = np.minimum(low, flat.min(axis=1)), np.maximum(high, flat.max(axis=1))
        is_gray = is_gray and all(np.array_equal(channel, flat[0]) for channel in flat[1:])
        if label is not None:
            places = np.flatnonzero(label[slices] > 0)
            chosen = ranks[(ranks >= passed) & (ranks < passed + len(places))] - passed
            samples.append(flat[:, places[chosen]].astype(np.float32))
            passed += len(places)
            scratch.release(label)
    return Intensities(
        tuple(low.tolist()),
        tuple(high.tolist()),
        np.concatenate(samples, axis=1),
        not_finite,
        is_gray,
        digest.hexdigest(),
    )
