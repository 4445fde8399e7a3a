"""Tiny data for all tests."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

import unetpp
from tests.tiny import TINY
from unetpp import fold
from unetpp.data.demo import write_demo_data
from unetpp.deploy.depth_table import measure_depths

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def real_data() -> Path:
    """Folder of the real data sets; a test that needs it skips where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real data sets are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(autouse=True)
def no_memory_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in processes of their own, some seconds each; the run of `trained` has it, before this is set."""
    monkeypatch.setattr(fold, "measure_depths", functools.partial(measure_depths, memory=False))


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A fresh 2D data set of 10 images, for tests that damage it."""
    return write_demo_data(tmp_path / "cells", 2, cases=10, shape=(32, 40))


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    """A fresh 3D data set of 6 volumes."""
    return write_demo_data(tmp_path / "bodies", 3, cases=6, shape=(8, 20, 18))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained 2D run, its data in `data/`; read it only."""
    run = tmp_path_factory.mktemp("trained") / "run"
    write_demo_data(run.parent / "data", 2, cases=10, shape=(32, 40))
    unetpp.train(run.parent / "data", run, epochs=2, device="cpu", set=TINY)
    return run


@pytest.fixture
def is_root() -> bool:
    return os.geteuid() == 0
