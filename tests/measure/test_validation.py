"""Validation cases of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.plans import small_plan

from unetpp.data.store import StoredCase
from unetpp.measure.validation import DepthValidation, choose_evenly
from unetpp.model.build import build_from_plan

CPU = torch.device("cpu")


def store(folder: Path, count: int, shape: tuple[int, int] = (40, 40)) -> list[StoredCase]:
    for number in range(count):
        np.save(folder / f"{number}.image.npy", np.full((1, *shape), number, np.float16))
        np.save(folder / f"{number}.label.npy", np.zeros(shape, np.uint8))
        np.save(folder / f"{number}.foreground.npy", np.zeros((0, 1 + len(shape)), np.int32))
    return [StoredCase(str(number), folder / str(number)) for number in range(count)]


def test_cases_stay_spread_when_there_is_time_for_few_and_a_count_gives_the_same_ones(tmp_path: Path) -> None:
    plan = small_plan()
    validation = DepthValidation(store(tmp_path, 12), plan, CPU)
    per_case = validation.count_tiles() // 12
    validation.shorten(3 * per_case)
    ids = [case.id for case in validation.cases]
    assert 1 < len(ids) <= 3
    assert int(ids[-1]) >= 6
    again = DepthValidation(store(tmp_path, 12), plan, CPU)
    again.keep(len(ids))
    assert [case.id for case in again.cases] == ids
    validation.shorten(0)
    assert len(validation.cases) == 1


def test_timing_sees_a_tile_and_not_a_huge_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    validation = DepthValidation(store(tmp_path, 1, (400, 400)), small_plan(), CPU)
    predict = validation._predict
    monkeypatch.setattr(
        validation,
        "_predict",
        lambda network, image, depths: seen.append(image.shape) or predict(network, image, depths),
    )
    assert validation.seconds_per_tile(build_from_plan(small_plan().model).eval()) > 0
    assert set(seen) == {(1, 16, 16)}


def test_some_training_cases_are_scored_in_the_same_way_within_the_same_time(tmp_path: Path) -> None:
    plan, network = small_plan(), build_from_plan(small_plan().model).eval()
    held_out, training = store(tmp_path, 5), store(tmp_path, 12)[5:]
    for case in training:
        np.save(f"{case.stem}.label.npy", np.ones((40, 40), np.uint8))
    validation = DepthValidation(held_out, plan, CPU, training)
    assert [case.id for case in validation.training_cases] == ["5", "8"]
    found = validation(network)
    assert found.train_dice == DepthValidation(validation.training_cases, plan, CPU)(network).dice
    assert DepthValidation(held_out, plan, CPU)(network).depths == found.depths
    per_case = validation.count_tiles() // 7
    validation.shorten(5 * per_case)
    assert (len(validation.cases), len(validation.training_cases)) == (3, 1)
    validation.shorten(1 * per_case)
    assert (len(validation.cases), validation.training_cases) == (1, [])
    assert validation(network).train_dice is None


def test_the_loss_is_that_of_training_on_the_same_patches_each_time(tmp_path: Path) -> None:
    plan = small_plan()
    network, worse = (build_from_plan(plan.model).eval() for _ in range(2))
    with torch.no_grad():
        for head in worse.heads.values():
            head.get_parameter("bias")[1] += 50.0  # certain of the foreground everywhere
    validation = DepthValidation(store(tmp_path, 5), plan, CPU)
    loss = validation(network).loss
    assert loss is not None and loss == validation(network).loss
    assert (validation(worse).loss or 0.0) > 5 * loss
    validation.keep(1)
    validation.plan = plan.changed({"train.batch": 64})
    assert validation(network).loss is not None
    alone = DepthValidation(validation.cases[:1], plan.changed({"predict.tile": [64, 64]}), CPU)
    assert alone.count_tiles() < 4 and alone(network).loss is None


@pytest.mark.parametrize(
    ("count", "expected"), [(3, [0, 3, 6]), (10, list(range(10))), (20, list(range(10))), (1, [0])]
)
def test_chosen_evenly(count: int, expected: list[int]) -> None:
    assert choose_evenly(range(10), count) == expected
