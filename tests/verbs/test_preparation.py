"""Splits that were edited before training."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plans import small_plan

from unetpp.data.folds import Split, write_splits
from unetpp.errors import DataError
from unetpp.layouts.dataset import Case, Dataset
from unetpp.plan import LabelPlan, ReadPlan
from unetpp.run_folder import RunFolder
from unetpp.verbs.preparation import recall_reading, reuse_splits
from unetpp.verbs.request import read_reading


def test_edited_splits_name_cases_of_the_data_set_that_have_labels(tmp_path: Path) -> None:
    cases = [Case(name, (tmp_path / f"{name}.png",), (tmp_path / f"{name}_mask.png",)) for name in "abc"]
    dataset = Dataset("toy", tmp_path, "csv", (*cases, Case("d", (tmp_path / "d.png",), split="test")))
    folder = RunFolder(tmp_path)
    write_splits(folder.splits, [Split(("a", "b"), ("c",))])
    assert reuse_splits(folder, dataset) == [Split(("a", "b"), ("c",))]
    write_splits(folder.splits, [Split(("a", "d"), ("c", "e"))])
    with pytest.raises(DataError) as caught:
        reuse_splits(folder, dataset)
    assert [problem.got for problem in caught.value.problems] == [
        "1 case not in the data set: e",
        "1 case without a label: d",
    ]


def test_how_files_are_read_is_recalled_from_the_plan_of_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert recall_reading(folder) == {}
    plan = small_plan().changed({"data.labels": "objects", "data.fill": "0", "train.batch": "3"})
    folder.plan.write_text(plan.to_json())
    recalled = recall_reading(folder)
    assert set(recalled) == {"data.fill", "data.labels"}
    assert read_reading({**recalled, "data.fill": 1}) == ReadPlan(labels=LabelPlan(kind="objects"), fill=1)
