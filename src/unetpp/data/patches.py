"""Training patches. Locations depend on (seed, step, index) alone, so that a resumed run needs no loader state."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from unetpp.data.first_stage import join_codes
from unetpp.data.store import StoredCase


@dataclass(frozen=True)
class PatchLocation:
    """Location of a patch; the patch may reach beyond the case, which is then padded by reflection."""

    case: int
    """Index of the case."""
    start: tuple[int, ...]
    """First voxel along each axis, negative before the case."""


def draw_generator(seed: int, step: int, index: int = 0, purpose: int = 0) -> np.random.Generator:
    """Make the random generator of patch `index` of a step.

    Args:
        seed: of the training.
        step: number of the step.
        index: number of the patch in its step.
        purpose: 0: its location; 1: its variation, which is independent of it.

    Returns:
        A generator that depends on the arguments alone.
    """
    return np.random.default_rng((seed, step, index, purpose))


class PatchSampler:
    """Draws and cuts patches.

    Each pass over the cases has a new random order. A case larger than a patch occurs several times in a pass: the
    square root of the number of patches that cover it, a compromise between equal weights of cases and of voxels. In a
    case with voxels that nobody labeled, every patch has a labeled one.

    Args:
        cases: the training cases.
        patch: size of a patch in voxels.
        batch: number of patches in each step.
        foreground_fraction: fraction of the patches that are centered on a voxel of a random foreground class.
        seed: of the order of cases and of the locations.
        weights: how often each case occurs, by id, relative to those that are not named.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        patch: tuple[int, ...],
        batch: int,
        foreground_fraction: float,
        seed: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.cases = cases
        self.patch = patch
        self.batch = batch
        self.foreground_fraction = foreground_fraction
        self.seed = seed
        self._shapes = [case.label().shape for case in cases]
        repeats = [max(1, round((prod(shape) / prod(patch)) ** 0.5)) for shape in self._shapes]
        wanted = [(weights or {}).get(case.id, 1.0) * count for case, count in zip(cases, repeats, strict=True)]
        self._length = max(1, round(sum(wanted)))
        self._ends = np.cumsum(wanted) * (self._length / sum(wanted))
        """Last place of each case in a pass that is not shuffled, a fraction where it has a weight."""
        self._shuffle = functools.lru_cache(maxsize=2)(self._shuffle_pass)  # patches of a pass share its order

    def draw(self, step: int, index: int) -> PatchLocation:
        """Draw the location of patch `index` of step `step`."""
        cycle, position = divmod(step * self.batch + index, self._length)
        chosen = int(self._shuffle(cycle)[position])
        rng = draw_generator(self.seed, step, index)
        shape = self._shapes[chosen]
        positions = self.cases[chosen].positions()
        foreground = {index: found for index, found in positions.items() if index}
        if foreground and rng.random() < self.foreground_fraction:
            places = foreground[int(rng.choice(sorted(foreground)))]
            center = places[rng.integers(len(places))]
            start = [
                _clamp_start(int(c) - size // 2, size, length)
                for c, size, length in zip(center, self.patch, shape, strict=True)
            ]
        elif (labeled := positions.get(0)) is not None:
            voxel = labeled[rng.integers(len(labeled))]
            start = [
                _draw_start_around(rng, int(place), size, length)
                for place, size, length in zip(voxel, self.patch, shape, strict=True)
            ]
        else:
            start = [_draw_start(rng, size, length) for size, length in zip(self.patch, shape, strict=True)]
        return PatchLocation(chosen, tuple(start))

    def _shuffle_pass(self, cycle: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, cycle))
        order, offset = rng.permutation(self._length), rng.random()
        # systematic sampling: a case that is wanted 1.5 times occurs once or twice
        return np.searchsorted(self._ends, order + offset, side="right").clip(max=len(self.cases) - 1)

    def read(self, location: PatchLocation) -> tuple[np.ndarray, np.ndarray]:
        """Cut a patch: image (C, *patch) float32 and label (*patch) of whole numbers, see `cut`."""
        image, label = self.cut(location)
        return image.astype(np.float32, copy=False), label

    def cut(self, location: PatchLocation, margin: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Cut a patch and what is around it; beyond the case there is its reflection.

        Args:
            location: of the patch.
            margin: number of voxels around it along each axis, on either side; None: none.

        Returns:
            image (C, *window) and label (*window) of their stored types. Of a cascade, each number of the label stands
            for what the first stage found, too, see `data.first_stage`.
        """
        case = self.cases[location.case]
        image, label = case.image(), case.label()
        margin = margin or [0] * len(self.patch)
        spans = [
            (start - more, start + size + more, length)
            for start, size, more, length in zip(location.start, self.patch, margin, label.shape, strict=True)
        ]
        inside = tuple(slice(max(0, start), min(length, stop)) for start, stop, length in spans)
        pads = [(max(0, -start), max(0, stop - length)) for start, stop, length in spans]
        window, classes = np.asarray(image[(slice(None), *inside)]), np.asarray(label[inside])
        if case.first_stage:
            classes = join_codes(classes, case.first()[inside])
        if any(before or after for before, after in pads):
            return np.pad(window, [(0, 0), *pads], mode="reflect"), np.pad(classes, pads, mode="reflect")
        return window, classes


def _clamp_start(start: int, size: int, length: int) -> int:
    """Move a start so that the patch is inside the case, or centered on a case smaller than the patch."""
    return -((size - length) // 2) if size >= length else min(max(start, 0), length - size)


def _draw_start_around(rng: np.random.Generator, voxel: int, size: int, length: int) -> int:
    """Draw a start as `_draw_start` does, of a patch that contains a voxel."""
    low, high = sorted((0, length - size))
    return int(rng.integers(max(low, voxel - size + 1), min(high, voxel) + 1))


def _draw_start(rng: np.random.Generator, size: int, length: int) -> int:
    """Draw a start that keeps the patch inside the case, or the case inside the patch."""
    low, high = sorted((0, length - size))
    return int(rng.integers(low, high + 1))
