"""Patches and batches over memories, shapes and voxel sizes."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planning.test_planner import fingerprint
from tests.planning.test_room import estimate
from unetpp.errors import PlanError
from unetpp.planning import room
from unetpp.planning.planner import make_plan
from unetpp.train.memory import count_training_bytes

CUDA = torch.device("cuda")
gigabytes = st.floats(0.5, 100)
volumes = st.tuples(st.integers(1, 600), st.integers(16, 600), st.integers(16, 600))
spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)
images = st.tuples(st.integers(16, 3000), st.integers(16, 3000))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "estimate_step_bytes", estimate)


def plan_for(gb: float, shape: tuple[int, ...], spacing: Any = None, **options: Any) -> Any:
    data = fingerprint(dims=len(shape), median_shape=shape, median_spacing_mm=spacing)
    return make_plan(data, device=CUDA, vram_gb=gb, step_seconds=None, **options)


few = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(gb=gigabytes, more=st.floats(1, 4), shape=volumes, spacing=spacings)
def test_volumes_fill_the_memory_and_never_exceed_it(
    quick: None, gb: float, more: float, shape: Any, spacing: Any
) -> None:
    check(gb, more, shape, spacing)


@few
@given(gb=gigabytes, more=st.floats(1, 4), shape=images)
def test_images_fill_the_memory_and_never_exceed_it(quick: None, gb: float, more: float, shape: Any) -> None:
    check(gb, more, shape, None)


def check(gb: float, more: float, shape: tuple[int, ...], spacing: Any) -> None:
    """Plan for a memory and for a larger one."""
    small, large = plan_for(gb, shape, spacing), plan_for(gb * more, shape, spacing)
    for made, memory in ((small, gb), (large, gb * more)):
        train = made.train
        assert estimate(made.model, train.patch, train.batch, train.precision) <= 0.85e9 * memory
        for size, whole, strides in zip(train.patch, shape, zip(*made.model.strides, strict=True), strict=True):
            assert size % prod(strides) == 0
            assert size < whole + prod(strides)
            assert size <= 1.25 * whole or whole < 8
    assert prod(small.train.patch) <= prod(large.train.patch)
    if small.train.patch == large.train.patch:
        assert small.train.batch <= large.train.batch


@settings(deadline=None, max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gb=st.sampled_from([1.5, 6.0, 40.0]), shape=st.sampled_from([(300, 512, 512), (24, 256, 256), (700, 900)]))
def test_the_counted_memory_of_a_plan_is_within_that_of_the_gpu(gb: float, shape: Any) -> None:
    def count(model: Any, train: Any) -> float:
        return count_training_bytes(model, train, CUDA)

    made = plan_for(gb, shape, count_bytes=count)
    assert count(made.model, made.train) <= 0.85e9 * gb
    if shape == (300, 512, 512):  # smaller cases do not fill a large memory
        assert count(made.model, made.train) > 0.5 * 0.85e9 * gb


def test_depth_and_patch_grow_beyond_those_of_small_memories(quick: None) -> None:
    shape, spacing = (300, 512, 512), (1.5, 0.8, 0.8)
    small, large = plan_for(1, shape, spacing), plan_for(80, shape, spacing)
    assert (small.model.depth, large.model.depth) == (4, 5)
    assert prod(large.train.patch) > 8 * prod(small.train.patch)


def test_sizes_that_the_user_sets_stay(quick: None) -> None:
    made = plan_for(24, (300, 512, 512), settings={"train.patch": [64, 64, 64], "train.batch": 3, "model.depth": 3})
    assert (made.train.patch, made.train.batch, made.model.depth) == ((64, 64, 64), 3, 3)
    with pytest.raises(PlanError, match="vram_gb"):
        plan_for(1, (300, 512, 512), settings={"train.patch": [256, 256, 256]})
