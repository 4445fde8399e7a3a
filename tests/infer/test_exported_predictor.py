"""An exported file predicts what its model predicts, without torch."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from tests.plans import small_plan
from tests.tiny import run_cli
from torch import Tensor

import unetpp
from unetpp import scratch
from unetpp.data.arrays import open_array, open_array_or_file
from unetpp.data.preprocess import prepare_image
from unetpp.deploy.export import export_file
from unetpp.errors import ModelFileError, UsageError
from unetpp.infer.exported_predictor import ExportedPredictor, load_exported
from unetpp.infer.options import PredictOptions
from unetpp.infer.predictor import load_predictor
from unetpp.infer.sliding import stream_bands
from unetpp.measured import Calibration, DepthRow
from unetpp.model.build import build_from_plan
from unetpp.model.file import save_model
from unetpp.model_notes import ExportNotes, Notes, Training, Verdict
from unetpp.plan import PredictPlan
from unetpp.runtime.exported_file import parse_description, read_description

PACKAGES = {".onnx": ("onnxscript", "onnxruntime"), ".xml": ("onnxscript", "openvino")}
EXPORTS: dict[str, dict[str, bytes]] = {}
"""Files of earlier tests, by what they are made of: an export takes seconds."""
NO_TORCH = """
import sys
sys.modules |= dict.fromkeys(("torch", "monai", "timm", "matplotlib"))
from unetpp.cli import run
sys.exit(run(sys.argv[1:]))
"""


def exported(
    folder: Path, suffix: str = ".onnx", settings: dict[str, Any] | None = None, depth: str | None = None, **fields: Any
) -> tuple[Path, Path]:
    """A model file and what was exported of it."""
    for package in PACKAGES[suffix]:
        pytest.importorskip(package)
    torch.manual_seed(0)
    plan = small_plan(patch=24, settings={"data.normalization": [{"per_case": True}]} | (settings or {}), **fields)
    model, file, key = folder / "model.safetensors", folder / f"model{suffix}", f"{suffix} {depth} {plan.to_json()}"
    line = Calibration(review_below=0.4, expected_dice_slope=0.5, expected_dice_offset=0.25)
    notes = Notes(depths={depth: DepthRow(dice=0.5, **line.to_dict()) for depth in range(1, plan.model.depth + 1)})
    save_model(model, build_from_plan(plan.model).state_dict(), plan, notes)
    if key not in EXPORTS:
        export_file(model, file, depth)
        EXPORTS[key] = {end: file.with_suffix(end).read_bytes() for end in (suffix, ".bin")[: 1 + (suffix == ".xml")]}
    for end, content in EXPORTS[key].items():
        file.with_suffix(end).write_bytes(content)
    return model, file


@pytest.mark.parametrize("suffix", PACKAGES)
@pytest.mark.parametrize(
    ("shape", "fields"), [((61, 83), {}), ((61, 83), {"classes": 4}), ((17, 90), {}), ((30, 27, 41), {"dims": 3})]
)
def test_an_exported_file_segments_as_its_model(
    suffix: str, shape: tuple[int, ...], fields: dict[str, Any], tmp_path: Path
) -> None:
    model, file = exported(tmp_path, suffix, **fields)
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = load_predictor(model, "cpu", "torch").predict(image)
    tiles: list[tuple[int, int]] = []
    found = load_exported(file).predict(image, progress=lambda done, total: tiles.append((done, total)))
    assert found.dtype == expected.dtype
    assert (found == expected).mean() > (
        0.995 if suffix == ".onnx" else 0.97
    )  # OpenVINO takes bfloat16 where there is some; these weights are random
    assert tiles[-1][0] == tiles[-1][1] == len(tiles)


@pytest.mark.parametrize(
    "fields", [{}, {"data.resampling": "cubic", "data.normalization": [{"nonzero": True}]}], ids=["linear", "thick"]
)
def test_a_volume_of_another_grid_is_restored_as_by_its_model(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, file = exported(tmp_path, settings={"data.spacing_mm": [2.0, 1.5, 1.0]} | fields, dims=3, classes=3)
    array = np.random.default_rng(0).standard_normal((40, 31, 26)).astype(np.float32)
    array[:9], array[:, :, -5:] = 0, 0
    nibabel.save(nibabel.Nifti1Image(array, np.diag([0.8, 0.9, 3.0, 1.0])), tmp_path / "volume.nii.gz")
    expected, found = (
        predictor.predict(tmp_path / "volume.nii.gz")
        for predictor in (load_predictor(model, "cpu", "torch"), unetpp.load(file))
    )
    assert found.shape == expected.shape == (26, 31, 40)
    assert (found == expected).mean() > 0.995
    monkeypatch.setattr(scratch, "LARGE", 10)
    np.testing.assert_array_equal(unetpp.load(file).predict(tmp_path / "volume.nii.gz"), found)  # on disk


@pytest.mark.parametrize(("shape", "tile"), [((41, 37), (16, 16)), ((9, 50), (16, 24)), ((21, 18, 19), (8, 16, 12))])
def test_tiles_are_added_up_as_with_torch(shape: tuple[int, ...], tile: tuple[int, ...]) -> None:
    plan = small_plan(dims=len(shape), patch=16, classes=3)
    image = prepare_image(
        open_array(np.random.default_rng(0).standard_normal(shape).astype(np.float32), plan.data), plan.data
    )

    def logits(tiles: Tensor, **_: Any) -> Tensor:
        """Of a network to which the place of a voxel within its tile matters, too."""
        ramp = torch.linspace(-2, 2, tiles.shape[-1])
        return torch.cat([tiles, tiles * ramp, ramp - tiles], dim=1)

    about = plan.data.model_dump() | {"tile": tile, "overlap": 0.4, "depth": 1}
    predictor = ExportedPredictor(lambda tiles, _: [logits(torch.from_numpy(tiles)).softmax(1).numpy()], about, "", "")
    found = np.concatenate(list(predictor._stream_bands(image, (1,), False, "image", None)), axis=2)[0]
    chosen = PredictPlan(tile=tile, overlap=0.4, batch=2, depth=1)
    bands = stream_bands([logits], image, chosen, (1,), torch.device("cpu"))
    expected = torch.cat([band.probabilities[0].clone() for band in bands], dim=1)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_files_are_predicted_without_torch(tmp_path: Path) -> None:
    model, file = exported(tmp_path, settings={"data.label_values": [0, 255]})
    (tmp_path / "images").mkdir()
    for name, shape in {"a": (40, 37), "b": (90, 60)}.items():
        Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)).save(
            tmp_path / "images" / f"{name}.png"
        )
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    command = [
        sys.executable,
        "-c",
        NO_TORCH,
        "predict",
        str(file),
        str(tmp_path / "images"),
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert [Path(entry).name for entry in json.loads(done.stdout)["files"]] == ["a.png", "b.png"]
    for name in ("a", "b"):
        expected = 255 * load_predictor(model, "cpu", "torch").predict(tmp_path / "images" / f"{name}.png")
        assert (np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) == expected).mean() > 0.995
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (record["backend"], record["label_values"]) == ("onnxruntime", [0, 255])


def test_what_an_exported_file_does_not_give_is_refused(tmp_path: Path) -> None:
    _, file = exported(tmp_path)
    Image.new("L", (30, 30)).save(tmp_path / "image.png")
    for wishes, error in {
        ("--depth", "1"): "expected 2, the depth in the file",
        ("--depth", "auto"): "expected 2, the depth in the file",
        ("--uncertainty", "disagreement"): "--uncertainty: got disagreement of an exported file",
        ("--device", "cuda"): "--device: got cuda",
        ("--backend", "openvino"): "expected onnxruntime, which runs it",
    }.items():
        answer = run_cli("predict", file, tmp_path / "image.png", "--out", tmp_path / "out", *wishes)
        assert answer.code == 2
        assert error in " ".join(answer.stderr.split())
    assert not (tmp_path / "out").exists()
    answer = run_cli("predict", file, tmp_path / "image.png", "--out", tmp_path / "out", "--dry-run")
    assert answer.code == 0
    assert "at depth 2" in answer.stdout


@pytest.mark.parametrize("suffix", PACKAGES)
def test_threads_may_share_one(suffix: str, tmp_path: Path) -> None:
    _, file = exported(tmp_path, suffix)
    alone, shared = unetpp.load(file), unetpp.load(file)
    images = [np.random.default_rng(0).standard_normal((20 + number, 30)).astype(np.float32) for number in range(6)]
    expected = [alone.predict(image) for image in images]
    with ThreadPoolExecutor(len(images)) as pool:
        for found, once in zip(pool.map(shared.predict, images), expected, strict=True):
            np.testing.assert_array_equal(found, once)


@pytest.mark.parametrize("suffix", PACKAGES)
@pytest.mark.parametrize("spacing", [None, [1.0, 0.7]])
def test_depths_maps_and_copies_are_those_of_the_model(
    suffix: str, spacing: list[float] | None, tmp_path: Path
) -> None:
    settings = {"data.spacing_mm": spacing, "predict.depth": 1}
    model, file = exported(tmp_path, suffix, settings, depth="all", classes=3)
    mine, theirs = load_exported(file), load_predictor(model, "cpu", "torch")
    assert mine.depths == theirs.depths
    image = np.random.default_rng(0).standard_normal((41, 37)).astype(np.float32)
    grid = None if spacing is None else [1.3, 1.0]
    source, _ = open_array_or_file(image, mine.data, grid)
    for options in (
        PredictOptions(),
        PredictOptions(depth=2),
        PredictOptions(depth="mean", tta=True),
        PredictOptions(depth="all and mean", probabilities=True, uncertainty="entropy"),
    ):
        found, expected = (each.predict_source(source, options=options) for each in (mine, theirs))
        assert list(found) == list(expected)
        for depth, prediction in found.items():
            close = {"rtol": 0, "atol": 1e-4 if suffix == ".onnx" else 0.1}  # bfloat16
            assert (prediction.segmentation == expected[depth].segmentation).mean() > 0.97
            assert prediction.confidence == pytest.approx(expected[depth].confidence, abs=close["atol"])
            for name in ("probabilities", "uncertainty"):
                one, other = getattr(prediction, name), getattr(expected[depth], name)
                assert (one is None) == (other is None)
                if one is not None:
                    np.testing.assert_allclose(one, other, **close)


def test_what_is_said_of_a_prediction_is_what_is_said_with_torch(tmp_path: Path) -> None:
    model, file = exported(tmp_path, depth="all")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 255, (40, 37), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    texts, cases = [], []
    for name in (model, file):
        out = tmp_path / f"out{name.suffix}"
        answer = run_cli("predict", name, tmp_path / "a.png", tmp_path / "b.png", "--out", out, "--probabilities")
        assert answer.code == 0, answer.stderr
        texts.append(re.sub(r" in [\d.]+ s", "", answer.stdout.replace(str(out), "OUT")))
        cases.append(json.loads((out / "predictions.json").read_text())["cases"])
        assert len(list((out / "probabilities").iterdir())) == 2
    assert texts[0] == texts[1]
    for case, found in cases[1].items():
        for name, value in found.items():
            other = cases[0][case][name]
            assert value == (pytest.approx(other, abs=1e-4) if isinstance(value, float) else other), name


def test_what_is_said_of_the_training_is_what_the_model_says(tmp_path: Path) -> None:
    for package in PACKAGES[".onnx"]:
        pytest.importorskip(package)
    plan, model = small_plan(patch=24), tmp_path / "model.safetensors"
    verdict = Verdict(kind="too short", reason="Too short to have learned.", advice="Train longer.", learned=False)
    training = Training(reason="finished", steps=1, best_dice=0.1, best_step=1, seconds=1.0, data_wait=0.0)
    notes = Notes(verdict=verdict, training=training, fold=3, depths={2: DepthRow(dice=0.1)})
    save_model(model, build_from_plan(plan.model).state_dict(), plan, notes)
    done = export_file(model, tmp_path / "model.onnx")
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(tmp_path / "a.png")
    said = [unetpp.predict(name, tmp_path / "a.png", tmp_path / "out").notes for name in (model, done.out)]
    text = "the model has hardly learned: look at the results; verdict on the training of the model: "
    (note,) = said[0]
    assert note == said[1][0] == f"{text}too short to have learned. Train longer."
    assert f"note: {note}" in str(done) and note in unetpp.evaluate(tmp_path / "out", tmp_path / "out").notes
    text = str(unetpp.info(done.out))
    assert "Too short to have learned. Train longer." in text and "the network has hardly learned" in text
    assert "- Training: Too short to have learned." in done.card.read_text()
    about = read_description(done.out)
    found = parse_description(
        {key: value for key, value in about.items() if key not in ExportNotes.model_fields}, "old"
    )
    assert found.notes.verdict is None  # a file of an earlier version


def test_it_takes_the_arguments_of_a_predictor_and_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    _, file = exported(tmp_path)
    predictor, image = unetpp.load(file), np.zeros((30, 30), np.float32)
    np.testing.assert_array_equal(predictor.predict(image, depth=2, tta=False), predictor.predict(image))
    for depth in (1, "auto"):
        with pytest.raises(UsageError, match=r"depth: got .*expected .*name the model"):
            predictor.predict(image, depth=depth)
    for option in dataclasses.fields(PredictOptions):  # a new one is refused until an exported file can do it
        if option.name not in ("depth", "size", "tta", "probabilities", "uncertainty"):
            with pytest.raises(UsageError, match=f"{option.name}: got an exported file"):
                predictor.choose_sizes(PredictOptions(**{option.name: True}))


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_a_description_is_read_without_a_runtime(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tmp_path / "model.safetensors"
    if suffix == ".pt2":
        plan = small_plan(patch=24)
        save_model(model, build_from_plan(plan.model).state_dict(), plan, Notes(depths={2: DepthRow(dice=0.5)}))
        file = export_file(model, tmp_path / "model.pt2").out
    else:
        _, file = exported(tmp_path, suffix)
    code = "import sys\nsys.modules |= dict.fromkeys(('torch', 'onnx', 'onnxruntime', 'openvino'))\n"
    code += "from unetpp.cli import run\nsys.exit(run(['info', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for text in (
        "exported:   depth 2, 2D",
        "0 = background, 1 = class 1",
        "trained on: small",
        "0.5000",
        "tile [24, 24]",
    ):
        assert text in done.stdout
    found = unetpp.info(file)
    assert isinstance(found, unetpp.ExportInfo)
    assert found.to_dict()["notes"]["depths"]["2"]["dice"] == 0.5
    for option in ({"measure": True}, {"machine": "1,2"}):
        with pytest.raises(UsageError, match=r"an exported file; expected a model file"):
            unetpp.info(file, **option)
    whole = file.read_bytes()
    for content in (b"", b"x", whole[: len(whole) // 2], whole[::-1], b"\x72\xff\xff\xff\xff\xff\xff\xff\x7f"):
        file.write_bytes(content)
        with pytest.raises(ModelFileError):
            unetpp.info(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(
        ModelFileError, match=r"model\.onnx: got a file whose description cannot be read \(it is no ONNX file\)"
    ):
        load_exported(tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match="got no such file"):
        load_exported(tmp_path / "absent.onnx")
    with pytest.raises(ModelFileError, match="a file without a description"):
        ExportedPredictor(lambda image, _: [image], {"tile": [8, 8]}, "other.onnx", "onnxruntime")
    with pytest.raises(UsageError, match="device: got cuda"):
        load_exported(tmp_path / "model.onnx", "cuda")


def test_onnx_runtime_reports_nothing() -> None:
    """It reads the variable when it is imported."""
    code = (
        "import os, sys\n"
        "from unetpp.errors import ModelFileError\n"
        "from unetpp.runtime.exported_file import open_exported\n"
        "from pathlib import Path\n"
        "path = Path(sys.argv[1])\n"
        "try:\n    open_exported(path)\nexcept ModelFileError:\n    pass\n"
        "print('onnxruntime' in sys.modules, os.environ.get('ORT_DISABLE_TELEMETRY'))"
    )
    pytest.importorskip("onnxruntime")
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        answer = subprocess.run([sys.executable, "-c", code, file.name], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["True", "1"]


def test_a_volume_of_another_order_of_axes_is_turned_as_by_its_model(tmp_path: Path) -> None:
    spacing = {"data.orientation": "RAS", "data.spacing_mm": [1.0, 1.2, 0.8]}
    for settings in ({"data.orientation": "RAS"}, spacing):
        model, file = exported(tmp_path, settings=settings, dims=3)
        array = np.random.default_rng(0).standard_normal((27, 24, 30)).astype(np.float32)
        image = nibabel.Nifti1Image(array, np.array([[0, 0, -1.0, 0], [1.2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
        nibabel.save(image, tmp_path / "scan.nii.gz")
        expected = load_predictor(model, "cpu", "torch").predict(tmp_path / "scan.nii.gz")
        found = load_exported(file).predict(tmp_path / "scan.nii.gz")
        assert found.shape == expected.shape == (30, 24, 27)
        assert (found == expected).mean() > 0.995
        nibabel.save(nibabel.as_closest_canonical(image), tmp_path / "ras.nii.gz")
        canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(found.T, image.affine))
        ras = load_exported(file).predict(tmp_path / "ras.nii.gz")
        assert (ras == np.asarray(canonical.dataobj).T).mean() > 0.995
