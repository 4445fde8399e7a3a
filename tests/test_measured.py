"""Measurements survive a round trip through JSON, old files are read, and each column is declared once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unetpp.measured import ClassScores, Costs, DepthRow, DepthTable, Scores, list_columns, tabulate
from unetpp.model_notes import Metrics, Notes, Rule, Training, explain_no_expected_dice, read_metrics

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
counts = st.none() | st.integers(0, 10**9)
rows = st.builds(DepthRow, dice=numbers, hd95_mm=numbers, hd95_undefined=counts, latency_ms=numbers, parameters=counts)
tables = st.builds(Metrics, depths=st.dictionaries(st.integers(1, 9), rows, max_size=3), mean_of_heads=st.none() | rows)

OLD: dict[str, Any] = {
    "unetpp": "0.1.0",
    "fold": 0,
    "seed": 0,
    "training": {
        "reason": "finished",
        "steps": 6,
        "best_dice": 0.5,
        "best_step": 6,
        "seconds": 1.5,
        "data_wait": 0.25,
    },
    "mean": {"dice": 0.5, "dice_interval": [0.4, 0.6], "iou": 0.4, "hd95_mm": None, "hd95_undefined": 2, "nsd": 0.1},
    "depths": {"1": {"dice": 0.5, "latency_ms": 0.7, "peak_memory_mb": None, "classes": {"core": {"dice": 0.3}}}},
    "mean_of_heads": None,
    "distance_unit": "pixel",
    "conditions": "measured on cpu",
    "machine": {"gmacs_per_s_fp32": 100.5, "copied_gb_per_s": 20.5},
    "auto": [{"doubts": [None, 0.5], "dice_lost": 0.001, "dice_lost_interval": None, "tiles": {"1": 3}, "time": 0.5}],
    "a later key": {"of": "another version"},
}


@given(tables)
def test_what_was_measured_comes_back_from_json(table: Metrics) -> None:
    assert Metrics.model_validate_json(table.to_json()) == table
    assert Metrics.model_validate(table.to_dict()).to_dict() == table.to_dict()


def test_notes_of_the_first_version_are_read_and_written_as_they_were() -> None:
    notes = Notes.model_validate(OLD)
    assert notes.to_dict() == OLD
    assert notes.depths[1].classes["core"].dice == 0.3
    assert notes.auto[0].doubts == (None, 0.5)
    assert (notes.pruned_from_depth, notes.depths[1].iou) == (None, None)
    assert Notes().to_dict() == {}


def test_rules_of_one_doubt_for_all_depths_are_left_out() -> None:
    old = {"doubt": 0.5, "time": 0.5}
    assert Notes.model_validate({"auto": [old, *OLD["auto"]]}).auto == (Rule.model_validate(OLD["auto"][0]),)


def test_what_is_not_a_measurement_is_refused() -> None:
    for damaged in ({"depths": {"one": {}}}, {"auto": [1]}, {"auto": None}, {"mean": 0.5}, {"machine": ["fast"]}):
        with pytest.raises(ValidationError):
            Notes.model_validate(damaged)


def test_numbers_that_are_not_finite_become_none() -> None:
    assert Scores(dice=float("nan"), iou=float("inf")).to_dict() == {"dice": None, "iou": None}


def test_metrics_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    assert read_metrics(path) is None
    for text in ("[]", "{", '{"depths": 1}'):
        path.write_text(text)
        assert read_metrics(path) is None
    path.write_text(json.dumps({"depths": OLD["depths"]}))
    assert read_metrics(path) == Metrics(depths=Notes.model_validate(OLD).depths)


def test_costs_take_the_place_of_earlier_ones_and_scores_stay() -> None:
    table = Notes.model_validate(OLD)
    there = DepthTable(depths={1: DepthRow(latency_ms=2.0)}, mean_of_heads=None, conditions="measured there")
    found = table.with_costs(there)
    assert (found.depths[1].dice, found.depths[1].latency_ms, found.conditions) == (0.5, 2.0, "measured there")
    assert (found.machine, found.seed) == (table.machine, 0)
    assert found.depths[1].costs().to_dict() == {"latency_ms": 2.0, "peak_memory_mb": None}


@pytest.mark.parametrize("kind", [Scores, Costs, ClassScores, DepthRow])
def test_every_column_has_a_title_of_its_own_and_a_format(kind: type[Scores]) -> None:
    found = list_columns(kind)
    assert len({column.title for column in found.values()}) == len(found)
    for key, column in found.items():
        value = (0.25, 0.5) if key in ("dice_interval", "volume_limits") else 7 if column.format == ",d" else 7.5
        assert column.text(value) not in ("", "-")
        assert getattr(kind(**{key: value}), key) == value


def test_a_table_has_the_columns_in_which_something_is_said() -> None:
    rows = [("1", DepthRow(dice=0.5, hd95_mm=2.0, hd95_undefined=0, gmacs=1.5)), ("2", DepthRow(dice_interval=(0, 1)))]
    assert tabulate("depth", DepthRow, rows, None, brief=True)[0] == ["depth", "Dice", "HD95"]
    assert tabulate("depth", DepthRow, rows, "mm") == [
        ["depth", "Dice", "95 %", "HD95 mm", "GMACs"],
        ["1", "0.5000", "-", "2.00", "1.50"],
        ["2", "-", "0.000 to 1.000", "-", "-"],
    ]


def test_a_model_says_why_no_dice_is_expected() -> None:
    training = Training(reason="finished", steps=1, best_dice=0.5, best_step=1, seconds=1.0, data_wait=0.0)
    rows = {1: DepthRow(dice=0.5)}
    notes = Notes(training=training, fold=0, depths=rows, scored=(4, 4))
    assert notes.explain_no_expected_dice() == "fewer than 5 validation cases in fold 0"
    assert notes.merge(Notes(scored=(1, 5))).explain_no_expected_dice() == "only 1 of 5 validation cases scored"
    blind = notes.merge(Notes(fold="none", depths={1: DepthRow(latency_ms=1.0)}, scored=(0, 0)))
    assert blind.explain_no_expected_dice() == "no validation in fold none"
    known = notes.merge(Notes(depths={1: DepthRow(dice=0.5, expected_dice_slope=1.0)}))
    assert explain_no_expected_dice([known, notes]) == ""
    assert explain_no_expected_dice([notes, notes]) == "fewer than 5 validation cases in fold 0"
