"""Time and validation cases of a fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.plans import small_plan
from unetpp.data.store import StoredCase
from unetpp.fold import Clock, DepthValidation, chosen_evenly, recommended_depth
from unetpp.model.build import from_plan

CPU = torch.device("cpu")


def store(folder: Path, count: int, shape: tuple[int, int] = (40, 40)) -> list[StoredCase]:
    for number in range(count):
        np.save(folder / f"{number}.image.npy", np.full((1, *shape), number, np.float16))
        np.save(folder / f"{number}.label.npy", np.zeros(shape, np.uint8))
    return [StoredCase(str(number), folder / str(number)) for number in range(count)]


def test_later_folds_get_what_earlier_ones_left_and_never_less_than_half(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for spent, number, expected in ((0, 0, 600), (600, 1, 600), (1200, 1, 450), (2900, 4, 300), (9000, 4, 300)):
        monkeypatch.setattr(clock, "seconds", lambda spent=spent: spent)
        assert clock.share(10, number, parts=5) == expected
    assert clock.share(None, 0, 5) is None


def test_cases_stay_spread_when_there_is_time_for_few_and_a_count_gives_the_same_ones(tmp_path: Path) -> None:
    plan = small_plan()
    validation = DepthValidation(store(tmp_path, 12), plan, CPU)
    per_case = validation.tiles(validation.cases) // 12
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
    predicted = validation._predicted
    monkeypatch.setattr(validation, "_predicted", lambda network, image: seen.append(image.shape) or predicted(network, image))
    assert validation.seconds_per_tile(from_plan(small_plan().model).eval()) > 0
    assert set(seen) == {(1, 16, 16)}


@pytest.mark.parametrize(("count", "expected"), [(3, [0, 3, 6]), (10, list(range(10))), (20, list(range(10))), (1, [0])])
def test_chosen_evenly(count: int, expected: list[int]) -> None:
    assert chosen_evenly(range(10), count) == expected


def test_the_recommended_depth_loses_little_and_says_what_it_saves() -> None:
    rows = {"1": {"dice": 0.89, "dice_lost_interval": [0.01, 0.02]}, "2": {"dice": 0.908, "dice_lost_interval": [0.0, 0.004]}, "3": {"dice": 0.91, "dice_lost_interval": [0, 0]}}
    found = recommended_depth({depth: {**row, "latency_ms": 4.0 * int(depth)} for depth, row in rows.items()})
    assert found
    assert found["depth"] == 2
    assert found["reason"].endswith("it takes 67% of the time of depth 3")
    assert recommended_depth({"1": {"dice": 0.9}}) is None
    assert recommended_depth({"1": {"dice": None}, "2": {"dice": 0.9}}) is None
