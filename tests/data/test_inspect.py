from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.tiny import write_png
from unetpp.data.inspect import Inspection, inspect_dataset
from unetpp.data.intensities import measure_intensities
from unetpp.layouts.cases import find_cases
from unetpp.plan import LabelPlan, ReadPlan
from unetpp.planning.fingerprint import make_fingerprint

RNG = np.random.default_rng(0)


def gray(height: int = 12, width: int = 10) -> np.ndarray:
    return RNG.integers(0, 255, (height, width), dtype=np.uint8)


def mask(value: int = 255, height: int = 12, width: int = 10) -> np.ndarray:
    array = np.zeros((height, width), np.uint8)
    array[2:6, 3:8] = value
    return array


def write_case(root: Path, stem: str, image: np.ndarray, label: np.ndarray, labels: str = "masks") -> None:
    write_png(root / "images" / f"{stem}.png", image)
    write_png(root / labels / f"{stem}.png", label)


def write_volume(
    root: Path, stem: str, image: np.ndarray, label: np.ndarray, shift: float = 0.0, step: float = 1.0
) -> None:
    moved = np.diag([step, 1.0, 1.0, 1.0])
    moved[0, 3] = shift
    for folder, array, affine in (("images", image, np.eye(4)), ("labels", label, moved)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, affine), root / folder / f"{stem}.nii.gz")


def solid(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    label = np.zeros((6, 5, 4), np.uint8)
    label[2:4, 2:4, 1:3] = 1
    return np.random.default_rng(seed).normal(size=(6, 5, 4)).astype(np.float32), label


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Two sound cases, to which each test adds a bad one."""
    for stem in ("good1", "good2"):
        write_case(tmp_path, stem, gray(), mask())
    return tmp_path


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    for seed, stem in enumerate(("good1", "good2")):
        write_volume(tmp_path, stem, *solid(seed))
    return tmp_path


def inspect(root: Path) -> Inspection:
    return inspect_dataset(find_cases(root, tolerant=True))


def only_problem(root: Path, where: str) -> str:
    (problem,) = inspect(root).problems
    assert where in problem.where
    return problem.got


def test_a_sound_data_set(good: Path) -> None:
    found = inspect(good)
    assert (found.problems, found.notes) == ([], [])
    assert (found.classes, found.label_values, found.channels, found.meaning.plan.kind) == (
        ("background", "foreground"),
        (0, 255),
        ("image",),
        "classes",
    )
    fact = found.facts[0]
    image = np.asarray(Image.open(good / "images/good1.png"))
    assert (fact.id, fact.shape, fact.channels, fact.spacing_mm) == ("good1", (12, 10), 1, None)
    assert (fact.minimum, fact.maximum) == ((image.min(),), (image.max(),))
    assert fact.label is not None and fact.label.counts == {0: 100, 255: 20}
    np.testing.assert_array_equal(np.sort(fact.foreground_sample[0]), np.sort(image[2:6, 3:8].reshape(-1)))


def test_progress_counts_the_files(good: Path) -> None:
    seen: list[tuple[int, int]] = []
    inspect_dataset(find_cases(good), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_the_sample_of_the_foreground_is_small_and_spread(tmp_path: Path) -> None:
    ramp = np.arange(200 * 200, dtype=np.uint16).reshape(200, 200)
    for stem in "ab":
        write_case(tmp_path, stem, ramp, np.full((200, 200), 1, np.uint8))
    sample = inspect(tmp_path).facts[0].foreground_sample
    assert sample.shape == (1, 1000)
    assert np.percentile(sample, [0, 50, 100]) == pytest.approx([0, 20000, 39999], abs=50)


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([0, 1], ("background", "foreground"), (0, 1)),
        ([255], ("background", "foreground"), (0, 255)),
        ([0, 1, 2], ("background", "class_1", "class_2"), (0, 1, 2)),
        ([0, 128, 255], ("background", "class_128", "class_255"), (0, 128, 255)),
    ],
)
def test_what_label_values_stand_for(
    tmp_path: Path, values: list[int], names: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    for stem in "ab":
        write_case(
            tmp_path, stem, gray(), np.repeat(np.resize(np.array(values, np.uint8), 3), 4)[:, None].repeat(10, 1)
        )
    found = inspect(tmp_path)
    assert (found.classes, found.label_values, found.problems) == (names, expected, [])


def test_objects_are_foreground(tmp_path: Path) -> None:
    for stem in "ab":
        write_case(tmp_path, stem, gray(), (np.arange(120, dtype=np.uint16) * 9).reshape(12, 10), labels="instances")
    found = inspect(tmp_path)
    assert (found.classes, found.label_values, found.meaning.plan.kind, found.problems) == (
        ("background", "foreground"),
        (0, 255),
        "objects",
        [],
    )


def test_gray_and_color_mix(good: Path) -> None:
    write_case(good, "color", RNG.integers(0, 255, (12, 10, 3), dtype=np.uint8), mask())
    found = inspect(good)
    assert (found.channels, found.problems) == (("red", "green", "blue"), [])


def test_colors_that_are_all_equal_are_gray(tmp_path: Path) -> None:
    for stem in "ab":
        write_case(tmp_path, stem, np.repeat(gray()[..., None], 3, axis=2), mask())
    found = inspect(tmp_path)
    assert found.channels == ("image",)
    assert all(fact.is_gray for fact in found.facts)


def test_mask_of_another_size(good: Path) -> None:
    write_case(good, "bad", gray(), mask(height=11))
    assert only_problem(good, "masks/bad.png") == "a 2D label of 11 x 10 pixels"


def test_3d_mask_of_a_2d_image(good: Path) -> None:
    write_png(good / "images/bad.png", gray())
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 4), np.uint8), np.eye(4)), good / "masks/bad.nii.gz")
    assert only_problem(good, "masks/bad.nii.gz") == "a 3D label of 4 x 5 x 6 voxels"


@pytest.mark.parametrize("folder", ["images", "masks"])
@pytest.mark.parametrize(("content", "got"), [(b"", "empty file"), (b"no image", "truncated or not an image")])
def test_unreadable_file(good: Path, folder: str, content: bytes, got: str) -> None:
    write_case(good, "bad", gray(), mask())
    (good / folder / "bad.png").write_bytes(content)
    assert got in only_problem(good, f"{folder}/bad.png")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(volumes: Path, value: float) -> None:
    image, label = solid(9)
    image[:2, 0, 0] = value
    write_volume(volumes, "bad", image, label)
    assert only_problem(volumes, "images/bad.nii.gz") == "2 voxels that are NaN or infinite"


def test_label_elsewhere_in_space(volumes: Path) -> None:
    write_volume(volumes, "bad", *solid(9), shift=3.0)
    assert "origin 3 x 0 x 0 against 0 x 0 x 0 mm" in only_problem(volumes, "labels/bad.nii.gz")


def test_label_of_another_spacing(volumes: Path) -> None:
    write_volume(volumes, "bad", *solid(9), step=2.0)
    assert "voxel size 2 x 1 x 1 against 1 x 1 x 1 mm" in only_problem(volumes, "labels/bad.nii.gz")


def test_some_background_labels_are_noted_and_all_are_a_problem(good: Path) -> None:
    write_case(good, "empty", gray(), np.zeros((12, 10), np.uint8))
    found = inspect(good)
    assert (found.problems, found.notes) == ([], ["empty.png: nothing but background in the label"])
    for stem in ("good1", "good2"):
        write_case(good, stem, gray(), np.zeros((12, 10), np.uint8))
    assert "all background" in only_problem(good, str(good))


def test_value_outside_the_declared_classes(volumes: Path) -> None:
    image, label = solid(9)
    label[0, 0, :3] = 7
    write_volume(volumes, "bad", image, label)
    (volumes / "images").rename(volumes / "imagesTr")
    (volumes / "labels").rename(volumes / "labelsTr")
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    (volumes / "dataset.json").write_text(json.dumps(content))
    assert only_problem(volumes, "labelsTr/bad.nii.gz") == "the value 7 in 3 voxels"
    assert inspect(volumes).channels == ("CT",)


def test_masks_with_gray_outlines_are_cut_at_half(good: Path) -> None:
    small = Image.fromarray(np.kron(np.eye(4, dtype=np.uint8) * 255, np.ones((10, 10), np.uint8)))
    write_case(good, "bad", gray(100, 100), np.asarray(small.resize((100, 100), Image.Resampling.BILINEAR)))
    found = inspect(good)
    assert (found.problems, found.label_values, found.meaning.plan.cut) == ([], (0, 255), 128)
    assert found.meaning.line == "binary, cut at 128: gray values between 0 and 255 along outlines in 1 of 3 files"


def test_objects_in_a_folder_of_masks(good: Path) -> None:
    write_case(good, "bad", gray(), np.arange(120, dtype=np.uint8).reshape(12, 10))
    (problem,) = inspect(good).problems
    assert (problem.where, problem.got) == (str(good / "masks/bad.png"), "120 different label values, 0 to 119")
    assert "instances" in problem.action


def test_a_data_set_of_objects_is_one_problem(tmp_path: Path) -> None:
    for stem in "abcd":
        write_case(tmp_path, stem, gray(), np.arange(120, dtype=np.uint8).reshape(12, 10))
    assert only_problem(tmp_path, str(tmp_path)) == "120 different label values, 0 to 119"


def test_a_stray_value_is_noted(good: Path) -> None:
    for stem in "abcd":
        write_case(good, stem, gray(), mask())
    stray = mask()
    stray[0, 0] = 77
    write_case(good, "e", gray(), stray)
    found = inspect(good)
    assert found.label_values == (0, 77, 255)
    assert found.notes == ["e.png: the only label with the value 77, which becomes a class of its own"]


def test_0_and_1_in_some_masks_and_0_and_255_in_others(good: Path) -> None:
    write_case(good, "bad", gray(), mask(1))
    found = inspect(good)
    assert (found.problems, found.classes) == ([], ("background", "foreground"))
    assert found.meaning.line == "binary, cut at 1: the foreground is 1 in 1 of 3 files and 255 in 2 of 3 files"


def test_mixed_channel_counts(volumes: Path) -> None:
    _, label = solid()
    write_volume(volumes, "bad", RNG.normal(size=(6, 5, 4, 2)).astype(np.float32), label)
    assert only_problem(volumes, "images/bad.nii.gz") == "2 channels or time points"


def test_mixed_2d_and_3d(good: Path) -> None:
    image, label = solid()
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), good / "images/bad.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label * 255, np.eye(4)), good / "masks/bad.nii.gz")
    assert only_problem(good, "bad") == "1 3D cases"


def test_the_same_image_twice_is_noted(good: Path) -> None:
    image = np.asarray(Image.open(good / "images/good1.png"))
    write_case(good, "copy", image, mask())
    assert inspect(good).notes == [
        "copy, good1: the same image several times; scores are too good if one of them trains and another validates"
    ]


def test_one_case_is_too_few(tmp_path: Path) -> None:
    write_case(tmp_path, "a", gray(), mask())
    assert only_problem(tmp_path, str(tmp_path)) == "1 independent case or group"


@pytest.mark.parametrize(
    ("columns", "got"),
    [
        ("group,anna,anna", "1 independent case or group"),
        ("split,val,val", "a split without training cases"),
        ("split,test,test", "0 independent cases or groups"),
    ],
)
def test_cases_that_cannot_be_split(good: Path, columns: str, got: str) -> None:
    column, *values = columns.split(",")
    rows = [
        f"images/{stem}.png,masks/{stem}.png,{value}" for stem, value in zip(("good1", "good2"), values, strict=True)
    ]
    (good / "table.csv").write_text("\n".join([f"image,label,{column}", *rows]))
    (problem,) = inspect(good / "table.csv").problems
    assert (problem.where, problem.got) == (str(good), got)


def test_everything_at_once(good: Path) -> None:
    write_case(good, "size", gray(), mask(height=5))
    write_case(good, "cut", gray(), mask())
    (good / "images/cut.png").write_bytes((good / "images/cut.png").read_bytes()[:60])
    write_png(good / "images/lonely.png", gray())
    write_case(good, "both", gray(), mask())
    for folder in ("images", "masks"):
        (good / folder / "both.png").write_bytes(b"")
    write_png(good / "masks/orphan.png", mask())
    wheres = sorted(Path(problem.where).name for problem in inspect(good).problems)
    assert wheres == ["both.png", "both.png", "cut.png", "lonely.png", "orphan.png", "size.png"]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "classes", "values", "channels"),
    [
        ("em", ("background", "foreground"), (0, 255), ("image",)),
        ("nuclei_kaggle_layout", ("background", "foreground"), (0, 255), ("red", "green", "blue")),
        ("hippocampus", ("background", "Anterior", "Posterior"), (0, 1, 2), ("MRI",)),
    ],
)
def test_real_data_sets(
    real_data: Path, name: str, classes: tuple[str, ...], values: tuple[int, ...], channels: tuple[str, ...]
) -> None:
    found = inspect_dataset(find_cases(real_data / name))
    assert (found.problems, found.notes) == ([], [])
    assert (found.classes, found.label_values, found.channels) == (classes, values, channels)


def test_series_are_read_as_channels_with_a_note(tmp_path: Path) -> None:
    _, label = solid()
    for seed, stem in enumerate(("a", "b")):
        image = np.random.default_rng(seed).normal(size=(6, 5, 4, 5)).astype(np.float32)
        write_volume(tmp_path, stem, image, label)
    found = inspect(tmp_path)
    assert not found.problems
    assert "a.nii.gz and 1 more: its 5 values at each voxel are read as channels, not as time points" in found.notes


def inspect_as(root: Path, **reading: Any) -> Inspection:
    return inspect_dataset(find_cases(root, tolerant=True), ReadPlan(**reading))


def test_voxels_that_nobody_labeled_are_no_class(good: Path) -> None:
    image, label = gray(), mask(1)
    label[:2] = 255
    image[:2] = 255
    for stem in ("good1", "good2"):
        write_case(good, stem, image, label)
    found = inspect_as(good, labels={"ignore": 255})
    assert (found.problems, found.label_values, found.meaning.plan) == ([], (0, 1), LabelPlan(ignore=255))
    assert found.facts[0].foreground_sample.shape[1] == 20
    assert any("17% of the voxels have the value 255" in note for note in found.notes)
    fingerprint = make_fingerprint(find_cases(good), found)
    assert fingerprint.class_fractions == (0.8, 0.2)
    assert fingerprint.labels == LabelPlan(ignore=255)


def test_a_case_without_a_labeled_voxel_is_named(good: Path) -> None:
    write_case(good, "blank", gray(), np.full((12, 10), 9, np.uint8))
    found = inspect_as(good, labels={"ignore": 9})
    assert not found.problems
    assert "blank: nothing is labeled" in found.notes


@pytest.mark.parametrize("fill", [0.0, -1024.0])
def test_filled_voxels_are_measured_as_such(volumes: Path, fill: float) -> None:
    image, label = solid()
    image[0, 0, 0], image[1, 0, 0] = np.nan, np.inf
    write_volume(volumes, "bad", image, label)
    (problem,) = inspect(volumes).problems
    assert "`data.fill=0`" in problem.action
    found = inspect_as(volumes, fill=fill)
    assert not found.problems
    image[:2, 0, 0] = fill
    fact = next(fact for fact in found.facts if fact.id == "bad")
    assert (fact.minimum, fact.maximum) == ((float(image.min()),), (float(image.max()),))


def test_intensities_like_hounsfield_units_are_pointed_out_unless_declared(tmp_path: Path) -> None:
    for seed, stem in enumerate("ab"):
        _, label = solid(seed)
        write_volume(tmp_path, stem, np.where(label, 60 + seed, -1000).astype(np.int16), label)
    (note,) = (note for note in inspect(tmp_path).notes if "Hounsfield" in note)
    assert '`data.channels=["CT"]`' in note
    found = inspect_as(tmp_path, channels=("CT",))
    assert (found.channels, found.problems) == (("CT",), [])
    assert not any("Hounsfield" in note for note in found.notes)
    (wrong, _) = inspect_as(tmp_path, channels=("CT", "PET")).problems
    assert (wrong.got, wrong.expected) == ("1 channel", "2, as declared")


def test_other_intensities_are_not_taken_for_hounsfield_units(volumes: Path) -> None:
    assert not inspect(volumes).notes


@pytest.mark.parametrize(("error", "got"), [(MemoryError("4 GB"), "out of memory"), (KeyError("x"), "an unexpected")])
def test_what_fails_after_a_file_was_opened_is_a_problem_of_that_file(
    good: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, got: str
) -> None:
    count = iter(range(99))

    def fail_once(*arguments: Any) -> Any:
        if next(count) == 0:
            raise error
        return measure_intensities(*arguments)

    monkeypatch.setattr("unetpp.data.inspect.measure_intensities", fail_once)
    found = inspect_dataset(find_cases(good))
    assert [problem.got.startswith(got) for problem in found.problems] == [True]
    assert str(good) in found.problems[0].where


def test_a_voxel_size_of_another_unit_is_a_problem(tmp_path: Path) -> None:
    for number, step in enumerate((1.0, 1.1, 1000.0)):
        for folder, array in zip(("images", "labels"), solid(number), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            image = nibabel.Nifti1Image(array, np.diag([step, 1.0, 1.0, 1.0]))
            nibabel.save(image, tmp_path / folder / f"c{number}.nii.gz")
    (problem,) = inspect_dataset(find_cases(tmp_path)).problems
    assert "c2" in problem.where and "voxels of 1 x 1 x 1e+03 mm" in problem.got


def test_images_without_a_pixel_size_among_others_are_noted(tmp_path: Path) -> None:
    for number in range(3):
        options = {"resolution": (2000, 2000), "metadata": {"unit": "mm", "axes": "YX"}, "imagej": True}
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"images/{number}.tif", gray(), **(options if number else {}))
        write_png(tmp_path / f"masks/{number}.png", mask())
    notes = inspect_dataset(find_cases(tmp_path)).notes
    assert "1 of 3 images state no voxel size (0): no image is resampled to a common one" in notes
