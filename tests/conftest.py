"""Tiny data and tiny models for all tests."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: workers share the cores, and so do their processes

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import unetpp
from tests.quick import make_quick
from tests.serve.chromium import find_reason_without
from tests.tiny import TINY
from unetpp.data.demo import write_demo_data
from unetpp.model.build import build_from_plan, model_plan
from unetpp.model.file import save_model
from unetpp.model_notes import Notes
from unetpp.plan import Plan

LEFT_OUT = ("slow", "services", "browser")
REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which kinds of tests the command has left out, and that those in a browser cannot run where there is none."""
    if kinds := [kind for kind in LEFT_OUT if f"not {kind}" in config.option.markexpr]:
        reason = find_reason_without() if "browser" in kinds else None
        commands = ", ".join(f"`make {kind}`" for kind in kinds)
        skipped = f"; here `make browser` would skip all of its tests: {reason}" if reason else ""
        terminalreporter.write_line(f"Left out here: {commands}{skipped}.")


@pytest.fixture
def real_data() -> Path:
    """Folder of the real data sets; a test that needs it skips where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real data sets are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture
def cases() -> Path:
    """Folder of small inputs as users bring them; a test that needs it skips where it is absent."""
    folder = REAL_DATA.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"inputs of users are not at {folder}")
    return folder


@pytest.fixture(scope="session", autouse=True)
def quick_trainings() -> Iterator[pytest.MonkeyPatch]:
    """Trainings of tests are quick, apart from that of `trained`."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        yield patch


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A fresh 2D data set of 10 images, for tests that damage it."""
    return write_demo_data(tmp_path / "cells", 2, cases=10, shape=(32, 40))


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    """A fresh 3D data set of 6 volumes."""
    return write_demo_data(tmp_path / "bodies", 3, cases=6, shape=(8, 20, 18))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, quick_trainings: pytest.MonkeyPatch) -> Path:
    """A trained 2D run with all that a training measures and draws, its data in `data/`; read it only."""
    run = tmp_path_factory.mktemp("trained") / "run"
    write_demo_data(run.parent / "data", 2, cases=10, shape=(32, 40))
    quick_trainings.undo()
    unetpp.train(run.parent / "data", run, epochs=2, device="cpu", set=TINY)
    make_quick(quick_trainings)
    return run


@pytest.fixture
def is_root() -> bool:
    return os.geteuid() == 0


def toy_plan(dims: int = 2, depth: int = 2, num_classes: int = 2, **train: Any) -> Plan:
    model = model_plan(
        topology="unet++",
        dims=dims,
        depth=depth,
        out_channels=num_classes,
        widths=[4 + 2 * level for level in range(depth + 1)],
    )
    size = [16] * dims
    return Plan.from_dict(
        {
            "name": "toy",
            "data": {
                "dims": dims,
                "channels": ["image"],
                "classes": ["background", *(f"class {index}" for index in range(1, num_classes))],
                "label_values": list(range(num_classes)),
                "normalization": [{}],
            },
            "model": model.model_dump(),
            "train": {"patch": size, "batch": 2, "steps_per_epoch": 2, "epochs": 2, **train},
            "predict": {"tile": size, "depth": depth},
            "reasons": {"model.depth": "small enough for a test"},
        }
    )


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    def make(plan: Plan | None = None, notes: dict[str, Any] | None = None, name: str = "model.safetensors") -> Path:
        plan = plan or toy_plan()
        torch.manual_seed(0)
        path = tmp_path / "fold_0" / name
        save_model(path, build_from_plan(plan.model).state_dict(), plan, Notes.model_validate(notes or {}))
        return path

    return make


@pytest.fixture(name="small_plan")
def small_plan_fixture() -> Callable[..., Plan]:
    return toy_plan
