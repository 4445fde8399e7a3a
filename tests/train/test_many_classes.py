"""More classes than 8 bits hold, from label files to label files."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import unetpp
from tests.tiny import TINY

CLASSES, SIZE = 300, 40


@pytest.fixture
def atlas(tmp_path: Path) -> Path:
    """Images with labels of 300 values, two voxels of most in each."""
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in range(4):
        rng = np.random.default_rng(number)
        label = np.resize(np.arange(CLASSES, dtype=np.uint16).repeat(2), (SIZE, SIZE))
        image = label + rng.normal(0, 3, label.shape).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            nib.save(nib.Nifti1Image(array.T[..., None], np.eye(4)), tmp_path / "data" / name / f"{number}.nii.gz")
    return tmp_path / "data"


def test_three_hundred_classes_are_trained_written_and_scored(atlas: Path, tmp_path: Path) -> None:
    settings = TINY | {"data.dims": 2, "data.labels": "classes", "train.validations": 1}
    unetpp.train(atlas, tmp_path / "run", epochs=1, device="cpu", set=settings)
    out = tmp_path / "out"
    unetpp.predict(tmp_path / "run", atlas / "images" / "0.nii.gz", out=out, device="cpu", backend="torch")
    written = nib.load(out / "0.nii.gz")
    assert written.get_data_dtype() == np.uint16 and int(np.asarray(written.dataobj).max()) < CLASSES
    labels = tmp_path / "labels"  # of one case: to score 299 classes takes longer than to train them
    labels.mkdir()
    shutil.copy(atlas / "labels" / "0.nii.gz", labels)
    scores = unetpp.evaluate(out, labels).metrics
    assert len(scores.classes) == CLASSES - 1
    perfect = unetpp.evaluate(labels, labels, labels="classes").metrics
    assert perfect.mean.dice == 1
