"""Numbers of sizes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from unetpp.sizes import Size, find_size, list_growth, list_sizes, name_size, parse_size


@given(depth=st.integers(1, 6), shells=st.integers(1, 4))
def test_every_size_has_a_number_that_finds_it(depth: int, shells: int) -> None:
    sizes = list_sizes(range(1, depth + 1), shells, depth)
    assert sorted(sizes) == list(range(1, shells * depth + 1))
    assert all(find_size(number, depth) == size for number, size in sizes.items())


@given(depth=st.integers(1, 6), shells=st.integers(1, 4))
def test_numbers_of_inner_sizes_stay_when_a_network_grows(depth: int, shells: int) -> None:
    assert list_sizes([depth], shells, depth).items() <= list_sizes([depth], shells + 1, depth).items()


def test_of_one_width_the_numbers_are_the_depths() -> None:
    assert list_sizes([1, 2, 3], 1, 3) == {1: Size(1), 2: Size(2), 3: Size(3)}


def test_a_size_holds_what_is_neither_deeper_nor_wider() -> None:
    assert Size(3, 1).holds(Size(3, 0)) and Size(3, 1).holds(Size(2, 1))
    assert not Size(3, 0).holds(Size(2, 1)) and not Size(2, 1).holds(Size(3, 0))


@given(depth=st.integers(1, 6), channels=st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True).map(sorted))
def test_a_name_finds_its_size(depth: int, channels: list[int]) -> None:
    for number in list_sizes(range(1, depth + 1), len(channels), depth):
        assert parse_size(name_size(number, depth, channels), depth, channels) == number


def test_a_depth_alone_is_of_the_whole_width() -> None:
    assert (parse_size("3", 4, [8, 16]), parse_size("3x8", 4, [8, 16]), parse_size("3x9", 4, [8, 16])) == (7, 3, None)
    assert name_size(3, 4, [16]) == "3"


@given(depth=st.integers(1, 6), shells=st.integers(1, 4), data=st.data())
def test_a_prediction_grows_from_the_smallest_size_to_the_whole_network(
    depth: int, shells: int, data: st.DataObject
) -> None:
    heads = data.draw(st.sampled_from([[depth], range(1, depth + 1)]))
    numbers = sorted(list_sizes(heads, shells, depth))
    grown = list_growth(numbers, depth)
    sizes = [find_size(number, depth) for number in grown]
    assert (grown[0], grown[-1]) == (numbers[0], numbers[-1])
    assert all(larger.holds(smaller) for smaller, larger in pairwise(sizes))
    assert len(grown) == len(heads) + shells - 1
