"""One label file for each class."""

from __future__ import annotations

from pathlib import Path

from tests.layouts.test_cases import problems_of, touch
from unetpp.layouts.cases import find_cases


def test_totalsegmentator(tmp_path: Path) -> None:
    for case, organs in (("s0000", ("liver", "aorta")), ("s0001", ("liver",)), ("s0002", ("aorta", "spleen"))):
        touch(tmp_path, f"{case}/ct.nii.gz", *(f"{case}/segmentations/{organ}.nii.gz" for organ in organs))
    (tmp_path / "meta.csv").write_text("image_id;age;split\ns0000;50;train\ns0001;60;val\ns0002;70;test\n")
    dataset = find_cases(tmp_path)
    assert dataset.joined == "classes"
    assert dataset.classes == {0: "background", 1: "aorta", 2: "liver", 3: "spleen"}
    assert dataset.channels == ("CT",)
    assert [(case.id, case.label_classes, case.split) for case in dataset.cases] == [
        ("s0000", ("aorta", "liver"), "train"),
        ("s0001", ("liver",), "validation"),
        ("s0002", ("aorta", "spleen"), "test"),
    ]
    touch(tmp_path, "s0001/ct_2.nii.gz")
    assert [problem.got for problem in problems_of(tmp_path)] == ["2 images (ct.nii.gz, ct_2.nii.gz)"]


def test_magnetic_resonance(tmp_path: Path) -> None:
    touch(tmp_path, *(f"s{number}/{name}.nii.gz" for number in (1, 2) for name in ("mri", "segmentations/heart")))
    assert find_cases(tmp_path).channels == ("MRI",)


def test_objects_of_an_image_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "x/images/x.png", "x/masks/1.png", "x/masks/2.png")
    assert find_cases(tmp_path).layout == "kaggle"
