"""Mirroring is its own inverse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unetpp.infer.mirror import mirror, mirrorings


@given(
    st.integers(1, 3).flatmap(
        lambda dims: st.tuples(st.just(dims), st.lists(st.integers(1, 5), min_size=dims, max_size=dims))
    )
)
def test_mirroring_twice_gives_the_original(drawn: tuple[int, list[int]]) -> None:
    dims, shape = drawn
    image = torch.arange(2.0 * torch.Size(shape).numel()).reshape(1, 2, *shape)
    for axes in mirrorings(dims):
        assert torch.equal(mirror(mirror(image, axes), axes), image)


@pytest.mark.parametrize("dims", [2, 3])
def test_all_mirrorings_differ_and_the_first_is_the_original(dims: int) -> None:
    image = torch.arange(2.0**dims).reshape(1, 1, *[2] * dims)
    corners = [mirror(image, axes).flatten()[0].item() for axes in mirrorings(dims)]
    assert sorted(corners) == list(range(2**dims))
    assert mirrorings(dims)[0] == ()


def test_channels_and_batch_are_not_mirrored() -> None:
    image = torch.arange(12.0).reshape(2, 3, 1, 2)
    flipped = mirror(image, mirrorings(2)[-1])
    assert torch.equal(flipped[..., 0], image[..., 1])
