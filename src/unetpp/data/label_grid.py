"""Labels on the grid of their image, without interpolation: turned, pasted or cropped where the two grids coincide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.formats.orientation import TURNED, is_turned
from unetpp.formats.readers import describe_shape
from unetpp.volume import Geometry, Volume

_SHIFT = 0.3
"""Largest distance, in voxels, between voxels that are the same: the nearest neighbor of each is unmistakable."""
_STEP = 0.01
"""Largest relative difference between steps that are the same."""

Shape = tuple[int, ...]


class Move(NamedTuple):
    """How a label is brought onto its image: turn the axes, then start at a voxel. Axes are those of the arrays."""

    axes: tuple[int, ...]
    """Axis of the label that becomes each axis of the image."""
    flips: tuple[bool, ...]
    """Whether each axis, after turning, is reversed."""
    start: tuple[int, ...]
    """Voxel of the image at which the turned label starts."""

    def turn(self, array: np.ndarray) -> np.ndarray:
        """Turn an array (*spatial) or (C, *spatial) onto the axes of the image."""
        first = array.ndim - len(self.axes)
        turned = array.transpose(*range(first), *(axis + first for axis in self.axes))
        steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)
        return turned[(..., *steps)]


class Grid(NamedTuple):
    """The grid that a label is brought onto."""

    shape: Shape
    geometry: Geometry
    owner: Literal["image", "reference"] = "image"
    """Whose grid it is, for messages."""


def place_label(label: Volume, grid: Grid, where: str, label_grid: Literal["file", "image"] = "file") -> Volume:
    """Bring a label onto the grid of its image; nothing is interpolated.

    Args:
        label: the label as its file has it.
        grid: that of the image, or of the reference that a segmentation is compared with.
        where: name of the label in problems.
        label_grid: whether the place in the header of the label counts, or that of the image.

    Returns:
        The label with the shape and the place of the grid; notes of its geometry tell what was done.

    Raises:
        DataError: the label lies elsewhere, or has voxels that the image does not.
    """
    label = _match_dims(label, grid.shape)
    if label.shape == grid.shape:
        if label_grid == "image" or _is_same_place(label, grid):
            return _finish(label, grid, "")
        for move in _find_moves(label, grid) if label.geometry.is_placed and grid.geometry.is_placed else ():
            if not any(move.start) and move.turn(label.array).shape[1:] == grid.shape:
                return _finish(_map_arrays(label, move.turn), grid, f"turned onto the axes of the {grid.owner}")
        if (note := _accept_without_place(label.geometry, grid)) is not None:
            return _finish(label, grid, note)
    elif not _is_bare(label.geometry) and not _is_bare(grid.geometry):
        for move in _find_moves(label, grid):
            turned = _map_arrays(label, move.turn)
            if turned.shape == grid.shape and not any(move.start):
                return _finish(turned, grid, f"turned onto the axes of the {grid.owner}")
            if turned.shape != grid.shape:
                return _paste(turned, move.start, grid, where)
    _refuse(where, label, grid)


def describe_difference(label: Geometry, image: Geometry) -> str:
    """Describe how the place of a label differs from that of its image: voxel size, direction, else origin."""
    first, second = label.affine, image.affine
    if first is None or second is None:
        return f"voxel size {_format_mm(label.spacing_mm or ())} against {_format_mm(image.spacing_mm or ())} mm"
    sizes, expected = (np.linalg.norm(affine[:3, :3], axis=0) for affine in (first, second))
    codes, wanted = _name_axes(first), _name_axes(second)
    found = []
    if not np.allclose(np.sort(sizes), np.sort(expected), rtol=_STEP, atol=0):
        found.append(f"voxel size {_format_mm(sizes)} against {_format_mm(expected)} mm")
    if codes != wanted:
        found.append(f"axes {codes} against {wanted}")
    elif (angle := _measure_angle(first / [*sizes, 1], second / [*expected, 1])) > 0.1:
        found.append(f"axes turned by {angle:.3g} degrees")
    if not found:
        found.append(f"origin {_format_mm(first[:3, 3])} against {_format_mm(second[:3, 3])} mm")
    return ", ".join(found)


def _match_dims(label: Volume, shape: Shape) -> Volume:
    """Add or take off a first axis of a single voxel, where the image has none or one."""
    if label.dims == 3 and len(shape) == 2 and label.shape[0] == 1:
        return _map_arrays(label, lambda array: array[..., 0, :, :])
    if label.dims == 2 and len(shape) == 3 and shape[0] == 1:
        return _map_arrays(label, lambda array: array[..., None, :, :])
    return label


def _is_same_place(label: Volume, grid: Grid) -> bool:
    """Tell whether the voxels of a label of the same shape lie on those of the grid, by any of the stated places."""
    if label.geometry.matches(grid.geometry):
        return True
    same = Move(tuple(range(label.dims)), (False,) * label.dims, (0,) * label.dims)
    return any(move == same for move in _find_moves(label, grid))


def _accept_without_place(label: Geometry, grid: Grid) -> str | None:
    """Return what is to be noted of a label of the same shape, where one of the headers has no place; None: refuse."""
    if label.affine is None or grid.geometry.affine is None:
        return None
    sizes, expected = label.spacing_mm or (), grid.geometry.spacing_mm or ()
    same_sizes = len(sizes) == len(expected) and np.allclose(sizes, expected, rtol=_STEP, atol=0)
    if _is_bare(label) and (same_sizes or np.allclose(sizes, 1)):
        return f"without a header of its own; its voxels are taken for those of the {grid.owner}, of the same size"
    if not grid.geometry.is_placed and same_sizes:
        return f"the header of the {grid.owner} states no place; the label has the same size and voxel size"
    return None


def _is_bare(geometry: Geometry) -> bool:
    """Tell whether a header states no place: none, or that of an array that was saved without one."""
    if not geometry.is_placed or geometry.affine is None:
        return True
    return any(np.allclose(geometry.affine, np.diag([side, side, 1, 1])) for side in (1, -1))


def _find_moves(label: Volume, grid: Grid) -> Iterator[Move]:
    """Find the moves that bring a label onto the grid, by each pair of places, those that count first."""
    for first, second in _pairs(label.geometry, grid.geometry):
        if (move := _find_move(first, second, label.shape)) is not None:
            yield move


def _pairs(label: Geometry, image: Geometry) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places of label and image, those that count first."""
    ours = [affine for affine in (label.affine, *label.other_affines) if affine is not None]
    theirs = [affine for affine in (image.affine, *image.other_affines) if affine is not None]
    for first, second in product(ours, theirs):
        if abs(np.linalg.det(second[:3, :3])) > 0:
            yield first, second


def _find_move(label: np.ndarray, image: np.ndarray, shape: Shape) -> Move | None:
    """Find the move from a label of `shape` to its image, given their affines; None: their grids do not coincide."""
    dims = len(shape)
    sizes = np.array(shape[::-1], dtype=np.float64)  # x, y, z as affines have them
    relative = np.linalg.solve(image, label)
    exact = np.rint(relative)
    steps = exact[:dims, :dims]
    is_turn = (np.abs(steps).sum(axis=0) == 1).all() and (np.abs(steps).sum(axis=1) == 1).all()
    if not is_turn or exact[dims:3, :dims].any() or not np.allclose(relative[:3, :dims], exact[:3, :dims], 0, _STEP):
        return None
    center = np.append((sizes - 1) / 2, [0] * (3 - dims))  # where rounding of directions does least
    exact[:3, 3] = np.rint((relative - exact)[:3, :3] @ center + relative[:3, 3])
    corners = np.array([[*corner, *[0] * (3 - dims), 1] for corner in product(*((0, size - 1) for size in sizes))])
    if np.abs(corners @ (relative - exact)[:3].T).max() > _SHIFT or exact[dims:3, 3].any():
        return None
    axes = np.abs(steps).argmax(axis=1)  # axis of the label for each axis of the image
    flips = steps[np.arange(dims), axes] < 0
    start = exact[:dims, 3] - np.where(flips, sizes[axes] - 1, 0)
    return Move(
        tuple(dims - 1 - int(axis) for axis in reversed(axes)),
        tuple(bool(flip) for flip in reversed(flips)),
        tuple(int(place) for place in reversed(start)),
    )


def _paste(label: Volume, start: Shape, grid: Grid, where: str) -> Volume:
    """Put a turned label into the grid, background outside; what is cut must be background."""
    inner = tuple(
        slice(max(0, -first), max(0, min(size, whole - first)))
        for first, size, whole in zip(start, label.shape, grid.shape, strict=True)
    )
    place = tuple(slice(first + part.start, first + part.stop) for first, part in zip(start, inner, strict=True))
    kept = label.array[(slice(None), *inner)]
    cut = np.count_nonzero(label.array) - np.count_nonzero(kept)
    if cut or kept.size == 0:
        got = f"a label with marked voxels outside its {grid.owner}" if cut else f"a label outside its {grid.owner}"
        _raise(where, got, f"a label within the {describe_shape(grid.shape)} of the {grid.owner}", _find_action(grid))

    into: tuple[Any, ...] = (..., *place)
    taken: tuple[Any, ...] = (..., *inner)

    def paste(array: np.ndarray) -> np.ndarray:
        found = np.zeros((*array.shape[: array.ndim - len(grid.shape)], *grid.shape), array.dtype)
        found[into] = array[taken]
        return found

    is_part = any(size < whole for size, whole in zip(label.shape, grid.shape, strict=True))
    note = f"covers a part of the {grid.owner}; the rest is background"
    return _finish(_map_arrays(label, paste), grid, note if is_part else f"cropped to the {grid.owner}")


def _finish(label: Volume, grid: Grid, note: str) -> Volume:
    notes = (*label.geometry.notes, *([f"label: {note}"] if note else []))
    return replace(label, geometry=replace(grid.geometry, suffix=label.geometry.suffix, header=None, notes=notes))


def _map_arrays(label: Volume, change: Callable[[np.ndarray], np.ndarray]) -> Volume:
    alpha = None if label.alpha is None else change(label.alpha)
    return replace(label, array=change(label.array), alpha=alpha)


def _refuse(where: str, label: Volume, grid: Grid) -> NoReturn:
    if label.dims != len(grid.shape) or (
        label.shape != grid.shape and (_is_bare(label.geometry) or _is_bare(grid.geometry))
    ):
        _refuse_size(where, label, grid)
    difference = describe_difference(label.geometry, grid.geometry)
    if label.shape == grid.shape:
        got = f"another place than that of its {grid.owner} ({difference})"
        _raise(where, got, f"the place of the {grid.owner}", _find_action(grid))
    got = f"a label of {describe_shape(label.shape)} on another grid than its {grid.owner} ({difference})"
    action = "Resample it by nearest neighbor, or correct its header."
    _raise(where, got, f"the grid of the {grid.owner}, {describe_shape(grid.shape)}", action)


def _find_action(grid: Grid) -> str:
    if grid.owner == "image":
        return 'Correct its header, or set `data.label_grid="image"` if its voxels are those of the image.'
    return "Correct its header, or resample it onto the reference by nearest neighbor."


def _refuse_size(where: str, label: Volume, grid: Grid) -> NoReturn:
    got = f"a {label.dims}D label of {describe_shape(label.shape)}"
    _raise(
        where,
        got,
        f"{len(grid.shape)}D, {describe_shape(grid.shape)}, as its {grid.owner}",
        _find_size_action(label, grid),
    )


def _find_size_action(label: Volume, grid: Grid) -> str:
    """Name the cause that two sizes suggest: an orientation tag in one of two files, or pages taken for planes."""
    if label.shape == grid.shape[::-1] and is_turned(label.geometry) != is_turned(grid.geometry):
        turned = "label" if is_turned(label.geometry) else grid.owner
        return f"The {turned} alone was {TURNED}: turn both or neither, or remove the tag."
    if label.dims == 2 and len(grid.shape) == 3 and grid.geometry.affine is None:
        pages = f"The {grid.shape[0]} pages of the {grid.owner} were taken for planes"
        return f'{pages}; if they are channels, say so: `data.axes="CYX"`.'
    return f"Give the label that belongs to the {grid.owner}; do not resize it with interpolation."


def _raise(where: str, got: str, expected: str, action: str) -> NoReturn:
    raise DataError(Problem(where, got, expected, action, topic="grid"))


def _name_axes(affine: np.ndarray) -> str:
    """Name the direction in which each axis (x, y, z) runs, as nibabel does: RAS, LPS."""
    steps = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    names = ["?"] * 3
    for _ in range(3):  # the clearest axis chooses first
        row, column = np.unravel_index(np.nanargmax(np.abs(steps)), steps.shape)
        names[column] = ("LPI", "RAS")[int(steps[row, column] > 0)][row]
        steps[row], steps[:, column] = 0, 0
    return "".join(names)


def _measure_angle(first: np.ndarray, second: np.ndarray) -> float:
    cosines = (first[:3, :3] * second[:3, :3]).sum(axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())


def _format_mm(values: Iterable[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
