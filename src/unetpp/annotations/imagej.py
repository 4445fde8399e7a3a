"""ImageJ: a .roi, or a .zip of many, for each image. Needs the extra `annotations`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from unetpp.annotations.documents import read_bytes, to_ring
from unetpp.annotations.outlines import Annotations, Outline
from unetpp.errors import optional_package
from unetpp.json_files import LARGEST

FOREGROUND = "foreground"
"""Class of all regions: ImageJ numbers them, and names no class."""
_WITHOUT_AREA = ("LINE", "POLYLINE", "FREELINE", "ANGLE", "POINT", "NOROI")


def matches(path: Path) -> bool:
    """Tell whether a file is a region of ImageJ, or an archive of these."""
    if path.suffix.lower() == ".roi":
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.startswith("__MACOSX")]
        return bool(names) and all(name.lower().endswith(".roi") for name in names)


def read(path: Path) -> Annotations:
    """Read all regions with an area; lines and points are left out."""
    with optional_package("roifile", "annotations", "Reading regions of ImageJ"):
        from roifile import ImagejRoi
    outlines, left_out = [], set()
    for content in _list_contents(path):
        region = ImagejRoi.frombytes(content)
        kind = region.roitype.name
        if kind in _WITHOUT_AREA:
            left_out.add(kind.lower())
            continue
        rings = [ring for ring in region.coordinates(multi=True) if len(ring) >= 3]
        outlines.append(Outline(FOREGROUND, tuple(to_ring(np.asarray(ring)) for ring in rings)))
    return Annotations("ImageJ", {"": tuple(outlines)}, (FOREGROUND,), {}, tuple(sorted(left_out)))


def _list_contents(path: Path) -> list[bytes]:
    if path.suffix.lower() == ".roi":
        return [read_bytes(path)]
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".roi")]
        entries = [entry for entry in entries if not entry.filename.startswith("__MACOSX")]
        if sum(entry.file_size for entry in entries) > LARGEST:
            raise ValueError("an archive that unpacks to more than 1 GB")
        return [archive.read(entry) for entry in entries]
