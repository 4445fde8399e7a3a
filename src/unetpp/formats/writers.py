"""Results as files, in the format and on the grid of the input, written atomically."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unetpp.errors import UsageError
from unetpp.files import write_atomically
from unetpp.formats import formats_by_suffix, suffix_of
from unetpp.volume import Geometry


def output_suffix(geometry: Geometry) -> str:
    """Return the suffix of a segmentation: that of the image, if its format can store class numbers in one file."""
    return formats_by_suffix()[geometry.suffix].written_as.get(geometry.suffix, geometry.suffix)


def map_suffix(geometry: Geometry) -> str:
    """Return the suffix of a map of fractions: that of the image in a medical format, else .tif."""
    suffix = output_suffix(geometry)
    return suffix if formats_by_suffix()[suffix].medical else ".tif"


def write_segmentation(segmentation: np.ndarray, geometry: Geometry, path: str | Path) -> None:
    """Write class numbers.

    Args:
        segmentation: (*spatial) uint8 or uint16.
        geometry: that of the image.
        path: with the suffix `output_suffix(geometry)`.

    Raises:
        UsageError: another suffix.
        WriteError: no space, no permission; what was at `path` before is intact.
    """
    _write(segmentation, geometry, Path(path), output_suffix(geometry))


def write_map(values: np.ndarray, geometry: Geometry, path: str | Path) -> None:
    """Write probabilities or uncertainties as float32.

    Args:
        values: (*spatial).
        geometry: that of the image.
        path: with the suffix `map_suffix(geometry)`.

    Raises:
        UsageError: another suffix.
        WriteError: no space, no permission; what was at `path` before is intact.
    """
    _write(np.asanyarray(values, dtype=np.float32), geometry, Path(path), map_suffix(geometry))


def _write(array: np.ndarray, geometry: Geometry, path: Path, expected: str) -> None:
    if suffix_of(path) != expected:
        expected_suffix = f"{expected!r}, for an input of type {geometry.suffix!r}"
        raise UsageError(path, f"the suffix {suffix_of(path)!r}", expected_suffix, "Name the file so.")
    format = formats_by_suffix()[expected]
    with write_atomically(path) as temporary, format.packages(f"Writing {expected} files"):
        format.write(array, geometry, temporary)
