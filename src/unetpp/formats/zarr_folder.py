"""OME-Zarr folders as images like any other: read whole, at full resolution; segmentations of them are TIFF files."""

from __future__ import annotations

from pathlib import Path

from unetpp.formats.format import FileRefused, Format
from unetpp.formats.zarr_image import SUFFIX, open_zarr_image
from unetpp.scratch import allocate_array, release
from unetpp.volume import Volume


def _read(path: Path, suffix: str) -> Volume:
    image = open_zarr_image(path)
    if (times := image.size("t")) > 1:
        got, action = f"{times} time points", "Predict them into a store: an `out` that ends in .zarr."
        raise FileRefused(got, "one image or volume", action)
    source = image.source(range(image.size("c")))
    array = allocate_array(source.shape, source.dtype)
    rows = image.array().chunks[image.metadata.spatial[0]]
    for start in range(0, source.shape[1], rows):
        part = slice(start, min(start + rows, source.shape[1]))
        array[:, part] = source.read((part, *(slice(0, size) for size in source.shape[2:])))
        release(array)
    return Volume(array, source.geometry)


def _list_files(path: Path) -> tuple[Path, ...]:
    return tuple(sorted(file for file in path.rglob("*") if file.is_file()))


ZARR = Format(
    "OME-Zarr",
    (SUFFIX, ".ome.zarr"),
    read=_read,
    written_as={SUFFIX: ".tif", ".ome.zarr": ".tif"},
    companions=_list_files,
    is_folder=True,
    needs=("zarr", "cluster"),
)
