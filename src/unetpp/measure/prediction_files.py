"""The segmentations in a folder, also in those of several depths or sizes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from unetpp.errors import DataError, Problem
from unetpp.formats import is_image, stem_of
from unetpp.infer.record import OVERLAYS, PREDICTIONS
from unetpp.layouts.cases import refuse_unreadable
from unetpp.layouts.contents import list_content
from unetpp.measured import DepthRow
from unetpp.sizes import Size

_OF_A_SIZE = re.compile(r"depth_(\d+)|size_(\d+)x(\d+)")
"""Folders of a prediction at all depths, or of a network with shells at all sizes."""


def depth_folders(predictions: Path) -> dict[int, Path]:
    """Find the folders of all depths or sizes, by their numbers (`unetpp.sizes`)."""
    with refuse_unreadable(predictions):
        folders = [folder for folder in predictions.iterdir() if folder.is_dir()] if predictions.is_dir() else []
    found = {folder: match for folder in folders if (match := _OF_A_SIZE.fullmatch(folder.name))}
    depths = {folder: int(match[1] or match[2]) for folder, match in found.items()}
    widths = sorted({int(match[3] or 0) for match in found.values()})
    return {
        Size(depths[folder], widths.index(int(match[3] or 0))).number(max(depths.values())): folder
        for folder, match in found.items()
    }


def name_row(folder: Path) -> DepthRow:
    """Make a row that knows its size, if its folder is named after one."""
    match = _OF_A_SIZE.fullmatch(folder.name)
    return DepthRow(depth=int(match[2]), channels=int(match[3])) if match and match[3] else DepthRow()


def is_newer(predictions: Path, depth_folders: Iterable[Path]) -> bool:
    """Check whether the folder's own segmentations are newer than those of the depths (without records: exist)."""
    own, latest = _prediction_time(predictions), max(map(_prediction_time, depth_folders))
    return own > latest if own or latest else bool(list_images(predictions))


def _prediction_time(folder: Path) -> int:
    """Time at which `unetpp predict` finished; 0 without its record."""
    record = folder / PREDICTIONS
    return record.stat().st_mtime_ns if record.is_file() else 0


def find_predictions(folder: Path, names: Collection[str] | None) -> dict[str, Path]:
    """Stem -> segmentation. If files are declared, others (of an earlier prediction) are left out."""
    with refuse_unreadable(folder):
        if not folder.is_dir():
            got = "a file" if folder.exists() else "no such folder"
            raise DataError(Problem(str(folder), got, "a folder of segmentations", "Check the path."))
        files = find_label_files(folder)
    if names is not None:
        known = set(names)
        files = {stem: path for stem, path in files.items() if path.relative_to(folder).as_posix() in known}
    if not files:
        got = f"no segmentations that its {PREDICTIONS} names" if names is not None else "no segmentations"
        action = "Check the path, or predict again."
        raise DataError(Problem(str(folder), got, "label files, one for each case", action))
    return files


def find_label_files(folder: Path) -> dict[str, Path]:
    """Name -> file, also of those in folders: "p1/a" for p1/a.png. Maps of probabilities are no labels."""
    return {
        path.relative_to(folder).with_name(stem_of(path)).as_posix(): path
        for inner, paths in list_content(folder).images.items()
        if not _is_result_folder(inner.relative_to(folder).parts)
        for path in paths
    }


def has_folders(predictions: Path) -> bool:
    """Tell whether segmentations lie in folders of a folder."""
    with refuse_unreadable(predictions):
        return predictions.is_dir() and any("/" in name for name in find_label_files(predictions))


def _is_result_folder(parts: tuple[str, ...]) -> bool:
    return bool(parts) and (
        parts[0] in ("probabilities", "uncertainty", OVERLAYS) or bool(_OF_A_SIZE.fullmatch(parts[0]))
    )


def rename_as(references: Iterable[str], files: Mapping[str, Path]) -> dict[str, Path]:
    """Name segmentations in folders as the references are: p1/a may be p1_a or a, if no other file may be so."""
    known = set(references)
    counts = Counter(name for key in files for name in {key, *_other_names(key)})
    return {
        next((name for name in _other_names(key) if {key, name} & known == {name} and counts[name] == 1), key): path
        for key, path in files.items()
    }


def _other_names(key: str) -> tuple[str, ...]:
    return (key.replace("/", "_"), key.rpartition("/")[2]) if "/" in key else ()


def list_images(folder: Path) -> list[Path]:
    """List the image files that lie directly in a folder; none if there is no such folder."""
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image(path)) if folder.is_dir() else []
