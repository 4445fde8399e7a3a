"""Metadata of OME-Zarr 0.4 and 0.5: what the attributes of a group say of its image, and those of a group of labels.

Nothing is read or written here. The specification: https://ngff.openmicroscopy.org/0.5/ and /0.4/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unetpp.formats.format import FileRefused
from unetpp.words import list_some

VERSIONS = ("0.4", "0.5")
_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_MILLIMETERS = {
    "angstrom": 1e-7,
    "picometer": 1e-9,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "decimeter": 100.0,
    "meter": 1000.0,
    "inch": 25.4,
}
"""Millimeters of the units of length that microscopes and scanners write."""
_EXPECTED = "an image of OME-Zarr 0.4 or 0.5"


@dataclass(frozen=True)
class Axis:
    """One axis of the arrays of an image."""

    name: str
    """t, c, z, y or x."""
    unit: str | None = None

    def to_dict(self) -> dict[str, str]:
        """Return the axis in terms of the specification."""
        return {"name": self.name, "type": _KINDS[self.name], **({"unit": self.unit} if self.unit else {})}


@dataclass(frozen=True)
class Level:
    """One array of the pyramid: an index along each axis times `scale`, plus `translation`, is its place."""

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...] | None = None

    def keep(self, axes: Sequence[int], path: str) -> Level:
        """Return the level of another array on some of the axes."""
        moved = None if self.translation is None else tuple(self.translation[axis] for axis in axes)
        return Level(path, tuple(self.scale[axis] for axis in axes), moved)

    def to_dict(self) -> dict[str, Any]:
        """Return the level in terms of the specification."""
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(self.scale)}]
        if self.translation is not None:
            steps.append({"type": "translation", "translation": list(self.translation)})
        return {"path": self.path, "coordinateTransformations": steps}


@dataclass(frozen=True)
class ImageMetadata:
    """What the attributes of a group say of its image."""

    version: str
    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    """The pyramid, full resolution first."""
    channels: tuple[str, ...] = ()
    """Names of the channels; empty: there are none."""
    name: str = ""

    @property
    def order(self) -> str:
        """Letters of the axes."""
        return "".join(axis.name for axis in self.axes)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Places of the axes z (if there is one), y and x."""
        return tuple(self.order.index(name) for name in "zyx" if name in self.order)

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Voxel size at full resolution along the spatial axes; None: an axis has no unit of length."""
        units = [_MILLIMETERS.get(self.axes[axis].unit or "") for axis in self.spatial]
        steps = [self.levels[0].scale[axis] for axis in self.spatial]
        return tuple(step * unit for step, unit in zip(steps, units, strict=True) if unit) if all(units) else None


def parse_image(attributes: Mapping[str, Any]) -> ImageMetadata:
    """Read the attributes of a group that is an image.

    Raises:
        FileRefused: they describe no image of OME-Zarr 0.4 or 0.5.
    """
    ome = attributes.get("ome", attributes)
    if not isinstance(ome, Mapping):
        raise FileRefused("an `ome` that is no object", _EXPECTED, "Write the file again.")
    several = ome.get("multiscales")
    if not isinstance(several, list) or not several or not isinstance(several[0], Mapping):
        raise _describe_other(ome)
    image = several[0]
    version = str(ome.get("version", image.get("version", "without a number")))
    if version not in VERSIONS:
        got = f"OME-Zarr of version {version}"
        raise FileRefused(
            got, " or ".join(VERSIONS), "Convert it with the newest version of the program that wrote it."
        )
    axes = _parse_axes(image.get("axes"))
    outer = _parse_transformations(image.get("coordinateTransformations", []), len(axes), "the image")
    datasets = image.get("datasets")
    if not isinstance(datasets, list) or not datasets:
        raise FileRefused("an image without arrays (`datasets`)", _EXPECTED, "Write the file again.")
    levels = tuple(_parse_level(each, len(axes), outer) for each in datasets)
    return ImageMetadata(version, axes, levels, _parse_channels(ome.get("omero")), str(image.get("name") or ""))


def make_label_attributes(
    image: ImageMetadata, levels: Sequence[Level], name: str, classes: Mapping[int, str], source: str | None
) -> dict[str, Any]:
    """Make the attributes of the group of a label image.

    Args:
        image: the image that was segmented.
        levels: of the labels, one for each of the image; their axes are those of `list_label_axes`.
        name: name of the labels.
        classes: label value -> name of its class.
        source: path of the image from this group; None: it lies elsewhere.
    """
    label: dict[str, Any] = {
        "properties": [{"label-value": value, "class": class_name} for value, class_name in classes.items()]
    }
    if source is not None:
        label["source"] = {"image": source}
    if image.version == "0.4":
        label["version"] = image.version
    return _wrap(image.version, {"image-label": label}, image, levels, name)


def make_image_attributes(image: ImageMetadata, levels: Sequence[Level], name: str) -> dict[str, Any]:
    """Make the attributes of a group that is an image of labels; arguments as of `make_label_attributes`."""
    return _wrap(image.version, {}, image, levels, name)


def make_list_attributes(names: Sequence[str], version: str) -> dict[str, Any]:
    """Make the attributes of the group `labels`, which lists the label images in it."""
    return {"ome": {"version": version, "labels": list(names)}} if version == "0.5" else {"labels": list(names)}


def list_label_axes(image: ImageMetadata) -> tuple[int, ...]:
    """List the axes of an image that its labels have: all but the channels."""
    return tuple(place for place, axis in enumerate(image.axes) if axis.name != "c")


def choose_channels(names: Sequence[str], wanted: Sequence[str], count: int) -> tuple[int, ...]:
    """Choose the channels of an image for a network.

    Args:
        names: names of the channels of the image; empty: it has none.
        wanted: names of the channels of the network.
        count: number of channels of the image.

    Returns:
        The channels of those names, in the order of the network; all of them where the image does not know the names
        and has as many, or where it has one or three, which can be converted.

    Raises:
        FileRefused: it has others.
    """
    known = {name.strip().lower(): place for place, name in reversed(list(enumerate(names[:count])))}
    found = [known.get(name.strip().lower()) for name in wanted]
    chosen = tuple(place for place in found if place is not None)
    if len(chosen) == len(wanted):
        return chosen
    converts = (count == 1 and len(wanted) == 3) or (count == 3 and len(wanted) == 1)
    if not chosen and (count == len(wanted) or converts):
        return tuple(range(count))
    got = f"{count} channels ({list_some(names, 8) if names else 'without names'})"
    action = "Name them in the metadata (`omero.channels`, `label`) as the model does."
    raise FileRefused(got, f"the channels of the model: {', '.join(wanted)}", action)


def _wrap(
    version: str, more: dict[str, Any], image: ImageMetadata, levels: Sequence[Level], name: str
) -> dict[str, Any]:
    axes = [image.axes[place].to_dict() for place in list_label_axes(image)]
    multiscale = {"name": name, "axes": axes, "datasets": [level.to_dict() for level in levels], "type": "nearest"}
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [multiscale], **more}}
    return {"multiscales": [{"version": version, **multiscale}], **more}


def _describe_other(ome: Mapping[str, Any]) -> FileRefused:
    """Describe a group that is no image."""
    if "plate" in ome or "well" in ome:
        return FileRefused("a plate or a well of several images", "one image", "Name one of its images: in.zarr/A/1/0.")
    if "bioformats2raw.layout" in ome:
        return FileRefused("a collection of images", "one image", "Name one of them: in.zarr/0.")
    if "labels" in ome:
        names = list_some(map(str, ome["labels"]) if isinstance(ome["labels"], list) else (), 5)
        return FileRefused(f"a list of labels ({names})", "one image", "Name one of them.")
    got = "a Zarr group without the metadata of an image (`multiscales`)"
    return FileRefused(got, _EXPECTED, "Name the group of the image, or write it with an OME-Zarr library.")


def _parse_axes(axes: Any) -> tuple[Axis, ...]:
    if not isinstance(axes, list) or not axes:
        got, action = (
            "a Zarr image without axes",
            'Add `axes` to its `multiscales`: [{"name": "z", "type": "space"}, ...].',
        )
        raise FileRefused(got, "the name of each axis", action)
    names: list[Any] = [axis.get("name") if isinstance(axis, Mapping) else axis for axis in axes]
    known = all(isinstance(name, str) and name in _KINDS for name in names)
    if not known or len(set(names)) < len(names) or not {"y", "x"} <= set(names):
        got = f"the axes {list_some(names, 8)}"
        raise FileRefused(got, "some of t, c, z, y and x, each once, with y and x", "Correct the metadata.")
    if names != sorted(names, key=lambda name: "tczyx".index(name)):
        got, expected = f"axes in the order {list_some(names, 8)}", "time, channel and space (z, y, x), in this order"
        raise FileRefused(got, expected, "Write the image again with the order of the specification.")
    units = [axis.get("unit") if isinstance(axis, Mapping) else None for axis in axes]
    return tuple(
        Axis(str(name), unit if isinstance(unit, str) else None) for name, unit in zip(names, units, strict=True)
    )


def _parse_level(dataset: Any, axes: int, outer: tuple[list[float], list[float] | None]) -> Level:
    path = dataset.get("path") if isinstance(dataset, Mapping) else None
    if not isinstance(path, str) or not path or ".." in path.split("/"):
        raise FileRefused("an array of the pyramid without a path", "a path within the group", "Correct the metadata.")
    own_scale, own_move = _parse_transformations(dataset.get("coordinateTransformations", []), axes, f"array {path}")
    outer_scale, outer_move = outer
    scale = tuple(first * second for first, second in zip(own_scale, outer_scale, strict=True))
    if own_move is None and outer_move is None:
        return Level(path, scale)
    pairs = zip(own_move or [0.0] * axes, outer_scale, outer_move or [0.0] * axes, strict=True)
    return Level(path, scale, tuple(move * step + place for move, step, place in pairs))


def _parse_transformations(steps: Any, axes: int, where: str) -> tuple[list[float], list[float] | None]:
    """Read a list of transformations: a scale, then perhaps a translation."""
    scale, translation = [1.0] * axes, None
    for step in steps if isinstance(steps, list) else [None]:
        kind = step.get("type") if isinstance(step, Mapping) else None
        numbers: Any = step.get(kind) if isinstance(step, Mapping) and kind in ("scale", "translation") else None
        if kind == "identity":
            continue
        if not _are_numbers(numbers, axes, positive=kind == "scale"):
            got = f"a transformation of {where} that is no scale or translation of {axes} numbers"
            raise FileRefused(
                got, "these two (OME-Zarr 0.4, section coordinateTransformations)", "Correct the metadata."
            )
        if kind == "scale":
            scale = [float(number) for number in numbers]
        else:
            translation = [float(number) for number in numbers]
    return scale, translation


def _are_numbers(values: Any, count: int, positive: bool) -> bool:
    if not isinstance(values, list) or len(values) != count:
        return False
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    finite = len(numbers) == count and all(abs(value) < 1e300 and math.isfinite(value) for value in numbers)
    return finite and (not positive or all(value > 0 for value in numbers))


def _parse_channels(omero: Any) -> tuple[str, ...]:
    """Read the names of the channels; other parts of `omero` describe how they are shown."""
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list):
        return ()
    return tuple(str(each.get("label", "")) if isinstance(each, Mapping) else "" for each in channels)
