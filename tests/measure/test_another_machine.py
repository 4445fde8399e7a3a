"""Costs measured anew, and projected onto another machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tiny import run_cli

from unetpp.errors import UsageError
from unetpp.measure import depth_table
from unetpp.verbs.info import info


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_table, "SECONDS_PER_DEPTH", 0.0)
    monkeypatch.setattr(depth_table, "_probe_depths", lambda model, depths, *rest: dict.fromkeys(depths, 1.0))
    monkeypatch.setattr(
        depth_table,
        "measure_ceilings",
        lambda device: {"gmacs_per_s_fp32": 100.0, "gmacs_per_s_bf16": 400.0, "copied_gb_per_s": 20.0},
    )


def test_a_model_is_measured_anew_and_projected(make_model: Callable[..., Path]) -> None:
    model = make_model()
    notes = info(model, measure=True, machine="50,10", device="cpu").notes
    assert list(notes.rows) == ["1", "2", "mean"]
    for row in notes.rows.values():
        assert row.predicted_ms == pytest.approx(2 * row.latency_ms)
    text = run_cli("info", model, "--measure", "--machine", "50,10").stdout
    assert "ms there" in text
    assert "mean" in text
    assert "ms there" not in run_cli("info", model).stdout


def test_what_cannot_be_projected_is_refused(make_model: Callable[..., Path]) -> None:
    for machine in ("fast", "1,2,3", "0,10", "-1,10", "nan,1"):
        with pytest.raises(UsageError, match="expected two positive numbers"):
            info(make_model(), machine=machine)
    with pytest.raises(UsageError, match=r"costs were not measured.*Add `measure=True`"):
        info(make_model(), machine="50,10")
