from __future__ import annotations

import pickle

import pytest

from unetpp.cluster.engine import HERE, name_unit
from unetpp.errors import (
    DataError,
    Interrupted,
    MissingExtraError,
    ModelFileError,
    PlanError,
    Problem,
    UnetppError,
    UsageError,
    WriteError,
)
from unetpp.layouts.dataset import Case


def divide(number: int) -> float:
    if number < 0:
        raise WriteError("out", "a", "b")
    if number == 7:
        raise DataError(Problem("seven", "a", "b", "c"))
    return 1 / number


def test_each_unit_has_its_value_or_its_problem_in_order() -> None:
    found = list(HERE.run(divide, iter([2, 0, 7, 4]), name="divide"))
    assert [outcome.unit for outcome in found] == [2, 0, 7, 4]
    assert [outcome.result for outcome in found] == [0.5, None, None, 0.25]
    assert found[1].problem is not None and "ZeroDivisionError" in found[1].problem.got
    assert found[2].problem is not None and found[2].problem.where == "seven"
    assert found[0].value == 0.5 and found[0].problem is None


def test_an_error_of_all_units_is_raised() -> None:
    with pytest.raises(WriteError):
        list(HERE.run(divide, [1, -1, 2], name="divide"))


def test_a_case_is_named_by_its_id() -> None:
    assert name_unit(Case("a", ())) == "a"
    assert name_unit((1, 2)) == "(1, 2)"


@pytest.mark.parametrize(
    "error",
    [
        UsageError("depth", "7", "1 to 4", "Choose."),
        PlanError.of([Problem("a", "b", "c", "d")], "several"),
        ModelFileError("m", "a", "b"),
        DataError([Problem("a", "b", "c", "d"), Problem("e", "f", "g", "h")]),
        WriteError("out", "a", "b"),
        MissingExtraError("distributed", "cluster", "it"),
        Interrupted("stopped"),
    ],
)
def test_errors_come_back_from_other_processes(error: UnetppError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), str(again), again.problems) == (type(error), str(error), error.problems)
