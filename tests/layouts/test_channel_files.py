"""Channels in files of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.layouts.test_cases import declare, problems_of, touch
from unetpp.data.inspect import inspect_dataset
from unetpp.layouts.cases import find_cases


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), ("images", "masks"), ("imagesTr", "labelsTr")])
def test_names_of_nnunet_without_a_declaration(tmp_path: Path, images: str, labels: str) -> None:
    for name in ("p0", "p_1"):
        touch(tmp_path, *(f"{images}/{name}_000{channel}.nii.gz" for channel in (0, 1)), f"{labels}/{name}.nii.gz")
    dataset = find_cases(tmp_path)
    assert (dataset.layout, dataset.classes) == ("nnunet", None)
    assert {case.id: [path.name for path in case.images] for case in dataset.cases} == {
        name: [f"{name}_0000.nii.gz", f"{name}_0001.nii.gz"] for name in ("p0", "p_1")
    }
    (tmp_path / images / "p0_0001.nii.gz").unlink()
    touch(tmp_path, f"{images}/p2_0000.nii.gz", f"{images}/p2_0001.nii.gz", f"{labels}/p2.nii.gz")
    (problem,) = problems_of(tmp_path)
    assert problem.got == "the channel 0000 for p0"


def test_labels_that_have_the_number_too_are_no_channels(tmp_path: Path) -> None:
    names = ("cell_0001", "cell_0002")
    touch(tmp_path, *(f"{folder}/{name}.png" for name in names for folder in ("images", "masks")))
    assert [case.id for case in find_cases(tmp_path).cases] == list(names)
    touch(tmp_path / "n", *(f"{folder}/{name}.nii" for name in names for folder in ("imagesTr", "labelsTr")))
    assert [case.id for case in find_cases(tmp_path / "n").cases] == list(names)


def test_all_of_dataset_json(tmp_path: Path) -> None:
    for name in "ab":
        touch(tmp_path, f"imagesTr/{name}_0000.nrrd", f"imagesTr/{name}_0001.nrrd", f"labelsTr/{name}.nrrd")
    touch(tmp_path, "imagesTr/a_0000.png", "labelsTr/preview.png")
    declared = {
        "channel_names": {"0": "noNorm", "1": "rescale_to_0_1"},
        "labels": {"background": 0, "tumor": 1},
        "file_ending": ".nrrd",
        "numTraining": 3,
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    dataset = find_cases(declare(tmp_path, **declared))
    assert [(case.id, len(case.images)) for case in dataset.cases] == [("a", 2), ("b", 2)]
    assert dataset.notes == ("dataset.json declares 3 training cases; 2 were found",)
    (tmp_path / "imagesTr/b_0001.nrrd").unlink()
    (problem,) = problems_of(tmp_path)
    assert (problem.got, problem.expected) == (
        "the channel 0000 for b",
        "2 channels, as declared, numbered from 0000",
    )


def test_the_entries_of_version_2(tmp_path: Path) -> None:
    touch(tmp_path, "../raw/x_0000.nii.gz", "../raw/x_0001.nii.gz", "../raw/x_label.nii.gz")
    entry = {"images": ["../raw/x_0000.nii.gz", "../raw/x_0001.nii.gz"], "label": "../raw/x_label.nii.gz"}
    declare(tmp_path, channel_names={"0": "a", "1": "b"}, labels={"background": 0, "x": 1}, dataset={"x": entry})
    (case,) = find_cases(tmp_path).cases
    assert len(case.images) == 2


def test_numbers_of_classes_that_python_cannot_read(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii", "labelsTr/a.nii")
    declare(tmp_path, channel_names={"²": "x"}, labels={"0": "background", "²": "x"})
    assert len(problems_of(tmp_path)) == 2


def test_users_folders(cases: Path) -> None:
    dataset = find_cases(cases / "3d/nnunet-names-without-dataset-json")
    assert [len(case.images) for case in dataset.cases] == [2, 2, 2]


@pytest.mark.parametrize("ending", ["Va", "Val"])
@pytest.mark.parametrize("is_declared", [True, False])
def test_labeled_validation_folders_validate(tmp_path: Path, ending: str, is_declared: bool) -> None:
    touch(tmp_path, *(f"{folder}Tr/a{n}.nii.gz" for folder in ("images", "labels") for n in range(3)))
    touch(tmp_path, *(f"{folder}{ending}/b{n}.nii.gz" for folder in ("images", "labels") for n in range(2)))
    if is_declared:
        labels = [{"image": f"./imagesTr/a{n}.nii.gz", "label": f"./labelsTr/a{n}.nii.gz"} for n in range(3)]
        declare(tmp_path, modality={"0": "CT"}, labels={"0": "background", "1": "organ"}, training=labels)
    dataset = find_cases(tmp_path)
    assert [case.split for case in dataset.cases] == ["train"] * 3 + ["validation"] * 2
    assert f"the cases of images{ending}/ validate, those of imagesTr/ train" in dataset.notes


def test_the_colors_of_a_picture_are_declared_channels_in_one_file(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        label = (pixels[..., 0] > 128).astype(np.uint8)
        for path, array in ((f"imagesTr/{name}_0000.png", pixels), (f"labelsTr/{name}.png", label)):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / path)
    labels = {"background": 0, "cell": 1}
    declare(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, labels=labels, file_ending=".png")
    inspection = inspect_dataset(find_cases(tmp_path))
    assert (inspection.problems, list(inspection.channels)) == ([], ["R", "G", "B"])
    assert [fact.id for fact in inspection.facts] == ["a", "b", "c"]
    for name in ("a", "b", "c"):  # what is no picture has files for its channels
        (tmp_path / f"imagesTr/{name}_0000.png").rename(tmp_path / f"imagesTr/{name}_0000.nrrd")
        (tmp_path / f"labelsTr/{name}.png").rename(tmp_path / f"labelsTr/{name}.nrrd")
    declare(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, labels=labels, file_ending=".nrrd")
    assert "expected 3 channels, as declared" in str(find_cases(tmp_path, tolerant=True).problems[0])
