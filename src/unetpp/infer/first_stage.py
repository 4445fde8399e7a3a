"""The first stage of a cascade: where its networks are, and whether they fit the second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unetpp.errors import ModelFileError, UsageError
from unetpp.model.header import read_header
from unetpp.plan import DataPlan, Plan
from unetpp.run_folder import list_first_stage

COMPARED = ("dims", "channels", "classes", "label_values", "labels", "regions", "orientation")
"""Fields of the data plan that models have in common whose results are put together; grid and normalization may
differ."""
NETWORKS = 2
"""Number of networks of the first stage of each fold."""


def find_first_stage(files: Sequence[Path], data: DataPlan) -> list[Path]:
    """Find the networks of the first stages of some folds, which predict together.

    Args:
        files: model files of the second stage, one for each fold.
        data: their data plan.

    Raises:
        ModelFileError: some are missing, or were trained on other classes or images.
    """
    found = []
    for file in files:
        first = list_first_stage(file.parent)
        if len(first) < NETWORKS:
            got = f"the second stage of a cascade, with {len(first)} of {NETWORKS} networks of the first beside it"
            expected = f"them in {file.parent / 'first_stage'}"
            action = "Copy the whole folder of the fold; or train it to its end."
            raise ModelFileError(file, got, expected, action)
        found += first
    for place in found:
        theirs = read_header(place).plan.data
        for name in COMPARED:
            if getattr(theirs, name) != getattr(data, name):
                got = f"a first stage with data.{name} {getattr(theirs, name)}"
                expected = f"{getattr(data, name)}, as of the second stage"
                raise ModelFileError(place, got, expected, "Copy the folder of the fold again: it is of another run.")
    return found


def require_one_stage(plan: Plan, model: Path, verb: str) -> None:
    """Raise UsageError for the second stage of a cascade, where a verb takes single networks."""
    if plan.data.resolution == "cascade":
        got, expected = "a cascade, of which each stage is a network", f"a model of one stage to {verb}"
        action = "Predict with its run folder; or train a run with `resolution=full` for this."
        raise UsageError(model, got, expected, action)
