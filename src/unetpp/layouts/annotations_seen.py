"""Annotations that are no label images, recognized by a look at the first of their files."""

from __future__ import annotations

import re
from pathlib import Path

from unetpp.errors import Problem
from unetpp.layouts.tree import Folder
from unetpp.words import count_noun

_LOOK = 100_000
"""Characters of a file that are looked at."""
_KINDS: tuple[tuple[str, str, str], ...] = (
    (".json", r'"shapes"\s*:', "LabelMe"),
    (".json", r'"segmentation"\s*:|"categories"\s*:', "COCO"),
    (".json", r'"FeatureCollection"', "QuPath or other GeoJSON"),
    (".geojson", r'"FeatureCollection"|"Polygon"', "QuPath or other GeoJSON"),
    (".xml", r"<annotations[\s>]", "CVAT"),
    (".xml", r"<Annotations[\s>]", "Aperio ImageScope"),
    (".xml", r"<annotation[\s>]", "PASCAL VOC boxes"),
    (".txt", r"^\d+(?:\s+-?\d*\.?\d+(?:[eE]-?\d+)?){4}\s*$", "YOLO boxes"),
    (".txt", r"^\d+(?:\s+-?\d*\.?\d+(?:[eE]-?\d+)?){6,}\s*$", "YOLO polygons"),
    (".roi", "", "ImageJ ROI"),
    (".zip", "", "ImageJ ROI archives"),
)
"""Suffix, what the text has, name."""


def describe_annotations(root: Path, folders: list[Folder]) -> Problem | None:
    """Describe annotation files of a data set without label images; None if there are none."""
    if not any(folder.images for folder in folders):
        return None
    for folder in folders:
        for suffix, pattern, kind in _KINDS:
            files = [path for path in folder.others if path.suffix.lower() == suffix]
            if files and _has(files[0], pattern):
                got = f"{kind} annotations ({count_noun(len(files), f'{suffix} file')} such as {files[0].name})"
                action = "Convert the annotations to label images with the tool that made them, or with Fiji or QuPath."
                return Problem(str(folder.path), got, "label images: one file for each image", action)
    return None


def _has(path: Path, pattern: str) -> bool:
    if not pattern:
        return "roi" in path.name.lower()
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return re.search(pattern, stream.read(_LOOK), re.MULTILINE) is not None
    except OSError:
        return False
