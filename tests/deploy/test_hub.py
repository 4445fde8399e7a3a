"""Models as repositories of the Hugging Face hub, tried in local folders."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import unetpp
from unetpp.errors import ModelFileError, UsageError

pytest.importorskip("huggingface_hub")


def test_a_saved_model_comes_back_as_it_was(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model()
    unetpp.HubModel(model).save_pretrained(tmp_path / "repository")
    assert {path.name for path in (tmp_path / "repository").iterdir()} == {
        "model.safetensors",
        "config.json",
        "README.md",
    }
    assert (tmp_path / "repository" / "model.safetensors").read_bytes() == model.read_bytes()
    back = unetpp.HubModel.from_pretrained(str(tmp_path / "repository")).predictor(device="cpu")
    image = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    for depth in (1, 2):
        np.testing.assert_array_equal(
            back.predict(image, depth=depth), unetpp.load(model, device="cpu").predict(image, depth=depth)
        )


def test_load_takes_a_repository_of_the_hub(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    asked = []

    def fake_download(*arguments: str, **options: object) -> str:
        asked.append((arguments, options))
        return str(model)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake_download)
    image = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    found = unetpp.load("hf://owner/name", device="cpu").predict(image)
    np.testing.assert_array_equal(found, unetpp.load(model, device="cpu").predict(image))
    unetpp.HubModel.from_pretrained("owner/name", revision="v1")
    assert asked == [
        (("owner/name", "model.safetensors"), {}),
        (("owner/name", "model.safetensors"), {"revision": "v1"}),
    ]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(unetpp.MissingExtraError, match=r"unetpp\[hub\]"):
        unetpp.load("hf://owner/name")


def test_the_repository_says_what_it_is_and_no_path(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = make_model()
    unetpp.HubModel(model).save_pretrained(tmp_path / "repository")
    card = (tmp_path / "repository" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: unetpp\n")
    assert "\n- unet++\n- 2d\n- image-segmentation\n" in card
    assert "## Licence" in card
    config = (tmp_path / "repository" / "config.json").read_text()
    assert json.loads(config)["plan"]["model"]["depth"] == 2
    assert str(tmp_path) not in card + config


def test_the_licence_that_was_stated_stays(make_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    unetpp.HubModel(make_model()).save_pretrained(folder)
    card = folder / "README.md"
    card.write_text(card.read_text().partition("## Licence")[0] + "## Licence\n\nCC BY 4.0\n")
    unetpp.HubModel.from_pretrained(str(folder)).save_pretrained(tmp_path / "again")
    assert "CC BY 4.0" in (tmp_path / "again" / "README.md").read_text()


def test_what_is_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match=r"got neither a folder with model\.safetensors nor a repository"):
        unetpp.HubModel.from_pretrained("nobody/nothing", local_files_only=True)
    with pytest.raises(ModelFileError, match="expected either"):
        unetpp.HubModel.from_pretrained(str(tmp_path), local_files_only=True)
    for fold in (0, 1):
        (tmp_path / f"fold_{fold}").mkdir()
        (tmp_path / f"fold_{fold}" / "model.safetensors").touch()
    with pytest.raises(UsageError, match="got a run of 2 folds"):
        unetpp.HubModel(tmp_path)
