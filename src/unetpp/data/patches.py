"""Training patches. Where to cut is drawn from (seed, step, index) alone, then applied: a resumed run needs no loader state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from unetpp.data.store import StoredCase


@dataclass(frozen=True)
class PatchLocation:
    """Where a patch lies; `start` may be negative or reach beyond the case, which is then padded by reflection."""

    case: int
    start: tuple[int, ...]


def draw_generator(seed: int, step: int, index: int = 0) -> np.random.Generator:
    """The generator of one patch of one step."""
    return np.random.default_rng((seed, step, index))


class PatchSampler:
    """Draws and cuts patches.

    Cases come in a new random order in every pass. A case larger than a patch comes several times in each: as often as
    the root of the number of patches that would cover it, between equal chances for cases and equal chances for voxels.

    Args:
        cases: the training cases.
        patch: size of a patch in voxels.
        batch: patches in each step.
        foreground_fraction: share of the patches that are centred on a voxel of a random foreground class.
    """

    def __init__(
        self, cases: Sequence[StoredCase], patch: tuple[int, ...], batch: int, foreground_fraction: float, seed: int
    ) -> None:
        self.cases = cases
        self.patch = patch
        self.batch = batch
        self.foreground_fraction = foreground_fraction
        self.seed = seed
        repeats = [max(1, round((prod(case.label().shape) / prod(patch)) ** 0.5)) for case in cases]
        self._pass = np.repeat(np.arange(len(cases)), repeats)

    def draw(self, step: int, index: int) -> PatchLocation:
        """Draw the place of patch `index` of step `step`."""
        cycle, place = divmod(step * self.batch + index, len(self._pass))
        chosen = int(np.random.default_rng((self.seed, cycle)).permutation(self._pass)[place])
        rng = draw_generator(self.seed, step, index)
        shape = self.cases[chosen].label().shape
        foreground = self.cases[chosen].foreground
        if foreground and rng.random() < self.foreground_fraction:
            positions = foreground[int(rng.choice(sorted(foreground)))]
            centre = positions[rng.integers(len(positions))]
            wanted = [int(c) - size // 2 for c, size in zip(centre, self.patch, strict=True)]
            start = [_into(w, size, length) for w, size, length in zip(wanted, self.patch, shape, strict=True)]
        else:
            start = [_anywhere(rng, size, length) for size, length in zip(self.patch, shape, strict=True)]
        return PatchLocation(chosen, tuple(start))

    def read(self, location: PatchLocation) -> tuple[np.ndarray, np.ndarray]:
        """Cut a patch: image (C, *patch) float32 and label (*patch) uint8."""
        case = self.cases[location.case]
        image, label = case.image(), case.label()
        inside = tuple(
            slice(max(0, s), min(length, s + size))
            for s, size, length in zip(location.start, self.patch, label.shape, strict=True)
        )
        pads = [
            (max(0, -s), max(0, s + size - length))
            for s, size, length in zip(location.start, self.patch, label.shape, strict=True)
        ]
        patch = np.asarray(image[(slice(None), *inside)], dtype=np.float32)
        if any(before or after for before, after in pads):
            return np.pad(patch, [(0, 0), *pads], mode="reflect"), np.pad(label[inside], pads, mode="reflect")
        return patch, np.asarray(label[inside])


def _into(start: int, size: int, length: int) -> int:
    """The nearest start that keeps a patch inside, or centres it where the case is the smaller one."""
    return -((size - length) // 2) if size >= length else min(max(start, 0), length - size)


def _anywhere(rng: np.random.Generator, size: int, length: int) -> int:
    """Any start that keeps the patch inside, or the case inside the patch."""
    low, high = sorted((0, length - size))
    return int(rng.integers(low, high + 1))
