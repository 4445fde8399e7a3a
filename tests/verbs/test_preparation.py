"""How files are read is recalled from the plan of a run."""

from __future__ import annotations

from pathlib import Path

from tests.plans import small_plan

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
