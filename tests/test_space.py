"""Volumes in other axes and of other voxel sizes than those of the training, from training to scores."""

from __future__ import annotations

from pathlib import Path

import pytest

import unetpp

BRIEF = {"train.batch": 2, "train.steps_per_epoch": 30}


def score(data: Path, folder: Path) -> tuple[dict[str, float], unetpp.Predicted]:
    """Train, predict and evaluate: Dice of each new file."""
    unetpp.train(data / "train", folder / "run", epochs=3, device="cpu", set=BRIEF)
    done = unetpp.predict(folder / "run", data / "new", folder / "out", device="cpu")
    found = unetpp.evaluate(folder / "out", data / "references").metrics
    return {case.id: case.mean.dice or 0.0 for case in found.cases}, done


@pytest.mark.slow
def test_right_and_left_are_told_apart_in_every_order_of_axes(cases: Path, tmp_path: Path) -> None:
    dice, done = score(cases / "3d" / "orientation-of-new-images", tmp_path)
    assert dice["ras"] > 0.98 and dice["lps"] == pytest.approx(dice["ras"], abs=1e-3)
    assert not done.outside


@pytest.mark.slow
def test_a_finer_voxel_size_is_brought_to_that_of_the_training(cases: Path, tmp_path: Path) -> None:
    dice, done = score(cases / "3d" / "voxel-size-of-new-images", tmp_path)
    assert dice["a_3mm"] > 0.98 and dice["b_1p5mm"] > 0.92
    assert done.outside == ("b_1p5mm: voxel size 1.5 x 1.5 x 1.5 mm; training had 3 x 3 x 3 mm",)


def test_volumes_of_one_slice_are_planned_as_images(cases: Path, tmp_path: Path) -> None:
    plan = unetpp.plan(cases / "3d" / "one-slice-volumes", tmp_path / "run", epochs=1).plan
    assert plan.model.strides == ((1, 2, 2),) * 4
    assert set(plan.model.kernel_sizes) == {(1, 3, 3)}
    assert plan.train.patch == (1, 96, 96)
