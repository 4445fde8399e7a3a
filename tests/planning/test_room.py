"""The memory that there is, and plans that stay within it."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch

from tests.planning.test_planner import fingerprint
from unetpp.errors import PlanError
from unetpp.planning import planner, room
from unetpp.planning.planner import make_plan

CUDA = torch.device("cuda")


def estimate(model: Any, patch: Any, batch: int, precision: str, checkpointing: Any = False) -> float:
    """Stand for the estimate, which takes a third of a second for each network."""
    return 1e8 + 1e2 * sum(model.widths) ** 2 + 30 * model.widths[0] * batch * prod(patch)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "estimate_step_bytes", estimate)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def plan_for(vram_gb: float | None, count: Any = None, **options: Any) -> Any:
    return make_plan(fingerprint(), device=CUDA, vram_gb=vram_gb, step_seconds=None, count_bytes=count, **options)


def test_a_plan_that_is_counted_above_the_memory_becomes_smaller_in_few_counts() -> None:
    counted: list[float] = []

    def count(model: Any, train: Any) -> float:
        counted.append(1.3 * estimate(model, train.patch, train.batch, train.precision))
        return counted[-1]

    made = plan_for(1, count)
    assert counted[0] > 0.85e9 >= counted[-1]
    assert len(counted) == 2
    assert prod(made.train.patch) < prod(plan_for(1).train.patch)


def test_never_more_than_three_plans_are_counted() -> None:
    counted: list[int] = []

    def grow(model: Any, train: Any) -> float:
        counted.append(1)
        return 2e9

    with pytest.raises(PlanError):
        plan_for(1, grow)
    assert len(counted) <= room.MOST_COUNTS


def test_a_gpu_too_small_for_any_plan_is_refused_with_what_it_takes() -> None:
    with pytest.raises(PlanError, match=r"vram_gb: got 0.05 GB.*expected at least 0.1.* GB.*batch 1, first width 16"):
        plan_for(0.05)
    with pytest.raises(PlanError, match=r"batch 500.*set no sizes"):
        plan_for(1, settings={"train.batch": 500, "train.patch": [512, 512]})


def test_a_machine_that_may_be_too_small_gets_a_plan_and_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "measure_memory", lambda device: 1e6)
    said: list[str] = []
    made = make_plan(fingerprint(), epochs=1, step_seconds=None, warn=said.append)
    assert (made.train.batch, made.train.patch) == (1, (64, 64))
    assert said[0].startswith("warning: A training step takes about")


def test_a_gpu_at_hand_is_not_given_more_than_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(room, "measure_memory", lambda device: 5e9)
    assert room.find_room(CUDA, 24, 20).limit == 5e9
    assert room.find_room(CUDA, 2, 20).limit == 0.85 * 2e9
    assert not room.find_room(CUDA, 24, 20).is_elsewhere
    assert (room.find_room(CUDA, None, 20).grows, room.find_room(CUDA, None, None).grows) == (False, True)


def test_nothing_is_timed_for_a_gpu_elsewhere_and_the_plan_says_so() -> None:
    made = plan_for(4, minutes=60)
    assert "not timed: the GPU that is planned for is not in this machine" in made.reasons["train.minutes"]
    assert "not timed" in plan_for(4).reasons["train.minutes"]
    assert (made.train.precision, made.train.minutes) == ("bf16", 60)


@pytest.mark.parametrize(
    ("limit", "tile", "batch"), [(1e9, (256, 256), 16), (4e5, (256, 256), 1), (5e4, (128, 128), 1), (1, (128, 128), 1)]
)
def test_tiles_become_smaller_where_the_memory_does_not_hold_them(limit: float, tile: Any, batch: int) -> None:
    def count(model: Any, predict: Any) -> float:
        return 0.85e9 / limit * predict.batch * prod(predict.tile)

    wanted = {"train.patch": [128, 128], "train.batch": 16, "model.widths": [32, 64, 128, 256, 512]}
    predict = plan_for(1, settings=wanted, count_tile_bytes=count).predict
    assert (predict.tile, predict.batch) == (tile, batch)


def test_tiles_on_which_training_would_fit_are_not_counted() -> None:
    plan_for(24, settings={"train.patch": [128, 128], "train.batch": 2}, count_tile_bytes=lambda *_: 1 / 0)


def test_a_tile_that_the_user_sets_stays() -> None:
    wanted = {"train.patch": [128, 128], "predict.tile": [512, 512]}
    assert plan_for(1, settings=wanted, count_tile_bytes=lambda *_: 1e12).predict.tile == (512, 512)


def test_on_a_gpu_a_long_time_goes_into_larger_steps_and_a_short_one_into_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(room, "measure_memory", lambda device: 60e9)
    monkeypatch.setattr(planner, "has_fast_bf16", lambda device: True)
    shape = {"dims": 3, "median_shape": (300, 512, 512), "median_spacing_mm": (1.5, 0.8, 0.8), "cases": 300}
    facts = fingerprint(**shape, voxels=300 * 300 * 512 * 512)

    def measure(model: Any, patch: Any, batch: int, precision: str) -> float:
        return 1e-9 * sum(model.widths) * batch * prod(patch)

    def plan_time(minutes: float) -> Any:
        return make_plan(facts, device=CUDA, minutes=minutes, step_seconds=measure)

    def count_voxels(made: Any) -> int:
        return made.train.batch * prod(made.train.patch)

    short, long, longest = map(plan_time, (10, 600, 24 * 60))
    assert (short.train.patch, long.train.patch) == ((96, 96, 96), (96, 96, 96))
    assert long.model.widths[0] == 32  # the papers', while patches can grow
    assert count_voxels(longest) > room.LEAST_GROWTH * count_voxels(long)
    seconds = measure(longest.model, longest.train.patch, longest.train.batch, "bf16")
    assert 24 * 3600 / seconds == pytest.approx(room.MANY_STEPS, rel=0.1)
    assert "and the time hold" in longest.reasons["train.patch"]
