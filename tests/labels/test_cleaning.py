"""Post-processing of segmentations: equal to scipy on the whole array, whatever the slabs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from unetpp import slabs
from unetpp.labels.cleaning import clean_segmentation
from unetpp.selection import HOLES, LARGEST, SMALLEST, Step


def make_noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Make blobs of classes 0 to 2."""
    noise = ndimage.uniform_filter(np.random.default_rng(seed).normal(size=shape), 3)
    found = np.digitize(noise, [-0.03, 0.12]).astype(np.uint8)
    for value, start, stop in ((1, 2, 7), (2, 8, 11)):  # and a hollow box of each
        found[(slice(start, stop),) * len(shape)] = value
        found[((start + stop) // 2,) * len(shape)] = 0
    return found


def clean_whole(segmentation: np.ndarray, step: Step) -> np.ndarray:
    """The same with the whole array at once."""
    found, mask = segmentation.copy(), np.isin(segmentation, step.classes)
    if step.kind == HOLES:
        cross = ndimage.generate_binary_structure(mask.ndim, 1)
        found[ndimage.binary_fill_holes(mask, cross) & (found == 0)] = step.classes[0]
        return found
    labeled, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    sizes = np.bincount(labeled.ravel())[1:]
    wanted = sizes >= step.voxels if step.kind == SMALLEST else np.arange(count) == sizes.argmax()
    found[mask & ~np.append(True, wanted)[labeled]] = 0
    return found


@pytest.mark.parametrize("shape", [(40, 33), (14, 12, 11)])
@pytest.mark.parametrize("rows", [1, 5, 100])
@pytest.mark.parametrize(
    "step",
    [
        Step(kind=LARGEST, classes=(1,)),
        Step(kind=LARGEST, classes=(1, 2)),
        Step(kind=SMALLEST, classes=(2,), voxels=6),
        Step(kind=HOLES, classes=(1,)),
        Step(kind=HOLES, classes=(2,)),
    ],
    ids=str,
)
def test_slabs_give_what_the_whole_gives(
    shape: tuple[int, ...], rows: int, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slabs, "SLAB_VALUES", rows * int(np.prod(shape[1:])))
    changed = 0
    for seed in range(3):
        segmentation = make_noise(shape, seed)
        expected, found = clean_whole(segmentation, step), segmentation.copy()
        clean_segmentation(found, [step])
        np.testing.assert_array_equal(found, expected)
        changed += int((expected != segmentation).sum())
    assert changed


def test_an_absent_class_changes_nothing() -> None:
    empty = np.zeros((8, 9), np.uint8)
    clean_segmentation(empty, [Step(kind=kind, classes=(1,)) for kind in (LARGEST, SMALLEST, HOLES)])
    assert not empty.any()


def test_steps_are_done_in_turn() -> None:
    found = np.zeros((20, 20), np.uint8)
    found[2:12, 2:12], found[5:8, 5:8], found[15:17, 15:17] = 1, 0, 1
    clean_segmentation(found, [Step(kind=LARGEST, classes=(1,)), Step(kind=HOLES, classes=(1,))])
    assert found.sum() == 100 and found[6, 6] == 1
