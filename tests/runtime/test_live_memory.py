"""Tensors are counted while they live, and kernels' scratch by the rules that were measured."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp.runtime.live_memory import LiveMemory, fake_tensors
from unetpp.runtime.scratch import CODE_BYTES, CpuScratch

aten = torch.ops.aten


def test_tensors_count_as_long_as_they_live_and_views_not_at_all() -> None:
    with LiveMemory() as memory:
        first = torch.zeros(100)
        view = first[:50]
        assert memory.now == 400
        second = first + 1
        del first
        assert (memory.now, memory.peak) == (800, 800)  # the view keeps it
        del view, second
    assert (memory.now, memory.peak) == (0, 800)


def test_sizes_are_rounded_as_an_allocator_does() -> None:
    with LiveMemory(grain=512) as memory:
        kept = torch.zeros(1)
    assert memory.now == 512
    del kept


def chain(channels: list[int], size: int) -> None:
    x = torch.zeros(1, channels[0], size, size, requires_grad=True)
    for each, following in pairwise(channels):
        x = torch.nn.functional.conv2d(x, torch.ones(following, each, 3, 3, requires_grad=True), padding=1).relu()
    x.sum().backward()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(3, 9))
def test_fake_tensors_live_as_long_as_real_ones(channels: list[int], size: int) -> None:
    with LiveMemory() as real:
        chain(channels, size)
    with fake_tensors(), LiveMemory() as fake:
        chain(channels, size)
    assert fake.peak == real.peak > 0


def convolve(x: torch.Tensor, weight: torch.Tensor) -> tuple[int, int]:
    sizes = [1] * (x.ndim - 2)
    arguments: Any = (x, weight, None, sizes, sizes, sizes, False, [0] * (x.ndim - 2), 1)
    return CpuScratch()(aten.convolution.default, arguments, aten.convolution.default(*arguments))


def test_few_voxels_are_unrolled_below_the_kernel() -> None:
    x = torch.zeros(1, 4, 4, 4, 4)
    assert convolve(x, torch.zeros(8, 4, 3, 3, 3)) == (27 * x.nbytes, CODE_BYTES)


def test_many_voxels_are_copied_to_the_blocks_of_onednn_unless_channels_are_last() -> None:
    x, weight = torch.zeros(2, 16, 40, 40), torch.zeros(16, 16, 3, 3)
    assert convolve(x, weight)[0] == x.nbytes
    last = torch.channels_last
    assert convolve(x.to(memory_format=last), weight.to(memory_format=last))[0] == 0


def test_other_operations_take_none() -> None:
    x = torch.zeros(2, 16)
    assert CpuScratch()(aten.relu.default, (x,), x) == (0, 0)


def test_code_for_a_shape_is_kept_once() -> None:
    count, x, weight = CpuScratch(), torch.zeros(1, 16, 8, 8), torch.zeros(16, 16, 3, 3)
    arguments = (x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1)
    result = aten.convolution.default(*arguments)
    assert [count(aten.convolution.default, arguments, result)[1] for _ in range(2)] == [CODE_BYTES, 0]


def test_real_tensors_may_take_part() -> None:
    real = torch.ones(3)
    with fake_tensors():
        assert (torch.ones(3) + real).shape == (3,)
