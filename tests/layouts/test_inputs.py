"""Images to predict: every input is a case, skipped with a reason, or in a note."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.test_cases import touch
from unetpp.errors import DataError
from unetpp.formats import is_image
from unetpp.layouts.inputs import FoundImages, find_images


def ids(found: FoundImages) -> list[str]:
    return [case.id for case in found.cases]


def files(root: Path, found: FoundImages) -> dict[str, list[str]]:
    return {case.id: [path.relative_to(root).as_posix() for path in case.images] for case in found.cases}


def test_files_folders_and_data_sets(tmp_path: Path) -> None:
    touch(tmp_path, "f/b.png", "f/a.nii.gz", "c.png", "data/images/d.png", "data/masks/d.png")
    touch(tmp_path, "k/x/images/x.png", "k/x/masks/1.png")
    inputs = [tmp_path / "f", tmp_path / "c.png", str(tmp_path / "data"), tmp_path / "k", tmp_path / "f/b.png"]
    found = find_images([*inputs, tmp_path / "absent.png"])
    assert ids(found) == ["a", "b", "c", "d", "x", "absent"]
    assert all(len(case.images) == 1 and not case.labels for case in found.cases)
    assert not found.skipped and not found.notes


def test_folders_in_folders_are_mirrored(tmp_path: Path) -> None:
    touch(tmp_path, "0.png", "p1/0.png", "p1/1.png", "p2/deep/er/0.png", "p3/images/x.png", "p3/images/y.png")
    assert ids(find_images([tmp_path])) == ["0", "p1/0", "p1/1", "p2/deep/er/0", "p3/x", "p3/y"]


def test_patient_folders_name_their_images(tmp_path: Path) -> None:
    touch(tmp_path, "patients/pat1/ct.nii.gz", "patients/pat2/ct.nii.gz")
    paths = [tmp_path / f"patients/pat{number}/ct.nii.gz" for number in (1, 2)]
    (tmp_path / "list.csv").write_text("image\npatients/pat1/ct.nii.gz\npatients/pat2/ct.nii.gz\n")
    (tmp_path / "list.txt").write_text("patients\\pat1\\ct.nii.gz\n\npatients/pat2/ct.nii.gz\n")
    for inputs in ([tmp_path / "patients"], paths, [tmp_path / "list.csv"], [tmp_path / "list.txt"]):
        found = find_images(inputs)
        assert [case.images for case in found.cases] == [(path,) for path in paths]
        assert ids(found) == ["pat1_ct", "pat2_ct"]


def test_equal_stems_of_other_formats_are_both_predicted(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a.jpg", "b.png", "a_png.bmp")
    found = find_images([tmp_path])
    assert sorted(ids(found)) == ["a_jpg", "a_png", "a_png_2", "b"]
    assert "a.jpg gives a_jpg" in found.notes[0]


def test_a_label_beside_its_image_is_told_and_a_second_type_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "mixed/a.png", "mixed/a_mask.png", "mixed/b.png", "mixed/b_mask.png", "types/a.jpg", "types/a.png")
    found = find_images([tmp_path / "mixed"])
    assert ids(found) == ["a", "b"]
    assert found.notes == ("2 labels beside the images left out: a_mask.png, b_mask.png",)
    assert ids(find_images([tmp_path / "types"])) == ["a_jpg", "a_png"]


def test_equal_names_of_several_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "f/a.png", "g/a.png", "g/b.png", "empty/readme.txt")
    found = find_images([tmp_path / "f", tmp_path / "g", tmp_path / "empty"])
    assert ids(found) == ["f_a", "g_a", "b"]
    assert [problem.got for problem in found.skipped] == ["a folder with readme.txt"]
    with pytest.raises(DataError, match=r"empty: got a folder with readme\.txt"):
        find_images([tmp_path / "empty"])


def test_files_that_are_no_images_are_one_note(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "readme.txt", "p/more.txt", "p/x.docx", ".hidden.png", "a.raw", "__MACOSX/b.png")
    found = find_images([tmp_path])
    assert ids(found) == ["a"]
    assert not found.skipped
    assert found.notes == ("3 files that are no images were left out: .txt (2), .docx (1)",)


def test_images_that_are_not_read_are_skipped_with_the_way_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.czi", "c/d.CZI", "e.psd", "f.n5/0/0.0")
    found = find_images([tmp_path])
    assert ids(found) == ["a"]
    gots = sorted(problem.got for problem in found.skipped)
    assert gots == [f"an image of the type {type}, which is not read" for type in (".czi", ".czi", ".n5", ".psd")]
    assert "OME-TIFF" in next(problem.action for problem in found.skipped if ".czi" in problem.got)
    single = find_images([tmp_path / "b.czi", tmp_path / "a.png"])
    assert (ids(single), len(single.skipped)) == (["a"], 1)


def test_a_dicom_series_is_said_to_be_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "series").mkdir()
    for number in range(3):
        (tmp_path / "series" / f"IM{number}").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)
    found = find_images([tmp_path])
    (problem,) = found.skipped
    assert (problem.where, problem.got) == (str(tmp_path / "series"), "a DICOM series (3 files)")
    assert "dcm2niix" in problem.action
    with pytest.raises(DataError, match="DICOM"):
        find_images([tmp_path / "series"])
    with pytest.raises(DataError, match="a DICOM file"):
        find_images([tmp_path / "series" / "IM0"])


def test_a_png_by_the_name_of_none_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "b.dat").write_bytes(b"\x89PNG\r\n\x1a\n")
    (problem,) = find_images([tmp_path]).skipped
    assert (problem.got, problem.expected) == ("a PNG file that is not named like one", "the suffix .png")


def test_links_and_pipes(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/deep/b.png")
    (tmp_path / "in/deep/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/self.png").symlink_to("self.png")
    os.mkfifo(tmp_path / "in/pipe.png")
    found = find_images([tmp_path / "in"])
    assert ids(found) == ["a", "deep/b"]
    assert {Path(problem.where).name: problem.got for problem in found.skipped} == {
        "self.png": "a link that leads nowhere",
        "pipe.png": "no file (a pipe or a device?)",
    }
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="a link that leads nowhere"):
        find_images([tmp_path / "loop"])
    with pytest.raises(DataError, match="a pipe"):
        find_images([tmp_path / "in/pipe.png"])


def test_the_folder_of_the_results_is_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png")
    assert ids(find_images([tmp_path], out=tmp_path / "out")) == ["a"]
    assert ids(find_images([tmp_path / "out"], out=tmp_path / "out")) == ["a"]


def test_images_of_all_subsets_are_predicted_and_no_label(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/images/b.png", "train/masks/a.png", "train/masks/orphan.png")
    touch(tmp_path, "val/images/c.png", "test/images/d_0000.png", "test/images/d_0001.png", "testing")
    found = find_images([tmp_path])
    assert sorted(ids(found)) == ["a", "b", "c", "d_0000", "d_0001"]
    assert any("1 label file without an image left out: orphan.png" in note for note in found.notes)
    assert sorted(ids(find_images([tmp_path], ("t1", "t2")))) == ["a", "b", "c", "d"]


def test_no_image_of_a_kaggle_folder_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "x/images/1.png", "y/images/a.png", "y/images/b.png", "z/readme.txt")
    assert ids(find_images([tmp_path])) == ["x", "y/a", "y/b"]


def test_channel_files_are_one_case_where_the_network_needs_them(tmp_path: Path) -> None:
    touch(tmp_path, "f/a_0000.png", "f/a_0001.png", "f/b_0000.png", "f/c.png", "imagesTs/e_0000.nii.gz")
    assert ids(find_images([tmp_path / "f"])) == ["a_0000", "a_0001", "b_0000", "c"]
    touch(tmp_path, "g/a_0000.png", "g/b_0000.png")
    assert ids(find_images([tmp_path / "g"])) == ["a", "b"]
    assert ids(find_images([tmp_path / "g"], ("R", "G", "B"))) == ["a", "b"]  # colors of one picture each
    found = find_images([tmp_path / "f"], ("t1", "t2"))
    assert files(tmp_path, found) == {"a": ["f/a_0000.png", "f/a_0001.png"], "c": ["f/c.png"]}
    assert [problem.got for problem in found.skipped] == ["the channels 0000 for b"]
    for path in (tmp_path / "imagesTs", tmp_path / "imagesTs/e_0000.nii.gz"):
        assert ids(find_images([path])) == ["e"]
    for paths in (["f/a_0000.png"], ["f/a_0000.png", "f/a_0001.png"]):
        assert ids(find_images([tmp_path / path for path in paths], ("t1", "t2"))) == ["a"]


def test_channels_are_joined_by_name_in_the_order_of_the_network(tmp_path: Path) -> None:
    touch(tmp_path, *(f"P{patient}/P{patient}_{channel}.nii.gz" for patient in (1, 2) for channel in ("t1", "t1ce")))
    touch(tmp_path, "P3/t1.nii.gz", "P3/t1ce.nii.gz", "P4/P4_t1.nii.gz", "P4/P4_flair.nii.gz", "P4/P4_t2.nii.gz")
    found = find_images([tmp_path], ("t1ce", "t1"))
    assert files(tmp_path, found)["P1"] == ["P1/P1_t1ce.nii.gz", "P1/P1_t1.nii.gz"]
    assert ids(found)[:3] == ["P1", "P2", "P3"]
    three = find_images([tmp_path / "P4"], ("t1", "t2", "adc"))
    assert [problem.got for problem in three.skipped] == ["the channels t1, t2 for P4"]
    assert ids(three) == ["P4_flair"]


def test_numbers_of_cases_are_no_channels(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTs/amos_0001.nii.gz", "imagesTs/amos_0002.nii.gz", "imagesTs/amos_0240.nii.gz")
    assert ids(find_images([tmp_path / "imagesTs"])) == ["amos_0001", "amos_0002", "amos_0240"]
    assert ids(find_images([tmp_path / "imagesTs/amos_0001.nii.gz"])) == ["amos_0001"]


def test_a_line_that_names_no_file_is_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "p1/scan.nii", "p1/seg.nii", "p2/scan.nii", "p2/t2.nii", "p2/seg.nii")
    rows = [f"{patient}/scan.nii,{patient}/t2.nii,{patient}/seg.nii" for patient in ("p1", "p2")]
    (tmp_path / "table.csv").write_text("\n".join(["image,image_2,label", *rows]))
    found = find_images([tmp_path / "table.csv"], ("t1", "t2"))
    assert [(case.id, len(case.images), case.labels) for case in found.cases] == [("scan", 2, ())]
    assert [problem.got for problem in found.skipped] == [f"no file {tmp_path / 'p1/t2.nii'}"]


def test_a_declared_data_set(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumor": 1}}))
    for path in (tmp_path, tmp_path / "dataset.json"):
        assert files(tmp_path, find_images([path])) == {
            "a": ["imagesTr/a_0000.nii.gz"],
            "b": ["imagesTs/b_0000.nii.gz"],
        }


def test_users_folders(cases: Path) -> None:
    found = find_images([cases / "2d/predict-same-stem/inputs"])
    assert ids(found) == ["a_jpg", "a_png", "b"]
    found = find_images([cases / "2d/predict-leaves-files-out/inputs"])
    assert len(found.cases) + len(found.skipped) == 4
    folder = cases / "3d/patient-folders"
    assert ids(find_images([folder / "patients"])) == ["pat1_ct", "pat2_ct"]
    assert ids(find_images([folder / "patients/pat1/ct.nii.gz", folder / "patients/pat2/ct.nii.gz"])) == [
        "pat1_ct",
        "pat2_ct",
    ]
    assert ids(find_images([folder / "list.csv"])) == ["pat1_ct", "pat2_ct"]


FOLDERS = st.sampled_from(["", "p1/", "p2/", "images/", "p1/images/", "masks/", "imagesTs/", "deep/er/"])
STEMS = st.sampled_from(
    ["a", "b", "a_0000", "a_0001", "a_t1", "a_t2", "a_seg", "ct", "volume-1", "segmentation-1", "1"]
)
TYPES = st.sampled_from([".png", ".jpg", ".nii.gz", ".tif", ".czi", ".txt", ""])


@given(st.sets(st.builds("{}{}{}".format, FOLDERS, STEMS, TYPES), min_size=1, max_size=12), st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=150)
def test_every_file_has_one_fate_and_every_result_one_name(names: set[str], channels: int) -> None:
    with TemporaryDirectory() as folder:
        root = touch(Path(folder), *sorted(names))
        try:
            found = find_images([root], ("t1", "t2")[:channels])
        except DataError:
            assert not any(is_image(Path(name)) for name in names) or channels == 2
            return
        images = [path.relative_to(root).as_posix() for case in found.cases for path in case.images]
        assert len(images) == len(set(images))
        assert len({case.id for case in found.cases}) == len(found.cases)
        assert all(".." not in case.id and not case.id.startswith("/") for case in found.cases)
        left = {name for name in names if name not in images and is_image(Path(name))}
        told = bool(found.skipped) or any("left out" in note and "label" in note for note in found.notes)
        assert not left or told or all(_is_label_of(name) for name in left), (left, found)
        assert sum(".czi" in problem.got for problem in found.skipped) == sum(name.endswith(".czi") for name in names)
        others = [name for name in names if name.endswith(".txt") or "." not in Path(name).name]
        assert bool(others) == any("no image" in note for note in found.notes)


def _is_label_of(name: str) -> bool:
    """Labels in a folder of labels are left out of a data set silently."""
    return name.startswith("masks/")


def test_labels_and_pictures_beside_images_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.tif", "images/2.tif", "images/1_superpixels.png", "fov/1_fov.gif")
    found = find_images([tmp_path])
    assert ids(found) == ["1", "2"]
    assert any("1 picture of images left out: 1_superpixels.png" in note for note in found.notes)
    assert any("1 label file without an image left out: 1_fov.gif" in note for note in found.notes)
    assert ids(find_images([tmp_path / "fov"])) == ["1_fov"]


def test_patients_with_and_without_a_label_are_named_alike(tmp_path: Path) -> None:
    touch(tmp_path, "p1/ct.nii.gz", "p1/seg.nii.gz", "p2/ct.nii.gz")
    assert ids(find_images([tmp_path])) == ["p1", "p2"]
