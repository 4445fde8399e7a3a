"""How files are read is recalled from the plan of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.plans import small_plan

import unetpp
from unetpp.errors import PlanError
from unetpp.plan import LabelPlan, ReadPlan
from unetpp.run_folder import RunFolder
from unetpp.verbs.preparation import recall_reading
from unetpp.verbs.request import read_reading


def test_how_files_are_read_is_recalled_from_the_plan_of_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert recall_reading(folder) == {}
    plan = small_plan().changed({"data.labels": "objects", "data.fill": "0", "train.batch": "3"})
    folder.plan.write_text(plan.to_json())
    recalled = recall_reading(folder)
    assert set(recalled) == {"data.fill", "data.labels"}
    assert read_reading({**recalled, "data.fill": 1}) == ReadPlan(labels=LabelPlan(kind="objects"), fill=1)


def test_the_weight_of_a_case_that_is_not_there_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, value in (("images", 100), ("masks", 255)):
        (data / name).mkdir(parents=True)
        for index in range(4):
            pixels = np.zeros((32, 32), np.uint8)
            pixels[8:20, 8:20] = value
            Image.fromarray(pixels).save(data / name / f"{index}.png")
    with pytest.raises(
        PlanError, match=r"train\.case_weights: got 7; expected ids of cases, such as 0, 1, 2 and 1 more"
    ):
        unetpp.plan(data, tmp_path / "run", minutes=0.1, set={"train.case_weights": {"1": 2, "7": 3}})
