from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.layouts.trees import TREES, each, touch
from unetpp.errors import DataError, merge_problems
from unetpp.layouts.cases import find_cases
from unetpp.layouts.dataset import Dataset

SINGLE = {
    "drive": ("21_training", "1st_manual/21_manual1.png"),
    "drive with test labels": ("01_test", "1st_manual/01_manual1.png"),
    "stare": ("im0001", "labels-ah/im0001.ah.png"),
    "chase": ("Image_01L", "Image_01L_1stHO.png"),
    "hrf": ("01_dr", "manual1/01_dr.tif"),
    "kvasir": ("cju1", "masks/cju1.jpg"),
    "cvc": ("1", "Ground Truth/1.tif"),
    "isic 2016": ("ISIC_0000001", "Part1_Training_GroundTruth/ISIC_0000001_Segmentation.png"),
    "isic 2017": ("ISIC_0000001", "Training_Part1_GroundTruth/ISIC_0000001_segmentation.png"),
    "isic 2018": ("ISIC_0000001", "Task1_Training_GroundTruth/ISIC_0000001_segmentation.png"),
    "busi": ("benign (1)", "benign/benign (1)_mask.png"),
    "glas": ("train_1", "train_1_anno.bmp"),
    "lgg": ("TCGA_DU_5849_19950405_1", "TCGA_DU_5849_19950405/TCGA_DU_5849_19950405_1_mask.tif"),
    "stardist": ("1", "train/masks/1.tif"),
    "cell tracking": ("01_t001", "01_GT/SEG/man_seg001.tif"),
    "cellpose": ("train_001_img", "train/001_masks.png"),
    "cellpose without _img": ("a1", "a1_masks.tif"),
    "voc": ("2007_000001", "SegmentationClass/2007_000001.png"),
    "mmsegmentation": ("1", "annotations/training/1.png"),
    "mmsegmentation img_dir": ("4", "ann_dir/val/4.png"),
    "zhixuhao": ("1", "train/label/1.png"),
    "milesial": ("1", "masks/1_mask.png"),
    "carvana": ("abc_01", "train_masks/abc_01_mask.png"),
    "pranet": ("test_Kvasir_1", "TestDataset/Kvasir/masks/1.png"),
    "one class folder": ("1", "masks/0/1.png"),
    "patients": ("p1_0", "masks/p1/0.png"),
    "patient folders": ("p1", "p1/mask.png"),
    "patient folders with images": ("p2_1", "p2/masks/1.png"),
    "splits": ("4", "masks/val/4.png"),
    "same names in splits": ("val_1", "val/masks/1.png"),
    "cells beside masks": ("1", "masks/1.png"),
    "images beside masks": ("1", "masks/1.png"),
    "jpeg and png": ("1", "1.png"),
    "cityscapes": ("aachen_000001_leftImg8bit", "gtFine/train/aachen/aachen_000001_gtFine_labelIds.png"),
    "bbbc039": ("IXM1_w1", "masks/IXM1_w1.png"),
    "Images/Masks": ("4", "Val/Masks/4.png"),
    "roboflow": ("1_jpg.rf.0a1", "1_jpg.rf.0a1_mask.png"),
    "cityscapes as downloaded": ("aachen_000001_000019_leftImg8bit", "aachen_000001_000019_gtFine_labelIds.png"),
    "cholecseg8k": ("frame_1_endo", "frame_1_endo_mask.png"),
    "camvid": ("0001TP_000001", "trainannot/0001TP_000001.png"),
    "cvat camvid": ("1", "defaultannot/1.png"),
    "supervisely": ("1", "masks_machine/1.png"),
    "tnbc": ("02_1", "GT_02/02_1.png"),
    "ph2": ("IMD001", "IMD001_lesion/IMD001_lesion.bmp"),
    "cellpose beside its arrays": ("a1", "a1_cp_masks.png"),
    "augmented copies": ("1", "train/label/1.png"),
    "folders by patient and role": ("30", "p3_masks/30.png"),
    "images in parts": ("volume-4", "segmentations/segmentation-4.nii"),
    "duts": ("a1", "DUTS-TR-Mask/a1.png"),
}
"""Data set -> one case, and the end of the path of its only label."""
SPLITS = {
    "drive": {"train": 4},
    "drive with test labels": {"train": 4, "test": 3},
    "isic 2016": {"train": 3, "test": 2},
    "isic 2017": {"train": 3, "test": 2},
    "glas": {"train": 3, "test": 3},
    "stardist": {"train": 3, "test": 2},
    "cellpose": {"train": 3, "test": 3},
    "mmsegmentation": {"train": 3, "validation": 2},
    "mmsegmentation img_dir": {"train": 3, "validation": 2},
    "pranet": {"train": 3, "test": 6},
    "splits": {"train": 3, "validation": 2},
    "same names in splits": {"train": 3, "validation": 2},
    "Images/Masks": {"train": 3, "validation": 1},
    "camvid": {"train": 3, "validation": 3},
    "augmented copies": {None: 3},
    "images in parts": {None: 5},
    "duts": {"train": 3, "test": 3},
}
GROUPS = {
    **dict.fromkeys(("tnbc", "ph2", "folders by patient and role"), 3),
    **{"lgg": 2, "patients": 3, "patient folders": 3, "patient folders with images": 3, "cell tracking": 2},
}
OBJECTS = ("cellpose beside its arrays", "glas", "cellpose", "cellpose without _img", "cell tracking")


def load(root: Path, *names: str) -> Dataset:
    return find_cases(touch(root, *names))


def refuse(root: Path, *names: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(root, *names)
    return [problem.got for problem in merge_problems(caught.value.problems)]


@pytest.mark.parametrize("name", SINGLE)
def test_well_known_data_sets_load_as_they_come(tmp_path: Path, name: str) -> None:
    dataset = load(tmp_path / "set", *TREES[name])
    id, label = SINGLE[name]
    (case,) = (case for case in dataset.cases if case.id == id)
    assert str(case.labels[0]).endswith(label)
    assert len(case.images) == len(case.labels) == 1
    assert dataset.instances == (name in OBJECTS)
    if name in SPLITS:
        assert Counter(case.split for case in dataset.cases) == SPLITS[name]
    groups = {case.group for case in dataset.cases}
    assert len(groups) == GROUPS.get(name, 1)
    assert (None in groups) == (name not in GROUPS)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("cityscapes as downloaded", "not used: NAME_gtFine_instanceIds (objects, where others have classes)"),
        ("cholecseg8k", "not used: NAME_color_mask, NAME_watershed_mask (pictures of labels); used: NAME_mask"),
        ("supervisely", "not used: masks_human/ (pictures of labels); used: masks_machine/"),
        ("augmented copies", "augmented copies are left out: aug/"),
        ("ph2", "NAME_roi/ is not used: it has not one label for each image"),
    ],
)
def test_what_is_left_out_is_said(tmp_path: Path, name: str, note: str) -> None:
    assert any(each.startswith(note) for each in load(tmp_path, *TREES[name]).notes)


@pytest.mark.parametrize("classes", [("human", "dog"), ("object", "shadow")])
def test_classes_are_no_other_forms_of_a_label(tmp_path: Path, classes: tuple[str, str]) -> None:
    for root, pattern in (("files", "{{}}_{}"), ("folders", "{}/{{}}")):
        names = [name for own in classes for name in each(f"masks/{pattern.format(own)}.png")]
        dataset = load(tmp_path / root, *each("images/{}.png"), *names)
        assert {case.label_classes for case in dataset.cases} in ({classes}, {classes[::-1]})


def test_augmented_images_are_kept_if_they_are_all_that_trains(tmp_path: Path) -> None:
    names = [f"{folder}/{kind}/{{}}.png" for folder in ("train/augmented", "val") for kind in ("images", "masks")]
    dataset = load(tmp_path, *(name for pattern in names for name in each(pattern)))
    assert Counter(case.split for case in dataset.cases) == {"train": 3, "validation": 3}


def test_a_folder_that_repeats_the_others_is_left_out(tmp_path: Path) -> None:
    """The archive of LGG holds everything twice, once in a folder whose name says segmentation."""
    touch(tmp_path / "lgg-mri-segmentation", *TREES["lgg"])
    dataset = load(tmp_path, *TREES["lgg"])
    assert len(dataset.cases) == 6
    assert not any("lgg-mri" in str(path) for case in dataset.cases for path in (*case.images, *case.labels))
    assert "lgg-mri-segmentation/ repeats the other folders and is left out" in dataset.notes
    for path in (tmp_path / "lgg-mri-segmentation").rglob("*.tif"):
        path.write_bytes(b"other")
    assert len(find_cases(tmp_path).cases) == 12


def test_a_folder_named_after_segmentation_may_hold_images_and_masks(tmp_path: Path) -> None:
    dataset = load(tmp_path, *each("Segmentation set 1/{}.png"), *each("Segmentation set 1/{}_mask.png"), "a/notes.txt")
    assert [case.labels[0].name for case in dataset.cases] == ["1_mask.png", "2_mask.png", "3_mask.png"]


def test_plain_masks_may_be_classes(tmp_path: Path) -> None:
    assert not load(tmp_path, *each("{}.png"), *each("{}_masks.png")).instances


def test_the_field_of_view_is_no_label(tmp_path: Path) -> None:
    for name, folder in (("drive", "DRIVE"), ("drive", "DRIVE/training"), ("hrf", "")):
        root = tmp_path / name
        dataset = find_cases(touch(root, *TREES[name]) / folder)
        assert all("manual" in str(case.labels[0]) for case in dataset.cases)
        assert "mask/ is taken for the field of view, which is no label" in dataset.notes
    assert refuse(tmp_path / "drive" / "DRIVE" / "test") == ["images without labels in images/ beside mask/"]


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("stare", "labels of several observers: labels-ah/ is used, labels-vk/ is not"),
        ("chase", "labels of several observers: NAME_1stHO is used, NAME_2ndHO is not"),
        ("drive with test labels", "labels of several observers: 1st_manual/ is used, 2nd_manual/ is not"),
        ("voc", "not used: SegmentationObject/ (objects, where others have classes); used: SegmentationClass/"),
        ("isic 2017", "pictures made from images are left out: NAME_superpixels"),
        ("busi", "several masks of one image are united: NAME_mask, NAME_mask_1"),
        ("busi", "the folders benign, malignant are taken for kinds of images, not for groups"),
        ("lgg", "cases of one folder stay together: 2 groups"),
        ("milesial", "labels are named NAME_mask"),
        ("montgomery", "the masks of one image are united: ManualMask/leftMask/, ManualMask/rightMask/"),
        ("nested unet", "masks/ has a folder for each class: 0, 1"),
        ("cell tracking", "1 frame without a segmentation left out"),
        ("jpeg and png", "of two files with one name, the JPEG is taken for the image, the other for its label"),
    ],
)
def test_what_was_chosen_is_said(tmp_path: Path, name: str, note: str) -> None:
    assert note in load(tmp_path, *TREES[name]).notes


def test_images_without_labels_are_counted(tmp_path: Path) -> None:
    names = "2007_000004.jpg, 2007_000005.jpg, 2007_000006.jpg and 2 more"
    assert f"5 of 8 images have no label and are left out: {names}" in " ".join(load(tmp_path, *TREES["voc"]).notes)


def test_several_label_files_of_one_image(tmp_path: Path) -> None:
    busi = load(tmp_path / "busi", *TREES["busi"])
    assert (busi.joined, [len(case.labels) for case in busi.cases]) == ("union", [1, 2, 1, 1, 1, 1])
    montgomery = load(tmp_path / "montgomery", *TREES["montgomery"])
    assert (montgomery.joined, {len(case.labels) for case in montgomery.cases}) == ("union", {2})
    nested = load(tmp_path / "nested", *TREES["nested unet"])
    assert (nested.layout, nested.joined, nested.cases[0].label_classes) == ("classes", "classes", ("0", "1"))


def test_a_class_may_be_absent_in_an_image(tmp_path: Path) -> None:
    files = [*each("images/{}.png"), *each("masks/{}_liver.png"), *each("masks/{}_spleen.png", [1, 2])]
    by_ending = load(tmp_path / "a", *files)
    files = [*each("images/{}.png"), *each("masks/liver/{}.png"), *each("masks/spleen/{}.png", [1, 2])]
    by_folder = load(tmp_path / "b", *files)
    for dataset in (by_ending, by_folder):
        assert [case.label_classes for case in dataset.cases] == [("liver", "spleen"), ("liver", "spleen"), ("liver",)]


def test_channels_without_a_declaration(tmp_path: Path) -> None:
    files = [*each("imagesTr/c_{:03}_0000.png"), *each("imagesTr/c_{:03}_0001.png"), *each("labelsTr/c_{:03}.png")]
    (case, *_) = load(tmp_path, *files).cases
    assert (case.id, [path.name for path in case.images]) == ("c_001", ["c_001_0000.png", "c_001_0001.png"])


def test_lists_divide_cases(tmp_path: Path) -> None:
    touch(tmp_path, *TREES["voc"])
    folder = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    touch(folder, "train.txt", "val.txt", "trainval.txt")
    (folder / "train.txt").write_text("2007_000001\n2007_000003\n")
    (folder / "val.txt").write_text("2007_000002\n")
    dataset = find_cases(tmp_path)
    assert [case.split for case in dataset.cases] == ["train", "validation", "train"]
    assert any("train.txt, val.txt" in note for note in dataset.notes)


PNG, TIF = ["PNG/Original", "PNG/Ground Truth"], ["TIF/Original", "TIF/Ground Truth"]


@pytest.mark.parametrize(
    ("folders", "got"),
    [
        (["images", "masks", "labels"], "labels of the same images in labels/ and masks/"),
        (["images", "masks/bin", "masks/gray"], "labels of the same images in masks/bin/ and masks/gray/"),
        (["images", "labels-bob", "labels-eve"], "labels of the same images in labels-bob/ and labels-eve/"),
        (["images", "img", "masks"], "images with the same names in images/ and img/"),
        (["images/T1", "images/T2", "masks"], "labels in masks/ that fit the images in T1/, T2/ alike"),
        ([*PNG, *TIF], "the folders PNG, TIF, one for each file format"),
        (["images/train", "images/val"], "images without labels in images/train/, images/val/"),
    ],
)
def test_folders_that_are_unclear_are_one_line(tmp_path: Path, folders: list[str], got: str) -> None:
    assert refuse(tmp_path, *(name for folder in folders for name in each(folder + "/{}.png"))) == [got]


def test_labels_that_contradict_each_other_are_one_line(tmp_path: Path) -> None:
    files = [*each("{}.png"), *each("{}_mask.png"), *each("{}_label.png")]
    assert refuse(tmp_path, *files) == ["several labels for one image (NAME_label, NAME_mask)"]


def test_labels_in_a_format_that_is_not_read_are_counted(tmp_path: Path) -> None:
    assert refuse(tmp_path, *each("images/{}.png"), *each("masks/{}_mask.xyz")) == ["3 .xyz files"]


def test_many_names_that_do_not_pair_are_two_lines(tmp_path: Path) -> None:
    images = each("images/f{:03}.png", range(600))
    labels = [f"masks/{index * 7919 % 1000}z{index:x}y.png" for index in range(600)]
    assert refuse(tmp_path, *images, *labels) == [
        "an image without a label in masks/",
        "a label without an image in images/",
    ]


def test_a_table_decides_what_names_leave_unclear(tmp_path: Path) -> None:
    touch(tmp_path, *each("{}.png"), *each("{}_mask.png"), *each("{}_label.png"))
    (tmp_path / "pairs.csv").write_text("image,label\n" + "".join(f"{n}.png,{n}_mask.png\n" for n in (1, 2, 3)))
    dataset = find_cases(tmp_path)
    assert (dataset.layout, dataset.cases[0].labels) == ("csv", (tmp_path / "1_mask.png",))


def test_a_table_with_other_columns_is_no_manifest(tmp_path: Path) -> None:
    touch(tmp_path, *TREES["roboflow"])
    (tmp_path / "train/_classes.csv").write_text("pixel value,class\n0,background\n")
    assert len(find_cases(tmp_path / "train").cases) == 3


def test_folders_that_are_not_used_are_named(tmp_path: Path) -> None:
    dataset = load(tmp_path, *TREES["isic 2018"])
    unused = "ISIC2018_Task2_Training_GroundTruth_v3/ is not used: it has not one label for each image"
    assert unused in dataset.notes


@pytest.mark.parametrize(
    ("name", "number", "groups", "splits"),
    [
        ("a-folder-for-each-class", 6, 1, 1),
        ("ending-segmentation", 6, 1, 1),
        ("image-and-mask-folders", 6, 1, 1),
        ("image-and-mask-prefixes", 6, 1, 1),
        ("images-and-masks-in-one-folder", 6, 1, 1),
        ("many-names-one-pattern", 80, 1, 1),
        ("mask-named-after-the-file", 6, 1, 1),
        ("names-in-two-unicode-forms", 6, 1, 1),
        ("numbers-with-zeros", 6, 1, 1),
        ("patients-inside-images", 6, 3, 1),
        ("same-names-in-train-and-val", 6, 1, 2),
        ("splits-inside-images", 6, 1, 2),
        ("ultrasound-several-masks", 6, 1, 1),
    ],
)
def test_folders_as_users_bring_them(cases: Path, name: str, number: int, groups: int, splits: int) -> None:
    dataset = find_cases(cases / "2d" / name)
    assert len(dataset.cases) == number
    assert len({case.group for case in dataset.cases}) == groups
    assert len({case.split for case in dataset.cases}) == splits


def test_two_labels_for_one_image_as_users_bring_them(cases: Path) -> None:
    assert refuse(cases / "2d" / "two-labels-for-one-image") == ["several labels for one image (NAME_label, NAME_mask)"]


def test_the_retina_layout_as_users_bring_it(cases: Path) -> None:
    dataset = find_cases(cases / "2d" / "retina-layout" / "training", tolerant=True)
    assert "mask/ is taken for the field of view, which is no label" in dataset.notes
    assert not any("mask" in str(label) for case in dataset.cases for label in case.labels)
