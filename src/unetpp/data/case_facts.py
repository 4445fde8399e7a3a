"""What reading a case has shown: measurements of its image, and what its label shows."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator

from unetpp.data.orientation import Orientation
from unetpp.labels.facts import LabelFacts


def _write_array(array: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.str, "shape": array.shape, "data": data}


def _read_array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    numbers = np.frombuffer(base64.b64decode(value["data"]), np.dtype(value["dtype"]))
    return numbers.reshape(value["shape"])


Array = Annotated[np.ndarray, PlainValidator(_read_array), PlainSerializer(_write_array)]
"""An array that is kept in JSON bit for bit."""


@dataclass(frozen=True, eq=False)
class CaseFacts:
    """Measurements of one case. Tuples and the rows of the sample have one entry for each channel."""

    id: str
    shape: tuple[int, ...]
    channels: int
    spacing_mm: tuple[float, ...] | None
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    foreground_sample: Array
    """Intensities (channels, at most 1000) of voxels that the label marks, evenly spread."""
    label: LabelFacts | None
    """What its label shows; None without a label."""
    is_gray: bool
    """Three channels that are equal everywhere."""
    is_color_format: bool
    """One file of a format in which three channels are colors."""
    digest: str
    """Hash of the voxels, equal for equal images."""
    levels: Array
    """Percentiles 1 and 99, mean and standard deviation of each channel (channels, 4), see `data.training_range`."""
    levels_inside: Array
    """The same of the voxels that are not 0 in every channel."""
    inside: float = 1.0
    """Fraction of the image in the box around these."""
    orientation: Orientation | None = None
    """What turns its axes to RAS+; None: the header states none, or an image."""
    notes: tuple[str, ...] = ()
    """Remarks on its files: about their headers, and how the label was brought onto the image's grid."""
