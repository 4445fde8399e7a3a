"""Names of label files and their folders, as data sets have them."""

from __future__ import annotations

import re
from pathlib import Path

from unetpp.formats import stem_of

_WORDS = (
    "seg|segs|dseg|pseg|segm|segmentation|segmentations|label|labels|lbl|labelmap|mask|masks|msk|gt|groundtruth|"
    "ground truth|annotation|annotations|annot|anno|manual|manualseg|manseg|truth|reference|roi|rois|instances|contour"
)
_NAME = re.compile(rf"(?:^|[-_. ])({_WORDS})(?=\d*(?:$|[-_. ]))", re.IGNORECASE)
_AGREEMENT = re.compile(r"(?:^|[-_. ])(maj|majority|consensus|staple)(?:$|[-_. ])", re.IGNORECASE)
_FOLDER = re.compile(rf"({_WORDS})(tr|ts)?", re.IGNORECASE)


def is_label_name(path: Path) -> bool:
    """Tell whether a file is named like a label: `a_seg.nii.gz`, `segmentation-0.nii`, `label.mha`."""
    return _NAME.search(stem_of(path)) is not None


def is_agreement(path: Path) -> bool:
    """Tell whether a label joins those of several persons: `aggregated_MAJ_seg`, `Consensus`, `staple_mask`."""
    return _AGREEMENT.search(stem_of(path)) is not None


def is_label_folder(name: str) -> bool:
    """Tell whether a folder is named like one of labels."""
    return _FOLDER.fullmatch(name) is not None


def split_label_name(path: Path) -> str:
    """Return the stem of a label without the words that make it one: "0" of `segmentation-0.nii`."""
    return _NAME.sub(" ", stem_of(path)).strip("-_. ")
