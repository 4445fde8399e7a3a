"""Labels in an OME-Zarr store: groups and arrays are made once, and filled block by block.

OUT                      the image itself, or a group that shows its first labels as an image
OUT/labels               lists the labels
OUT/labels/NAME          one label image: as many levels as the image has, each on the grid of its own
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from unetpp.errors import DataError, UsageError
from unetpp.formats.format import FileRefused
from unetpp.formats.object_store import Objects, store_failures
from unetpp.formats.ome_zarr import (
    Level,
    list_label_axes,
    make_image_attributes,
    make_label_attributes,
    make_list_attributes,
    parse_image,
)
from unetpp.formats.zarr_image import ZarrImage, draw_opening, keep_array, open_array, read_attributes
from unetpp.infer.block_cut import Cut, cut_labels
from unetpp.infer.block_marks import FOLDER

RECORD = "unetpp"
"""Attribute of what we have written: model, options and image, and whether all blocks are there."""


@dataclass(frozen=True)
class LabelStore:
    """The labels of one image: one array for each size of the network and each level of the pyramid."""

    objects: Objects
    names: tuple[str, ...]
    """Names of the labels, one for each size of the network."""
    cuts: tuple[Cut, ...]
    """How the arrays of each level are cut."""
    zarr_format: int
    opening: str = ""
    """Drawn for each command, as `ZarrImage.opening`."""

    def array(self, name: str, level: int) -> Any:
        """Open an array for writing, unless this process has it open."""
        return keep_array(self.objects, _path(name, level), self.zarr_format, self.opening, writes=True)

    def write(self, name: str, level: int, number: int, values: np.ndarray) -> None:
        """Write a block (*area), all of its chunks; raises WriteError."""
        with store_failures(f"{self.objects}/{_path(name, level)}", writes=True):
            self.array(name, level)[self.cuts[level].area(number)] = values

    def read(self, name: str, level: int, area: tuple[slice, ...]) -> np.ndarray:
        """Read labels that were written before; raises DataError."""
        with store_failures(f"{self.objects}/{_path(name, level)}"):
            return np.asarray(self.array(name, level)[area])


def plan_labels(image: ZarrImage, dims: int) -> tuple[Cut, ...]:
    """Plan how the labels of each level are cut; `dims`: axes of one image of the network."""
    axes = list_label_axes(image.metadata)
    cuts = []
    for level in range(len(image.metadata.levels)):
        array = image.array(level)
        cuts.append(cut_labels([array.shape[axis] for axis in axes], [array.chunks[axis] for axis in axes], dims))
    return tuple(cuts)


def make_label_store(
    objects: Objects,
    image: ZarrImage,
    names: Sequence[str],
    cuts: Sequence[Cut],
    dtype: DTypeLike,
    classes: Mapping[int, str],
    record: Mapping[str, Any],
    joins: bool = False,
) -> LabelStore:
    """Make the groups and arrays of labels, where they are not there yet. Other clients may do so at the same time.

    Args:
        objects: where to.
        image: the image.
        names: names of the labels.
        cuts: what `plan_labels` returned.
        dtype: number type of the labels.
        classes: label value -> name of its class.
        record: model, options and image.
        joins: other clients may write the same labels, and may just have recorded that these are complete.

    Raises:
        UsageError: something else lies there, or arrays whose chunks two blocks would share.
        WriteError: it cannot be written.
    """
    store = LabelStore(objects, tuple(names), tuple(cuts), image.zarr_format, draw_opening())
    holds_image = holds_image_of(objects, image)
    _refuse_foreign(objects, names)
    axes = list_label_axes(image.metadata)
    levels = [level.keep(axes, str(number)) for number, level in enumerate(image.metadata.levels)]
    for name in names:  # before they are listed, so that a client that is killed leaves none that look foreign
        if joins and (read_record(objects, name) or {}).get("identity") == record["identity"]:
            continue
        source = "../../" if holds_image else None
        attributes = make_label_attributes(image.metadata, levels, name, classes, source)
        _write_group(objects, f"labels/{name}", attributes | {RECORD: dict(record)}, image.zarr_format)
    _make_list(objects, image, names)
    for name in names:
        for level, cut in enumerate(cuts):
            _make_array(store, name, level, cut, dtype, [image.metadata.axes[axis].name for axis in axes])
    if not holds_image:
        _show(store, image, levels)
    return store


def _show(store: LabelStore, image: ZarrImage, levels: Sequence[Level]) -> None:
    """Let the group itself show the first labels, so that viewers open it."""
    below = [replace(level, path=_path(store.names[0], number)) for number, level in enumerate(levels)]
    shown = make_image_attributes(image.metadata, below, store.names[0])
    _write_group(store.objects, "", shown | {RECORD: {"labels": list(store.names)}}, image.zarr_format)


def read_record(objects: Objects, name: str) -> dict[str, Any] | None:
    """Read what the labels of a name were made of; None: there are none, or nobody has recorded it."""
    attributes, _ = read_attributes(objects, f"labels/{name}")
    record = (attributes or {}).get(RECORD)
    return record if isinstance(record, dict) else None


def record_end(store: LabelStore) -> None:
    """Record that all blocks are there."""
    for name in store.names:
        path = f"labels/{name}"
        attributes, _ = read_attributes(store.objects, path)
        found = attributes or {}
        complete = {RECORD: {**found.get(RECORD, {}), "complete": True}}
        _write_group(store.objects, path, found | complete, store.zarr_format)


_OF_GROUPS = ("zarr.json", ".zgroup", ".zattrs")
"""Names of the metadata of a group."""


def _path(name: str, level: int) -> str:
    return f"labels/{name}/{level}"


def holds_image_of(objects: Objects, image: ZarrImage) -> bool:
    """Tell whether a place for labels holds their image, or a copy of it.

    Raises:
        UsageError: it holds neither that, nor labels of ours, nor nothing.
    """
    attributes, zarr_format = read_attributes(objects)
    expected = "the image itself or a copy of it, labels of unetpp, or nothing"
    if not attributes:  # {}: of a client that was killed while it made the labels
        ours = (FOLDER, "labels/", *(_OF_GROUPS if attributes is not None else ()))
        if any(not key.startswith(ours) for key, _ in objects.list_keys("")):
            raise UsageError("out", f"{objects}, where other files lie", expected, "Choose another `out`.")
        return False
    if RECORD in attributes and zarr_format == image.zarr_format:
        return False
    try:
        there = parse_image(attributes)
        array = open_array(objects, there.levels[0].path, zarr_format)
        same = there.axes == image.metadata.axes and len(there.levels) == len(image.metadata.levels)
        if same and zarr_format == image.zarr_format and array.shape == image.shape():
            return True
    except (FileRefused, DataError):
        pass
    raise UsageError("out", f"{objects}, which holds something else", expected, "Choose another `out`.")


def _list_labels(objects: Objects) -> list[str] | None:
    """List the labels that the group `labels` names; None: there is no such group."""
    attributes, _ = read_attributes(objects, "labels")
    return None if attributes is None else list(attributes.get("ome", attributes).get("labels", []))


def _refuse_foreign(objects: Objects, names: Sequence[str]) -> None:
    """Refuse labels of the same names that are not ours."""
    listed = _list_labels(objects) or []
    foreign = [name for name in names if name in listed and read_record(objects, name) is None]
    if foreign:
        got = f"{objects}, which has labels {foreign[0]} that unetpp did not write"
        raise UsageError("out", got, "labels of another name", "Rename them, or choose another `out`.")


def _make_list(objects: Objects, image: ZarrImage, names: Sequence[str]) -> None:
    """Add the labels to the list of the group `labels`."""
    listed = _list_labels(objects)
    if listed is None or not set(names) <= set(listed):
        every = list(dict.fromkeys([*(listed or ()), *names]))
        _write_group(objects, "labels", make_list_attributes(every, image.metadata.version), image.zarr_format)


def _make_array(store: LabelStore, name: str, level: int, cut: Cut, dtype: DTypeLike, axes: Sequence[str]) -> None:
    """Make an array; one that is there, and fits, is kept with its blocks."""
    import zarr
    from zarr.errors import ContainsArrayError

    path, version = _path(name, level), store.zarr_format
    key = f"{path}/{'zarr.json' if version == 3 else '.zarray'}"
    if store.objects.read(key) is not None:
        array = open_array(store.objects, path, version, writes=True)
        if array.shape == cut.shape and array.dtype == dtype:
            require_whole(array, cut, f"{store.objects}/{path}")
            return
        store.objects.delete([found for found, _ in store.objects.list_keys(path)])
    more: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    if version == 3:
        more = {"shards": cut.block, "dimension_names": axes}
    with store_failures(f"{store.objects}/{path}", writes=True):
        try:
            zarr.create_array(
                store.objects.zarr(writes=True),
                name=path,
                shape=cut.shape,
                chunks=cut.chunk,
                dtype=dtype,
                zarr_format=3 if version == 3 else 2,
                fill_value=0,
                **more,
            )
        except ContainsArrayError:  # of another client that began at the same time
            return


def require_whole(array: Any, cut: Cut, where: str) -> None:
    """Refuse an array whose chunks or shards reach over several blocks: two writers would lose voxels of each other.

    Raises:
        UsageError: naming both sizes.
    """
    sizes = array.shards or array.chunks
    if not cut.holds_whole(sizes):
        what, expected = ("shards" if array.shards else "chunks"), " x ".join(map(str, cut.block))
        got = f"{where} with {what} of {' x '.join(map(str, sizes))}, which reach over blocks of {expected}"
        raise UsageError("out", got, f"{what} within one block, which one task writes alone", "Choose another `out`.")


def _write_group(objects: Objects, path: str, attributes: Mapping[str, Any], zarr_format: int) -> None:
    """Write the metadata of a group."""
    prefix = f"{path}/" if path else ""
    if zarr_format == 3:
        group = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
        objects.write(f"{prefix}zarr.json", json.dumps(group, indent=2).encode())
    else:
        objects.write(f"{prefix}.zgroup", json.dumps({"zarr_format": 2}).encode())
        objects.write(f"{prefix}.zattrs", json.dumps(dict(attributes), indent=2).encode())
