"""Public sets of volumes as they are downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layouts.test_cases import problems_of, touch
from unetpp.errors import DataError
from unetpp.layouts.cases import find_cases
from unetpp.layouts.inputs import find_images

BRATS = ("t1", "t1ce", "t2", "flair")


@pytest.mark.parametrize(
    ("above", "separator", "channels"),
    [("", "_", BRATS), ("HGG/", "_", BRATS), ("", "-", ("t1c", "t1n", "t2f", "t2w"))],
)
def test_brats(tmp_path: Path, above: str, separator: str, channels: tuple[str, ...]) -> None:
    ids = ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000")
    for id in ids:
        touch(tmp_path, *(f"{above}{id}/{id}{separator}{name}.nii.gz" for name in (*channels, "seg")))
    dataset = find_cases(tmp_path)
    assert dataset.channels == tuple(sorted(channels))
    assert [case.id for case in dataset.cases] == list(ids)
    assert len({case.group for case in dataset.cases}) == 2, "time points of one patient form a group"
    assert [path.name for path in dataset.cases[0].labels] == [f"{ids[0]}{separator}seg.nii.gz"]
    assert [len(case.images) for case in dataset.cases] == [4, 4, 4]
    found = find_images([tmp_path], dataset.channels)
    assert [(case.id, case.images) for case in found.cases] == [(case.id, case.images) for case in dataset.cases]
    assert not found.skipped


def test_a_missing_channel_and_a_file_too_many_are_named(tmp_path: Path) -> None:
    for id in "abcd":
        touch(tmp_path, *(f"{id}/{id}_{name}.nii.gz" for name in (*BRATS, "seg")))
    (tmp_path / "a/a_t2.nii.gz").unlink()
    touch(tmp_path, "b/b_adc.nii.gz")
    assert [problem.got for problem in problems_of(tmp_path)] == [
        "no image of the channel t2",
        "files that other cases do not have (adc)",
    ]


def test_a_label_with_an_odd_name_is_that_of_its_folder(tmp_path: Path) -> None:
    for id in ("BraTS20_1", "BraTS20_2"):
        touch(tmp_path, *(f"{id}/{id}_{name}.nii" for name in BRATS))
    touch(tmp_path, "BraTS20_1/BraTS20_1_seg.nii", "BraTS20_2/W39_1998.09.19_Segm.nii")
    dataset = find_cases(tmp_path)
    assert len(dataset.cases) == 2
    assert dataset.channels == tuple(sorted(BRATS))


def test_kits(tmp_path: Path) -> None:
    for number in range(2):
        folder = f"case_0000{number}"
        touch(tmp_path, f"{folder}/imaging.nii.gz", f"{folder}/segmentation.nii.gz")
        touch(tmp_path, f"{folder}/instances/kidney_instance-1_annotation-1.nii.gz")
    dataset = find_cases(tmp_path)
    assert (dataset.channels, [case.id for case in dataset.cases]) == (("CT",), ["case_00000", "case_00001"])
    touch(tmp_path, "case_00000/aggregated_AND_seg.nii.gz")
    (problem,) = problems_of(tmp_path)
    assert problem.where == str(tmp_path / "case_00000")
    assert problem.got == "2 files that may be the label (segmentation.nii.gz, aggregated_AND_seg.nii.gz)"


@pytest.mark.parametrize("folders", [("", ""), ("Training Batch 1/", "Training Batch 2/")])
def test_lits(tmp_path: Path, folders: tuple[str, str]) -> None:
    for number in (0, 1, 10):
        folder = folders[number > 0]
        touch(tmp_path, f"{folder}volume-{number}.nii", f"{folder}segmentation-{number}.nii")
    dataset = find_cases(tmp_path)
    assert dataset.channels == ("CT",)
    assert {case.id: case.labels[0].name for case in dataset.cases} == {
        f"volume-{number}": f"segmentation-{number}.nii" for number in (0, 1, 10)
    }
    assert all(case.group is None for case in dataset.cases)
    touch(tmp_path, f"{folders[1]}segmentation-7.nii", f"{folders[1]}volume-8.nii")
    dataset = find_cases(tmp_path, tolerant=True)
    assert [problem.got for problem in dataset.problems] == ["a label without an image"]
    assert dataset.notes == ("without a label, left out: 1 image (volume-8.nii)",)


def test_iseg_has_two_channels_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, *(f"subject-{number}-{name}.nii" for number in (1, 2, 10) for name in ("T1", "T2", "label")))
    dataset = find_cases(tmp_path)
    assert dataset.channels == ("t1", "t2")
    assert {case.id: len(case.images) for case in dataset.cases} == {"subject-1": 2, "subject-2": 2, "subject-10": 2}


@pytest.mark.parametrize("label", ["label", "seg", "mask", "ground_truth", "Label", "image_seg", "image-label", "gt"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_patients_with_an_image_and_a_label(tmp_path: Path, label: str, suffix: str) -> None:
    for patient in ("anna", "ben"):
        touch(tmp_path, f"{patient}/image{suffix}", f"{patient}/{label}{suffix}", f"{patient}/preview.png")
    dataset = find_cases(tmp_path)
    assert [(case.id, case.group, len(case.images)) for case in dataset.cases] == [
        ("anna", "anna", 1),
        ("ben", "ben", 1),
    ]
    assert dataset.channels is None


def test_sessions_of_a_patient_form_a_group(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        for session in ("baseline", "week12"):
            touch(tmp_path, f"{patient}/{session}/t1.nii.gz", f"{patient}/{session}/mask.nii.gz")
    dataset = find_cases(tmp_path)
    assert [(case.id, case.group) for case in dataset.cases] == [
        ("p1_baseline", "p1"), ("p1_week12", "p1"), ("p2_baseline", "p2"), ("p2_week12", "p2"),
    ]  # fmt: skip
    assert dataset.channels == ("t1",)


def test_folders_of_sessions_and_kinds(tmp_path: Path) -> None:
    for patient, session in (("R1/sub-1", 1), ("R1/sub-1", 2), ("R2/sub-7", 1)):
        name = f"{patient}/ses-{session}/anat/{patient[3:]}_ses-{session}"
        touch(tmp_path, f"{name}_space-MNI_T1w.nii.gz", f"{name}_space-MNI_label-L_desc-T1lesion_mask.nii.gz")
    assert [(case.id, case.group) for case in find_cases(tmp_path).cases] == [
        ("sub-1_ses-1_anat", "R1/sub-1"), ("sub-1_ses-2_anat", "R1/sub-1"), ("sub-7_ses-1_anat", "R2/sub-7"),
    ]  # fmt: skip


def test_subsets_of_patients(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/ct.mha", "train/a/seg.mha", "val/b/ct.mha", "val/b/seg.mha", "test/c/ct.mha")
    dataset = find_cases(tmp_path)
    assert [(case.id, case.split) for case in dataset.cases] == [("a", "train"), ("b", "validation")]
    assert dataset.channels == ("CT",)
    assert "1 image (ct.mha)" in dataset.notes[0]
    touch(tmp_path, "val/a/ct.mha", "val/a/seg.mha")
    cases = [(case.id, case.group) for case in find_cases(tmp_path).cases]
    assert cases == [("train_a", "train/a"), ("val_a", "val/a"), ("b", "val/b")]


def test_a_folder_of_raw_data_sets_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "Dataset001_a/dataset.json", "Dataset002_b/dataset.json")
    (problem,) = problems_of(tmp_path)
    assert (problem.got, problem.action) == ("a folder of 2 data sets", "Name one of them: Dataset001_a, Dataset002_b.")


def test_users_folders(cases: Path) -> None:
    public = cases / "3d/layouts-of-public-sets"
    found = {name: find_cases(public / name) for name in ("totalsegmentator", "kits", "brats")}
    assert {name: (len(dataset.cases), dataset.channels) for name, dataset in found.items()} == {
        "totalsegmentator": (2, ("CT",)),
        "kits": (2, ("CT",)),
        "brats": (2, ("flair", "t1", "t1ce", "t2")),
    }


def test_a_folder_of_labels_holds_no_images(tmp_path: Path) -> None:
    touch(tmp_path, *(f"P{n}/Scans/FLAIR.nii.gz" for n in range(3)))
    touch(tmp_path, *(f"P{n}/Masks/{name}.nii.gz" for n in range(3) for name in ("Brain_Mask", "Consensus")))
    with pytest.raises(DataError):
        find_cases(tmp_path)


def test_of_several_persons_the_agreement_is_used(tmp_path: Path) -> None:
    touch(tmp_path, *(f"case_{n}/imaging.nii.gz" for n in range(3)))
    touch(tmp_path, *(f"case_{n}/aggregated_{how}_seg.nii.gz" for n in range(3) for how in ("AND", "MAJ", "OR")))
    dataset = find_cases(tmp_path)
    assert {case.labels[0].name for case in dataset.cases} == {"aggregated_MAJ_seg.nii.gz"}
    assert any("several persons" in note for note in dataset.notes)


def test_channels_beside_a_folder_of_labels(tmp_path: Path) -> None:
    touch(tmp_path, *(f"imagesTr/C-{n}__{channel}.nii.gz" for n in range(3) for channel in ("CT", "PT")))
    touch(tmp_path, *(f"labelsTr/C-{n}.nii.gz" for n in range(3)))
    dataset = find_cases(tmp_path)
    assert dataset.channels == ("CT", "pt")
    assert [case.id for case in dataset.cases] == ["C-0", "C-1", "C-2"]


def test_time_points_of_a_patient_stay_together_in_a_subset(tmp_path: Path) -> None:
    for patient, time in ((1, 1), (1, 2), (2, 1), (2, 2)):
        folder = f"train/P{patient}/T{time}/P{patient}_T{time}_"
        touch(tmp_path, f"{folder}FLAIR.nii.gz", f"{folder}MASK.nii.gz")
    assert [case.group for case in find_cases(tmp_path).cases] == ["train/P1", "train/P1", "train/P2", "train/P2"]
