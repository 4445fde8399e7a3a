"""Scoring folders and models."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.tiny import run_cli

from unetpp.errors import DataError
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import Prediction
from unetpp.layouts.dataset import Case
from unetpp.measure.folder_scores import evaluate_folders
from unetpp.measure.quality import evaluate_cases
from unetpp.model_notes import tabulate_cases
from unetpp.plan import LabelPlan, Plan
from unetpp.volume import Geometry

MASK = np.zeros((16, 16), np.uint8)
MASK[4:12, 4:12] = 1
HALF = MASK.copy()
HALF[8:] = 0
HALF_DICE = 2 / 3


def write_png(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_nifti(path: Path, array_xyz: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array_xyz, np.diag([*spacing, 1.0])), path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "predictions", tmp_path / "references"


@pytest.mark.parametrize("predicted_value", [1, 255])
@pytest.mark.parametrize("reference_value", [1, 255])
def test_masks_of_either_scale_agree(folders: tuple[Path, Path], predicted_value: int, reference_value: int) -> None:
    predictions, references = folders
    write_png(predictions / "a.png", HALF * predicted_value)
    write_png(references / "a.png", MASK * reference_value)
    metrics, problems, _ = evaluate_folders(*folders)
    assert not problems
    assert metrics.mean.dice == pytest.approx(HALF_DICE)
    assert list(metrics.classes) == ["foreground"]


def test_objects_are_foreground(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    objects = MASK.astype(np.uint16) * 300
    objects[4:8, 4:8] = 7
    write_png(predictions / "a.png", HALF * 255)
    write_png(references / "a.png", objects)
    assert evaluate_folders(*folders).metrics.mean.dice == pytest.approx(HALF_DICE)


THREE_CLASSES = MASK.copy()
THREE_CLASSES[10:, 4:12] = 2 * MASK[10:, 4:12]


def test_a_mask_is_no_match_for_several_classes(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(predictions / "a.png", MASK)
    write_png(references / "a.png", THREE_CLASSES)
    metrics = evaluate_folders(*folders).metrics
    assert metrics.classes["class_2"].dice == 0.0
    assert 0 < metrics.classes["class_1"].dice < 1


def test_a_declared_foreground_is_no_match_for_several_classes(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(predictions / "a.png", MASK)
    (predictions / "predictions.json").write_text(
        json.dumps(
            {"classes": ["background", "tumour"], "label_values": [0, 1], "instances": False, "files": ["a.png"]}
        )
    )
    write_png(references / "a.png", THREE_CLASSES)
    with pytest.raises(DataError, match=r"no class: 2; expected 0 \(background\), 1 \(tumour\)"):
        evaluate_folders(*folders)


@pytest.mark.parametrize(("folder", "instances"), [("instances", False), ("references", True)])
def test_references_that_are_known_to_hold_objects(tmp_path: Path, folder: str, instances: bool) -> None:
    write_png(tmp_path / "predictions" / "a.png", MASK)
    if instances:
        record = {"classes": ["background", "cell"], "label_values": [0, 1], "instances": True, "files": ["a.png"]}
        (tmp_path / "predictions" / "predictions.json").write_text(json.dumps(record))
    write_png(tmp_path / folder / "a.png", THREE_CLASSES)
    assert evaluate_folders(tmp_path / "predictions", tmp_path / folder).metrics.mean.dice == 1.0


def test_masks_with_an_ending_pair_with_their_images(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(predictions / "a.png", MASK)
    write_png(references / "a_mask.png", MASK)
    found = evaluate_folders(*folders)
    assert (found.metrics.mean.dice, found.problems) == (1.0, ())


@pytest.mark.parametrize("reference", ["{}_segmentation", "{}_xyz", "mask_{}", "{}.jpg", "0{}", "{}_1stHO"])
def test_references_pair_by_the_pattern_of_their_names(folders: tuple[Path, Path], reference: str) -> None:
    predictions, references = folders
    for stem in ("1", "2"):
        write_png(predictions / f"{stem}.png", HALF)
        write_png(references / f"{reference.format(stem)}.png", MASK)
    metrics, problems, _ = evaluate_folders(*folders)
    assert not problems
    assert [case.id for case in metrics.cases] == ["1", "2"]
    assert metrics.mean.dice == pytest.approx(HALF_DICE)


def test_references_beside_their_images(folders: tuple[Path, Path]) -> None:
    """The image has the name of the prediction, but it is no reference."""
    predictions, references = folders
    for stem in ("1", "2"):
        write_png(predictions / f"{stem}.png", HALF)
        write_png(references / f"{stem}.png", np.full((16, 16), 90, np.uint8))
        write_png(references / f"{stem}_mask.png", MASK)
    metrics, problems, _ = evaluate_folders(*folders)
    assert not problems
    assert metrics.mean.dice == pytest.approx(HALF_DICE)


def test_two_references_for_one_prediction_are_not_chosen_from(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    for stem in ("1", "2"):
        write_png(predictions / f"{stem}.png", HALF)
        write_png(references / f"{stem}_mask.png", MASK)
        write_png(references / f"{stem}_label.png", MASK)
    with pytest.raises(DataError, match="several references"):
        evaluate_folders(*folders)


def test_more_values_than_classes_are_told(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(predictions / "a.png", MASK)
    write_png(references / "a.png", np.arange(256, dtype=np.uint8).reshape(16, 16))
    with pytest.raises(DataError, match=r"256 different label values.*name the folder instances"):
        evaluate_folders(*folders)


def test_several_classes_by_value(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    reference = MASK * 2
    reference[0, 0] = 1
    prediction = HALF * 2
    prediction[0, 0] = 1
    write_png(predictions / "a.png", prediction)
    write_png(references / "a.png", reference)
    metrics = evaluate_folders(*folders).metrics
    assert metrics.classes["class_1"].dice == 1.0
    assert metrics.classes["class_2"].dice == pytest.approx(HALF_DICE)


def test_declared_classes_and_files(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(predictions / "a.png", HALF * 40)
    write_png(predictions / "older.png", MASK)
    (predictions / "predictions.json").write_text(
        json.dumps({"classes": ["background", "membrane", "cell"], "label_values": [0, 20, 40], "files": ["a.png"]})
    )
    write_png(references / "a.png", MASK * 40)
    metrics, problems, _ = evaluate_folders(*folders)
    assert not problems
    assert metrics.classes["cell"].dice == pytest.approx(HALF_DICE)
    assert metrics.classes["membrane"].dice is None


def test_everything_wrong_is_listed_and_the_rest_is_scored(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    for name in ("good", "size", "truncated", "extra"):
        write_png(predictions / f"{name}.png", MASK)
    for name in ("good", "truncated", "missing_1", "missing_2"):
        write_png(references / f"{name}.png", MASK)
    write_png(references / "size.png", np.zeros((8, 16), np.uint8))
    (predictions / "truncated.png").write_bytes((predictions / "truncated.png").read_bytes()[:50])
    metrics, problems, _ = evaluate_folders(*folders)
    assert [case.id for case in metrics.cases] == ["good"]
    texts = [str(problem) for problem in problems]
    assert len(texts) == 4
    assert "no segmentation for 2 of 5 references (missing_1, missing_2)" in texts[0]
    assert "no reference for 1 of 4 segmentations (extra)" in texts[1]
    assert "size.png: got a 2D label of 16 x 16 pixels; expected 2D, 8 x 16 pixels, as its reference" in texts[2]
    assert "truncated.png" in texts[3]


@pytest.mark.parametrize(
    ("listed", "failed", "references", "code"),
    [
        (["a"], [], "ab", 0),  # b was not asked for
        (["a"], [{"id": "b"}], "ab", 1),
        (["a", "b"], [], "ab", 1),  # it was predicted, and is gone
        (["a"], [], "b", 2),
        (None, [], "ab", 1),  # segmentations of another program
    ],
)
def test_references_that_predict_was_not_asked_for_are_no_problem(
    folders: tuple[Path, Path], listed: list[str] | None, failed: list[object], references: str, code: int
) -> None:
    write_png(folders[0] / "a.png", HALF)
    for name in references:
        write_png(folders[1] / f"{name}.png", MASK)
    if listed is not None:
        about = {"classes": ["background", "cell"], "label_values": [0, 1], "failed": failed}
        record = about | {"files": [f"{name}.png" for name in listed]}
        (folders[0] / "predictions.json").write_text(json.dumps(record))
    said = run_cli("evaluate", *folders)
    assert said.code == code, said.stderr
    note = "note: no segmentation for 1 of 2 references (b), which were not predicted; these scores leave them out\n"
    assert (note in said.stdout) == (code == 0)


def test_another_grid_is_a_problem(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    volume = np.stack([MASK] * 4)
    for case, spacing in (("same", (1.0, 1.0, 2.0)), ("other", (1.0, 1.0, 3.0))):
        write_nifti(predictions / f"{case}.nii.gz", volume, spacing)
        write_nifti(references / f"{case}.nii.gz", volume, (1.0, 1.0, 2.0))
    metrics, problems, _ = evaluate_folders(*folders)
    assert [case.id for case in metrics.cases] == ["same"]
    assert "(voxel size 1 x 1 x 3 against 1 x 1 x 2 mm)" in str(problems[0])


def test_distances_are_in_the_files_millimetres(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    reference = np.zeros((16, 16, 16), np.uint8)
    reference[4:10, 4:10, 4:10] = 1
    write_nifti(references / "a.nii.gz", reference, (0.5, 1.0, 3.0))
    write_nifti(predictions / "a.nii.gz", np.roll(reference, 2, axis=2), (0.5, 1.0, 3.0))
    metrics = evaluate_folders(*folders).metrics
    assert metrics.mean.hd95_mm == pytest.approx(6.0)
    assert metrics.distance_unit == "mm"


def test_references_may_be_a_data_set(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(references / "images" / "a.png", MASK)
    write_png(references / "instances" / "a.png", MASK * 9)
    write_png(predictions / "a.png", HALF * 255)
    assert evaluate_folders(*folders).metrics.mean.dice == pytest.approx(HALF_DICE)


def test_every_depth_of_a_prediction(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(references / "a.png", MASK)
    write_png(predictions / "depth_1" / "a.png", HALF)
    write_png(predictions / "depth_2" / "a.png", MASK)
    metrics = evaluate_folders(*folders).metrics
    assert metrics.mean.dice == 1.0
    assert [row.dice for row in metrics.depths.values()] == [pytest.approx(HALF_DICE), 1.0]


@pytest.mark.parametrize("depths_first", [True, False])
def test_the_later_of_two_predictions_is_scored(folders: tuple[Path, Path], depths_first: bool) -> None:
    predictions, references = folders
    write_png(references / "a.png", MASK)
    for folder, prediction, time in (
        (predictions, HALF, 20),
        (predictions / "depth_1", MASK, 10 if depths_first else 30),
    ):
        write_png(folder / "a.png", prediction)
        (folder / "predictions.json").write_text('{"files": ["a.png"]}')
        os.utime(folder / "predictions.json", (time, time))
    metrics = evaluate_folders(*folders).metrics
    assert metrics.mean.dice == (pytest.approx(HALF_DICE) if depths_first else 1.0)
    assert bool(metrics.depths) == (not depths_first)


def test_a_prediction_without_files_is_not_scored_by_older_ones(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(references / "a.png", MASK)
    write_png(predictions / "a.png", MASK)
    (predictions / "predictions.json").write_text('{"files": []}')
    with pytest.raises(DataError, match=r"no segmentations that its predictions\.json names"):
        evaluate_folders(*folders)


def test_nothing_to_compare_is_an_error(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(references / "a.png", MASK)
    with pytest.raises(DataError, match="got no such folder"):
        evaluate_folders(*folders)
    predictions.mkdir()
    with pytest.raises(DataError, match="no segmentations"):
        evaluate_folders(*folders)
    write_png(predictions / "b.png", MASK)
    with pytest.raises(DataError, match="2 problems") as caught:
        evaluate_folders(*folders)
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError, match="nowhere"):
        evaluate_folders(predictions, references / "nowhere")


@pytest.mark.parametrize("hidden", ["predictions", "references"])
def test_a_folder_that_may_not_be_read_is_one_problem(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    for folder in folders:
        write_png(folder / "a.png", MASK)
    list_folder = Path.iterdir

    def refuse(folder: Path) -> Iterator[Path]:
        if folder.name == hidden:
            raise PermissionError(13, "Permission denied", str(folder))
        return list_folder(folder)

    monkeypatch.setattr(
        Path, "iterdir", refuse
    )  # root may read anything, so a mode of 000 would prove nothing in a container
    with pytest.raises(DataError, match=rf"{hidden}: got a path that cannot be read \(Permission denied\)"):
        evaluate_folders(*folders)


@pytest.mark.parametrize("depth", [1, "all"])
def test_files_that_predict_wrote_score_as_the_model_does(
    depth: int | str, tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    from unetpp.infer.predictor import load_predictor

    predictor = load_predictor(make_model(), device="cpu")
    noise = np.random.default_rng(0).integers(0, 255, (20, 23), dtype=np.uint8)
    image = write_png(tmp_path / "images" / "a.png", noise)
    label = write_png(tmp_path / "labels" / "a.png", (noise > 128).astype(np.uint8))
    found = evaluate_cases(predictor, [Case("a", (image,), (label,))])
    by_depth = {head: each.mean.to_dict() for head, each in found.items()}
    for scores in by_depth.values():
        assert len(scores.pop("confidence_and_dice")) == 1  # segmentations have no confidence
    predictor.predict_files([image], tmp_path / "out", PredictOptions(depth, uncertainty="entropy"))
    metrics, problems, _ = evaluate_folders(tmp_path / "out", tmp_path / "labels")
    assert not problems
    assert metrics.mean.to_dict() == by_depth[2 if depth == "all" else 1]
    assert metrics.mean.dice > 0
    if depth == "all":
        assert metrics.to_dict()["depths"] == {str(head): scores for head, scores in by_depth.items()}


@dataclass
class FixedPredictor:
    """Says the same at each depth, whatever it sees."""

    plan: Plan
    answers: dict[int, np.ndarray]

    def predict_case(self, case: Case, options: PredictOptions) -> dict[int, Prediction]:
        assert options == PredictOptions(depth="all")
        return {depth: Prediction(depth, answer, Geometry()) for depth, answer in self.answers.items()}


def test_a_model_is_scored_at_every_depth(tmp_path: Path, small_plan: Callable[..., Plan]) -> None:
    cases = [
        Case(name, (tmp_path / f"{name}.png",), (write_png(tmp_path / f"{name}_label.png", MASK * value),))
        for name, value in (("a", 1), ("b", 0))
    ]
    predictor = FixedPredictor(small_plan(), {1: HALF, 2: MASK})
    steps: list[tuple[int, int]] = []
    by_depth = evaluate_cases(predictor, cases, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]
    assert by_depth[1].mean.dice == pytest.approx(HALF_DICE / 2)
    assert by_depth[2].mean.dice == pytest.approx(0.5)
    assert list(evaluate_cases(predictor, cases, depths=[2])) == [2]
    assert [case.id for case in by_depth[2].cases] == ["a", "b"]


def test_segmentations_stored_with_other_axes_are_turned_onto_their_references(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    array = np.zeros((6, 5, 4), np.uint8)
    array[1:3, 1:3, 1:3] = 1
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    write_nifti(references / "a.nii.gz", array, (2.0, 2.0, 3.0))
    predictions.mkdir()
    turned = nib.as_closest_canonical(nib.Nifti1Image(array, affine)).as_reoriented(
        nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], nib.orientations.axcodes2ornt("SLP"))
    )
    nib.save(turned, predictions / "a.nii.gz")
    metrics, problems, _ = evaluate_folders(*folders)
    assert not problems
    assert metrics.mean.dice == 1


def test_distances_are_in_the_millimeters_of_the_place(cases: Path) -> None:
    folder = cases / "3d/pixdim-against-sform"
    metrics, _, _ = evaluate_folders(folder / "predictions", folder / "references")
    assert metrics.mean.hd95_mm == pytest.approx(3.0)


def test_voxels_that_nobody_labeled_have_no_score_in_either_door(
    tmp_path: Path, small_plan: Callable[..., Plan]
) -> None:
    """The lower half of the mask is unknown: there is nothing that half a prediction has missed."""
    truth = np.where((MASK == 1) & (HALF == 0), 9, MASK).astype(np.uint8)
    case = Case("a", (tmp_path / "a.png",), (write_png(tmp_path / "references" / "a.png", truth),))
    plan = small_plan().changed({"data.labels": {"ignore": 9}})
    assert evaluate_cases(FixedPredictor(plan, {1: HALF, 2: MASK}), [case])[1].mean.dice == 1
    write_png(tmp_path / "predictions" / "a.png", HALF)
    about = {"classes": ["background", "cell"], "label_values": [0, 1], "labels": {"ignore": 9}, "files": ["a.png"]}
    (tmp_path / "predictions" / "predictions.json").write_text(json.dumps(about))
    metrics = evaluate_folders(tmp_path / "predictions", tmp_path / "references").metrics
    assert (metrics.mean.dice, metrics.mean.hd95_mm, list(metrics.classes)) == (1, 0, ["cell"])


def test_a_data_set_of_references_declares_what_nobody_labeled(tmp_path: Path) -> None:
    """Without a record of `predict`, as of another program."""
    truth = np.where((MASK == 1) & (HALF == 0), 2, MASK).astype(np.uint8)
    for folder, array in (("imagesTr", MASK), ("labelsTr", truth)):
        write_png(tmp_path / "set" / folder / f"a{'_0000' * (folder == 'imagesTr')}.png", array)
    labels = {"background": 0, "cell": 1, "ignore": 2}
    (tmp_path / "set" / "dataset.json").write_text(json.dumps({"channel_names": {"0": "light"}, "labels": labels}))
    write_png(tmp_path / "predictions" / "a.png", HALF * 255)
    assert evaluate_folders(tmp_path / "predictions", tmp_path / "set").metrics.mean.dice == 1


DISC = np.hypot(*np.indices((48, 48)) - 23.5) < 12


def jpeg(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path, quality=60)


def test_references_of_jpeg_are_cut_at_half_with_a_note(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(predictions / "a.png", DISC * np.uint8(255))
    jpeg(references / "a.jpg", DISC)
    found = evaluate_folders(*folders)
    assert found.metrics.mean.dice == pytest.approx(1, abs=0.01)
    assert found.notes == (
        "references: binary, cut at 128: gray values between 0 and 255 along outlines in 1 of 1 file (JPEG)",
    )


@pytest.mark.parametrize(("top", "kind"), [(255, np.uint8), (65535, np.uint16)])
def test_probabilities_of_other_programs_are_cut_at_half(folders: tuple[Path, Path], top: int, kind: type) -> None:
    predictions, references = folders
    distance = np.hypot(*np.indices((96, 96)) - 47.5)
    write_png(predictions / "a.png", (top / (1 + np.exp((distance - 24) / 4))).astype(kind))
    write_png(references / "a.png", (distance < 24).astype(np.uint8) * 255)
    found = evaluate_folders(*folders)
    assert found.metrics.mean.dice == pytest.approx(1, abs=0.01)
    assert any(f"cut at {(top + 1) // 2}" in note for note in found.notes)


def test_probabilities_are_not_compared_with_several_classes(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_png(predictions / "a.png", np.arange(2304, dtype=np.uint16).reshape(48, 48) * 28)
    write_png(references / "a.png", DISC.astype(np.uint8) * (1 + (np.indices(DISC.shape)[0] > 20)).astype(np.uint8))
    with pytest.raises(DataError, match="probabilities of several classes cannot be compared"):
        evaluate_folders(*folders)


def test_unknown_voxels_of_references_are_recognized(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    reference = THREE_CLASSES.copy()
    reference[0] = 255
    write_png(predictions / "a.png", THREE_CLASSES)
    write_png(references / "a.png", reference)
    found = evaluate_folders(*folders)
    assert "255 is unknown" in found.notes[0]
    assert list(found.metrics.classes) == ["class_1", "class_2"]


def test_what_is_ambiguous_is_asked_for_and_may_be_set(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    squares = np.zeros((48, 48), np.uint8)
    for number in range(1, 6):
        squares[8 * number : 8 * number + 5, 3 : 3 + 5] = number
    for name, shift in (("a", 0), ("b", 13), ("c", 29)):
        write_png(references / f"{name}.png", np.roll(np.roll(squares, shift, axis=1), 7 * shift, axis=0))
        moved = np.roll(np.roll(squares, shift, axis=1), 7 * shift, axis=0)
        write_png(predictions / f"{name}.png", (moved > 0) * np.uint8(7))
    with pytest.raises(DataError, match='`labels="objects"`'):
        evaluate_folders(*folders)
    found = evaluate_folders(*folders, labels=LabelPlan(kind="objects"))
    assert found.metrics.mean.dice == 1.0


def test_palettes_of_black_and_white_are_compared_by_color(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    for number, name in enumerate("ab"):
        write_png(predictions / f"{name}.png", DISC * np.uint8(1))
        stored = Image.fromarray((DISC ^ bool(number)).astype(np.uint8))
        stored.putpalette([255, 255, 255, 0, 0, 0] if number else [0, 0, 0, 255, 255, 255])
        references.mkdir(exist_ok=True)
        stored.save(references / f"{name}.png")
    assert evaluate_folders(*folders).metrics.mean.dice == 1.0


def test_references_in_colors(folders: tuple[Path, Path]) -> None:
    predictions, _ = folders
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    for folder in folders:
        write_png(folder / "a.png", colors[THREE_CLASSES])
    assert list(evaluate_folders(*folders).metrics.classes) == ["green", "red"]
    write_png(predictions / "a.png", np.array([0, 2, 1], np.uint8)[THREE_CLASSES])
    found = evaluate_folders(*folders)
    assert found.metrics.mean.dice == 1.0
    assert "in their order" in " ".join(found.notes)


def test_a_model_of_colors_is_compared_by_its_table(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    colors = np.array([[68, 1, 84], [253, 231, 36], [0, 255, 0]], np.uint8)
    write_png(predictions / "a.png", THREE_CLASSES)
    write_png(references / "a.png", colors[THREE_CLASSES])
    plan = LabelPlan(kind="colors", colors=tuple(map(tuple, colors.tolist())))
    record = {"classes": ["none", "a", "b"], "label_values": [0, 1, 2], "labels": plan.model_dump(mode="json")}
    (predictions / "predictions.json").write_text(json.dumps(record))
    assert evaluate_folders(*folders).metrics.classes["b"].dice == 1.0


@pytest.mark.parametrize("channels", [(), (3,)])
def test_images_given_instead_of_masks_are_said_to_be_images(
    folders: tuple[Path, Path], channels: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        image = np.clip(rng.normal(100, 30, (40, 40, *channels)), 1, 254).astype(np.uint8)
        write_png(folders[0] / f"{name}.png", image)
        write_png(folders[1] / f"{name}.png", np.pad(MASK, 12) * 255)
    for first, second in (folders, folders[::-1]):
        with pytest.raises(DataError, match=r"got images, not segmentations \(a.png, b.png\); expected label files"):
            evaluate_folders(first, second)


def test_soft_masks_probabilities_and_objects_are_no_images(folders: tuple[Path, Path]) -> None:
    y, x = np.mgrid[:64, :64]
    distance = np.hypot(y - 32, x - 32)
    soft = np.clip(128 + 12 * (20 - distance), 0, 255).astype(np.uint8)
    vague = (255 / (1 + np.exp((distance - 20) / 3))).astype(np.uint8)
    objects = np.zeros((64, 64), np.uint16)
    objects[1::8, 1::8] = np.arange(1, 65).reshape(8, 8)
    for array in (soft, vague, objects):
        write_png(folders[0] / "a.png", array)
        write_png(folders[1] / "a.png", (distance < 20).astype(np.uint8) * 255)
        assert not any("images, not" in problem.got for problem in evaluate_folders(*folders).problems)


def test_scores_are_tabulated_by_case_and_class(folders: tuple[Path, Path]) -> None:
    for name in ("a", "b"):
        write_png(folders[0] / f"{name}.png", THREE_CLASSES)
        write_png(folders[1] / f"{name}.png", THREE_CLASSES if name == "a" else MASK)
    lines = tabulate_cases(evaluate_folders(*folders).metrics).splitlines()
    assert lines[0] == "case,class,dice,iou,hd95,surface_dice,distance_unit,volume_error_percent"
    assert [line.split(",")[:3] for line in lines[1:3]] == [["a", "class_1", "1.0"], ["a", "class_2", "1.0"]]
    assert lines[4] == "b,class_2,0.0,0.0,,0.0,pixel,"
    assert [line.split(",")[-1] for line in lines[1:3]] == ["0.0", "0.0"]
