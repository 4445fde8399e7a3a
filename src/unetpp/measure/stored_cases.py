"""Preprocessed cases that training cached in its run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unetpp.data.first_stage import WithFirstStage, list_channels
from unetpp.data.folds import read_splits
from unetpp.data.store import StoredCase, find_stored_cases
from unetpp.infer.tiles import TiledImage
from unetpp.plan import DataPlan, read_plan
from unetpp.run_folder import RunFolder
from unetpp.slabs import Sliced


class StoredImage:
    """A stored array (C, *spatial), read in float32 blocks."""

    def __init__(self, array: Sliced) -> None:
        self._array = array
        self.shape = array.shape

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Read (C, *block) float32 from the spatial `slices`."""
        return np.asarray(self._array[(slice(None), *slices)], dtype=np.float32)


class CascadeImage:
    """A stored image with the channels of its first stage, read as `StoredImage`."""

    def __init__(self, image: Sliced, first: Sliced, plan: DataPlan) -> None:
        self.shape = (plan.in_channels, *image.shape[1:])
        self._source = WithFirstStage(StoredImage(image), first, list_channels(plan))

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Read (C, *block) float32 from the spatial `slices`."""
        return self._source.read(slices)


def open_stored(case: StoredCase, plan: DataPlan, part: tuple[slice, ...] = ()) -> TiledImage:
    """Open what a network reads of a prepared case, or of a part of it within spatial slices, which is read at once."""
    image = case.image()[(slice(None), *part)] if part else case.image()
    if not case.first_stage:
        return StoredImage(image)
    return CascadeImage(image, case.first()[part] if part else case.first(), plan)


def find_stored_split(model: Path, plan: DataPlan) -> tuple[list[StoredCase], list[StoredCase]]:
    """Find the training and validation cases of a fold that are still in the cache of its run.

    Args:
        model: RUN/fold_K/model.safetensors; a model file anywhere else, or without validation, has no cases.
        plan: data settings of the model; without cases if those of the run differ by now.

    Raises:
        DataError: RUN/splits.json cannot be used.
        PlanError: RUN/plan.json cannot be used.
    """
    fold = model.resolve().parent
    run, number = RunFolder(fold.parent), fold.name.removeprefix("fold_")
    if not (run.splits.is_file() and run.plan.is_file() and number.isdecimal()) or read_plan(run.plan).data != plan:
        return [], []
    splits = read_splits(run.splits)
    if int(number) >= len(splits):
        return [], []
    split = splits[int(number)]
    return find_stored_cases(split.train, run.cache), find_stored_cases(split.validation, run.cache)
