"""A cascade end to end: its first stage, what the second reads of it, and what is there when something is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.tiny import TINY_3D

import unetpp
from unetpp.data.case_files import open_case_image
from unetpp.data.demo import write_demo_data
from unetpp.data.folds import read_splits
from unetpp.data.store import StoredCase
from unetpp.deploy.select.candidates import Key, compute_ms
from unetpp.deploy.select.folder import write_folder
from unetpp.deploy.select.runs import FoldPredictors, open_runs, time_runs
from unetpp.deploy.select.scoring import score_candidates
from unetpp.errors import Interrupted, ModelFileError, UsageError
from unetpp.infer.predictor import load_predictor, make_predictor
from unetpp.infer.tiles import TileGrid
from unetpp.layouts.cases import find_cases
from unetpp.model.file import load_model, save_model
from unetpp.plan import read_plan
from unetpp.progress import SILENCE
from unetpp.run_folder import RunFolder
from unetpp.selection import Member, Selection
from unetpp.train.trainer import FoldTraining
from unetpp.words import write_command

SETTINGS = TINY_3D | {"train.steps_per_epoch": 2, "train.validations": 1}


def train(data: Path, run: Path, **options: Any) -> unetpp.Run:
    return unetpp.train(data, run, epochs=1, device="cpu", set=SETTINGS, progress=False, **options)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained cascade, its data in `data/`; read it only."""
    run = tmp_path_factory.mktemp("cascade") / "run"
    write_demo_data(run.parent / "data", 3, cases=6, shape=(12, 36, 32))
    train(run.parent / "data", run, resolution="cascade")
    return run


@pytest.fixture
def copied(cascade: Path, tmp_path: Path) -> Path:
    shutil.copytree(cascade, tmp_path / "run")
    return tmp_path / "run"


def test_a_cascade_is_one_model_that_predicts_with_both_stages(cascade: Path) -> None:
    run = RunFolder(cascade)
    plan, first = read_plan(run.plan), read_plan(run.first_plan)
    assert (plan.data.resolution, first.data.resolution) == ("cascade", "low")
    assert first.data.spacing_mm > plan.data.spacing_mm
    assert plan.model.in_channels == 1 + len(plan.data.scored) and first.model.in_channels == 1
    image = next((cascade.parent / "data" / "images").iterdir())
    both = unetpp.load(cascade, device="cpu").predict(image, probabilities=True)
    stage = load_predictor(run.first_stage(0).path, "cpu", "torch")
    assert both.segmentation.shape == stage.predict(image).shape == nibabel.load(image).shape[::-1]
    assert run.metrics(0).depths and run.metrics_file(0).exists()
    assert "second of two" in unetpp.info(cascade).to_text()


def test_cases_are_segmented_by_networks_that_have_not_seen_them(cascade: Path) -> None:
    run = RunFolder(cascade)
    (outer, *_), halves = read_splits(run.splits), read_splits(run.first_stage(0).splits)
    assert sorted(halves[0].train + halves[1].train) == sorted(outer.train)
    assert not {*halves[0].train} & {*halves[1].train}
    stored = {path.name.split("-")[0]: path for path in run.cache.glob("*.first-*.npy")}
    assert {*stored} == {*outer.train, *outer.validation}
    for name, path in stored.items():
        networks = [number for number, half in enumerate(halves) if name not in half.train]
        assert len(networks) == (2 if name in outer.validation else 1)
        files = [run.first_stage(0).fold(number) / "model.safetensors" for number in networks]
        image = cascade.parent / "data" / "images" / f"{name}.nii.gz"
        expected = make_predictor(files, "first", torch.device("cpu"), "torch").predict(image)
        case = StoredCase(name, path.with_name(path.name.partition(".first")[0]), path.name.split(".")[1])
        assert case.first().shape == case.label().shape
        assert np.array_equal(np.asarray(case.first()), expected)


def test_a_stopped_cascade_goes_on_where_it_was(copied: Path, cascade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, data = RunFolder(copied), cascade.parent / "data"
    for name in ("model.safetensors", "last.ckpt", "metrics.json"):
        (run.fold(0) / name).unlink()
    shutil.rmtree(run.first_stage(0).fold(1))
    before = {path: path.stat().st_mtime_ns for path in run.cached_files()}
    trained: list[Path] = []
    original = FoldTraining.run

    def watch(self: FoldTraining, *arguments: Any, **options: Any) -> Any:
        trained.append(self.folder)
        if self.folder == run.fold(0) and trained.count(self.folder) == 1:
            raise Interrupted("Stopped.")
        return original(self, *arguments, **options)

    monkeypatch.setattr(FoldTraining, "run", watch)
    with pytest.raises(UsageError, match="its first stage had begun"):
        train(data, copied)
    with pytest.raises(Interrupted, match="resume"):
        train(data, copied, resume=True)
    train(data, copied, resume=True)
    assert trained == [run.first_stage(0).fold(1), run.fold(0), run.fold(0)]
    assert {path: path.stat().st_mtime_ns for path in run.cached_files()} == before  # the same weights, nothing again
    weights = [load_file(each / "fold_0" / "model.safetensors") for each in (copied, cascade)]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[1])
    unetpp.clean(copied, progress=False)
    assert not run.cache.exists() and run.first_stage(0).started_folds() == [0, 1]


def test_what_is_missing_or_of_another_run_is_told(copied: Path) -> None:
    run = RunFolder(copied)
    file = run.first_stage(0).fold(0) / "model.safetensors"
    network, header = load_model(file)
    for name, changed in (("classes", ["background", "a", "b"]), ("channels", ["PET"])):
        plan = header.plan.changed({f"data.{name}": changed})
        save_model(file, network.state_dict(), plan, header.notes)
        with pytest.raises(ModelFileError, match=rf"data\.{name}.*second stage"):
            unetpp.load(copied, device="cpu")
    file.unlink()
    with pytest.raises(ModelFileError, match="1 of 2 networks of the first"):
        unetpp.load(run.fold(0) / "model.safetensors", device="cpu")


def test_a_first_stage_is_not_trained_by_itself_nor_planned_again(cascade: Path) -> None:
    data = cascade.parent / "data"
    with pytest.raises(UsageError, match="the first stage of a cascade, whose cases are those of one fold"):
        unetpp.train(data, RunFolder(cascade).first_stage(0).path, resume=True, minutes="+1", progress=False)
    with pytest.raises(UsageError, match=r"resolution: got full, .*expected the same\. Choose another"):
        unetpp.train(data, cascade, resume=True, resolution="full", progress=False)


def test_what_comes_after_a_first_stage_is_said_of_its_cascade(copied: Path) -> None:
    first = RunFolder(copied).first_stage(0)
    assert unetpp.report(first.path, progress=False).command == write_command("report", copied)
    assert unetpp.info(first.path, progress=False).command == write_command("report", copied)
    page = (first.path / "report.html").read_text(encoding="utf-8")
    assert write_command("report", copied.name) in page and "--out first_stage" not in page
    with pytest.raises(UsageError, match=f"the first stage of a cascade; .* Name {copied}"):
        open_runs([first.path])
    for fold in first.folds():
        (first.fold(fold) / "model.safetensors").unlink()
    assert unetpp.info(first.path, progress=False).command == RunFolder(copied).write_resume(0)


def test_plans_of_both_stages_agree(copied: Path, cascade: Path) -> None:
    run, data = RunFolder(copied), cascade.parent / "data"
    with pytest.raises(UsageError, match="made for cascade"):
        train(data, copied, resume=True, resolution="low")
    shutil.rmtree(run.fold(0))
    plan = read_plan(run.first_plan).changed({"data.channels": ["PET"]})
    run.first_plan.write_text(plan.to_json())
    with pytest.raises(UsageError, match=r"data\.channels"):
        train(data, copied)


def test_verbs_of_single_networks_refuse_a_cascade(cascade: Path, tmp_path: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: unetpp.export(cascade, tmp_path / "a.onnx", progress=False),
        lambda: unetpp.prune(cascade, tmp_path / "a.safetensors", depth=1, progress=False),
        lambda: unetpp.adapt(cascade, progress=False),
        lambda: train(cascade.parent / "data", tmp_path / "run", from_=cascade),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="each stage is a network"):
            call()
    assert not list(tmp_path.glob("*"))


def test_a_selection_takes_the_first_stage_along(cascade: Path, tmp_path: Path) -> None:
    (compared,) = open_runs([cascade])
    number = compared.sizes.numbers[-1]
    chosen = Selection(members=(Member(run=compared.name, size=number, name="all"),))
    write_folder(chosen, [compared], tmp_path / "selected")
    image = next((cascade.parent / "data" / "images").iterdir())
    found = unetpp.load(tmp_path / "selected", device="cpu").predict(image)
    assert np.array_equal(found, unetpp.load(cascade, device="cpu").predict(image))


def test_the_time_of_a_cascade_is_that_of_both_stages(cascade: Path) -> None:
    (compared,) = open_runs([cascade])
    size, device = compared.sizes.numbers[-1], torch.device("cpu")
    cases = [case for case in find_cases(cascade.parent / "data").cases if case.id in compared.validated]
    key = Key(((0, size),), False)
    scored = score_candidates([compared], [key], cases, FoldPredictors([compared], device), lambda done, total: None)
    (tiles,) = scored.tiles
    first = read_plan(RunFolder(cascade).first_plan)
    image = unetpp.load(RunFolder(cascade).first_stage(0).path, device="cpu")
    source = open_case_image(cases[0], first.data)
    shape = image.stream_source(source, "image", [image.sizes.numbers[-1]])[0].shape[1:]
    assert tiles.first == len(TileGrid(shape, first.predict.tile, first.predict.overlap)) > 0
    time_runs([compared], device, SILENCE)
    compared.latencies[size] = 10.0
    both = compute_ms(key, [compared], scored.tiles)
    assert both == pytest.approx(10 * tiles.own + compared.first_latency * tiles.first)
    assert compute_ms(Key(key.members, True), [compared], scored.tiles) == pytest.approx(both + 70 * tiles.own)


def test_a_dry_run_tells_of_both_stages_and_writes_nothing(cascade: Path, tmp_path: Path) -> None:
    def plan(resolution: Any, dry_run: bool) -> Any:
        data, out = cascade.parent / "data", tmp_path / resolution
        options: dict[str, Any] = {"epochs": 1, "device": "cpu", "set": SETTINGS, "progress": False}
        return unetpp.plan(data, out, resolution=resolution, dry_run=dry_run, **options)

    planned, low = plan("cascade", True), plan("low", False)
    assert "two networks at" in planned.to_text() and not (tmp_path / "cascade").exists()
    assert (
        " at low resolution, " + " x ".join(f"{mm:.3g}" for mm in low.plan.data.spacing_mm) + " mm; " in low.to_text()
    )
    assert "low resolution" not in planned.summarize()
    assert low.plan.data.resolution == "low" and not RunFolder(tmp_path / "low").first_plan.exists()
    assert "3D at low resolution, chosen" in low.page.read_text() if low.page else False


FAR = {
    "model.topology": "unet",
    "model.depth": 2,
    "model.widths": [8, 16, 16],
    "model.shells": [1.0],
    "model.strides": [[2, 2, 2], [2, 2, 2]],
    "model.kernel_sizes": [[3, 3, 3]] * 3,
    "train.patch": [16, 16, 16],
    "train.batch": 4,
    "train.steps_per_epoch": 25,
    "train.foreground_fraction": 0.5,
    "train.validations": 2,
    "train.validation_cases": 4,
    "train.patience": 100,
    "predict.tile": [16, 16, 16],
    "predict.overlap": 0.0,
    "predict.depth": 2,
}


def write_far_context(folder: Path, cases: int, size: int = 48) -> None:
    """Write volumes with two like balls in the middle; the darker end, that no patch shows too, tells which."""
    rng = np.random.default_rng(0)
    for number in range(cases):
        image = rng.normal(0.0, 0.1, (size, size, size)).astype(np.float32)
        label = np.zeros(image.shape, np.uint8)
        is_low = bool(rng.integers(2))
        image[:5], image[-5:] = (-2.0, -1.0) if is_low else (-1.0, -2.0)
        places = np.indices(image.shape)
        for z in (19, 29):
            y, x = rng.integers(14, size - 14, 2)
            ball = sum((each - at) ** 2 for each, at in zip(places, (z, y, x), strict=True)) <= 4**2
            image[ball] += 1.0
            label[ball] = 1 if (z == 19) == is_low else 2
        for name, array in (("images", image), ("labels", label)):
            path = folder / name / f"case_{number:02d}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4)), path)  # type: ignore[no-untyped-call]


@pytest.mark.slow
def test_a_cascade_tells_what_only_far_context_tells(tmp_path: Path) -> None:
    write_far_context(tmp_path / "data", cases=20)
    dice = {}
    for resolution in ("full", "cascade"):
        run = unetpp.train(
            tmp_path / "data",
            tmp_path / resolution,
            epochs=20,
            resolution=resolution,
            device="cpu",
            set=FAR,
            progress=False,
        )
        dice[resolution] = run.folds[0].metrics.mean.dice
    assert dice["cascade"] > dice["full"] + 0.2, dice
