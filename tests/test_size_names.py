"""Names of the sizes of a model, and which of them hold others."""

from __future__ import annotations

import pytest

from unetpp.errors import UsageError
from unetpp.size_names import SizeNames, choose_setting, find_noun

SHELLS = SizeNames((1, 2, 3, 4, 5, 6), 3, (8, 16), {"small": 3, "large": 6})
DEPTHS = SizeNames.of_depths((1, 2, 3))


@pytest.mark.parametrize(
    ("written", "number"),
    [("3x8", 3), (" Small ", 3), ("large", 6), (2, 5), ("2", 5), ("4", None), ("3x9", None), ("medium", None)],
)
def test_what_users_write_is_found(written: int | str, number: int | None) -> None:
    assert SHELLS.find(written) == number


def test_only_sizes_that_are_there_are_found() -> None:
    some = SizeNames((3, 6), 3, (8, 16))
    assert [some.find(each) for each in ("3x8", "3", "2", "2x8")] == [3, 6, None, None]
    with pytest.raises(UsageError, match=r"size: got '2x8'; expected one of 3x8, 3x16, the sizes of m\.onnx"):
        some.require("2x8", "size", "m.onnx")


def test_a_size_of_one_width_is_a_depth() -> None:
    assert (DEPTHS.list_names(), DEPTHS.noun, DEPTHS.describe()) == ([1, 2, 3], "depth", "one of [1, 2, 3]")
    assert (SHELLS.list_names()[2:4], SHELLS.noun) == (["3x8", "1x16"], "size")
    assert SHELLS.describe() == "one of 1x8, 2x8, small (3x8), 1x16, 2x16, large (3x16)"
    assert (find_noun([1, "mean"]), find_noun(["auto", "3x8"])) == ("depth", "size")


def test_the_join_of_sizes_holds_each_of_them() -> None:
    assert (SHELLS.join([3, 4]), SHELLS.join([1, 5]), DEPTHS.join([1, 3])) == (6, 5, 3)
    assert SHELLS.holds(6, 3) and SHELLS.holds(5, 2) and not SHELLS.holds(4, 3) and not SHELLS.holds(3, 4)


def test_a_depth_and_a_size_exclude_each_other() -> None:
    assert [choose_setting(None, "small"), choose_setting(1, None), choose_setting(None, None)] == [
        "size",
        "depth",
        "depth",
    ]
    with pytest.raises(UsageError, match="got both") as caught:
        choose_setting(1, "small")
    assert caught.value.problems[0].setting == "size"
