"""Options of a prediction: depths are resolved, and combinations checked, in one place."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from unetpp.errors import UsageError
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import AUTO, MEAN
from unetpp.size_names import SizeNames


@pytest.mark.parametrize(
    ("depth", "heads", "expected"),
    [
        (None, (1, 2, 3), (2,)),
        (3, (1, 2, 3), (3,)),
        ("3", (1, 2, 3), (3,)),
        ("all", (1, 2, 3), (1, 2, 3)),
        ("all and mean", (1, 2, 3), (1, 2, 3, MEAN)),
        ("all and mean", (2,), (2,)),
        ("mean", (1, 2, 3), (MEAN,)),
        ("auto", (1, 2, 3), (AUTO,)),
    ],
)
def test_a_depth_is_resolved_to_heads(depth: Any, heads: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert PredictOptions(depth=depth).choose_sizes(SizeNames.of_depths(heads), default=2) == expected


@pytest.mark.parametrize("depth", [0, -1, 4, "4", "-1", "deep", "All", 1.5])
def test_a_depth_without_a_head_is_refused(depth: Any) -> None:
    with pytest.raises(UsageError, match=r"depth: got .*; expected .all., .mean., .auto. or one of \[1, 2\]") as caught:
        PredictOptions(depth=depth).choose_sizes(SizeNames.of_depths((1, 2)), default=1)
    assert caught.value.problems[0].setting == "depth"


def test_an_unknown_uncertainty_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="uncertainty: got 'doubt'; expected entropy or disagreement"):
        PredictOptions(uncertainty="doubt")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "networks", "heads", "allowed"),
    [
        ({"depth": 1}, 1, (1, 2), False),
        ({"depth": "all"}, 1, (1, 2), False),
        ({"depth": "auto"}, 2, (1, 2), False),
        ({"depth": "mean"}, 1, (2,), False),
        ({"depth": "mean"}, 1, (1, 2), True),
        ({"depth": 2}, 1, (1, 2), True),
        ({"depth": 1}, 2, (1, 2), True),
        ({"depth": 1, "tta": True}, 1, (1, 2), True),
    ],
)
def test_disagreement_needs_several_predictions(
    options: dict[str, Any], networks: int, heads: tuple[int, ...], allowed: bool
) -> None:
    wanted = PredictOptions(**options, uncertainty="disagreement")
    if allowed:
        wanted.choose_sizes(SizeNames.of_depths(heads), 1, networks)
        return
    with pytest.raises(UsageError, match="uncertainty: got disagreement"):
        wanted.choose_sizes(SizeNames.of_depths(heads), 1, networks)


def test_options_are_values_that_know_what_was_changed() -> None:
    assert DEFAULTS.changed == ()
    assert PredictOptions(depth="2", tta=True).changed == ("depth", "tta")
    assert PredictOptions(depth="2") == PredictOptions(depth=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULTS.tta = True  # type: ignore[misc]


def test_they_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import unetpp.infer.options"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
