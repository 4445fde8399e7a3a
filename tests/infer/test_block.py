"""A block equals the same part of the whole prediction, to the last bit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import toy_plan

from unetpp.data.preprocess import prepare_image
from unetpp.formats.sources import ArraySource
from unetpp.infer import block as block_module
from unetpp.infer.block import fill_batches, predict_block
from unetpp.infer.options import PredictOptions
from unetpp.infer.predictor import Predictor
from unetpp.infer.restore import resample_bands
from unetpp.infer.sliding import stream_bands
from unetpp.infer.tiles import TileGrid
from unetpp.model.build import build_from_plan
from unetpp.plan import Plan
from unetpp.volume import Geometry

OPTIONS = (
    PredictOptions(),
    PredictOptions(tta=True),
    PredictOptions(depth="all"),
    PredictOptions(depth="mean", tta=True, uncertainty="disagreement"),
)


def make_predictor(plan: Plan, folds: int) -> Predictor:
    networks = []
    for seed in range(folds):
        torch.manual_seed(seed)
        networks.append(build_from_plan(plan.model))
    return Predictor(networks, plan)


def make_plan(dims: int, classes: int, tile: list[int], batch: int, overlap: float, spacing: Any) -> Plan:
    normalization = [{"scale": "z_score", "per_case": True}]
    values = toy_plan(dims, num_classes=classes).model_dump(mode="json")
    values["data"] |= {"normalization": normalization, "spacing_mm": spacing}
    values["predict"] |= {"tile": tile, "batch": batch, "overlap": overlap}
    return Plan.from_dict(values)


def predict_whole(predictor: Predictor, image: Any, options: PredictOptions) -> torch.Tensor:
    depths, plan = predictor.choose_sizes(options), predictor.plan.predict
    bands = stream_bands(
        predictor.runners, image, plan, depths, predictor.device, options, None, predictor.sizes, predictor.coding
    )
    on_image = resample_bands(bands, image.shape[1:], image.turned_shape, image.thick)
    return torch.cat([band.probabilities.clone() for band in on_image], dim=2)


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    dims = draw(st.sampled_from((2, 3)))
    low, high = (20, 60) if dims == 2 else (9, 30)
    return {
        "shape": tuple(draw(st.integers(low, high)) for _ in range(dims)),
        "block": tuple(draw(st.integers(5, high)) for _ in range(dims)),
        "tile": [draw(st.sampled_from((8, 12, 16, 20))) for _ in range(dims)],
        "batch": draw(st.integers(1, 4)),
        "overlap": draw(st.sampled_from((0.0, 0.25, 0.5))),
        "classes": draw(st.integers(2, 3)),
        "spacing": tuple(draw(st.sampled_from((1.0, 1.3, 0.7))) for _ in range(dims)),
        "options": draw(st.sampled_from(OPTIONS)),
        "folds": draw(st.integers(1, 2)),
        "rows": draw(st.sampled_from((4, 128))),
    }


@settings(deadline=None, max_examples=25)
@given(situations())
def test_blocks_equal_the_whole(found: dict[str, Any]) -> None:
    shape, dims = found["shape"], len(found["shape"])
    plan = make_plan(dims, found["classes"], found["tile"], found["batch"], found["overlap"], [1.0] * dims)
    predictor = make_predictor(plan, found["folds"])
    array = np.random.default_rng(0).integers(0, 255, (1, *shape)).astype(np.uint8)
    image = prepare_image(ArraySource(array, Geometry(spacing_mm=found["spacing"])), plan.data, once=True)
    whole = predict_whole(predictor, image, found["options"])
    depths = predictor.choose_sizes(found["options"])
    starts = [range(0, size, step) for size, step in zip(shape, found["block"], strict=True)]
    for corner in itertools.product(*starts):
        area = tuple(
            slice(start, min(start + step, size))
            for start, step, size in zip(corner, found["block"], shape, strict=True)
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(block_module, "_ROWS", found["rows"])
            patch.setattr(block_module, "_AT_ONCE", 1)
            block = predict_block(
                predictor.runners,
                image,
                area,
                plan.predict,
                depths,
                predictor.device,
                found["options"],
                predictor.sizes,
                predictor.coding,
            )
        assert torch.equal(block, whole[(..., *area)])


@given(st.integers(1, 30), st.integers(1, 5), st.sets(st.integers(0, 29)))
def test_tiles_lie_at_their_places_in_order(count: int, batch: int, chosen: set[int]) -> None:
    grid = list(TileGrid((count * 4,), (4,), 0.0))
    numbers = sorted(number for number in chosen if number < count)
    batches = list(fill_batches([(number, grid[number]) for number in numbers], count, batch))
    assert [tile for _, tiles in batches for tile in tiles.values()] == [grid[number] for number in numbers]
    for size, tiles in batches:
        for place, tile in tiles.items():
            number = grid.index(tile)
            assert place == number % batch < size
            assert size == min(batch, count - number // batch * batch)


def test_an_area_outside_is_refused() -> None:
    plan = make_plan(2, 2, [16, 16], 1, 0.5, None)
    predictor = make_predictor(plan, 1)
    image = prepare_image(ArraySource(np.zeros((1, 20, 20), np.uint8), Geometry()), plan.data)
    with pytest.raises(ValueError, match="which no tile reaches"):
        predict_block(predictor.runners, image, (slice(30, 40), slice(0, 5)), plan.predict, (1,), predictor.device)
