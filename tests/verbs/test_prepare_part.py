"""Preparing by shares, before a training."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny import TINY

import unetpp
from unetpp.errors import DataError, UsageError
from unetpp.results import Prepared
from unetpp.run_folder import RunFolder


def test_parts_prepare_all_cases_and_train_nothing(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UsageError, match=r"got no plan, by which all parts go.*`unetpp plan"):
        unetpp.train(cells, out, part="1/2")
    unetpp.plan(cells, out, epochs=1, device="cpu", set=TINY)
    counts = []
    for part in ("1/3", "2/3", "3/3"):
        found = unetpp.train(cells, out, part=part)
        assert isinstance(found, Prepared) and found.exit_code == 0
        counts.append(found.cases)
    assert counts == [4, 3, 3]
    assert len(list(RunFolder(out).cache.glob("*.foreground.npy"))) == 10
    assert not RunFolder(out).started_folds()
    before = {path.name: path.stat().st_mtime_ns for path in RunFolder(out).cache.iterdir()}
    unetpp.train(cells, out, device="cpu")
    assert {path.name: path.stat().st_mtime_ns for path in RunFolder(out).cache.iterdir()} == before
    assert "part 3/3: 3 of 10 cases prepared" in str(found.to_text())


def test_a_case_that_cannot_be_prepared_is_listed(cells: Path, tmp_path: Path) -> None:
    unetpp.plan(cells, tmp_path / "run", epochs=1, device="cpu", set=TINY)
    for name in ("cells_00.png", "cells_02.png"):
        (cells / "images" / name).write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    found = unetpp.train(cells, tmp_path / "run", part="1/2")
    assert isinstance(found, Prepared)
    assert (found.exit_code, found.cases, len(found.problems)) == (1, 3, 2)
    assert "2 of" in found.to_text() or "cells_00.png" in found.to_text()
    with pytest.raises(DataError):
        unetpp.train(cells, tmp_path / "run", part="1/10")
