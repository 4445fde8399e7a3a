"""Each rule of what fits a memory, on made-up numbers."""

from __future__ import annotations

from math import prod

from hypothesis import given
from hypothesis import strategies as st

from unetpp.planning import memory_rules

shapes3 = st.tuples(*[st.integers(1, 700)] * 3)


@given(shape=shapes3)
def test_patches_to_try_begin_with_the_case_and_get_smaller(shape: tuple[int, int, int]) -> None:
    voxels = memory_rules.list_patch_voxels(shape)
    assert voxels[0] == prod(shape) or voxels[0] in memory_rules.LARGEST_VOXELS.values()
    assert voxels == sorted(set(voxels), reverse=True)


@given(shape=shapes3, voxels=st.integers(1, 10**7))
def test_a_patch_is_no_larger_than_the_case_padded(shape: tuple[int, int, int], voxels: int) -> None:
    multiples = (4, 8, 16)
    patch = memory_rules.choose_filling_patch(shape, voxels, "8 GB", multiples).value
    assert all(own <= most for own, most in zip(patch, memory_rules.pad_case(shape, multiples), strict=True))
    assert prod(patch) <= max(voxels, prod(multiples)) or patch == memory_rules.pad_case(shape, multiples)


def test_the_reason_of_a_patch_says_what_limits_it() -> None:
    def reason(voxels: int) -> str:
        return memory_rules.choose_filling_patch((300, 512, 512), voxels, "8 GB", (16, 16, 16)).reason

    assert "8 GB hold" in reason(10**6)
    assert "as large as patches get" in reason(256**3)
    assert "fits whole" in memory_rules.choose_filling_patch((60, 60, 60), 60**3, "8 GB", (8, 8, 8)).reason


def test_a_batch_fills_the_memory_or_shows_a_twentieth_of_the_data() -> None:
    most = memory_rules.limit_batch(1000, 1000 * 1000)
    assert most == 50
    choose = memory_rules.choose_filling_batch
    assert choose(1000, most, "8 GB", lambda batch: batch <= 7) == (
        7,
        "as many as 8 GB hold: 0.007 million voxels in each step",
    )
    assert choose(1000, most, "8 GB", lambda batch: True).value == most
    assert "the memory may hold more" in choose(1000, most, "8 GB", lambda batch: True).reason
    few = memory_rules.limit_batch(1000, 3000)
    assert few == 2
    assert choose(1000, few, "8 GB", lambda batch: True).reason.startswith("the smallest batch")


def test_width_grows_beyond_the_papers_only_where_nothing_else_can() -> None:
    choose = memory_rules.choose_width_by_memory
    assert choose([64, 32, 16], "cuda").value == 32
    assert choose([64, 32, 16], "cuda", is_full=True).value == 64
    assert choose([16, 8], "cuda", is_full=True).value == 16
    assert choose([64, 32, 16], "cpu").value == 16
    assert choose([64], "cuda").value == 64
