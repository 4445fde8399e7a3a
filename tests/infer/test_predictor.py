"""From arrays and files to segmentations on their own grid."""

import itertools
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.images import write_nifti
from tests.tiny import write_png
from torch import nn

from unetpp import scratch
from unetpp.data.arrays import open_array
from unetpp.errors import DataError, ModelFileError, UsageError
from unetpp.formats.readers import read_image, read_label
from unetpp.formats.writers import write_segmentation
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import MEAN
from unetpp.infer.predictor import Predictor, average_depths, load_predictor
from unetpp.layouts.cases import Case
from unetpp.measured import Calibration, DepthRow
from unetpp.model.build import build_from_plan, model_plan
from unetpp.model.file import save_model
from unetpp.model_notes import Notes, Rule, Training, Verdict, explain_no_expected_dice
from unetpp.plan import DataPlan, Normalization, Plan, PredictPlan, TrainingRange, TrainPlan
from unetpp.results import Predicted
from unetpp.run_folder import find_model_files
from unetpp.volume import Geometry

RNG = np.random.default_rng(0)
PROBABLE = PredictOptions(probabilities=True)
COLOUR = ("red", "green", "blue")


def make_plan(
    dims: int = 2,
    channels: tuple[str, ...] = ("image",),
    label_values: tuple[int, ...] = (0, 255),
    norm: str = "instance",
    **data: Any,
) -> Plan:
    classes = ("background", *(f"class {value}" for value in label_values[1:]))
    tile = (16,) * dims
    return Plan(
        name="test",
        data=DataPlan(
            dims=dims,
            channels=channels,
            classes=classes,
            label_values=label_values,
            normalization=(Normalization(),) * len(channels),
            **data,
        ),
        model=model_plan(
            topology="unet++",
            dims=dims,
            in_channels=len(channels),
            out_channels=len(classes),
            depth=2,
            first_width=4,
            norm=norm,
        ),
        train=TrainPlan(patch=tile, batch=1, steps_per_epoch=1, epochs=1),
        predict=PredictPlan(tile=tile, batch=2, depth=2),
    )


def predictor(plan: Plan, folds: int = 1) -> Predictor:
    torch.manual_seed(0)
    return Predictor([build_from_plan(plan.model) for _ in range(folds)], plan)


class Threshold(nn.Module):
    """Marks the voxels above the mean of the image: what a segmentation should be is known."""

    head_depths = (1, 2)

    def forward(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        return torch.cat([-x, x], dim=1)


def thresholding(plan: Plan) -> Predictor:
    return Predictor([Threshold()], plan)  # type: ignore[list-item]


@pytest.mark.parametrize("shape", [(20, 33), (1, 1), (5, 40)])
def test_a_segmentation_lies_on_the_images_grid(shape: tuple[int, int]) -> None:
    image = RNG.integers(0, 255, size=shape).astype(np.uint8)
    found = thresholding(make_plan()).predict(image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, image > image.mean())


def test_channels_may_come_first_or_last() -> None:
    image = RNG.integers(0, 255, size=(20, 24, 3)).astype(np.uint8)
    whole = predictor(make_plan(channels=COLOUR))
    last = whole.predict(image)
    assert last.shape == (20, 24)
    np.testing.assert_array_equal(last, whole.predict(np.moveaxis(image, -1, 0)))
    with_alpha = np.concatenate([image, np.full((20, 24, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(last, whole.predict(with_alpha))


def test_volumes_of_one_channel_need_no_channel_axis() -> None:
    volume = RNG.normal(size=(9, 20, 17)).astype(np.float32)
    whole = predictor(make_plan(dims=3))
    np.testing.assert_array_equal(whole.predict(volume), whole.predict(volume[None]))


@pytest.mark.parametrize(
    "image", [np.zeros(5), np.zeros((2, 2, 2, 2)), np.zeros((0, 4)), np.zeros((4, 4), dtype=complex)]
)
def test_an_array_that_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"image: got an array .* expected"):
        open_array(image, make_plan().data)


def test_spacing_needs_a_number_for_each_axis() -> None:
    with pytest.raises(UsageError, match="spacing_mm"):
        predictor(make_plan()).predict(np.zeros((4, 4)), spacing_mm=(1.0,))


def test_another_number_of_channels_is_a_problem_with_the_data() -> None:
    with pytest.raises(DataError, match=r'shape \(2, 8, 9\).*expected 3 channels \(red.*`axes="BYX"` for 2 images\.$'):
        predictor(make_plan(channels=COLOUR)).predict(np.zeros((2, 8, 9)))
    with pytest.raises(DataError, match=r"An image is \(2, Y, X\), several are \(B, 2, Y, X\)"):
        predictor(make_plan(channels=("a", "b"))).predict(np.zeros((3, 8, 9)))


@pytest.mark.parametrize("count", [3, 4])
def test_gray_images_in_one_array_are_not_taken_for_channels(count: int) -> None:
    images = RNG.integers(0, 255, size=(count, 20, 24)).astype(np.uint8)
    whole = predictor(make_plan())
    with pytest.raises(DataError, match=f'`axes="BYX"` for {count} images') as caught:
        whole(images)
    assert ('`axes="CYX"` for one image with 3 channels' in str(caught.value)) == (count == 3)
    assert len(whole(images, axes="BYX")) == count
    assert whole(images[:3], axes="CYX").shape == whole(np.moveaxis(images[:3], 0, -1)).shape == (20, 24)


def test_a_tensor_of_a_graph_is_an_image() -> None:
    image = torch.from_numpy(RNG.normal(size=(20, 24)).astype(np.float32)).requires_grad_()
    whole = predictor(make_plan())
    np.testing.assert_array_equal(whole(image), whole(image.detach().numpy()))


def test_axes_can_be_named() -> None:
    image = RNG.integers(0, 255, size=(20, 3, 24)).astype(np.uint8)
    whole = predictor(make_plan(channels=COLOUR))
    expected = whole.predict(np.moveaxis(image, 1, 0))
    np.testing.assert_array_equal(whole.predict(image, axes="YCX"), expected)
    np.testing.assert_array_equal(whole.predict(np.swapaxes(image, 0, 2), axes="XCY"), expected)
    assert whole.predict(image[:, 0], axes="XY").shape == (24, 20)
    with pytest.raises(UsageError, match=r"axes: got 'YXZ' .*the letters of 'CYX'"):
        whole.predict(image, axes="YXZ")


def test_channels_of_a_volume_may_come_last() -> None:
    volume = RNG.normal(size=(2, 9, 20, 17)).astype(np.float32)
    whole = predictor(make_plan(dims=3, channels=("a", "b")))
    np.testing.assert_array_equal(whole.predict(np.moveaxis(volume, 0, -1)), whole.predict(volume))


def test_several_images_give_a_list() -> None:
    images = RNG.integers(0, 255, size=(2, 20, 24, 3)).astype(np.uint8)
    whole = predictor(make_plan(channels=COLOUR))
    expected = [whole.predict(image) for image in images]
    tensor = torch.from_numpy(images).movedim(-1, 1)
    for several in (list(images), images, tensor, [Image.fromarray(image) for image in images]):
        np.testing.assert_array_equal(whole(several), expected)
    np.testing.assert_array_equal(whole.predict(np.moveaxis(images, 0, 2), axes="YXBC"), expected)
    np.testing.assert_array_equal(whole.predict(images[..., 0], axes="BYX")[1], whole.predict(images[1, ..., 0]))


def test_probabilities_and_every_depth_from_an_array() -> None:
    image = RNG.integers(0, 255, size=(20, 24)).astype(np.uint8)
    whole = predictor(make_plan())
    found = whole.predict(image, depth="all", probabilities=True)
    assert list(found) == [1, 2]
    assert found[1].probabilities is not None
    assert found[1].probabilities.shape == (2, 20, 24)
    np.testing.assert_array_equal(found[1].segmentation, whole(image, depth=1))
    np.testing.assert_array_equal(whole.predict(image, probabilities=True).segmentation, whole(image))


def test_a_predictor_introduces_itself() -> None:
    assert repr(predictor(make_plan())) == "Predictor: test, 2D, depths 1 to 2, cpu"


def test_all_depths_come_from_one_pass_and_equal_each_alone() -> None:
    image = RNG.normal(size=(20, 20))
    whole = predictor(make_plan(label_values=(0, 1, 2)))
    found = whole.predict(image, depth="all")
    assert list(found) == [1, 2]
    for depth in found:
        np.testing.assert_array_equal(found[depth], whole.predict(image, depth=depth))
    np.testing.assert_array_equal(found[2], whole.predict(image))
    assert (found[1] != found[2]).any()


def test_the_mean_of_all_heads_is_the_papers_accurate_mode() -> None:
    plan = make_plan(label_values=(0, 1, 2))
    model = predictor(plan)
    image = RNG.normal(size=(16, 16)).astype(np.float32)
    found = model.predict_source(open_array(image, plan.data), options=PredictOptions("mean", probabilities=True))
    normalised = torch.from_numpy((image - image.mean()) / image.std())[None, None]
    with torch.inference_mode():
        expected = model.network(normalised, heads=True).mean_probabilities()
    assert list(found) == [MEAN]
    np.testing.assert_allclose(found[MEAN].probabilities, expected[0], atol=1e-5)
    assert np.array_equal(model.predict(image, depth="mean"), found[MEAN].segmentation)
    both = model.predict_source(
        open_array(image, plan.data), options=PredictOptions("all and mean", probabilities=True)
    )
    assert list(both) == [1, 2, MEAN]
    np.testing.assert_array_equal(both[MEAN].probabilities, found[MEAN].probabilities)
    np.testing.assert_array_equal(both[1].segmentation, model.predict(image, depth=1))


@pytest.mark.parametrize("depth", [0, 3, "deep", "3", 1.5])
def test_a_depth_without_a_head_is_refused(depth: Any) -> None:
    with pytest.raises(UsageError, match=r"depth: got .*expected .all., .mean., .auto. or one of \[1, 2\]"):
        predictor(make_plan()).predict(np.zeros((4, 4)), depth=depth)


def test_a_network_on_another_grid_answers_on_the_images() -> None:
    z = np.arange(30)[:, None, None]
    volume = np.broadcast_to((z > 11) & (z < 22), (30, 9, 10)).astype(np.float32)
    whole = thresholding(make_plan(dims=3, spacing_mm=(2.0, 1.0, 1.0)))
    found = whole.predict(volume, spacing_mm=(1.0, 1.0, 1.0))
    assert found.shape == (30, 9, 10)
    assert np.count_nonzero(found != volume) <= 2 * 90  # the two faces, off by at most one voxel


def test_batch_norm_network_runs_with_channels_last() -> None:
    whole = predictor(make_plan(norm="batch"))
    weight = whole.network.nodes["x_0_1"].units[0].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert whole.predict(np.zeros((20, 20))).shape == (20, 20)


def test_bfloat16_is_close_to_float32() -> None:
    plan = make_plan()
    halved = plan.changed({"predict.precision": "bf16"})
    image = RNG.normal(size=(1, 20, 20))
    source = open_array(image, plan.data)
    exact, close = (
        predictor(each).predict_source(source, options=PROBABLE)[2].probabilities for each in (plan, halved)
    )
    assert exact is not None and close is not None
    assert close.dtype == np.float32
    np.testing.assert_allclose(close, exact, atol=0.05)


def write_image(path: Path, shape: tuple[int, ...] = (12, 15)) -> np.ndarray:
    image = RNG.integers(0, 255, size=shape).astype(np.uint8)
    write_segmentation(image, Geometry(suffix="".join(path.suffixes), spacing_mm=None), path)
    return image


@pytest.fixture
def run(tmp_path: Path) -> Path:
    plan = make_plan()
    for fold in range(2):
        torch.manual_seed(fold)
        save_model(
            tmp_path / "run" / f"fold_{fold}" / "model.safetensors", build_from_plan(plan.model).state_dict(), plan
        )
    return tmp_path / "run"


def test_a_run_folder_gives_all_its_folds_and_a_file_one(run: Path) -> None:
    image = RNG.normal(size=(20, 20))
    both, single = (
        load_predictor(run, "cpu", "torch"),
        load_predictor(run / "fold_1" / "model.safetensors", "cpu", "torch"),
    )
    assert [len(both.networks), len(single.networks)] == [2, 1]
    assert single.network is single.networks[0]
    assert not both.network.training
    pair = both.predict_source(open_array(image, both.plan.data), options=PROBABLE)[2].probabilities
    folds = [load_predictor(run / f"fold_{k}" / "model.safetensors", "cpu", "torch") for k in range(2)]
    alone = [
        fold.predict_source(open_array(image, fold.plan.data), options=PROBABLE)[2].probabilities for fold in folds
    ]
    np.testing.assert_allclose(pair, (alone[0] + alone[1]) / 2, atol=1e-6)


def test_folds_of_different_networks_do_not_mix(run: Path) -> None:
    other = make_plan(label_values=(0, 1, 2))
    save_model(run / "fold_1" / "model.safetensors", build_from_plan(other.model).state_dict(), other)
    with pytest.raises(ModelFileError, match="another network"):
        load_predictor(run, "cpu")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="run folder") as caught:
        load_predictor(tmp_path, "cpu")
    with pytest.raises(ModelFileError, match=re.escape(str(caught.value))):  # the words of every verb
        find_model_files(tmp_path)


def test_files_are_written_in_their_format_with_label_values(tmp_path: Path) -> None:
    image = write_image(tmp_path / "in" / "a.png")
    write_image(tmp_path / "in" / "b.tif")
    seen: list[tuple[int, int]] = []
    written = thresholding(make_plan()).predict_files(
        [tmp_path / "in"], tmp_path / "out", progress=lambda done, total, note="": seen.append((done, total))
    )
    assert [path.name for path in written.files] == ["a.png", "b.tif"]
    np.testing.assert_array_equal(read_label(tmp_path / "out" / "a.png").array[0], 255 * (image > image.mean()))
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["files"] == ["a.png", "b.tif"]
    assert (record["depth"], record["classes"], record["label_values"], record["labels"]["kind"], record["failed"]) == (
        2,
        ["background", "class 255"],
        [0, 255],
        "classes",
        [],
    )
    assert seen[-1] == (2, 2)


def test_a_bad_file_is_listed_and_the_others_are_written(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    (tmp_path / "in" / "empty.tif").touch()
    inputs = [tmp_path / "in", tmp_path / "absent.png"]
    written = thresholding(make_plan()).predict_files(inputs, tmp_path / "out")
    assert [path.name for path in written.files] == ["good.png"]
    assert {failure.id for failure in written.failures} == {"bad", "empty", "absent"}
    assert all(problem.where for problem in written.failed)
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {entry["id"] for entry in record["failed"]} == {"bad", "empty", "absent"}


def test_a_case_with_a_low_expected_dice_is_listed_for_review(tmp_path: Path) -> None:
    clear = np.zeros((20, 20), np.uint8)
    clear[:10] = 255
    for name, array in (
        ("clear", clear),
        ("vague", np.random.default_rng(0).integers(120, 136, (20, 20)).astype(np.uint8)),
    ):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    whole = Predictor(
        [Threshold()],
        make_plan(),
        calibrations={2: Calibration(review_below=0.85, expected_dice_slope=2.0, expected_dice_offset=-1.1)},
    )  # type: ignore[list-item]
    written = whole.predict_files([tmp_path / "clear.png", tmp_path / "vague.png"], tmp_path / "out")
    cases = json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]
    assert cases["vague.png"]["confidence"] < 0.85 < cases["clear.png"]["confidence"]
    assert {path.name: why for path, why in written.doubtful.items()} == {"vague.png": "low expected Dice"}
    assert [case["review"] for case in cases.values()] == [False, True]
    assert cases["vague.png"]["expected_dice"] == pytest.approx(max(0, 2 * cases["vague.png"]["confidence"] - 1.1))
    assert 0.6 < cases["clear.png"]["expected_dice"] <= 0.9
    assert not whole.predict_files([tmp_path / "vague.png"], tmp_path / "shallow", PredictOptions(depth=1)).doubtful
    unknown = json.loads((tmp_path / "shallow" / "predictions.json").read_text())["cases"][
        "vague.png"
    ]  # nothing is known of that depth
    assert (unknown["review"], unknown["expected_dice"]) == (None, None)


def test_calibrations_are_averaged_over_the_folds(tmp_path: Path) -> None:
    plan = make_plan()
    for fold, level in ((0, 0.7), (1, 0.8)):
        deepest = DepthRow(dice=0.9) if fold else DepthRow(review_below=0.6)
        notes = Notes(depths={1: DepthRow(dice=0.9, review_below=level), 2: deepest})
        save_model(
            tmp_path / f"fold_{fold}" / "model.safetensors", build_from_plan(plan.model).state_dict(), plan, notes
        )
    found = load_predictor(tmp_path, "cpu").calibrations
    assert {depth: each.review_below for depth, each in found.items()} == {1: pytest.approx(0.75), 2: 0.6}
    assert found[1].expected_dice_slope is None


def test_folds_of_few_cases_are_calibrated_together(tmp_path: Path) -> None:
    plan, folds = make_plan(), []
    for fold in (0, 1):
        pairs = tuple((0.5 + each, 0.4 + each) for each in (0.1 * fold, 0.2, 0.3))
        folds.append(Notes(fold=fold, depths={2: DepthRow(dice=0.5, confidence_and_dice=pairs)}))
        weights = build_from_plan(plan.model).state_dict()
        save_model(tmp_path / f"fold_{fold}" / "model.safetensors", weights, plan, folds[fold])
    found = load_predictor(tmp_path, "cpu").calibrations[2]
    assert found.expect_dice(0.7) == pytest.approx(0.6) and found.review_below is not None
    assert explain_no_expected_dice(folds) == ""
    assert explain_no_expected_dice(folds[:1]) != ""
    assert load_predictor(tmp_path / "fold_0" / "model.safetensors", "cpu").calibrations[2].expected_dice_slope is None


def test_a_tiff_by_another_name_is_predicted(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    written = thresholding(make_plan()).predict_files([tmp_path / "a.png"], tmp_path / "out")
    assert [path.name for path in written.files] == ["a.tif"]
    assert read_label(written.files[0]).shape == (12, 15)


def test_the_record_is_that_of_the_folder_and_not_of_the_last_call(tmp_path: Path) -> None:
    whole = thresholding(make_plan())
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.png")
        whole.predict_files([tmp_path / "in" / f"{name}.png"], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["files"] == ["a.png", "b.png"]
    (tmp_path / "out" / "a.png").unlink()
    whole.predict_files([tmp_path / "in" / "b.png"], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["files"] == ["b.png"]
    whole.predict_files(
        [tmp_path / "in" / "a.png"], tmp_path / "out", PredictOptions(depth=1)
    )  # of another depth: not to be scored together
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["files"] == ["a.png"]
    whole.predict_files([tmp_path / "in" / "b.png"], tmp_path / "out", PredictOptions(depth=1, tta=True))
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (record["files"], record["options"]) == (["b.png"], {"tta": True})  # nor is another option


def failing_at(name: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """A predictor that one case is too much for."""
    whole = thresholding(make_plan())
    predict_case = whole.predict_case

    def limited(case: Case, *options: Any) -> Any:
        if case.id == name:
            raise error
        return predict_case(case, *options)

    monkeypatch.setattr(whole, "predict_case", limited)
    return whole


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")]
)
def test_an_image_that_does_not_fit_into_memory_is_listed(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = failing_at("huge", error, monkeypatch)
    for name in ("huge", "small"):
        write_image(tmp_path / "in" / f"{name}.png")
    written = whole.predict_files([tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in written.files] == ["small.png"]
    assert "out of memory" in written.failed[0].got


def test_what_was_done_before_a_stop_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = failing_at("b", KeyboardInterrupt(), monkeypatch)
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.png")
    with pytest.raises(KeyboardInterrupt):
        whole.predict_files([tmp_path / "in"], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["files"] == ["a.png"]


def test_maps_have_their_own_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    plan = make_plan(label_values=(0, 1, 2))
    predictor(plan).predict_files(
        [tmp_path / "in" / "a.png"], tmp_path / "out", PredictOptions(probabilities=True, uncertainty="entropy")
    )
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert names == {
        "a.png",
        "predictions.csv",
        "predictions.json",
        "probabilities/a_class_1.tif",
        "probabilities/a_class_2.tif",
        "uncertainty/a.tif",
    }
    probability = read_image(tmp_path / "out" / "probabilities" / "a_class_1.tif").array
    assert probability.dtype == np.float32
    assert 0 < probability.min() < probability.max() < 1


@pytest.mark.parametrize("labels", [(0, 255), (0, 1, 2)])
def test_disagreement_is_that_of_the_heads_of_every_fold(labels: tuple[int, ...]) -> None:
    folds = predictor(make_plan(label_values=labels), folds=2)
    image = RNG.normal(size=(1, 16, 16)).astype(np.float32)
    case = open_array(image, folds.plan.data, None)
    found = folds.predict_source(
        case, options=PredictOptions("all and mean", probabilities=True, uncertainty="disagreement")
    )
    x = torch.from_numpy((image - image.mean()) / image.std())[None]
    with torch.inference_mode():
        heads = [network(x, heads=True).logits for network in folds.networks]
    for depth in (1, 2, MEAN):
        answers = [
            logits.softmax(dim=1)
            for logits in itertools.chain.from_iterable(heads_of_one[: depth or 2] for heads_of_one in heads)
        ]
        mean = torch.stack(answers).mean(0)
        apart = torch.stack(
            [torch.special.xlogy(one, one / mean).sum(dim=1) / np.log(len(labels)) for one in answers]
        ).mean(0)
        np.testing.assert_allclose(found[depth].uncertainty, apart[0], atol=1e-5)
    plain = folds.predict_source(case, options=PredictOptions("all and mean", probabilities=True))
    for depth, prediction in plain.items():  # the map changes nothing else
        np.testing.assert_array_equal(prediction.segmentation, found[depth].segmentation)
        np.testing.assert_array_equal(prediction.probabilities, found[depth].probabilities)
        assert prediction.confidence == found[depth].confidence


def test_one_answer_has_none_to_disagree_with(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    one = predictor(make_plan())
    for depth, got in (
        (1, "disagreement at depth 1, where one head"),
        ("all", "disagreement at depth 1, where one head"),
    ):
        with pytest.raises(UsageError, match=f"uncertainty: got {got}"):
            one.predict_files([tmp_path / "a.png"], tmp_path / "out", PredictOptions(depth, uncertainty="disagreement"))
    one.rules = (Rule(doubts=[None], dice_lost=0.0, time=1.0),)
    for given in ("depth", "size"):
        options = PredictOptions(**{given: "auto"}, uncertainty="disagreement")
        with pytest.raises(UsageError, match=f'disagreement with `{given}="auto"`'):
            one.predict_files([tmp_path / "a.png"], tmp_path / "out", options)
    one.rules = ()
    for given in ("depth", "size"):
        with pytest.raises(UsageError, match=f"{given}: got auto for"):
            one.predict_files([tmp_path / "a.png"], tmp_path / "out", PredictOptions(**{given: "auto"}))
    assert not (tmp_path / "out").exists()
    for depth, tta in ((1, True), (2, False), ("mean", False)):
        one.predict_files(
            [tmp_path / "a.png"], tmp_path / "out", PredictOptions(depth, tta, uncertainty="disagreement")
        )
        apart = read_image(tmp_path / "out" / "uncertainty" / "a.tif").array
        assert 0 <= apart.min() < apart.max() <= 1


def test_a_huge_image_whose_arrays_lie_on_disk_is_predicted_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.tif"):
        write_image(tmp_path / "in" / name)
    network = predictor(make_plan(label_values=(0, 1, 2)))
    options = PredictOptions("all", probabilities=True, uncertainty="entropy")
    network.predict_files([tmp_path / "in"], tmp_path / "small", options)
    monkeypatch.setattr(scratch, "LARGE", 10)
    network.predict_files([tmp_path / "in"], tmp_path / "large", options)
    files = [
        path.relative_to(tmp_path / "small")
        for path in (tmp_path / "small").rglob("*.*")
        if path.suffix not in (".json", ".csv")
    ]
    assert len(files) == 2 * 2 * 4
    for file in files:
        np.testing.assert_array_equal(
            read_image(tmp_path / "large" / file).array, read_image(tmp_path / "small" / file).array
        )


def test_every_depth_has_its_own_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    written = predictor(make_plan()).predict_files([tmp_path / "in"], tmp_path / "out", PredictOptions("all"))
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written.files] == [
        "depth_1/a.png",
        "depth_2/a.png",
    ]
    assert written.depths == (1, 2)
    for depth in (1, 2):
        record = json.loads((tmp_path / "out" / f"depth_{depth}" / "predictions.json").read_text())
        assert (record["depth"], record["files"]) == (depth, ["a.png"])


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png")
    with pytest.raises(UsageError, match="input images"):
        predictor(make_plan()).predict_files([tmp_path / "a.png"], tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array[0], image)


@pytest.mark.parametrize("out", ["links", "files"])
def test_inputs_that_are_links_are_never_overwritten(tmp_path: Path, out: str) -> None:
    image = write_image(tmp_path / "files" / "a.png")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.png").symlink_to(tmp_path / "files" / "a.png")
    with pytest.raises(UsageError, match="input images"):
        predictor(make_plan()).predict_files([tmp_path / "links"], tmp_path / out)
    assert (tmp_path / "links" / "a.png").is_symlink()
    np.testing.assert_array_equal(read_image(tmp_path / "files" / "a.png").array[0], image)


def test_a_nifti_prediction_has_the_inputs_affine(tmp_path: Path) -> None:
    import nibabel

    affine = np.array([[0.0, -1.5, 0, 7], [2.0, 0, 0, -3], [0, 0, 3.0, 11], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(RNG.normal(size=(9, 12, 8)).astype(np.float32), affine), tmp_path / "scan.nii.gz")
    whole = predictor(make_plan(dims=3, label_values=(0, 1), spacing_mm=(2.0, 2.0, 2.0)))
    found = whole.predict_case(Case("scan", (tmp_path / "scan.nii.gz",)), PredictOptions("all"))
    assert {depth: each.segmentation.shape for depth, each in found.items()} == {1: (8, 12, 9), 2: (8, 12, 9)}
    whole.predict_files([tmp_path / "scan.nii.gz"], tmp_path / "out")
    written = nibabel.load(tmp_path / "out" / "scan.nii.gz")
    np.testing.assert_array_equal(written.affine, affine)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj).T, found[2].segmentation)


@pytest.mark.parametrize(
    ("backend", "depth"), [("torch", "all"), ("torch", "auto"), ("openvino", None), ("openvino", "auto")]
)
def test_threads_that_share_a_predictor_get_what_they_would_get_one_after_the_other(backend: str, depth: Any) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    plan = make_plan(label_values=(0, 1, 2), norm="batch")
    torch.manual_seed(0)
    networks = [build_from_plan(plan.model)]
    rule = Rule(doubts=[1.0], dice_lost=0.0, time=1.0)
    images = [RNG.normal(size=(18 + number, 40)).astype(np.float32) * 4**number for number in range(4)]
    alone, shared = (Predictor(networks, plan, backend=backend, rules=[rule]) for _ in range(2))
    expected = [alone.predict(image, depth=depth) for image in images]
    start = threading.Barrier(len(images))  # none has run before: what is compiled at the first use is asked for by all

    def predict(image: np.ndarray) -> Any:
        start.wait()
        return [shared.predict(image, depth=depth) for _ in range(2)]

    with ThreadPoolExecutor(len(images)) as pool:
        found = list(pool.map(predict, images))
    for twice, once in zip(found, expected, strict=True):
        for answer in twice:
            for head in once if isinstance(once, dict) else [...]:
                np.testing.assert_array_equal(answer[head], once[head])


def save_in(codes: str, image: Any, path: Path) -> Path:
    """Save a volume in another order of axes."""
    import nibabel
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    nibabel.save(image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))), path)
    return path


def load_canonical(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import nibabel

    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0, 0.8)])
def test_a_volume_gets_the_same_segmentation_in_every_order_of_axes(
    spacing: tuple[float, ...] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nibabel

    monkeypatch.setattr(scratch, "LARGE", 1)  # also where arrays lie on disk
    array = RNG.normal(size=(14, 19, 23)).astype(np.float32)
    affine = np.array([[1.0, 0.1, 0, -7], [-0.1, 1.2, 0, 3], [0, 0, 1.6, 9], [0, 0, 0, 1]])
    model = predictor(make_plan(3, label_values=(0, 1, 2), orientation="RAS", spacing_mm=spacing))
    (tmp_path / "in").mkdir()
    codes = ("RAS", "LPS", "PIR", "SRA", "ALI")
    for each in codes:
        save_in(each, nibabel.Nifti1Image(array, affine), tmp_path / "in" / f"{each}.nii.gz")
    options = PredictOptions(probabilities=True, uncertainty="entropy")
    assert not model.predict_files([tmp_path / "in"], tmp_path / "out", options).failed
    for folder, ending in ((".", ""), ("probabilities", "_class 1"), ("uncertainty", "")):
        paths = [next((tmp_path / "out" / folder).glob(f"{each}{ending.replace(' ', '_')}*")) for each in codes]
        expected, place = load_canonical(paths[0])
        assert len(np.unique(expected)) > 1
        for each, path in zip(codes[1:], paths[1:], strict=True):
            stored = nibabel.load(tmp_path / "in" / f"{each}.nii.gz")
            np.testing.assert_allclose(nibabel.load(path).affine, stored.affine, atol=1e-5)
            found, affine_found = load_canonical(path)
            np.testing.assert_allclose(affine_found, place, atol=1e-5)
            assert (np.abs(found - expected) > 1e-4).mean() < (1e-3 if spacing else 1e-6)


def test_of_an_image_unlike_the_training_no_dice_is_predicted(tmp_path: Path) -> None:
    known = {
        "smallest_mm": (1, 1, 1),
        "largest_mm": (1, 1, 1),
        "channels": (1,),
        "intensities": [{"low": (-3, -2), "high": (2, 3)}],
    }
    plan = make_plan(3, label_values=(0, 1), orientation="RAS", training_range=TrainingRange(**known))
    calibration = Calibration(review_below=0.1, expected_dice_slope=1.0)
    model = Predictor([Threshold()], plan, calibrations={2: calibration})  # type: ignore[list-item]
    (tmp_path / "in").mkdir()
    array = RNG.normal(size=(9, 9, 9)).astype(np.float32)
    for name, size in (("a", 1.0), ("b", 4.0), ("c", 4.0)):
        write_nifti(tmp_path / "in" / f"{name}.nii.gz", array, np.diag([size] * 3 + [1.0]))
    written = model.predict_files([tmp_path / "in"], tmp_path / "out")
    cases = json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]
    inside, outside = cases["a.nii.gz"], cases["b.nii.gz"]
    assert inside["expected_dice"] is not None and inside["outside"] == []
    assert (outside["expected_dice"], outside["why"], outside["review"]) == (None, "unlike the training", True)
    assert outside["outside"] == ["voxel size 4 x 4 x 4 mm; training had 1 x 1 x 1 mm"]
    assert written.outside == ("b and 1 more: voxel size 4 x 4 x 4 mm; training had 1 x 1 x 1 mm",)
    assert [path.name for path in written.doubtful] == ["b.nii.gz", "c.nii.gz"]
    text = Predicted(written.out, (2,), written.files, (), 1.0, doubtful=written.doubtful, outside=written.outside)
    assert "b and 1 more: voxel size" in text.to_text() and "unlike the training" in text.to_text()


def test_remarks_of_readers_are_passed_on_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unetpp.data.case_files import open_case_image

    def open_noted(case: Case, plan: DataPlan) -> Any:
        source: Any = open_case_image(case, plan)
        source.geometry = replace(source.geometry, notes=("two sizes",))
        return source

    monkeypatch.setattr("unetpp.infer.case_predictor.open_case_image", open_noted)
    for name in ("a", "b"):
        write_png(tmp_path / "in" / f"{name}.png", RNG.integers(0, 255, (20, 20), np.uint8))
    written = predictor(make_plan()).predict_files([tmp_path / "in"], tmp_path / "out", PredictOptions("all"))
    assert written.notes == ("a and 1 more: two sizes",)


def test_nothing_is_expected_of_a_network_that_has_not_learned() -> None:
    row = DepthRow(dice=0.3, expected_dice_slope=1.0, expected_dice_offset=0.0, expected_dice_error=0.1)
    learned = Notes(
        depths={1: row}, training=Training(reason="", steps=9, best_dice=0.3, best_step=9, seconds=1, data_wait=0)
    )
    unlearned = learned.merge(Notes(verdict=Verdict(kind="too short", reason="", advice="", learned=False)))
    assert average_depths([learned])[1].expect_dice(0.9) == 0.9 and explain_no_expected_dice([learned]) == ""
    for folds in ([unlearned], [learned, unlearned]):
        assert average_depths(folds)[1].expect_dice(0.9) is None and average_depths(folds)[1].dice == 0.3
        assert "hardly learned" in explain_no_expected_dice(folds)
