"""The cases that a training has left in its run folder, prepared as the network sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unetpp.data.folds import read_splits
from unetpp.data.store import StoredCase, find_stored_cases
from unetpp.plan import DataPlan, read_plan
from unetpp.run_folder import RunFolder


class StoredImage:
    """A stored array as blocks of float32."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape = array.shape

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self._array[(slice(None), *slices)], dtype=np.float32)


def stored_split(model: Path, plan: DataPlan) -> tuple[list[StoredCase], list[StoredCase]]:
    """Training and validation cases of RUN/fold_K/model.safetensors that are still in RUN/cache; none of a model file that lies elsewhere.

    Args:
        plan: of the model: cases that the run prepares otherwise by now are not given.

    Raises:
        DataError: RUN/splits.json cannot be used.
        PlanError: RUN/plan.json cannot.
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
