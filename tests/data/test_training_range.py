"""Images like those of the training, and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpp.data.orientation import Orientation, turn_geometry
from unetpp.data.training_range import (
    find_outside,
    is_within,
    measure_levels,
    sample_values,
    span_levels,
    standardize_levels,
)
from unetpp.formats.readers import open_images
from unetpp.formats.sources import ArraySource
from unetpp.layouts.cases import find_cases
from unetpp.plan import ChannelRange, DataPlan, Normalization, TrainingRange
from unetpp.volume import Geometry

BELL = ChannelRange(low=(-2.4, -2.2), high=(2.2, 2.4))
"""Percentiles 1 and 99 of normally distributed voxels."""


def plan(dims: int = 3, channels: tuple[str, ...] = ("image",), per_case: bool = True, **fields: Any) -> DataPlan:
    known = {"channels": (len(channels),), "intensities": (BELL,) * len(channels), **fields.pop("known", {})}
    return DataPlan(
        dims=dims,  # type: ignore[arg-type]
        channels=channels,
        classes=("background", "foreground"),
        label_values=(0, 1),
        normalization=(Normalization(per_case=per_case),) * len(channels),
        training_range=TrainingRange(**known),
        **fields,
    )


def draw(shape: tuple[int, ...], geometry: Geometry | None = None, scale: float = 1.0) -> ArraySource:
    array = np.random.default_rng(0).normal(5, 1, shape) * scale
    return ArraySource(array.astype(np.float32), geometry or Geometry())


def body(*spacing_mm: float) -> Geometry:
    return Geometry(".nii.gz", spacing_mm, np.diag([*reversed(spacing_mm), 1.0]))


def test_an_image_of_the_same_kind_is_inside_whatever_its_brightness() -> None:
    for scale in (0.01, 1, 1000):
        assert find_outside(draw((1, 20, 20, 20), scale=scale), plan()) == ()
    no_range = plan().model_copy(update={"training_range": None})
    assert find_outside(draw((1, 20, 20, 20)), no_range) == ()


def test_a_voxel_size_is_compared_along_the_axes_of_the_body() -> None:
    known = {"smallest_mm": (4.0, 1.0, 1.0), "largest_mm": (5.0, 1.0, 1.0)}
    wanted = plan(known=known, orientation="RAS")
    shape = (1, 20, 20, 20)
    assert find_outside(draw(shape, body(4.5, 1.2, 1.0)), wanted) == ()
    (line,) = find_outside(draw(shape, body(4.0, 4.0, 4.0)), wanted)
    assert line == "voxel size 4 x 4 x 4 mm; training had 4 x 1 x 1 to 5 x 1 x 1 mm"
    sagittal = turn_geometry(body(4.5, 1.0, 1.0), Orientation((1, 2, 0), (True, False, True)), shape[1:])
    assert find_outside(draw(shape, sagittal), wanted) == ()


def test_what_a_header_does_not_say_is_outside() -> None:
    wanted = plan(known={"smallest_mm": (1, 1, 1), "largest_mm": (1, 1, 1)}, orientation="RAS")
    orientation, size = find_outside(draw((1, 9, 9, 9)), wanted)
    assert orientation.startswith("no orientation")
    assert size == "no voxel size; training had 1 x 1 x 1 mm"


def test_an_absolute_scale_is_compared_as_it_is() -> None:
    hounsfield = plan(
        channels=("CT",),
        per_case=False,
        known={"intensities": (ChannelRange(low=(-1024, -1000), high=(200, 400)),)},
    )
    values = np.random.default_rng(0).uniform(-1024, 300, (1, 20, 20, 20)).astype(np.float32)
    assert find_outside(ArraySource(values, Geometry()), hounsfield) == ()
    for wrong in (values + 1024, (values + 1024) / 10, np.zeros_like(values)):
        (line,) = find_outside(ArraySource(wrong, Geometry()), hounsfield)
        assert "training had -1.02e+03 to -1e+03 and 200 to 400" in line


def test_a_blank_image_and_a_skewed_one_are_outside() -> None:
    blank = ArraySource(np.full((1, 30, 30), 7, np.uint8), Geometry())
    skewed = ArraySource(np.exp(draw((1, 30, 30)).read((slice(None),) * 2)) ** 3, Geometry())
    for source in (blank, skewed):
        assert "standard deviations from the mean" in find_outside(source, plan(dims=2))[0]


def test_channels_that_were_converted_are_told() -> None:
    gray = np.random.default_rng(0).normal(100, 20, (1, 40, 40)).astype(np.uint8)
    color = np.random.default_rng(1).normal(100, 20, (3, 40, 40)).astype(np.uint8)
    of_color = plan(dims=2, channels=("red", "green", "blue"))
    assert find_outside(ArraySource(color, Geometry()), of_color) == ()
    (line,) = find_outside(ArraySource(gray, Geometry()), of_color)
    assert line == "1 channel, converted to 3; training had 3"
    assert find_outside(ArraySource(np.repeat(gray, 3, axis=0), Geometry()), plan(dims=2)) == ()
    assert "3 channels, converted to 1" in find_outside(ArraySource(color, Geometry()), plan(dims=2))[0]


def test_of_a_loop_of_ones_own_gray_for_color_is_told_but_not_gray_that_is_stored_as_color() -> None:
    gray = np.random.default_rng(0).normal(100, 20, (1, 40, 40)).astype(np.uint8)
    of_color = plan(dims=2, channels=("red", "green", "blue")).model_copy(update={"training_range": None})
    line = "1 channel, converted to 3; the network takes red, green, blue"
    assert find_outside(ArraySource(gray, Geometry()), of_color) == (line,)
    assert find_outside(ArraySource(np.repeat(gray, 3, axis=0), Geometry()), of_color) == ()
    of_gray = plan(dims=2).model_copy(update={"training_range": None})
    assert find_outside(ArraySource(np.repeat(gray, 3, axis=0), Geometry()), of_gray) == ()
    assert find_outside(ArraySource(gray, Geometry()), of_gray) == ()


def test_a_large_image_is_sampled_in_blocks_of_bounded_size() -> None:
    read: list[int] = []

    class Huge:
        shape, dtype, geometry = (1, 20_000, 30_000), np.dtype(np.uint8), Geometry()

        def read(self, slices: tuple[slice, ...]) -> np.ndarray:
            size = [part.stop - part.start for part in slices]
            read.append(int(np.prod(size)))
            return np.full((1, *size), len(read), np.uint8)

    values = sample_values(Huge())
    assert values.shape == (1, sum(read)) and sum(read) <= 2**20
    assert len(np.unique(values)) == 16


@pytest.mark.parametrize("name", ["nuclei", "em", "hippocampus"])
def test_the_other_half_of_a_data_set_is_inside(name: str, real_data: Path) -> None:
    cases = find_cases(real_data / name).cases
    chosen = [cases[index] for index in np.random.default_rng(0).permutation(len(cases))[:60]]
    levels = np.array([measure_levels(sample_values(open_images(case.images)))[0] for case in chosen])
    percentiles = standardize_levels(levels)
    known = span_levels(percentiles[::2])
    margin = 0.2 * (sum(known.high) - sum(known.low)) / 2
    outside = [not (is_within(a, known.low, margin) and is_within(b, known.high, margin)) for a, b in percentiles[1::2]]
    assert np.mean(outside) <= 0.02


@pytest.mark.parametrize(
    ("fields", "high", "said"),
    [
        ({"std": 255}, 1, "`data.normalization` expects about 0 to 255"),
        ({"std": 65535}, 255, "expects about 0 to 65535"),
        ({"std": 255}, 65535, "expects about 0 to 255"),
        ({"lower": -1000, "upper": 1000, "std": 1000}, 1, "about -1000 to 1000"),
        ({"lower": -1000, "upper": 1000, "mean": 40, "std": 300}, 0.5, "about -1000 to 1000"),
        ({"std": 255}, 255, None),
        ({"std": 255}, 40, None),
        ({"mean": 124, "std": 58}, 255, None),
        ({"mean": 0.45, "std": 0.22}, 255, "about 0.23 to 0.67"),
        ({"lower": -1000, "upper": 1000, "std": 1000}, 3000, None),
        ({}, 4000, None),
        ({"std": 255}, 0, None),
        ({"per_case": True}, 1, None),
    ],
)
def test_values_on_another_scale_than_a_fixed_normalization(
    fields: dict[str, Any], high: float, said: str | None
) -> None:
    scale = (Normalization(**{"per_case": False, **fields}),)
    made = plan(2).model_copy(update={"training_range": None, "normalization": scale})
    values = np.random.default_rng(0).random((1, 20, 20)).astype(np.float32) * high
    found = find_outside(ArraySource(values, Geometry()), made)
    assert bool(found) == bool(said)
    assert said is None or said in found[0]
