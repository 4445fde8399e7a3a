"""Axes of TIFF and NumPy files: which are channels, planes, rows and columns, as the file or the user says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unetpp.formats.format import FileRefused

_KNOWN = "CSTZYX"


class Arranged(NamedTuple):
    """An array with its channels first."""

    array: np.ndarray
    """(C, [Z,] Y, X)."""
    axes: str
    """Letters of its spatial axes, as the file or the user named them: "TYX" for a film of one channel."""


def choose_axes(found: str, shape: tuple[int, ...], wanted: str | None) -> str:
    """Choose the letter of each axis.

    Args:
        found: letters that the file states; others than C, S, T, Z, Y, X are unknown.
        shape: size of each axis.
        wanted: letters that the user has set, or None.

    Returns:
        A letter for each axis.

    Raises:
        FileRefused: the user's letters do not fit the array.
    """
    if wanted is None:
        return found
    wanted = wanted.upper()
    long = [axis for axis, size in enumerate(shape) if size > 1 or found[axis] in "YX"]
    if len(wanted) == len(found) and _fit(found, wanted):
        return wanted
    kept = "".join(found[axis] for axis in long)
    if len(wanted) == len(long) and _fit(kept, wanted):
        letters = list(found)
        for axis, letter in zip(long, wanted, strict=True):
            letters[axis] = letter
        return "".join(letters)
    if kept == "YX" or (kept in ("YXS", "SYX") and "C" in wanted):  # one page, which is no stack of any kind
        return found
    sizes = " x ".join(str(shape[axis]) for axis in long)
    got = f"an array of {sizes} (axes {kept}), for which `data.axes={wanted}` does not fit"
    raise FileRefused(got, f"{len(long)} letters of C, T, Z, Y and X", "Change `data.axes`, or remove the file.")


def _fit(found: str, wanted: str) -> bool:
    """Tell whether letters rename the unknown ones alone: rows, columns and samples are where the file has them."""
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(_KNOWN) or not {"Y", "X"} <= set(wanted):
        return False
    pairs = zip(found, wanted, strict=True)
    return all(new == old if old in "YX" else new in "CS" if old == "S" else True for old, new in pairs)


def arrange(array: np.ndarray, axes: str) -> Arranged:
    """Reorder axes (S, C: channels; Y, X; all others: planes) to (C, [Z,] Y, X); those of one element are removed.

    Args:
        array: the array.
        axes: a letter for each axis.

    Raises:
        FileRefused: time points of volumes, or other axes that are too many.
    """
    keep = [axis for axis, size in enumerate(array.shape) if size > 1 or axes[axis] in "YX"]
    sizes = {axes[axis]: array.shape[axis] for axis in keep}
    array = array.reshape([array.shape[axis] for axis in keep])
    letters = "".join(axes[axis] for axis in keep)
    kinds = "".join("C" if letter in "SC" else letter if letter in "YX" else "Z" for letter in letters)
    if sorted(kinds.replace("C", "", 1).replace("Z", "", 1)) != ["X", "Y"]:
        raise _refuse(letters, sizes)
    if "C" not in kinds:
        array, kinds = array[None], "C" + kinds
    array = array.transpose([kinds.index(kind) for kind in "CZYX" if kind in kinds])
    plane = next((letter for letter in letters if letter not in "CSYX"), "")
    return Arranged(array, plane + "YX")


def _refuse(letters: str, sizes: dict[str, int]) -> FileRefused:
    shape = " x ".join(str(sizes[letter]) for letter in letters)
    if "T" in letters and "Z" in letters and "C" not in letters and "S" not in letters:
        got = f"a series of {sizes['T']} time points of {sizes['Z']} planes each (axes {letters}, {shape})"
        channels = letters.replace("T", "C")
        action = f'Save each time point as a file of its own, or set `data.axes="{channels}"` to take them as channels.'
        return FileRefused(got, "one volume for each file", action)
    got = f"an array of axes {letters} ({shape})"
    action = 'Save one image for each file, or name the axes, for example `data.axes="ZCYX"`.'
    return FileRefused(got, "at most channels, planes, rows and columns", action)
