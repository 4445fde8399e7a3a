"""BIDS data sets with derivatives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layouts.test_cases import problems_of, touch
from unetpp.layouts.cases import find_cases


@pytest.mark.parametrize(
    "label", ["T1w_dseg", "dseg", "T1w_label-lesion_mask", "label-lesion_mask", "space-orig_label-lesion_mask",
              "T1w_lesion-manseg", "T1w_seg-manual"],
)  # fmt: skip
def test_derivatives(tmp_path: Path, label: str) -> None:
    for subject in ("sub-01", "sub-02"):
        touch(tmp_path, f"{subject}/anat/{subject}_T1w.nii.gz", f"{subject}/anat/{subject}_T1w.json")
        touch(tmp_path, f"{subject}/func/{subject}_task-rest_bold.nii.gz")
        touch(tmp_path, f"derivatives/manual/{subject}/anat/{subject}_{label}.nii.gz")
    dataset = find_cases(tmp_path)
    assert (dataset.layout, dataset.channels) == ("bids", ("T1w",))
    assert [(case.id, case.group) for case in dataset.cases] == [("sub-01_T1w", "01"), ("sub-02_T1w", "02")]


def test_sessions_and_contrasts(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        place, name = f"sub-01/{session}/anat", f"sub-01_{session}"
        touch(tmp_path, f"{place}/{name}_T1w.nii.gz", f"{place}/{name}_FLAIR.nii.gz")
        touch(tmp_path, f"derivatives/masks/{place}/{name}_label-lesion_mask.nii.gz")
    touch(tmp_path, "sub-03/ses-1/anat/sub-03_ses-1_T1w.nii.gz")
    dataset = find_cases(tmp_path)
    assert dataset.channels == ("FLAIR", "T1w")
    assert [(case.id, case.group, len(case.images)) for case in dataset.cases] == [
        ("01_1", "01", 2),
        ("01_2", "01", 2),
    ]
    assert dataset.notes == ("sessions without a label, left out: 03_1",)


def test_labels_of_several_kinds_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "derivatives/a/sub-01/anat/sub-01_dseg.nii.gz")
    touch(tmp_path, "derivatives/a/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    (problem,) = problems_of(tmp_path)
    assert problem.got == "labels of 2 kinds (a/desc-brain_mask, a/dseg)"


def test_two_images_for_one_label_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/anat/sub-01_run-1_T1w.nii.gz", "sub-01/anat/sub-01_run-2_T1w.nii.gz")
    touch(tmp_path, "derivatives/a/sub-01/anat/sub-01_dseg.nii.gz")
    (problem,) = problems_of(tmp_path)
    assert problem.got == "a label with 2 images T1w"
    (tmp_path / "derivatives/a/sub-01/anat/sub-01_dseg.nii.gz").unlink()
    touch(tmp_path, "derivatives/a/sub-01/anat/sub-01_run-2_dseg.nii.gz")
    (case,) = find_cases(tmp_path).cases
    assert case.images[0].name == "sub-01_run-2_T1w.nii.gz"


def test_names_of_the_classes(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "derivatives/a/sub-01/anat/sub-01_dseg.nii.gz")
    (tmp_path / "derivatives/a/dseg.tsv").write_text("index\tname\n1\tGray\n2\tWhite\n")
    assert find_cases(tmp_path).classes == {0: "background", 1: "Gray", 2: "White"}
