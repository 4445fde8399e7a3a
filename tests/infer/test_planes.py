"""A 2D network predicts volumes plane by plane."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from tests.plans import small_plan
from tests.tiny import TINY, run_cli
from torch import nn

import unetpp
from unetpp.deploy.export import export_file
from unetpp.formats import stem_of
from unetpp.formats.planes import PlaneSource
from unetpp.formats.readers import open_image, read_image
from unetpp.formats.sources import ArraySource
from unetpp.infer.exported_predictor import load_exported
from unetpp.infer.options import PredictOptions
from unetpp.infer.planes import predict_any
from unetpp.infer.prediction import Prediction
from unetpp.infer.predictor import Predictor
from unetpp.layouts.dataset import Case
from unetpp.model.build import build_from_plan
from unetpp.model.file import save_model
from unetpp.volume import Geometry

RNG = np.random.default_rng(0)
EVERYTHING = PredictOptions("all", probabilities=True, uncertainty="entropy")


def predictor(classes: int = 2) -> Predictor:
    torch.manual_seed(0)
    plan = small_plan(classes=classes)
    return Predictor([build_from_plan(plan.model)], plan)


def test_stacked_planes_are_the_volume() -> None:
    model = predictor(classes=3)
    source = ArraySource(RNG.normal(size=(1, 4, 20, 23)).astype(np.float32), Geometry(".tif"))
    seen: list[tuple[int, int]] = []
    volumes = predict_any(
        model.predict_source, 2, source, "a", EVERYTHING, lambda done, total: seen.append((done, total))
    )
    planes = [model.predict_source(PlaneSource(source, plane), options=EVERYTHING) for plane in range(4)]
    assert sorted(volumes) == list(model.depths)
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    for depth, volume in volumes.items():
        assert volume.probabilities is not None
        assert volume.uncertainty is not None
        for plane, found in enumerate(planes):
            assert np.array_equal(volume.segmentation[plane], found[depth].segmentation)
            assert np.array_equal(volume.probabilities[:, plane], found[depth].probabilities)
            assert np.array_equal(volume.uncertainty[plane], found[depth].uncertainty)


def test_the_expected_dice_is_that_of_the_whole_volume() -> None:
    model = predictor()
    source = ArraySource(RNG.normal(size=(1, 3, 20, 20)).astype(np.float32), Geometry(".tif"))
    (volume,) = predict_any(model.predict_source, 2, source, "a", PredictOptions(probabilities=True), None).values()
    assert volume.probabilities is not None
    inside = volume.segmentation == 1
    second = volume.probabilities[1].astype(np.float64)
    assert volume.confidence == pytest.approx(2 * second[inside].sum() / (inside.sum() + second.sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("blank", "said"), [(1, ()), (4, ("4 of 20 planes: intensities: 0.0",)), (0, ("no voxel size",))]
)
def test_how_planes_are_unlike_the_training_is_said_once(blank: int, said: tuple[str, ...]) -> None:
    source = ArraySource(np.zeros((1, 20, 5, 6), np.uint8), Geometry(".tif"))
    left = iter(range(20))

    def predict(*_: object) -> dict[int, Prediction]:
        plane = next(left)
        ways = () if plane >= blank else (f"intensities: {plane / 10}",)
        return {
            1: Prediction(1, np.zeros((5, 6), np.uint8), Geometry(), outside=ways or ("no voxel size",) * (not blank))
        }

    assert predict_any(predict, 2, source, "a", PredictOptions(), None)[1].outside == said


class _BrightSide(nn.Module):
    """Marks what is bright and lies in the first half of the columns: it tells right from left."""

    head_depths = (1, 2)

    def forward(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        ramp = torch.linspace(1, -1, x.shape[-1], device=x.device).expand_as(x)
        inside = torch.where((x > 0) & (ramp > 0), 1.0, -1.0)
        return torch.cat([-inside, inside], dim=1)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PLI", "ARS"])
def test_right_stays_right_however_the_slices_are_stored(tmp_path: Path, codes: str) -> None:
    model = Predictor([_BrightSide()], small_plan())  # type: ignore[list-item]
    array = RNG.normal(size=(14, 16, 3)).astype(np.float32)
    whole = nibabel.Nifti1Image(array, np.diag([2, 2, 3, 1.0]))
    target = nibabel.orientations.axcodes2ornt(codes)
    stored = whole.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(whole.affine), target))
    results = []
    for name, image in (("whole", whole), ("stored", stored)):
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
        written = model.predict_files([tmp_path / f"{name}.nii.gz"], tmp_path / "out")
        found = nibabel.load(written.files[0])
        assert np.allclose(found.affine, image.affine)
        results.append(np.asarray(nibabel.as_closest_canonical(found).dataobj))
    assert results[0].any()
    assert np.array_equal(*results)


@pytest.mark.parametrize("name", ["slice.nii.gz", "stack.tif"])
def test_files_are_written_on_their_own_grid(tmp_path: Path, name: str) -> None:
    path, out = tmp_path / name, tmp_path / "out"
    array = RNG.integers(0, 255, (1 if name == "slice.nii.gz" else 5, 20, 24), dtype=np.uint8)
    if name == "stack.tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        nibabel.save(nibabel.Nifti1Image(array.T, np.diag([-2, 2, 5, 1.0])), path)
    model = predictor()
    written = model.predict_files([path], out, PredictOptions(probabilities=True, uncertainty="entropy"))
    assert written.notes == (f"{stem_of(path)}: a volume, predicted plane by plane by a 2D network",)
    found, image = read_image(out / name), read_image(path)
    assert found.shape == image.shape
    assert found.geometry.matches(image.geometry)
    assert len(list((out / "probabilities").iterdir())) == len(list((out / "uncertainty").iterdir())) == 1
    assert np.array_equal(model.predict(path), model.predict_case(Case("a", (path,)))[2].segmentation)


def test_an_exported_network_predicts_volumes_too(tmp_path: Path) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    torch.manual_seed(0)
    plan = small_plan()
    save_model(tmp_path / "model.safetensors", build_from_plan(plan.model).state_dict(), plan)
    tifffile.imwrite(
        tmp_path / "stack.tif", RNG.integers(0, 255, (3, 20, 24), dtype=np.uint8), photometric="minisblack"
    )
    # its planes serve to compare the file with the network
    file = export_file(tmp_path / "model.safetensors", tmp_path / "model.onnx", images=[tmp_path / "stack.tif"]).out
    (found,) = load_exported(file).predict_case(Case("stack", (tmp_path / "stack.tif",))).values()
    expected = predictor().predict(tmp_path / "stack.tif")
    assert found.segmentation.shape == (3, 20, 24)
    assert (found.segmentation == expected).mean() > 0.99


def write_stack(root: Path, shape: tuple[int, ...]) -> Path:
    """Bright discs with their masks."""
    center = RNG.uniform(0, 1, (30, len(shape))) * shape
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    label = np.zeros(shape, bool)
    for point in center:
        label |= ((places - point) ** 2).sum(axis=-1) < 36
    image = (label * 120 + RNG.normal(80, 10, shape)).clip(0, 255).astype(np.uint8)
    for folder, array in (("images", image), ("masks", label.astype(np.uint8) * 255)):
        (root / folder).mkdir(parents=True)
        tifffile.imwrite(root / folder / "a.tif", array, photometric="minisblack")
    return root


@pytest.mark.parametrize(("shape", "settings", "cases"), [((16, 64, 64), {"data.dims": 2}, 16), ((600, 400), {}, 3)])
def test_one_file_trains_and_is_predicted_whole(
    tmp_path: Path, shape: tuple[int, ...], settings: dict[str, int], cases: int
) -> None:
    data, run, out = write_stack(tmp_path / "data", shape), tmp_path / "run", tmp_path / "out"
    assert unetpp.check(data, set=settings).cases == cases
    unetpp.plan(data, run, epochs=1, device="cpu", set=TINY | settings | {"train.steps_per_epoch": 30})
    trained = unetpp.train(data, run, device="cpu")  # the plan says what the cases are
    scored = {case.id for case in trained.folds[0].metrics.cases}
    assert scored <= {f"a_z{plane:03}" for plane in range(16)} | {f"a_part{number}" for number in range(1, 4)}
    answer = run_cli("predict", run, data / "images", "--out", out)
    assert answer.code == 0, answer.stderr
    assert read_image(out / "a.tif").shape == shape
    assert unetpp.evaluate(out, data / "masks").metrics.mean.dice is not None


def test_sources_of_the_same_axes_are_predicted_as_before(tmp_path: Path) -> None:
    model = predictor()
    array = RNG.integers(0, 255, (20, 24), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    source = open_image(tmp_path / "a.tif")
    (found,) = predict_any(model.predict_source, 2, source, "a", PredictOptions(), None).values()
    assert np.array_equal(found.segmentation, model.predict(array))
