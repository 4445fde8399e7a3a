from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unetpp.errors import DataError, Problem
from unetpp.layouts.cases import find_cases
from unetpp.layouts.inputs import find_images


def touch(root: Path, *names: str) -> Path:
    """Empty files: finding cases opens no image."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def declare(root: Path, **content: Any) -> Path:
    root.mkdir(exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def problems_of(path: Path) -> list[Problem]:
    with pytest.raises(DataError) as caught:
        find_cases(path)
    return caught.value.problems


@pytest.mark.parametrize(
    ("labels", "layout", "instances"),
    [("masks", "folder", False), ("labels", "folder", False), ("instances", "instances", True)],
)
def test_images_and_labels_pair_by_stem(tmp_path: Path, labels: str, layout: str, instances: bool) -> None:
    touch(
        tmp_path,
        "images/b.tif",
        "images/a.png",
        "images/c.d.nii.gz",
        f"{labels}/a.tif",
        f"{labels}/b_mask.png",
        f"{labels}/c.d.png",
        "images/.DS_Store",
        "images/._a.png",
    )
    dataset = find_cases(tmp_path)
    assert (dataset.layout, dataset.instances, dataset.name) == (layout, instances, tmp_path.name)
    assert [case.id for case in dataset.cases] == ["a", "b", "c.d"]
    assert dataset.cases[1].labels == (tmp_path / labels / "b_mask.png",)
    assert dataset.notes == ("labels are named NAME_mask",)


def test_all_missing_partners_and_double_stems_at_once(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "images/a.png",
        "images/b.png",
        "images/c.png",
        "images/c.tif",
        "masks/a.png",
        "masks/c.png",
        "masks/d.png",
    )
    problems = problems_of(tmp_path)
    assert [problem.got for problem in problems] == [
        "several images with the stem c (c.png, c.tif)",
        "an image without a label in masks/",
        "a label without an image in images/",
    ]
    assert all(problem.expected and problem.action for problem in problems)
    assert [case.id for case in find_cases(tmp_path, tolerant=True).cases] == ["a", "c"]


def test_files_of_other_types_are_noted(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "images/readme.txt", "masks/more")
    assert [note.rpartition("/")[2] for note in find_cases(tmp_path).notes] == [
        "images: ignored readme.txt (neither an image nor named like one)",
        "masks: ignored more (neither an image nor named like one)",
    ]


def test_splits_in_folders(tmp_path: Path) -> None:
    touch(
        tmp_path, "train/images/a.png", "train/masks/a.png", "val/images/b.png", "val/masks/b.png", "test/images/c.png"
    )
    assert {case.id: case.split for case in find_cases(tmp_path).cases} == {"a": "train", "b": "validation"}
    touch(tmp_path, "val/images/a.png", "val/masks/a.png")
    assert {case.id for case in find_cases(tmp_path).cases} == {"train_a", "val_a", "b"}


def test_decathlon(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "labelsTr/a.nii.gz", "labelsTr/b.nii.gz")
    training = [{"image": f"./imagesTr/{stem}.nii.gz", "label": f"./labelsTr/{stem}.nii.gz"} for stem in "ab"]
    declare(
        tmp_path,
        modality={"0": "FLAIR", "1": "T1"},
        labels={"0": "background", "2": "edema", "1": "core"},
        training=training,
    )
    for path in (tmp_path, tmp_path / "dataset.json"):
        dataset = find_cases(path)
        assert dataset.layout == "decathlon"
        assert dataset.channels == ("FLAIR", "T1")
        assert dataset.classes == {0: "background", 1: "core", 2: "edema"}
        assert [case.id for case in dataset.cases] == ["a", "b"]


def test_decathlon_takes_channels_that_lie_in_folders(tmp_path: Path) -> None:
    touch(tmp_path, *(f"t{number}/scan_0012.png" for number in (1, 2)), "labels/other.png")
    images = ["t1/scan_0012.png", "t2/scan_0012.png"]  # no numbers of channels, as they are equal
    content = {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "cell": 1}}
    listed = {"training": [{"image": images, "label": "labels/other.png"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(content | listed))
    (case,) = find_cases(tmp_path).cases
    assert case.id == "other" and len(case.images) == 2


def test_decathlon_reports_missing_files(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a.nii.gz", "labelsTr/b.nii.gz")
    training = [{"image": f"./imagesTr/{stem}.nii.gz", "label": f"./labelsTr/{stem}.nii.gz"} for stem in "ab"]
    declare(tmp_path, modality={"0": "CT"}, labels={"0": "background", "whole": [1, 2]}, training=[*training, "c"])
    gots = [problem.got for problem in problems_of(tmp_path)]
    assert gots[0] == "labels {'0': 'background', 'whole': [1, 2]}"
    assert gots[1:] == ["the entry 'c'", "no label for a.nii.gz", "no image for labelsTr/b.nii.gz"]


@pytest.mark.parametrize("text", ["{", "[]", "\ufeff", ""])
def test_an_unreadable_declaration_is_a_problem(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    (problem,) = problems_of(tmp_path)
    assert problem.where == str(tmp_path / "dataset.json")


def test_nnunet_version_1(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"imagesTr/{stem}_000{channel}.nii.gz" for stem in ("a_1", "b_1") for channel in (0, 1)),
        "labelsTr/a_1.nii.gz",
        "labelsTr/b_1.nii.gz",
    )
    training = [{"image": f"./imagesTr/{stem}.nii.gz", "label": f"./labelsTr/{stem}.nii.gz"} for stem in ("a_1", "b_1")]
    dataset = find_cases(
        declare(tmp_path, modality={"0": "T1", "1": "T2"}, labels={"0": "background", "1": "tumor"}, training=training)
    )
    assert dataset.layout == "nnunet"
    assert dataset.cases[1].images == (tmp_path / "imagesTr/b_1_0000.nii.gz", tmp_path / "imagesTr/b_1_0001.nii.gz")


def test_nnunet_version_2(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "imagesTr/a_0000.png",
        "imagesTr/a_0001.png",
        "imagesTr/b_0000.png",
        "labelsTr/a.png",
        "labelsTr/c.png",
    )
    declare(
        tmp_path,
        channel_names={"0": "T1", "1": "T2"},
        labels={"background": 0, "tumor": 1},
        file_ending=".png",
        numTraining=1,
    )
    assert [problem.got for problem in problems_of(tmp_path)] == [
        "no label for imagesTr/b_0000.png",
        "no image for labelsTr/c.png",
    ]
    dataset = find_cases(tmp_path, tolerant=True)
    assert (dataset.layout, dataset.classes, dataset.channels) == (
        "nnunet",
        {0: "background", 1: "tumor"},
        ("T1", "T2"),
    )
    (case,) = dataset.cases
    assert (case.id, len(case.images)) == ("a", 2)


@pytest.mark.parametrize("above", ["", "stage1_train/"])
def test_kaggle(tmp_path: Path, above: str) -> None:
    touch(
        tmp_path,
        f"{above}x/images/x.png",
        f"{above}x/masks/1.png",
        f"{above}x/masks/2.png",
        f"{above}y/images/y.png",
        f"{above}y/masks/1.png",
    )
    dataset = find_cases(tmp_path)
    assert (dataset.layout, dataset.instances) == ("kaggle", True)
    assert [(case.id, len(case.labels)) for case in dataset.cases] == [("x", 2), ("y", 1)]
    touch(tmp_path, f"{above}z/images/z.png", f"{above}w/images/1.png", f"{above}w/images/2.png")
    assert [problem.got for problem in problems_of(tmp_path)] == ["2 images"]
    assert find_cases(tmp_path, tolerant=True).notes == (
        "1 of 3 images has no label and is left out: z; to train on them, add labels of their names",
    )


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_manifest(tmp_path: Path, separator: str) -> None:
    touch(
        tmp_path,
        "p1/scan.nii",
        "p1/t2.nii",
        "p1/label.nii",
        "p2/scan.nii",
        "p2/t2.nii",
        "p2/label.nii",
        "c.nii",
        "d.nii",
    )
    rows = [
        "image,image_2,label,group,split,scanner",
        "p1/scan.nii,p1/t2.nii,p1/label.nii,anna,train,x",
        "p2/scan.nii,p2/t2.nii,p2/label.nii,,val,x",
        "c.nii,d.nii,,,test,x",
    ]
    table = tmp_path / "table.csv"
    table.write_text("\ufeff" + "\n".join(rows).replace(",", separator), encoding="utf-8")
    dataset = find_cases(table)
    assert dataset.cases == find_cases(tmp_path).cases
    assert [(case.id, case.group, case.split) for case in dataset.cases] == [
        ("p1_scan", "anna", "train"),
        ("p2_scan", None, "validation"),
        ("c", None, "test"),
    ]
    assert dataset.cases[0].images == (tmp_path / "p1/scan.nii", tmp_path / "p1/t2.nii")
    assert dataset.notes == (f"{table}: ignored the columns scanner",)


def test_manifest_problems_name_their_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    table = tmp_path / "t.csv"
    table.write_text(
        "image,label,split\na.png,b.png,\na.png,absent.png,\n,b.png,\nb.png,,\nb.png,a.png,maybe\na.png,b.png,\n"
    )
    found = [(problem.where.rpartition(", ")[2], problem.got) for problem in problems_of(table)]
    assert found[:3] == [
        ("line 3", f"no file {tmp_path / 'absent.png'}"),
        ("line 4", "no image"),
        ("line 6", "the split maybe"),
    ]
    assert found[3] == ("a.png", "one image in 2 lines (b.png, b.png)")


@pytest.mark.parametrize("content", [b"", b"picture,mask\n", b"\xff\xfe\x00"])
def test_an_unreadable_manifest_is_a_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert len(problems_of(tmp_path / "t.csv")) == 1


def test_what_is_no_data_set(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "absent")[0].got == "no such file or folder"
    assert problems_of(tmp_path)[0].got == "a folder with nothing in it"
    touch(tmp_path, "a.png", "b.png")
    assert problems_of(tmp_path)[0].got == "a folder with a.png, b.png"
    assert problems_of(tmp_path / "a.png")[0].got == "a file that is no data set"
    touch(tmp_path, "images/a.png")
    assert "without labels" in problems_of(tmp_path)[0].got
    touch(tmp_path / "empty", "images/readme.md", "masks/readme.md")
    assert problems_of(tmp_path / "empty")[0].got == "no images, but 2 .md files"


def test_what_a_mac_leaves_in_an_archive_is_no_case(tmp_path: Path) -> None:
    touch(tmp_path, "x/images/x.png", "x/masks/1.png", "__MACOSX/._x")
    assert [case.id for case in find_cases(tmp_path).cases] == ["x"]


def test_a_name_in_another_encoding_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "images/B\udcfcld.png", "masks/B\udcfcld.png")
    (problem,) = problems_of(tmp_path)
    assert problem.got == "the file name 'B\\udcfcld', which is not UTF-8"


def test_entries_that_are_no_paths_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "labelsTr/a.nii.gz")
    training = [
        {"image": [1], "label": "./labelsTr/a.nii.gz"},
        {"image": "./imagesTr/b.nii.gz", "label": str(tmp_path.parent / "b.nii.gz")},
    ]
    found = [
        problem.got
        for problem in problems_of(declare(tmp_path, labels={"0": "background", "1": "tumor"}, training=training))
    ]
    assert found[0].startswith("the entry")
    assert found[1] == f"no image for {tmp_path.parent / 'b.nii.gz'}"


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "layout", "cases"),
    [
        ("nuclei", "instances", 460),
        ("em", "folder", 24),
        ("hippocampus", "decathlon", 130),
        ("nuclei_kaggle_layout", "kaggle", 12),
    ],
)
def test_real_data_sets(real_data: Path, name: str, layout: str, cases: int) -> None:
    dataset = find_cases(real_data / name)
    assert (dataset.layout, len(dataset.cases), dataset.notes) == (layout, cases, ())
    assert len(find_images([real_data / name]).cases) == cases


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png")

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert problems_of(tmp_path)[0].got == "a path that cannot be read (Permission denied)"
    with pytest.raises(DataError, match="images: got a path that cannot be read"):
        find_images([tmp_path / "images"])


def partly_labeled(root: Path, kind: str) -> Path:
    """Six images, of which 4 and 5 have no label."""
    labeled, every = "0123", "012345"
    if kind == "folder":
        return touch(root, *(f"images/{name}.png" for name in every), *(f"masks/{name}.png" for name in labeled))
    if kind == "subsets":
        touch(root, "val/images/v.png", "val/masks/v.png")
        partly_labeled(root / "train", "folder")
        return root
    if kind == "kaggle":
        touch(root, *(f"{name}/images/{name}.png" for name in every), *(f"{name}/masks/1.png" for name in labeled))
        return root
    if kind == "nnunet":
        names = [f"imagesTr/{name}_0000.nii.gz" for name in every], [f"labelsTr/{name}.nii.gz" for name in labeled]
        touch(root, *names[0], *names[1])
        return declare(root, channel_names={"0": "MRI"}, labels={"background": 0, "a": 1})
    touch(root, *(f"{name}.png" for name in every), *(f"{name}_l.png" for name in labeled))
    rows = [f"{name}.png,{name}_l.png" if name in labeled else f"{name}.png," for name in every]
    (root / "t.csv").write_text("\n".join(["image,label", *rows]))
    return root


@pytest.mark.parametrize("kind", ["folder", "subsets", "kaggle", "nnunet", "csv"])
def test_images_without_a_label_are_left_out_with_a_note(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "set"
    root.mkdir()
    dataset = find_cases(partly_labeled(root, kind))
    assert [case.id for case in dataset.cases if case.id != "v"] == ["0", "1", "2", "3"]
    (note,) = dataset.notes
    total = 7 if kind == "subsets" else 6
    assert note.startswith(f"2 of {total} images have no label and are left out: 4")


@pytest.mark.parametrize("kind", ["folder", "nnunet"])
def test_names_that_do_not_pair_stay_a_problem(tmp_path: Path, kind: str) -> None:
    """A label without an image may be that of an image without a label: nothing is left out."""
    labels, images = ("masks", "images") if kind == "folder" else ("labelsTr", "imagesTr")
    partly_labeled(tmp_path / "set", kind)
    touch(tmp_path / "set", f"{labels}/six.nii.gz")
    problems = [str(problem) for problem in problems_of(tmp_path / "set")]
    assert len(problems) == 3
    assert sum(f"{images}/4" in problem or f"{images}/5" in problem for problem in problems) == 2


def test_an_image_folder_without_any_label_stays_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png")
    (tmp_path / "masks").mkdir()
    assert [problem.got for problem in problems_of(tmp_path)] == ["images without labels in images/"]


@pytest.mark.parametrize(
    "labels", [{"background": 0, "a": 1, "b": 2, "ignore": 3}, {"background": 0, "ignore": 7, "a": 1}]
)
def test_the_ignore_label_of_nnunet(tmp_path: Path, labels: dict[str, int]) -> None:
    touch(tmp_path, *(f"imagesTr/{name}_0000.nii.gz" for name in "ab"), *(f"labelsTr/{name}.nii.gz" for name in "ab"))
    dataset = find_cases(declare(tmp_path, channel_names={"0": "MRI"}, labels=labels))
    assert dataset.ignored_value == labels["ignore"]
    assert dataset.classes == {value: name for name, value in labels.items() if name != "ignore"}


TUMOR = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}


def test_regions_of_nnunet(tmp_path: Path) -> None:
    touch(tmp_path, *(f"imagesTr/{name}_0000.nii.gz" for name in "ab"), *(f"labelsTr/{name}.nii.gz" for name in "ab"))
    declare(tmp_path, channel_names={"0": "MRI"}, labels=TUMOR, regions_class_order=[1, 2, 3])
    dataset = find_cases(tmp_path)
    assert dataset.regions is not None
    assert [(region.name, region.values) for region in dataset.regions] == [
        ("whole", (1, 2, 3)),
        ("core", (2, 3)),
        ("enhancing", (3,)),
    ]
    assert dataset.classes == {0: "background", 1: "class_1", 2: "class_2", 3: "enhancing"}
    assert dataset.ignored_value == 4


def test_the_number_that_nnunet_writes_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, *(f"imagesTr/{name}_0000.nii.gz" for name in "ab"), *(f"labelsTr/{name}.nii.gz" for name in "ab"))
    labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": [2]}
    declare(tmp_path, channel_names={"0": "CT"}, labels=labels, regions_class_order=[1, 3, 2])
    found = find_cases(tmp_path).regions or ()
    assert [region.values for region in found] == [(1, 2, 3), (3, 2), (2,)]


def test_a_list_of_one_number_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, *(f"imagesTr/{name}_0000.nii.gz" for name in "ab"), *(f"labelsTr/{name}.nii.gz" for name in "ab"))
    dataset = find_cases(declare(tmp_path, channel_names={"0": "CT"}, labels={"background": 0, "tumor": [1]}))
    assert (dataset.classes, dataset.regions) == ({0: "background", 1: "tumor"}, None)


@pytest.mark.parametrize("order", [None, [1, 2], [1, 2, 3, 4], [1, 2, 2], [1, 1, 3], [1, 2, 9], [1, 2, [3]], "1,2,3"])
def test_a_wrong_order_of_regions_is_one_clear_problem(tmp_path: Path, order: Any) -> None:
    touch(tmp_path, *(f"imagesTr/{name}_0000.nii.gz" for name in "ab"), *(f"labelsTr/{name}.nii.gz" for name in "ab"))
    declare(tmp_path, channel_names={"0": "MRI"}, labels=TUMOR, regions_class_order=order)
    (problem,) = problems_of(tmp_path)
    assert problem.got == f"regions_class_order {order!r}"
    assert "a number of its own for each of whole, core, enhancing" in problem.expected


@pytest.mark.parametrize("core", [[2, 0], [2, 2, 3], [3, 2, 1], [], [2, "3"], [2, [3]]])
def test_numbers_that_make_no_region_are_one_clear_problem(tmp_path: Path, core: Any) -> None:
    touch(tmp_path, *(f"imagesTr/{name}_0000.nii.gz" for name in "ab"), *(f"labelsTr/{name}.nii.gz" for name in "ab"))
    labels = TUMOR | {"core": core}
    declare(tmp_path, channel_names={"0": "MRI"}, labels=labels, regions_class_order=[1, 2, 3])
    (problem,) = problems_of(tmp_path)
    assert problem.got == f"labels {labels!r}"


def test_partly_labeled_cases_as_users_bring_them(cases: Path) -> None:
    dataset = find_cases(cases / "2d" / "partly-labelled")
    assert len(dataset.cases) == 4
    assert dataset.notes == (
        "2 of 6 images have no label and are left out: 4.png, 5.png; to train on them, add labels of their names",
    )
