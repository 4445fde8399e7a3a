"""Outlines that annotation programs save: COCO, LabelMe, YOLO, CVAT, ImageScope, QuPath and ImageJ, drawn as labels.

One module for each: `matches` recognizes a file by its content, `read` returns its outlines and may raise ValueError.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from unetpp.annotations import coco, cvat, imagej, imagescope, labelme, qupath, yolo
from unetpp.annotations.documents import read_xml
from unetpp.annotations.outlines import Annotations, draw
from unetpp.errors import DataError, Problem, UnetppError
from unetpp.json_files import read_json

__all__ = ["SUFFIXES", "Annotations", "draw", "is_annotation", "read_annotations"]

SUFFIXES = (".json", ".geojson", ".xml", ".txt", ".roi", ".zip")
"""Suffixes of files that may hold outlines; their content decides."""
_Reader = Callable[[Path], Annotations]


def is_annotation(path: Path) -> bool:
    """Tell whether a file holds outlines; False too if it cannot be read."""
    return path.suffix.lower() in SUFFIXES and _find_reader(path) is not None


def read_annotations(path: Path) -> Annotations:
    """Read the outlines of a file; those of the files read last are kept.

    Raises:
        DataError: the file cannot be read, or is not what its first lines promise.
        MissingExtraError: its format needs the extra `annotations`.
    """
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except UnetppError:
        raise
    except Exception as error:  # archives and regions of ImageJ raise anything
        got = f"annotations that cannot be read ({str(error)[:160]})"
        action = "Export them again, or remove the file."
        raise DataError(Problem(str(path), got, "outlines of regions", action)) from None


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> Annotations:
    reader = _find_reader(path)
    if reader is None:
        raise ValueError("no known format")
    return reader(path)


def _find_reader(path: Path) -> _Reader | None:
    suffix = path.suffix.lower()
    try:
        if suffix in (".json", ".geojson"):
            content = read_json(path)
            return next((each.read for each in (coco, labelme, qupath) if each.matches(content)), None)
        if suffix == ".xml":
            root = read_xml(path)
            return next((each.read for each in (cvat, imagescope) if each.matches(root)), None)
        if suffix == ".txt":
            return yolo.read if path.name not in yolo.NAMES and yolo.matches(path) else None
        return imagej.read if imagej.matches(path) else None
    except Exception:  # of a damaged archive, too
        return None
