"""Small OME-Zarr images for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def describe(
    order: str, levels: int, version: str, channels: tuple[str, ...] = (), unit: str | None = "micrometer"
) -> dict[str, Any]:
    """Attributes of an image whose levels halve y and x."""
    kinds = {"t": "time", "c": "channel"}
    axes = [
        {"name": name, "type": kinds.get(name, "space"), **({"unit": unit} if unit and name not in kinds else {})}
        for name in order
    ]
    datasets = []
    for level in range(levels):
        scale = [0.5 * 2**level if name in "yx" else 1.0 for name in order]
        move = [2**level / 4 - 0.25 if name in "yx" else 0.0 for name in order]
        steps = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": move}]
        datasets.append({"path": f"s{level}", "coordinateTransformations": steps})
    image: dict[str, Any] = {"name": "cells", "axes": axes, "datasets": datasets}
    more = {"omero": {"channels": [{"label": label, "color": "FFFFFF"} for label in channels]}} if channels else {}
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [image], **more}}
    return {"multiscales": [{"version": version, **image}], **more}


def write_image(
    place: Any,
    array: np.ndarray,
    order: str,
    chunks: tuple[int, ...],
    version: str = "0.5",
    levels: int = 2,
    **more: Any,
) -> None:
    """Write an image into a folder, or into a store of zarr."""
    import zarr

    zarr_format = 3 if version == "0.5" else 2
    store = str(place) if isinstance(place, Path) else place
    zarr.create_group(store, zarr_format=zarr_format, attributes=describe(order, levels, version, **more))
    for level in range(levels):
        steps = tuple(slice(None, None, 2**level) if name in "yx" else slice(None) for name in order)
        values = array[steps]
        extra: dict[str, Any] = {"dimension_names": list(order)}
        if zarr_format == 2:
            extra = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        sizes = tuple(min(size, own) for size, own in zip(chunks, values.shape, strict=True))
        made = zarr.create_array(
            store,
            name=f"s{level}",
            shape=values.shape,
            chunks=sizes,
            dtype=values.dtype,
            zarr_format=zarr_format,
            **extra,
        )
        made[...] = values
