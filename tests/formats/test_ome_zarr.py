"""Metadata of OME-Zarr: what is read, what is refused, and that labels are described as their image is."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zarr_images import describe
from unetpp.formats.format import FileRefused
from unetpp.formats.ome_zarr import (
    choose_channels,
    list_label_axes,
    make_image_attributes,
    make_label_attributes,
    make_list_attributes,
    parse_image,
)

ORDERS = ("yx", "cyx", "tyx", "zyx", "tcyx", "czyx", "tczyx")
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(ORDERS), st.integers(1, 4), st.sampled_from(("0.4", "0.5")))
def test_what_is_described_is_read_back(order: str, levels: int, version: str) -> None:
    image = parse_image(describe(order, levels, version, ("DAPI", "GFP")))
    assert (image.order, image.version, len(image.levels)) == (order, version, levels)
    assert image.channels == ("DAPI", "GFP")
    assert image.spacing_mm == ((0.001,) if "z" in order else ()) + (0.0005, 0.0005)
    kept = list_label_axes(image)
    below = [level.keep(kept, f"{number}") for number, level in enumerate(image.levels)]
    labels = parse_image(make_label_attributes(image, below, "cells", {1: "cell"}, "../../"))
    assert labels.order == order.replace("c", "")
    assert [level.scale for level in labels.levels] == [
        tuple(level.scale[axis] for axis in kept) for level in image.levels
    ]
    assert [level.translation for level in labels.levels] == [
        tuple(level.translation[axis] for axis in kept) for level in image.levels if level.translation
    ]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_name_their_classes_and_their_image(version: str) -> None:
    image = parse_image(describe("cyx", 1, version))
    levels = [level.keep((1, 2), "0") for level in image.levels]
    attributes = make_label_attributes(image, levels, "cells", {1: "cell", 2: "nucleus"}, "../../")
    found = attributes.get("ome", attributes)["image-label"]
    assert found["properties"][1] == {"label-value": 2, "class": "nucleus"}
    assert found["source"] == {"image": "../../"}
    listed = make_list_attributes(["cells"], version)
    assert listed.get("ome", listed)["labels"] == ["cells"]
    shown = make_image_attributes(image, levels, "cells")
    assert "image-label" not in shown.get("ome", shown)


def test_transformations_of_the_image_and_of_its_arrays_are_joined() -> None:
    attributes = describe("yx", 1, "0.4")
    attributes["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [2, 3]},
        {"type": "translation", "translation": [1, 1]},
    ]
    attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [0.5, 1]},
        {"type": "translation", "translation": [4, 4]},
    ]
    level = parse_image(attributes).levels[0]
    assert (level.scale, level.translation) == ((1.0, 3.0), (9.0, 13.0))


def test_without_a_unit_there_is_no_voxel_size() -> None:
    assert parse_image(describe("zyx", 1, "0.5", unit=None)).spacing_mm is None
    assert parse_image(describe("zyx", 1, "0.5", unit="parsec")).spacing_mm is None


def without_axes(attributes: dict[str, Any]) -> None:
    del attributes["multiscales"][0]["axes"]


def change(**entries: Any) -> Any:
    return lambda attributes: attributes["multiscales"][0].update(entries)


def names(*axes: str) -> Any:
    return change(axes=[{"name": name} for name in axes])


WRONG = {
    "a Zarr image without axes": without_axes,
    "the axes c, q, y and 1 more": names("c", "q", "y", "x"),
    "the axes c, x, y, x": names("c", "x", "y", "x"),
    "in the order": names("z", "c", "y", "x"),
    "OME-Zarr of version 0.3": change(version="0.3"),
    "an image without arrays": change(datasets=[]),
    "without a path": change(datasets=[{"path": "../../etc"}]),
    "no scale or translation of 4 numbers": change(
        datasets=[{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    ),
    "of the image that is no scale": change(coordinateTransformations=[{"type": "scale", "scale": [1, 1, 0, 1]}]),
    "a plate or a well": lambda attributes: (attributes.clear(), attributes.update(plate={})),
    "a collection of images": lambda attributes: (attributes.clear(), attributes.update({"bioformats2raw.layout": 3})),
    "a list of labels (cells)": lambda attributes: (attributes.clear(), attributes.update(labels=["cells"])),
    "without the metadata of an image": dict.clear,
    "no object": lambda attributes: attributes.update(ome=3),
}


@pytest.mark.parametrize("got", WRONG)
def test_what_is_no_image_is_refused(got: str) -> None:
    attributes = describe("czyx", 1, "0.4")
    WRONG[got](attributes)
    with pytest.raises(FileRefused) as refused:
        parse_image(attributes)
    assert got.replace(" and 1 more", "") in str(refused.value)


@given(JSON, st.sampled_from(("multiscales", "ome", "axes", "datasets", "coordinateTransformations", "omero")))
def test_no_metadata_end_in_another_error(junk: Any, key: str) -> None:
    for version in ("0.4", "0.5"):
        attributes = describe("czyx", 2, version)
        ome = attributes["ome"] if version == "0.5" else attributes
        place = ome["multiscales"][0] if key in ("axes", "datasets", "coordinateTransformations") else ome
        place[key] = junk
        with contextlib.suppress(FileRefused):
            parse_image(attributes)


def test_channels_are_chosen_by_name() -> None:
    assert choose_channels(("DAPI", "GFP", "RFP"), ("rfp", "dapi"), 3) == (2, 0)
    assert choose_channels((), ("image",), 1) == (0,)
    assert choose_channels(("a", "b"), ("T1", "T2"), 2) == (0, 1)
    assert choose_channels((), ("red", "green", "blue"), 1) == (0,)
    assert choose_channels(("r", "g", "b"), ("image",), 3) == (0, 1, 2)
    for known, wanted, count in ((("DAPI", "GFP"), ("DAPI", "RFP"), 2), ((), ("image",), 2)):
        with pytest.raises(FileRefused, match="channels of the model"):
            choose_channels(known, wanted, count)
