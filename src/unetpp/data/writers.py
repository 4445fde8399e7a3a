"""Results as files: the format of the input and exactly its grid. Every file is written aside and renamed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unetpp.data.formats import formats_by_suffix, suffix_of
from unetpp.data.volume import Geometry
from unetpp.errors import UsageError
from unetpp.files import write_atomically


def output_suffix(geometry: Geometry) -> str:
    """Suffix of the segmentation of an image: the image's own, unless its format cannot hold class numbers in one file."""
    return formats_by_suffix()[geometry.suffix].written_as.get(geometry.suffix, geometry.suffix)


def map_suffix(geometry: Geometry) -> str:
    """Suffix of a map of numbers with a fraction: the image's own if it is a medical format, else TIFF."""
    suffix = output_suffix(geometry)
    return suffix if formats_by_suffix()[suffix].medical else ".tif"


def write_segmentation(segmentation: np.ndarray, geometry: Geometry, path: str | Path) -> None:
    """Write class numbers (*spatial), uint8 or uint16, on the grid `geometry`. The suffix of `path` is `output_suffix(geometry)`.

    Raises:
        WriteError: no space, no permission; what was at `path` before is intact.
    """
    _write(segmentation, geometry, Path(path), output_suffix(geometry))


def write_map(values: np.ndarray, geometry: Geometry, path: str | Path) -> None:
    """Write probabilities or uncertainties (*spatial) as float32. The suffix of `path` is `map_suffix(geometry)`. Raises as `write_segmentation`."""
    _write(np.asanyarray(values, dtype=np.float32), geometry, Path(path), map_suffix(geometry))


def _write(array: np.ndarray, geometry: Geometry, path: Path, expected: str) -> None:
    if suffix_of(path) != expected:
        raise UsageError(
            f"{path}: got the suffix {suffix_of(path)!r}; expected {expected!r}, as the input {geometry.suffix!r} asks for. Name the file so."
        )
    format = formats_by_suffix()[expected]
    with write_atomically(path) as aside, format.packages(f"Writing {expected} files"):
        format.write(array, geometry, aside)
