"""MGH of FreeSurfer (.mgz, .mgh), by nibabel. Segmentations become NIfTI on the same grid, which FreeSurfer reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unetpp.formats.format import Format
from unetpp.formats.raw_voxels import VoxelSource, load_voxels, open_unpacked
from unetpp.volume import Geometry, Volume


def _open(path: Path, suffix: str) -> VoxelSource:
    header = _read_header(path)
    shape = tuple(int(size) for size in header.get_data_shape())
    stored = load_voxels(path, shape[::-1], header.get_data_dtype(), int(header.get_data_offset()))
    return VoxelSource(stored if stored.ndim == 4 else stored[None], _make_geometry(header, suffix))


def _read_grid(path: Path, suffix: str) -> tuple[tuple[int, ...], Geometry]:
    header = _read_header(path)
    x, y, z = (int(size) for size in header.get_data_shape()[:3])
    return (z, y, x), _make_geometry(header, suffix)


def _make_geometry(header: Any, suffix: str) -> Geometry:
    spacing = tuple(float(size) for size in reversed(header.get_zooms()[:3]))
    return Geometry(suffix, spacing, header.get_affine(), is_placed=bool(header["goodRASFlag"]))


def _read(path: Path, suffix: str) -> Volume:
    source = _open(path, suffix)
    return Volume(source.read_all(), source.geometry)


def _read_header(path: Path) -> Any:
    from nibabel.freesurfer.mghformat import MGHHeader

    with open_unpacked(path) as stream:
        head = stream.read(MGHHeader._hdrdtype.itemsize)
    if len(head) < MGHHeader._hdrdtype.itemsize or head[:4] != b"\0\0\0\1":
        raise ValueError("its content is no MGH header")
    header = MGHHeader(head, check=False)
    if (np.asarray(header["dims"]) < 1).any():
        raise ValueError(f"its header says that its size is {header['dims'].tolist()}")
    return header


MGH = Format(
    "MGH",
    (".mgz", ".mgh"),
    read=_read,
    open=_open,
    grid=_read_grid,
    medical=True,
    written_as={".mgz": ".nii.gz", ".mgh": ".nii"},
)
