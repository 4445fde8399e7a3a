"""Regions from dataset.json to files: nested disks and spheres are learned, written, scored and exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import unetpp
from tests.tiny import TINY, TINY_3D, TINY_NESTED

STEPS = 60
SHAPES: dict[int, tuple[int, ...]] = {2: (40, 40), 3: (12, 24, 24)}
LABELS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
NAMES = ["whole", "core", "enhancing"]


def write_spheres(
    folder: Path, dims: int, cases: int = 5, labels: dict[str, Any] = LABELS, order: Sequence[int] = (1, 2, 3)
) -> Path:
    """Write nested spheres (in 2D disks), brighter towards the middle, as nnU-Net has its data sets.

    Where `labels` has `ignore`, the first quarter of each label is that.
    """
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    shape = SHAPES[dims]
    for number in range(cases):
        rng = np.random.default_rng(number)
        middle = [size / 2 + rng.uniform(-2, 2) for size in shape]
        far = np.sqrt(sum((axis - place) ** 2 for axis, place in zip(np.indices(shape), middle, strict=True)))
        radius = shape[-1] / 3
        label = sum((far < radius * share).astype(np.uint8) for share in (1, 0.7, 0.4))
        image = (60 * label + rng.normal(0, 5, shape)).astype(np.float32)
        label[: shape[0] // 4 if "ignore" in labels else 0] = labels.get("ignore", 0)
        for array, path in ((image, f"imagesTr/{number}_0000.nii.gz"), (label, f"labelsTr/{number}.nii.gz")):
            planes = array.T if dims == 3 else array.T[..., None]
            nib.save(nib.Nifti1Image(planes, np.eye(4)), folder / path)
    declared = {
        "channel_names": {"0": "MRI"},
        "labels": labels,
        "regions_class_order": list(order),
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(declared))
    return folder


@pytest.mark.parametrize("dims", [2, 3])
def test_regions_are_learned_predicted_and_exported(tmp_path: Path, dims: int) -> None:
    settings: dict[str, Any] = (TINY if dims == 2 else TINY_3D) | {
        "data.dims": dims,
        "train.steps_per_epoch": STEPS,
        "train.validations": 1,
        "train.ema_decay": 0.9,
        "train.learning_rate": 0.05,
        "predict.precision": "fp32",
    }
    data, run = write_spheres(tmp_path / "data", dims), tmp_path / "run"
    unetpp.train(data, run, epochs=1, device="cpu", set=settings)
    metrics = json.loads((run / "fold_0" / "metrics.json").read_text())
    assert list(metrics["classes"]) == NAMES
    assert min(found["dice"] for found in metrics["classes"].values()) > 0.8
    if dims == 3:
        assert unetpp.export(run, tmp_path / "m.pt2").out.exists()  # it is compared with the network
        return

    out = tmp_path / "out"
    common: dict[str, Any] = {"tta": True, "probabilities": True, "uncertainty": "entropy"}
    unetpp.predict(run, data / "imagesTr", out=out, backend="torch", device="cpu", **common)
    written = [np.asarray(nib.load(path).dataobj) for path in sorted(out.glob("*.nii.gz"))]
    assert {int(value) for each in written for value in np.unique(each)} <= {0, 1, 2, 3}
    maps = {name: np.asarray(nib.load(out / "probabilities" / f"0_{name}.nii.gz").dataobj) for name in NAMES}
    expected = np.zeros(written[0].shape)
    for value, name in enumerate(NAMES, start=1):
        expected[maps[name] > 0.5] = value
    assert (expected == written[0]).mean() > 0.999  # maps may be rounded
    record = json.loads((out / "predictions.json").read_text())
    assert [region["name"] for region in record["regions"]] == NAMES
    assert list(next(iter(record["cases"].values()))["classes"]) == NAMES

    scores = unetpp.evaluate(out, data / "labelsTr").metrics
    assert list(scores.classes) == NAMES

    exported = unetpp.export(run, tmp_path / "m.onnx")
    again = tmp_path / "again"
    unetpp.predict(exported.out, data / "imagesTr", out=again, **common)
    for path in sorted(out.rglob("*.nii.gz")):
        one, other = (np.asarray(nib.load(each).dataobj) for each in (path, again / path.relative_to(out)))
        differs = np.abs(one.astype(float) - other) > 0.02 * max(1, other.max())
        assert differs.mean() < 0.005, path  # at a probability of 0.5 a rounding decides


def test_regions_in_two_widths_with_unlabeled_voxels(tmp_path: Path) -> None:
    """The sizes of one training, grown, distilled, pruned and exported; the core writes 3, what it holds writes 2."""
    labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2, "ignore": 4}
    data, run = write_spheres(tmp_path / "data", 2, 4, labels, order=(1, 3, 2)), tmp_path / "run"
    settings = TINY_NESTED | {
        "data.dims": 2,
        "predict.precision": "fp32",
        "train.growth": [0.5],
        "train.distillation": True,
    }
    unetpp.train(data, run, epochs=2, device="cpu", set=settings | {"train.learning_rate": 0.05})
    plan = json.loads((run / "plan.json").read_text())
    assert [region["values"] for region in plan["data"]["regions"]] == [[1, 2, 3], [3, 2], [2]]
    assert "1+2+3" in (run / "plan.html").read_text()
    assert "masses" in unetpp.report(run).report.read_text()

    model = unetpp.prune(run, tmp_path / "small.safetensors", size="small", device="cpu").out
    assert "3+2 = masses" in unetpp.info(model).to_text()
    images, common = data / "imagesTr", {"backend": "torch", "device": "cpu"}
    unetpp.predict(run, images, out=tmp_path / "a", size="small", **common)
    unetpp.predict(model, images, out=tmp_path / "b", **common)
    unetpp.predict(unetpp.export(model, tmp_path / "small.xml").out, images, out=tmp_path / "c")
    for path in (tmp_path / "a").glob("*.nii.gz"):
        one, two, three = (np.asarray(nib.load(tmp_path / name / path.name).dataobj) for name in "abc")
        assert {*np.unique(one).tolist()} <= {0, 1, 2, 3}
        assert min((one == two).mean(), (one == three).mean()) > 0.99  # at a probability of 0.5 a rounding decides
    assert list(unetpp.evaluate(tmp_path / "c", data / "labelsTr").metrics.classes) == ["kidney", "masses", "tumor"]


def test_check_names_the_regions_of_the_data_set(tmp_path: Path) -> None:
    found = unetpp.check(write_spheres(tmp_path / "data", 2, cases=2))
    assert "regions: 1+2+3 = whole, 2+3 = core, 3 = enhancing" in found.to_text()


def test_regions_of_other_layouts_are_a_setting(tmp_path: Path) -> None:
    data = write_spheres(tmp_path / "data", 2, cases=4)
    declared = json.loads((data / "dataset.json").read_text())
    declared |= {"labels": {"background": 0, "a": 1, "b": 2, "c": 3}}
    (data / "dataset.json").write_text(json.dumps(declared))
    text = "most=1+2+3,middle=3+2"
    with pytest.raises(unetpp.PlanError, match="every foreground value"):
        unetpp.plan(data, tmp_path / "run", set=TINY | {"data.dims": 2, "data.regions": "most=1+2"})
    planned = unetpp.plan(data, tmp_path / "run", set=TINY | {"data.dims": 2, "data.regions": text})
    assert planned.plan.data.region_indices == ((1, 2, 3), (3, 2))
    assert planned.plan.model.out_channels == 2
