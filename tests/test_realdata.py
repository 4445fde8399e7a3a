"""The journey on real data, as it is downloaded, with a network that learns next to nothing."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import unetpp
from tests.tiny import TINY, TINY_3D

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not beside the repository"),
]


def test_nuclei_in_the_layout_of_their_download(tmp_path: Path) -> None:
    run = unetpp.train(DATA / "nuclei_kaggle_layout", tmp_path / "run", epochs=1, set=TINY)
    assert run.folds[0].metrics.mean.dice >= 0
    image = next((DATA / "nuclei_kaggle_layout").rglob("images/*.png"))
    done = unetpp.predict(tmp_path / "run", image, tmp_path / "out")
    with Image.open(done.files[0]) as written, Image.open(image) as read:
        assert written.size == read.size
        assert set(np.unique(np.asarray(written))) <= {0, 255}


def test_a_hippocampus_comes_back_on_its_own_grid(tmp_path: Path) -> None:
    values = json.loads((DATA / "hippocampus" / "dataset.json").read_text())
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("imagesTr", "labelsTr"):
        (folder / name).symlink_to(DATA / "hippocampus" / name)
    values["training"] = values["training"][:5]
    (folder / "dataset.json").write_text(json.dumps(values))
    unetpp.train(folder, tmp_path / "run", epochs=1, set=TINY_3D)
    image = folder / values["training"][0]["image"]
    done = unetpp.predict(tmp_path / "run", image, tmp_path / "out")
    written, read = nibabel.load(done.files[0]), nibabel.load(image)
    assert written.shape == read.shape
    assert np.array_equal(written.affine, read.affine)
    assert set(np.unique(np.asarray(written.dataobj))) <= {0, 1, 2}
