"""Sizes by name, and those that are worth choosing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp.dial import (
    add_sizes,
    complete_table,
    describe_dial,
    describe_left_out,
    describe_size,
    find_left_out,
    find_words,
    label_size,
    list_dial,
    list_rows,
    name_sizes,
    name_words,
    write_option,
)
from unetpp.measured import DepthRow, DepthTable
from unetpp.model_notes import ExportNotes, Notes, Verdict
from unetpp.plan import ModelPlan


def make_plan(*shells: float) -> ModelPlan:
    plain = {"dims": 2, "in_channels": 1, "out_channels": 2, "strides": [[2, 2]] * 2, "kernel_sizes": [[3, 3]] * 3}
    return ModelPlan(**plain, depth=2, widths=(16, 32, 64), shells=shells)


SHELLS, PLAIN = make_plan(0.5, 1.0), make_plan(1.0)


def make_table(*rows: tuple[float, float], model: ModelPlan = SHELLS) -> DepthTable:
    """Make a table of (Dice, milliseconds) of the sizes 1x8, 2x8, 1x16, 2x16."""
    depths = {number: DepthRow(dice=dice, latency_ms=ms) for number, (dice, ms) in enumerate(rows, 1)}
    return add_sizes(DepthTable(depths=depths), model)


BEATEN = make_table((0.80, 1), (0.90, 2), (0.85, 3), (0.92, 5))
"""1x16 is slower and worse than 2x8."""


def test_rows_of_a_network_with_shells_say_what_they_are() -> None:
    assert [(row.depth, row.channels) for row in BEATEN.depths.values()] == [(1, 8), (2, 8), (1, 16), (2, 16)]
    read = DepthTable.model_validate_json(BEATEN.to_json())
    assert label_size(read, 2) == "medium (2x8)" and describe_size(read, 3) == "size 1x16"


def test_rows_of_one_width_have_depths_alone() -> None:
    table = make_table((0.8, 1), (0.9, 2), model=PLAIN)
    assert "channels" not in table.to_json()
    assert (label_size(table, 2), describe_size(table, 2)) == ("2", "depth 2")
    cut = DepthTable(depths={2: BEATEN.depths[2]})  # pruned to one shell
    assert add_sizes(cut, PLAIN).depths[2] == DepthRow(dice=0.9, latency_ms=2)


def test_sizes_that_another_one_beats_are_left_out() -> None:
    assert list_dial(BEATEN) == [1, 2, 4]
    assert find_left_out(BEATEN) == {3: 2}
    assert name_words(BEATEN) == {1: "small", 2: "medium", 4: "large"}


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 99)), min_size=4, max_size=4))
def test_each_size_is_on_the_dial_or_beaten_by_one_that_is(rows: list[tuple[float, float]]) -> None:
    table = make_table(*rows)
    dial, left_out = list_dial(table), find_left_out(table)
    assert sorted([*dial, *left_out]) == [1, 2, 3, 4]
    for worse, better in left_out.items():
        (dice, ms), (best, least) = rows[worse - 1], rows[better - 1]
        assert better in dial and best >= dice and least <= ms
    for first, second in pairwise(dial):
        assert rows[first - 1][0] < rows[second - 1][0] and rows[first - 1][1] < rows[second - 1][1]


def test_the_ends_of_a_long_dial_have_words() -> None:
    table = make_table((0.80, 1), (0.90, 2), (0.91, 3), (0.92, 5))
    assert name_words(table) == {1: "small", 4: "large"}
    assert [label_size(table, number) for number in table.depths] == ["small (1x8)", "2x8", "1x16", "large (2x16)"]


def test_a_single_size_that_beats_all_has_no_word_but_is_found_by_both() -> None:
    table = make_table((0.95, 1), (0.90, 2), (0.85, 3), (0.92, 5))
    assert (list_dial(table), name_words(table)) == ([1], {})
    assert find_words(table, table.depths) == {"small": 1, "large": 1}


@pytest.mark.parametrize(
    "table",
    [
        DepthTable(),
        Notes(depths=BEATEN.depths, verdict=Verdict(kind="too short", reason="", advice="", learned=False)),
        DepthTable(depths=BEATEN.depths, scored=(1, 3)),
    ],
    ids=["not measured", "not learned", "not scored"],
)
def test_before_sizes_can_be_compared_the_dial_is_the_whole_depth(table: DepthTable) -> None:
    whole = complete_table(table, range(1, 5), SHELLS)
    assert (list_dial(whole), find_left_out(whole)) == ([2, 4], {})
    assert find_words(table, range(1, 5), SHELLS) == {}  # the next measurement would change them


def test_what_users_write_is_found() -> None:
    written = {"small": 1, "medium": 2, " Large ": 4, "2x8": 2, "1x16": 3, "2": 4, "1": 3, "3": None, "2x9": None}
    assert {text: name_sizes(BEATEN, range(1, 5), SHELLS).find(text) for text in written} == written


def test_words_of_an_exported_file_need_no_plan() -> None:
    read = DepthTable.model_validate_json(BEATEN.to_json())
    assert find_words(read, read.depths) == {"small": 1, "medium": 2, "large": 4}


def test_an_exported_file_calls_sizes_what_its_model_called_them() -> None:
    some = ExportNotes(depths={number: BEATEN.depths[number] for number in (2, 4)}, words={"medium": 2, "large": 4})
    assert [label for label, _ in list_rows(some)] == ["medium (2x8)", "large (2x16)"]


def test_words_of_a_file_of_some_sizes_are_those_of_its_own() -> None:
    assert find_words(BEATEN, [2, 4]) == {"small": 2, "large": 4}


def test_of_one_width_there_are_no_words() -> None:
    assert find_words(make_table((0.80, 1), (0.90, 2), model=PLAIN), [1, 2], PLAIN) == {}


def test_a_dial_says_what_each_size_gives() -> None:
    assert describe_dial(BEATEN) == "small, 0.800 in 1.0 ms; medium, 0.900 in 2.0 ms; large, 0.920 in 5.0 ms"
    longer = make_table((0.80, 1), (0.90, 2), (0.91, 3), (0.92, 5))
    assert "2x8, 0.900 in 2.0 ms; 1x16, 0.910" in describe_dial(longer)
    assert describe_dial(make_table((0.8, 1), (0.9, 2), model=PLAIN)) == ""


def test_what_is_left_out_says_why() -> None:
    assert describe_left_out(BEATEN) == "1x16, slower and worse than medium (2x8)"
    table = make_table((0.95, 1), (0.95, 2), (0.85, 1), (0.85, 3))
    assert describe_left_out(table) == (
        "1x16, no faster and worse than 1x8; 2x8, slower and no better than 1x8; 2x16, slower and worse than 1x8"
    )


def test_rows_are_shown_the_cheapest_first() -> None:
    table = make_table((0.80, 2), (0.90, 5), (0.79, 3), (0.92, 4))
    assert [name for name, _ in list_rows(table)] == ["small (1x8)", "1x16 *", "large (2x16)", "2x8 *"]
    mean = table.merge(DepthTable(mean_of_heads=DepthRow(dice=0.93)))
    assert list_rows(mean)[-1] == ("mean", DepthRow(dice=0.93))
    assert [name for name, _ in list_rows(make_table((0.8, 2), (0.9, 1), model=PLAIN))] == ["1", "2"]


def test_a_command_names_a_size() -> None:
    assert write_option(BEATEN, 2) == ["--size", "2x8"]
    assert write_option(make_table((0.8, 1), (0.9, 2), model=PLAIN), 2) == ["--depth", "2"]
