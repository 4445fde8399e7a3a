"""Energy from the machine's own counters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unetpp.measure import depth_table, energy
from unetpp.measure.energy import energy_counter

CPU = torch.device("cpu")


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two processors, of which the first has parts."""
    for name in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "max_energy_range_uj").write_text("10000000\n")
        (tmp_path / name / "energy_uj").write_text("9000000\n")
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return tmp_path


def test_processors_are_added_up_and_a_counter_may_begin_anew(powercap: Path) -> None:
    joules = energy_counter(CPU)
    assert joules is not None
    assert joules() == 0
    (powercap / "intel-rapl:0" / "energy_uj").write_text("9500000")
    (powercap / "intel-rapl:0:0" / "energy_uj").write_text("9900000")
    assert joules() == pytest.approx(0.5)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("500000")
    (powercap / "intel-rapl:1" / "energy_uj").write_text("9250000")
    assert joules() == pytest.approx(0.5 + 1.0 + 0.25)


def test_what_cannot_be_read_is_not_counted(powercap: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1"):
        (powercap / name / "energy_uj").unlink()
    assert energy_counter(CPU) is None


def test_the_depth_table_has_joules_where_they_are_counted(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_table, "SECONDS_PER_DEPTH", 0.0)
    assert {row.energy_j for row in depth_table.measure_depths(make_model(), memory=False).rows.values()} == {None}
    counted = iter(range(1000))
    monkeypatch.setattr(depth_table, "energy_counter", lambda device: lambda: float(next(counted)))
    assert {row.energy_j for row in depth_table.measure_depths(make_model(), memory=False).rows.values()} == {1.0}
