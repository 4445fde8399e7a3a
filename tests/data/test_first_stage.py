"""What a first stage found, as channels of an image and beside the label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import toy_plan
from unetpp.data.first_stage import CODES, add_segmentation, encode, join_codes, list_channels, split_codes
from unetpp.data.patches import PatchSampler
from unetpp.data.preprocess import prepare_image
from unetpp.data.store import StoredCase, write_segmentation
from unetpp.errors import PlanError
from unetpp.formats.sources import ArraySource
from unetpp.measure.stored_cases import open_stored
from unetpp.plan import Plan
from unetpp.volume import Geometry


def cascade_plan(**data: Any) -> Plan:
    plan = toy_plan(dims=3, num_classes=3)
    values = plan.model_dump(mode="json")
    values["data"] |= {"resolution": "cascade", "voxel_mm": [1, 1, 1], **data}
    values["model"] |= {"in_channels": 3, "out_channels": 2 if "regions" in data else 3}
    return Plan.from_dict(values)


@given(st.integers(0, CODES - 1), st.integers(0, CODES - 1))
def test_label_and_first_stage_are_one_number_that_float32_holds(label: int, first: int) -> None:
    codes = join_codes(np.array([label], np.uint16), np.array([first], np.uint16))
    assert codes.astype(np.float32).astype(np.int64)[0] == codes[0]
    assert [int(each[0]) for each in split_codes(torch.from_numpy(codes))] == [label, first]


def test_each_class_or_region_is_a_channel() -> None:
    first = np.array([[0, 1], [2, 2]])
    assert encode(first, list_channels(cascade_plan().data)).tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 1]]]
    regions = cascade_plan(regions="whole=1+2,core=2").data
    assert encode(first, list_channels(regions)).tolist() == [[[0, 1], [1, 1]], [[0, 0], [1, 1]]]


def test_the_channels_lie_on_the_grid_of_the_network() -> None:
    data = cascade_plan(spacing_mm=[1, 1, 1], orientation="RAS").data
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])  # X from right to left, thick slices
    source = ArraySource(
        np.random.default_rng(0).normal(size=(1, 4, 6, 5)).astype(np.float32),
        Geometry(spacing_mm=(2.0, 1.0, 1.0), affine=affine),
    )
    image = prepare_image(source, data)
    segmentation = np.zeros((4, 6, 5), np.uint8)
    segmentation[1, 2, 0] = 2
    both = add_segmentation(image, segmentation, data)
    assert image.shape == (1, 8, 6, 5) and both.shape == (3, 8, 6, 5)
    block = both.read(tuple(slice(0, size) for size in both.shape[1:]))
    assert np.array_equal(block[:1], image.read(tuple(slice(0, size) for size in both.shape[1:])))
    assert np.argwhere(block[2]).tolist() == [[2, 2, 4], [3, 2, 4]] and not block[1].any()


def test_a_patch_reads_what_belongs_to_it(tmp_path: Path) -> None:
    shape, rng = (9, 10, 11), np.random.default_rng(0)
    label, first = rng.integers(0, 3, (2, *shape), np.uint8)
    image = rng.normal(size=(1, *shape)).astype(np.float16)
    stored = StoredCase("a", tmp_path / "a", "first-key")
    np.save(tmp_path / "a.image.npy", image)
    np.save(tmp_path / "a.label.npy", label)
    np.save(tmp_path / "a.foreground.npy", np.empty((0, 4), np.int32))
    assert not stored.has("first-key")
    write_segmentation(stored, first)
    assert stored.has("first-key")
    sampler = PatchSampler([stored], (6, 6, 16), 1, 0.0, seed=0)
    location = sampler.draw(0, 0)
    patch, codes = sampler.read(location)
    found, theirs = split_codes(codes)
    alone, expected = PatchSampler([StoredCase("a", tmp_path / "a")], (6, 6, 16), 1, 0.0, seed=0).read(location)
    assert np.array_equal(found, expected) and np.array_equal(patch, alone)
    z, y, _ = location.start
    assert np.array_equal(theirs[..., 2:13], first[z : z + 6, y : y + 6])  # the case lies in the middle of the patch
    data, corner = cascade_plan().data, (slice(2, 5), slice(0, 4), slice(1, 9))
    for read in (open_stored(stored, data), open_stored(stored, data, (slice(9), slice(9), slice(9)))):
        block = read.read(corner)
        assert np.array_equal(block, np.concatenate([image[:, 2:5, :4, 1:9], encode(first[corner], [(1,), (2,)])]))


def test_the_network_of_a_cascade_has_a_channel_for_each() -> None:
    assert cascade_plan().data.in_channels == 3
    values = cascade_plan().model_dump(mode="json")
    values["model"]["in_channels"] = 1
    with pytest.raises(PlanError, match="cascade"):
        Plan.from_dict(values)
    flat = toy_plan().model_dump(mode="json")
    flat["data"]["resolution"] = "low"
    with pytest.raises(PlanError, match="2D"):
        Plan.from_dict(flat)
