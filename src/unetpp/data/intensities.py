"""Measurements of an image in one pass over slabs: an image of any size in bounded memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod

import numpy as np

from unetpp import scratch
from unetpp.formats.sources import ImageSource
from unetpp.slabs import slabs
from unetpp.volume import find_box

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
    inside: float
    """Fraction of the image in the box around its voxels that are not 0 in every channel."""


def measure_intensities(image: ImageSource, label: np.ndarray | None, ignore: int | None = None) -> Intensities:
    """Measure an image.

    Args:
        image: the image (C, *spatial).
        label: label values (*spatial), of which those above 0 are the foreground; None: there is no label.
        ignore: value of voxels that nobody labeled, which are no foreground.

    Returns:
        The measurements.
    """
    channels, shape = image.shape[0], image.shape[1:]
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    marked = (
        0 if label is None else sum(np.count_nonzero(_is_foreground(label[slices], ignore)) for slices in slabs(shape))
    )
    ranks = np.linspace(0, marked - 1, min(marked, SAMPLE)).astype(np.int64)
    samples = [np.empty((channels, 0), np.float32)]
    digest = hashlib.blake2b(f"{image.dtype} {image.shape}".encode(), digest_size=16)
    not_finite, passed, is_gray, box = 0, 0, channels == 3, _Box(shape)
    for slices in slabs(shape):
        block = image.read(slices)
        digest.update(block.reshape(-1).view(np.uint8).data)
        if block.dtype.kind == "f":
            not_finite += block.size - int(np.count_nonzero(np.isfinite(block)))
        box.add(block, slices[0].start)
        flat = block.reshape(channels, -1)
        low, high = np.minimum(low, flat.min(axis=1)), np.maximum(high, flat.max(axis=1))
        is_gray = is_gray and all(np.array_equal(channel, flat[0]) for channel in flat[1:])
        if label is not None:
            places = np.flatnonzero(_is_foreground(label[slices], ignore))
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
        box.fraction,
    )


class _Box:
    """Box around the voxels of an image (*shape) that are not 0 in every channel."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._first, self._stop = list(shape), [0] * len(shape)

    @property
    def fraction(self) -> float:
        """Fraction of the image inside; 1 for an image that is 0 everywhere."""
        sizes = [stop - first for first, stop in zip(self._first, self._stop, strict=True)]
        return prod(sizes) / prod(self._shape) if min(sizes) > 0 else 1.0

    def add(self, block: np.ndarray, row: int) -> None:
        """Add whole rows (C, rows, ...) from `row` on."""
        filled: np.ndarray = np.logical_or.reduce(block, axis=0)
        for axis, part in enumerate(find_box(filled) or ()):
            start = 0 if axis else row
            self._first[axis] = min(self._first[axis], start + part.start)
            self._stop[axis] = max(self._stop[axis], start + part.stop)


def _is_foreground(label: np.ndarray, ignore: int | None) -> np.ndarray:
    return label > 0 if ignore is None else (label > 0) & (label != ignore)
