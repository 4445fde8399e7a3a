"""Well-known data sets as trees of empty files: finding cases opens no image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def touch(root: Path, *names: str) -> Path:
    """Make empty files below a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def each(pattern: str, numbers: Iterable[int] = range(1, 4)) -> list[str]:
    """Write a name for each number."""
    return [pattern.format(number) for number in numbers]


DRIVE = [
    *each("DRIVE/training/images/{:02}_training.tif", range(21, 25)),
    *each("DRIVE/training/1st_manual/{:02}_manual1.png", range(21, 25)),
    *each("DRIVE/training/mask/{:02}_training_mask.png", range(21, 25)),
    *each("DRIVE/test/images/{:02}_test.tif"),
    *each("DRIVE/test/mask/{:02}_test_mask.png"),
]
TREES: dict[str, list[str]] = {
    "drive": DRIVE,
    "drive with test labels": [
        *DRIVE,
        *each("DRIVE/test/1st_manual/{:02}_manual1.png"),
        *each("DRIVE/test/2nd_manual/{:02}_manual2.png"),
    ],
    "stare": [
        *each("stare-images/im{:04}.png"),
        *each("labels-ah/im{:04}.ah.png"),
        *each("labels-vk/im{:04}.vk.png"),
    ],
    "chase": [
        *each("Image_{:02}L.jpg"),
        *each("Image_{:02}L_1stHO.png"),
        *each("Image_{:02}L_2ndHO.png"),
    ],
    "hrf": [*each("images/{:02}_dr.jpg"), *each("manual1/{:02}_dr.tif"), *each("mask/{:02}_dr_mask.tif")],
    "kvasir": [
        *each("Kvasir-SEG/images/cju{}.jpg"),
        *each("Kvasir-SEG/masks/cju{}.jpg"),
        "Kvasir-SEG/kavsir_bboxes.json",
    ],
    "cvc": [*each("Original/{}.tif"), *each("Ground Truth/{}.tif")],
    "isic 2016": [
        *each("ISBI2016_ISIC_Part1_Training_Data/ISIC_{:07}.jpg"),
        *each("ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_{:07}_Segmentation.png"),
        *each("ISBI2016_ISIC_Part1_Test_Data/ISIC_{:07}.jpg", range(4, 6)),
        *each("ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_{:07}_Segmentation.png", range(4, 6)),
    ],
    "isic 2017": [
        *each("ISIC-2017_Training_Data/ISIC_{:07}.jpg"),
        *each("ISIC-2017_Training_Data/ISIC_{:07}_superpixels.png"),
        "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv",
        *each("ISIC-2017_Training_Part1_GroundTruth/ISIC_{:07}_segmentation.png"),
        *each("ISIC-2017_Test_v2_Data/ISIC_{:07}.jpg", range(4, 6)),
        *each("ISIC-2017_Test_v2_Part1_GroundTruth/ISIC_{:07}_segmentation.png", range(4, 6)),
    ],
    "isic 2018": [
        *each("ISIC2018_Task1-2_Training_Input/ISIC_{:07}.jpg"),
        *each("ISIC2018_Task1_Training_GroundTruth/ISIC_{:07}_segmentation.png"),
        *each("ISIC2018_Task2_Training_GroundTruth_v3/ISIC_{:07}_attribute_globules.png"),
        *each("ISIC2018_Task2_Training_GroundTruth_v3/ISIC_{:07}_attribute_streaks.png"),
        *each("ISIC2018_Task1-2_Validation_Input/ISIC_{:07}.jpg", range(4, 6)),
    ],
    "busi": [
        *each("Dataset_BUSI_with_GT/benign/benign ({}).png"),
        *each("Dataset_BUSI_with_GT/benign/benign ({})_mask.png"),
        "Dataset_BUSI_with_GT/benign/benign (2)_mask_1.png",
        *each("Dataset_BUSI_with_GT/malignant/malignant ({}).png"),
        *each("Dataset_BUSI_with_GT/malignant/malignant ({})_mask.png"),
    ],
    "glas": [
        *each("Warwick QU Dataset (Released 2016_07_08)/train_{}.bmp"),
        *each("Warwick QU Dataset (Released 2016_07_08)/train_{}_anno.bmp"),
        *each("Warwick QU Dataset (Released 2016_07_08)/testA_{}.bmp"),
        *each("Warwick QU Dataset (Released 2016_07_08)/testA_{}_anno.bmp"),
        "Warwick QU Dataset (Released 2016_07_08)/Grade.csv",
    ],
    "lgg": [
        *each("kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{}.tif"),
        *each("kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{}_mask.tif"),
        *each("kaggle_3m/TCGA_DU_5849_19950405/TCGA_DU_5849_19950405_{}.tif"),
        *each("kaggle_3m/TCGA_DU_5849_19950405/TCGA_DU_5849_19950405_{}_mask.tif"),
        "kaggle_3m/data.csv",
    ],
    "montgomery": [
        *each("MontgomerySet/CXR_png/MCUCXR_{:04}_0.png"),
        *each("MontgomerySet/ManualMask/leftMask/MCUCXR_{:04}_0.png"),
        *each("MontgomerySet/ManualMask/rightMask/MCUCXR_{:04}_0.png"),
        *each("MontgomerySet/ClinicalReadings/MCUCXR_{:04}_0.txt"),
    ],
    "stardist": [
        *each("dsb2018/train/images/{}.tif"),
        *each("dsb2018/train/masks/{}.tif"),
        *each("dsb2018/test/images/{}.tif", range(4, 6)),
        *each("dsb2018/test/masks/{}.tif", range(4, 6)),
    ],
    "cell tracking": [
        *each("01/t{:03}.tif"),
        *each("01_GT/SEG/man_seg{:03}.tif", [1, 3]),
        *each("01_GT/TRA/man_track{:03}.tif"),
        *each("02/t{:03}.tif"),
        *each("02_GT/SEG/man_seg{:03}.tif"),
    ],
    "cellpose": [
        *each("train/{:03}_img.png"),
        *each("train/{:03}_masks.png"),
        *each("test/{:03}_img.png"),
        *each("test/{:03}_masks.png"),
    ],
    "cellpose without _img": [*each("a{}.tif"), *each("a{}_masks.tif"), *each("a{}_flows.tif")],
    "voc": [
        *each("VOCdevkit/VOC2012/JPEGImages/2007_{:06}.jpg", range(1, 9)),
        *each("VOCdevkit/VOC2012/SegmentationClass/2007_{:06}.png"),
        *each("VOCdevkit/VOC2012/SegmentationObject/2007_{:06}.png"),
        *each("VOCdevkit/VOC2012/Annotations/2007_{:06}.xml", range(1, 9)),
    ],
    "mmsegmentation": [
        *each("images/training/{}.jpg"),
        *each("annotations/training/{}.png"),
        *each("images/validation/{}.jpg", range(4, 6)),
        *each("annotations/validation/{}.png", range(4, 6)),
    ],
    "mmsegmentation img_dir": [
        *each("img_dir/train/{}.jpg"),
        *each("ann_dir/train/{}.png"),
        *each("img_dir/val/{}.jpg", range(4, 6)),
        *each("ann_dir/val/{}.png", range(4, 6)),
    ],
    "zhixuhao": [
        *each("membrane/train/image/{}.png"),
        *each("membrane/train/label/{}.png"),
        *each("membrane/test/{}.png"),
        *each("membrane/test/{}_predict.png"),
    ],
    "milesial": [*each("imgs/{}.jpg"), *each("masks/{}_mask.png")],
    "carvana": [
        *each("train/abc_{:02}.jpg"),
        *each("train_masks/abc_{:02}_mask.png"),
        *each("test/xyz_{:02}.jpg"),
    ],
    "pranet": [
        *each("TrainDataset/image/{}.png"),
        *each("TrainDataset/mask/{}.png"),
        *each("TestDataset/CVC-300/images/{}.png"),
        *each("TestDataset/CVC-300/masks/{}.png"),
        *each("TestDataset/Kvasir/images/{}.png"),
        *each("TestDataset/Kvasir/masks/{}.png"),
    ],
    "nested unet": [*each("images/{}.png"), *each("masks/0/{}.png"), *each("masks/1/{}.png")],
    "one class folder": [*each("images/{}.png"), *each("masks/0/{}.png")],
    "patients": [
        *each("images/p{}/0.png"),
        *each("images/p{}/1.png"),
        *each("masks/p{}/0.png"),
        *each("masks/p{}/1.png"),
    ],
    "patient folders": [*each("p{}/image.png"), *each("p{}/mask.png")],
    "patient folders with images": [
        *each("p{}/images/0.png"),
        *each("p{}/images/1.png"),
        *each("p{}/masks/0.png"),
        *each("p{}/masks/1.png"),
    ],
    "splits": [
        *each("images/train/{}.png"),
        *each("masks/train/{}.png"),
        *each("images/val/{}.png", [4, 5]),
        *each("masks/val/{}.png", [4, 5]),
    ],
    "same names in splits": [
        *each("train/images/{}.png"),
        *each("train/masks/{}.png"),
        *each("val/images/{}.png", [1, 5]),
        *each("val/masks/{}.png", [1, 5]),
    ],
    "cells beside masks": [*each("cells/{}.png"), *each("masks/{}.png")],
    "images beside masks": [*each("{}.png"), *each("masks/{}.png")],
    "jpeg and png": [*each("{}.jpg"), *each("{}.png")],
    "nnunet without json": [*each("imagesTr/c_{:03}_0000.nii.gz"), *each("labelsTr/c_{:03}.nii.gz")],
    "cityscapes": [
        *each("leftImg8bit/train/aachen/aachen_{:06}_leftImg8bit.png"),
        *each("gtFine/train/aachen/aachen_{:06}_gtFine_labelIds.png"),
    ],
    "bbbc039": [*each("images/IXM{}_w1.tif"), *each("masks/IXM{}_w1.png")],
    "Images/Masks": [
        *each("Train/Images/{}.png"),
        *each("Train/Masks/{}.png"),
        *each("Val/Images/{}.png", [4]),
        *each("Val/Masks/{}.png", [4]),
    ],
    "roboflow": [*each("train/{}_jpg.rf.0a1.jpg"), *each("train/{}_jpg.rf.0a1_mask.png"), "train/_classes.csv"],
    "cityscapes as downloaded": [
        *each("leftImg8bit/train/aachen/aachen_{:06}_000019_leftImg8bit.png"),
        *each("gtFine/train/aachen/aachen_{:06}_000019_gtFine_color.png"),
        *each("gtFine/train/aachen/aachen_{:06}_000019_gtFine_instanceIds.png"),
        *each("gtFine/train/aachen/aachen_{:06}_000019_gtFine_labelIds.png"),
        *each("gtFine/train/aachen/aachen_{:06}_000019_gtFine_polygons.json"),
    ],
    "cholecseg8k": [
        *each("video01/video01_00080/frame_{}_endo.png"),
        *each("video01/video01_00080/frame_{}_endo_mask.png"),
        *each("video01/video01_00080/frame_{}_endo_color_mask.png"),
        *each("video01/video01_00080/frame_{}_endo_watershed_mask.png"),
    ],
    "camvid": [
        *each("CamVid/train/0001TP_{:06}.png"),
        *each("CamVid/trainannot/0001TP_{:06}.png"),
        *each("CamVid/val/0016E5_{:06}.png"),
        *each("CamVid/valannot/0016E5_{:06}.png"),
    ],
    "cvat camvid": [*each("default/{}.png"), *each("defaultannot/{}.png"), "label_colors.txt"],
    "supervisely": [
        *each("project/ds0/img/{}.jpg"),
        *each("project/ds0/masks_machine/{}.png"),
        *each("project/ds0/masks_human/{}.png"),
        *each("project/ds0/ann/{}.jpg.json"),
    ],
    "tnbc": [
        *each("Slide_{0:02}/{0:02}_1.png"),
        *each("Slide_{0:02}/{0:02}_2.png"),
        *each("GT_{0:02}/{0:02}_1.png"),
        *each("GT_{0:02}/{0:02}_2.png"),
    ],
    "ph2": [
        *each("PH2 Dataset images/IMD{0:03}/IMD{0:03}_Dermoscopic_Image/IMD{0:03}.bmp"),
        *each("PH2 Dataset images/IMD{0:03}/IMD{0:03}_lesion/IMD{0:03}_lesion.bmp"),
        *each("PH2 Dataset images/IMD{0:03}/IMD{0:03}_roi/IMD{0:03}_R1_Label1.bmp"),
        *each("PH2 Dataset images/IMD{0:03}/IMD{0:03}_roi/IMD{0:03}_R1_Label3.bmp"),
    ],
    "cellpose beside its arrays": [*each("a{}.tif"), *each("a{}_cp_masks.png"), *each("a{}_seg.npy")],
    "augmented copies": [
        *each("train/image/{}.png"),
        *each("train/label/{}.png"),
        *each("train/aug/image_{}_7.png"),
        *each("train/aug/mask_{}_7.png"),
    ],
    "folders by patient and role": [*each("p{0}_images/{0}0.png"), *each("p{0}_masks/{0}0.png")],
    "images in parts": [
        *each("volume_pt1/volume-{}.nii"),
        *each("volume_pt2/volume-{}.nii", [4, 5]),
        *each("segmentations/segmentation-{}.nii", range(1, 6)),
    ],
    "duts": [
        *each("DUTS-TR/DUTS-TR-Image/a{}.jpg"),
        *each("DUTS-TR/DUTS-TR-Mask/a{}.png"),
        *each("DUTS-TE/DUTS-TE-Image/b{}.jpg"),
        *each("DUTS-TE/DUTS-TE-Mask/b{}.png"),
    ],
}
