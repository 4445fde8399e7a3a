"""Orientation tags of cameras and scanners (TIFF 6.0 tag 274, EXIF): images are read upright, as viewers show them."""

from __future__ import annotations

import numpy as np

from unetpp.volume import Geometry

TAG = 274
TURNED = "turned upright by its orientation tag"


def turn_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """View an array (..., Y, X) upright; numbers other than 2 to 8 leave it as it is."""
    if orientation in (5, 6, 7, 8):  # stored rows are columns of the scene
        array = array.swapaxes(-1, -2)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else None)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else None)
    return array[..., rows, columns]


def note_orientation(orientation: int) -> tuple[str, ...]:
    """Return the note of a file that was turned; none for one that was stored upright."""
    return (f"{TURNED} ({orientation})",) if orientation in range(2, 9) else ()


def is_turned(geometry: Geometry) -> bool:
    """Tell whether a file was turned by its orientation tag."""
    return any(note.startswith(TURNED) for note in geometry.notes)


def note_turned_pair(image: Geometry, label: Geometry) -> tuple[str, ...]:
    """Return a note on an image and its label of which one alone was turned: the other may be drawn either way."""
    if is_turned(image) == is_turned(label):
        return ()
    if is_turned(image):
        return ("the image is turned by its orientation tag, its label has none: look at the pair",)
    return ("the label is turned by its orientation tag, its image has none: look at the pair",)
