"""Labels of which nobody labeled most voxels: scribbles train nearly as well as full labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.plans import small_plan
from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase, store_cases
from unetpp.labels.classes import ignored_index
from unetpp.layouts.dataset import Case
from unetpp.measure.validation import DepthValidation
from unetpp.plan import Plan
from unetpp.train.augment import Augmentation
from unetpp.train.batches import BatchMaker
from unetpp.train.trainer import FoldTraining

CPU = torch.device("cpu")
VOID = 7
SIZE = 48


def write_blobs(folder: Path, labeled: float, cases: int = 6) -> list[Case]:
    """Bright disks; of each label only short strokes, `labeled` of its voxels."""
    found = []
    folder.mkdir()
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for number in range(cases):
        rng = np.random.default_rng(number)
        image, label = np.full((SIZE, SIZE), 100.0), np.zeros((SIZE, SIZE), np.uint8)
        for _ in range(4):
            y, x, radius = *rng.integers(6, SIZE - 6, 2), rng.integers(5, 9)
            inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            image[inside], label[inside] = 190, 1
        known = np.full((SIZE, SIZE), labeled == 1)
        while known.mean() < labeled:
            y, x = rng.integers(SIZE), rng.integers(SIZE - 6)
            known[y, x : x + 6] = True
        label[~known] = VOID
        noisy = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        paths = folder / f"{number}.png", folder / f"{number}_mask.png"
        for path, array in zip(paths, (noisy, label), strict=True):
            Image.fromarray(array).save(path)
        found.append(Case(str(number), paths[:1], paths[1:]))
    return found


def make_plan(ignore: int | None) -> Plan:
    labels = {} if ignore is None else {"data.labels": {"ignore": ignore}}
    length = {"train.steps_per_epoch": 80, "train.epochs": 1, "train.validations": 1, "train.ema_decay": 0.8}
    return small_plan(settings={**length, **labels})


def train_and_score(folder: Path, cases: list[StoredCase], truth: list[StoredCase], plan: Plan) -> float:
    validate = DepthValidation(truth, plan, CPU)
    return FoldTraining(plan, cases, folder, device=CPU, validate=validate).run().best_dice


def test_scribbles_train_nearly_as_well_as_full_labels(tmp_path: Path) -> None:
    plan = make_plan(VOID)
    full = store_cases(write_blobs(tmp_path / "full", 1.0), make_plan(None).data, tmp_path / "cache full")
    scribbles = store_cases(write_blobs(tmp_path / "scribbles", 0.1), plan.data, tmp_path / "cache")
    assert np.mean([(case.label() == ignored_index(2)).mean() for case in scribbles]) == pytest.approx(0.9, abs=0.01)
    reference = train_and_score(tmp_path / "a", full, full, make_plan(None))
    assert train_and_score(tmp_path / "b", scribbles, full, plan) > reference - 0.05 > 0.8


def test_every_patch_has_labeled_voxels_and_no_center_is_ignored(tmp_path: Path) -> None:
    plan = make_plan(VOID)
    cases = store_cases(write_blobs(tmp_path / "sparse", 0.01, cases=3), plan.data, tmp_path / "cache")
    ignored = ignored_index(2)
    for case in cases:
        assert set(case.foreground) <= {1}
        assert case.labeled is not None
        assert (case.label()[tuple(case.labeled.T)] != ignored).all()
    sampler = PatchSampler(cases, (12, 12), 2, 0.5, seed=0)
    patches = [sampler.read(sampler.draw(step, index))[1] for step in range(50) for index in range(2)]
    assert all((patch != ignored).any() for patch in patches)
    anywhere = PatchSampler(cases, (12, 12), 2, 0.0, seed=0)
    assert len({anywhere.draw(step, 0) for step in range(50)}) > 40  # a labeled voxel is anywhere in its patch


def test_variation_keeps_the_index(tmp_path: Path) -> None:
    plan = small_plan(settings={"data.labels": {"ignore": VOID}, "train.augment.affine_probability": 1.0})
    cases = store_cases(write_blobs(tmp_path / "sparse", 0.3, cases=2), plan.data, tmp_path / "cache")
    sampler = PatchSampler(cases, (16, 16), 2, 0.5, seed=0)
    make = BatchMaker(sampler, Augmentation(plan.train.augment, (16, 16), None))
    found = {int(value) for step in range(5) for value in make(step)[1].unique()}
    assert found == {0, 1, ignored_index(2)}


def test_a_case_without_a_labeled_voxel_changes_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    plan = make_plan(VOID)
    (case,) = store_cases(write_blobs(tmp_path / "none", 0.0, cases=1), plan.data, tmp_path / "cache")
    assert case.labeled is None
    training = FoldTraining(plan, [case], tmp_path / "run", device=CPU, validate=DepthValidation([case], plan, CPU))
    before = [weight.clone() for weight in training.network.parameters()]
    loss = training.step(training.prefetcher._make(0), 0, 0.0)
    assert loss == pytest.approx(0.0, abs=1e-5)
    assert all(torch.isfinite(weight).all() for weight in training.network.parameters())
    assert len(before) > 0
