"""The memory that there is, and plans that stay within it."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch

from tests.planning.test_planner import fingerprint
from unetpp.errors import PlanError
from unetpp.planning import room
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
