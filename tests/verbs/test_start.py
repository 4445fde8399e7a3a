"""Training that starts from a model, takes in new cases, goes on after its end, or does without validation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from tests.plans import small_plan
from tests.tiny import TINY, run_cli, set_options, write_png

import unetpp
from unetpp.errors import ModelFileError, UsageError
from unetpp.model.file import load_model
from unetpp.model.header import read_header
from unetpp.planning.planner import Start
from unetpp.run_folder import RunFolder
from unetpp.verbs.start import _describe_images, describe_start, find_start, recall_start

SETTINGS: dict[str, Any] = {name: value for name, value in TINY.items() if not name.startswith(("model.", "predict."))}


def fold_of(run: Path) -> Path:
    return run / "fold_0" / "model.safetensors"


@pytest.fixture(scope="module")
def tuned(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on other classes and channels than those of the model that it started from."""
    folder = tmp_path_factory.mktemp("tuned")
    for path in sorted((trained.parent / "data" / "images").iterdir())[:6]:
        image, mask = (
            np.asarray(Image.open(trained.parent / "data" / kind / path.name)) for kind in ("images", "masks")
        )
        labels = (mask > 0).astype(np.uint8)
        labels[: mask.shape[0] // 2] *= 2
        write_png(folder / "data/images" / path.name, np.dstack([image, image // 2, 255 - image]))
        write_png(folder / "data/masks" / path.name, labels)
    answer = run_cli(
        "train",
        folder / "data",
        "--from",
        trained,
        "--out",
        folder / "run",
        "--epochs",
        1,
        "--device",
        "cpu",
        *set_options(SETTINGS),
    )
    assert answer.code == 0, answer.stderr
    (folder / "told.txt").write_text(answer.stderr)
    return folder / "run"


def test_other_classes_and_channels_are_trained_from_a_model(trained: Path, tuned: Path) -> None:
    told = (tuned.parent / "told.txt").read_text()
    assert "Starts from run:" in told and "heads: 3 classes instead of 2; new: class_1, class_2" in told
    assert "3 channels (red, green, blue) instead of 1 (image)" in told
    plan, start = read_header(fold_of(tuned)).plan, read_header(fold_of(trained)).plan
    assert plan.model.widths == start.model.widths and plan.train.learning_rate == start.train.learning_rate
    assert plan.train.start and plan.train.start.startswith("run, sha256 ")
    assert str(trained.parent) not in plan.to_json()
    assert "started from: run, sha256" in unetpp.info(tuned).to_text()


def test_another_fold_needs_the_model_no_more(tuned: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tuned, tmp_path / "run")
    plan = read_header(fold_of(run)).plan
    weights = recall_start(RunFolder(run), plan)
    assert weights is not None and weights["heads.2.weight"].shape[0] == 3
    (run / "start.safetensors").write_bytes(b"")
    with pytest.raises(ModelFileError, match="got another file"):
        recall_start(RunFolder(run), plan)
    (run / "start.safetensors").unlink()
    with pytest.raises(ModelFileError, match="Give the model again"):
        recall_start(RunFolder(run), plan)
    done = unetpp.train(tuned.parent / "data", run, resume=True, device="cpu")  # a finished fold needs none
    assert done.folds[0].steps == 3


def test_a_trained_network_goes_on_as_the_inner_shell_of_a_wider_one(trained: Path, tmp_path: Path) -> None:
    wider = {"model.norm": "instance", "model.shells": [4, 8], "train.learning_rate": 1e-12, "train.optimizer": "adamw"}
    answer = run_cli(
        "train",
        trained.parent / "data",
        "--from",
        trained,
        "--out",
        tmp_path / "run",
        "--epochs",
        1,
        "--device",
        "cpu",
        *set_options(SETTINGS | wider),
    )
    assert answer.code == 0, answer.stderr
    assert "the inner 4 of 8 channels start from its weights; the outer ones begin at random" in answer.stderr
    network, header = load_model(fold_of(tmp_path / "run"))
    assert (header.plan.model.widths, header.plan.model.shell_channels) == ((8, 16, 16), (4, 8))
    image = torch.randn(1, 1, 32, 32)
    small, outputs = load_model(fold_of(trained))[0], network(image, heads=True)
    assert torch.allclose(outputs.at(4), outputs.at(2), atol=1e-4) and torch.allclose(
        outputs.at(3), outputs.at(1), atol=1e-4
    )
    ours, theirs = (each.state_dict()["nodes.x_1_0.units.1.conv.weight"] for each in (network, small))
    assert torch.allclose(ours[:8, :8], theirs, atol=1e-6)


def test_a_model_that_saw_the_validation_cases_is_told(trained: Path) -> None:
    start, held_out = find_start(trained), json.loads((trained / "splits.json").read_text())[1]["validation"]
    assert start is not None
    data, held_out = trained.parent / "data", sorted(held_out)
    told = describe_start(start, start.plan, held_out, data)
    assert told[-1].startswith(f"note: the model was trained on {len(held_out)} validation cases ({held_out[0]},")
    told = describe_start(start, start.plan, held_out, trained.parent / "other data")
    assert told[-1].endswith(f"that the model was trained on, in {data}: if they are the same, scores are too good")
    told = describe_start(start, start.plan, held_out[:1], trained.parent / "other data")
    assert f"1 validation case ({held_out[0]}) has the name of a case that" in told[-1]
    own = json.loads((trained / "splits.json").read_text())[0]["validation"]
    assert len(describe_start(start, start.plan, own, data)) == 2


def test_images_that_reach_the_network_otherwise_are_told() -> None:
    plan = small_plan()
    ct = plan.data.normalization[0].model_copy(update={"per_case": False, "std": 9.0})

    def describe(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
        data = (plan.data.model_copy(update=each) for each in (before, now))
        return list(_describe_images(*(plan.model_copy(update={"data": each}) for each in data)))

    assert describe({}, {}) == []
    assert describe({"spacing_mm": (1.0, 1.0)}, {"voxel_mm": (1.1, 1.0)}) == []
    (told,) = describe({"spacing_mm": (1.0, 1.0)}, {"spacing_mm": (0.5, 1.0)})
    assert told.startswith("voxels of 0.5 x 1 mm instead of 1 x 1 mm")
    assert describe({}, {"voxel_mm": (1.0, 1.0)}) == ["voxels whose size is known, unlike those that it knows"]
    (told,) = describe({"normalization": (ct,)}, {})
    assert told == f"intensities of {plan.data.channels[0]} are on another scale: normalized anew"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model.onnx", "an exported file.*Give the model from which it was exported"),
        ("net.pth", "a checkpoint of another program.*unetpp import net.pth"),
        ("empty", "a folder without fold_"),
        ("absent.safetensors", "no such file"),
    ],
)
def test_what_is_no_model_is_refused_before_images_are_read(
    tmp_path: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises((UsageError, ModelFileError), match=text):
        unetpp.train(tmp_path / "absent", tmp_path / "run", from_=name)


def test_networks_that_have_nothing_in_common_are_refused(trained: Path) -> None:
    start = find_start(trained)
    assert isinstance(start, Start)
    with pytest.raises(UsageError, match="of which nothing fits"):
        describe_start(start, small_plan(widths=(6, 10)), (), Path())


def test_a_finished_run_goes_on_with_new_cases(trained: Path, tmp_path: Path) -> None:
    run, data = shutil.copytree(trained, tmp_path / "run"), shutil.copytree(trained.parent / "data", tmp_path / "data")
    for kind in ("images", "masks"):
        shutil.copy(next((data / kind).iterdir()), data / kind / "new.png")
    before = json.loads((run / "splits.json").read_text())
    answer = run_cli("train", data, "--out", run, "--resume", "--epochs", "+1", "--add-cases", "--device", "cpu")
    assert answer.code == 0, answer.stderr
    assert ": 1 new case trains" in answer.stderr
    after = json.loads((run / "splits.json").read_text())
    assert after[0] == {**before[0], "train": [*before[0]["train"], "new"]}
    metrics, header = json.loads((run / "fold_0/metrics.json").read_text()), read_header(fold_of(run))
    assert header.notes.training is not None and header.notes.training.steps == 9
    assert [case["id"] for case in metrics["cases"]] == before[0]["validation"]
    assert header.plan == read_header(fold_of(trained)).plan  # the plan stays: other folds are trained as before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"minutes": "+1"}, "`resume=True` with it"),
        ({"minutes": "+1", "resume": True, "fold": 1}, "fold 1, which has not begun"),
        ({"minutes": "+x"}, "got '\\+x'"),
        ({"minutes": 3, "resume": True}, 'such as `minutes="\\+10"`'),
        ({"from_": "RUN", "resume": True}, "was made for random weights"),
        ({"add_cases": True, "resume": True}, "only folds that have been trained to the end"),
    ],
)
def test_what_cannot_go_on_is_refused(trained: Path, options: dict[str, Any], text: str) -> None:
    options = {name: trained if value == "RUN" else value for name, value in options.items()}
    with pytest.raises(UsageError, match=text):
        unetpp.train(trained.parent / "data", trained, device="cpu", **options)


def test_all_cases_train_without_validation(trained: Path, tmp_path: Path) -> None:
    data = trained.parent / "data"
    done = unetpp.train(data, tmp_path / "run", fold="none", epochs=1, device="cpu", set=TINY)
    assert done.folds[0].fold == "none" and "no scores" in done.to_text()
    assert done.report is not None and done.folds[0].metrics.mean.dice is None
    header = read_header(tmp_path / "run/fold_none/model.safetensors")
    assert header.notes.fold == "none" and header.notes.depths[1].latency_ms
    predicted = unetpp.predict(tmp_path / "run", data / "images", tmp_path / "out", device="cpu")
    assert len(predicted.files) == 10
    assert load_file(tmp_path / "run/fold_none/model.safetensors")
    with pytest.raises(UsageError, match="validation cases"):
        unetpp.adapt(tmp_path / "run")
