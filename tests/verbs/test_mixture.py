"""`train --from MODEL --replay`: new cases beside those that the model knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.test_replay import write_cases
from tests.tiny import TINY

import unetpp
from unetpp.data.folds import read_splits
from unetpp.errors import UsageError
from unetpp.plan import read_plan

SETTINGS: dict[str, Any] = {name: value for name, value in TINY.items() if not name.startswith(("model.", "predict."))}


def test_a_model_goes_on_with_new_cases_beside_known_ones(trained: Path, tmp_path: Path) -> None:
    new = write_cases(tmp_path / "new", "a", "b")
    options: dict[str, Any] = {"from_": trained, "replay": True, "device": "cpu", "set": SETTINGS}
    run = unetpp.train(new, tmp_path / "run", epochs=1, **options)
    known = read_splits(trained / "splits.json")[0]
    (split,) = read_splits(tmp_path / "run" / "splits.json")
    assert set(split.validation) == set(known.validation) and set(split.train) == {"a", "b", *known.train}
    plan = read_plan(tmp_path / "run" / "plan.json")
    assert (
        plan.train.case_weights == {"a": 1.333, "b": 1.333}
        and plan.name == "data"
        and run.folds[0].metrics.mean.dice is not None
    )
    label = tmp_path / "run" / "mixture" / "data" / "labels" / "a.png"
    before = label.stat().st_mtime_ns
    again = unetpp.train(new, tmp_path / "run", epochs="+1", resume=True, **options)
    assert again.folds[0].steps > run.folds[0].steps and label.stat().st_mtime_ns == before
    write_cases(new, "c")
    with pytest.raises(UsageError, match=r"replay: got .*other cases than those that its mixture is of"):
        unetpp.train(new, tmp_path / "run", epochs="+1", resume=True, **options)
    with pytest.raises(UsageError, match=r"replay: got `add_cases`"):
        unetpp.train(new, tmp_path / "run", epochs="+1", resume=True, add_cases=True, **options)


@pytest.mark.parametrize(("options", "text"), [({}, "no model"), ({"from_": True, "dry_run": True}, "dry_run")])
def test_what_cannot_be_replayed_is_refused(options: dict[str, Any], text: str, trained: Path, tmp_path: Path) -> None:
    given = options | ({"from_": trained} if "from_" in options else {})
    with pytest.raises(UsageError, match=f"replay: got .*{text}"):
        unetpp.train(write_cases(tmp_path / "new", "a"), tmp_path / "run", replay=True, **given)
    assert not (tmp_path / "run" / "mixture").exists()
