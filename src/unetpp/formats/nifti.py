"""NIfTI, by nibabel. A segmentation gets the header of its image, and exactly its grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unetpp.formats.format import Format
from unetpp.volume import Geometry, Volume

_MILLIMETERS = {"meter": 1000.0, "micron": 0.001}


def _read(path: Path, suffix: str) -> Volume:
    import nibabel

    image: Any = nibabel.load(path)
    data = np.asanyarray(image.dataobj)
    if data.dtype.fields:
        data = np.stack([data[name] for name in data.dtype.fields], axis=-1)
    array = data.T  # (X, Y, Z, time, C) to (C, time, Z, Y, X)
    if array.ndim == 5 and array.shape[1] == 1:
        array = array[:, 0]
    array = array[None] if array.ndim in (2, 3) else array
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    scale = _MILLIMETERS.get(image.header.get_xyzt_units()[0], 1.0)
    zooms = image.header.get_zooms()[: min(data.ndim, 3)]
    spacing = tuple(float(zoom) * scale for zoom in reversed(zooms))
    return Volume(array, Geometry(suffix, spacing, np.diag([scale] * 3 + [1.0]) @ image.affine, image.header))


def _write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import nibabel

    header = None if geometry.header is None else geometry.header.copy()
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    if header is not None:
        header.set_data_dtype(array.dtype)
        header.set_slope_inter(1, 0)
        header.set_intent("none")
        header["cal_min"] = header["cal_max"] = 0  # the display window belongs to the image
    affine = geometry.affine if header is None else None  # None: that of the header, unrounded
    nibabel.save(image_class(array.T, affine, header), path)


NIFTI = Format("NIfTI", (".nii", ".nii.gz"), read=_read, write=_write, medical=True)
