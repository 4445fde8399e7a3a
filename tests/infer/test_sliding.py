"""Sliding-window prediction: right at every voxel, equal to the prediction in one piece."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unetpp import scratch
from unetpp.infer import sliding
from unetpp.infer.bands import Band, average_bands, collect
from unetpp.infer.options import PredictOptions
from unetpp.infer.sliding import predict_tiles, stream_bands
from unetpp.infer.tiles import TileGrid, read_tile
from unetpp.labels.coding_torch import RegionTensors
from unetpp.model.build import build_model
from unetpp.model.network import HeadOutputs, UNetPlusPlus
from unetpp.plan import PredictPlan

CPU = torch.device("cpu")


class Image:
    """An image that records the blocks read from it, instead of a prepared file."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.shape = shape
        self.array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        self.read_shapes: list[tuple[int, ...]] = []

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        block = self.array[(slice(None), *slices)]
        self.read_shapes.append(block.shape)
        return block


class Pointwise(nn.Module):
    """A network that looks at one voxel only: its prediction does not depend on the tile. Head d multiplies by d."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.slopes = torch.linspace(-1, 1, classes)

    def forward(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Any:
        assert depth is not None
        logits = x[:, :1] * self.slopes.view(1, -1, *[1] * (x.ndim - 2))
        if not heads:
            return logits * depth
        depths = tuple(range(1, depth + 1))
        return HeadOutputs(depths, tuple(logits * d for d in depths))

    def expected(self, image: np.ndarray, depth: int) -> np.ndarray:
        logits = torch.from_numpy(image[:1]) * self.slopes.view(-1, *[1] * (image.ndim - 1)) * depth
        return logits.softmax(dim=0).numpy()


def plan(tile: tuple[int, ...], overlap: float = 0.5, batch: int = 3) -> PredictPlan:
    return PredictPlan(tile=tile, overlap=overlap, batch=batch, depth=1)


def network(dims: int, classes: int = 3, seed: int = 0) -> UNetPlusPlus:
    torch.manual_seed(seed)
    return build_model(topology="unet++", dims=dims, out_channels=classes, depth=2, first_width=4).eval()


def every_row(
    networks: list[nn.Module], image: Image, chosen: PredictPlan, depths: tuple[int, ...], *options: PredictOptions
) -> np.ndarray:
    bands = [
        (band.first_row, band.probabilities.clone())
        for band in stream_bands(networks, image, chosen, depths, CPU, *options)
    ]
    firsts, heights = [first for first, _ in bands], [rows.shape[2] for _, rows in bands]
    assert firsts == [0, *np.cumsum(heights)[:-1]]
    return torch.cat([rows for _, rows in bands], dim=2).numpy()


def in_one_piece(net: nn.Module, image: Image, chosen: PredictPlan, depth: int) -> np.ndarray:
    """All tiles, then one weighted sum over the whole image divided by the sum of the weights."""
    shape = image.shape[1:]
    total, weights = 0.0, np.zeros(shape)
    for tile in TileGrid(shape, chosen.tile, chosen.overlap):
        with torch.inference_mode():
            found = (
                net(torch.from_numpy(read_tile(image, tile, chosen.tile))[None], depth=depth).softmax(dim=1)[0].numpy()
            )
        weight = np.ones(())
        for span in tile:
            weight = weight[..., None] * span.weights
        place = tuple(span.inside for span in tile)
        padded = np.zeros((len(found), *shape))
        padded[(slice(None), *place)] = found[(slice(None), *(span.within for span in tile))] * weight
        total, weights[place] = total + padded, weights[place] + weight
    return total / weights


SHAPES = st.one_of(st.tuples(*[st.integers(1, 24)] * 2), st.tuples(*[st.integers(1, 9)] * 3))


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(1, 8), st.floats(0, 0.9), st.integers(1, 5), st.integers(2, 4))
def test_a_pointwise_network_is_right_everywhere(
    shape: tuple[int, ...], tile: int, overlap: float, batch: int, classes: int
) -> None:
    image, net = Image((1, *shape)), Pointwise(classes)
    chosen = plan((tile,) * len(shape), min(overlap, 0.5) if len(shape) == 3 else overlap, batch)
    found = every_row([net], image, chosen, (1, 2))
    for number, depth in enumerate((1, 2)):
        expected = net.expected(image.array, depth)
        np.testing.assert_allclose(found[number], expected[1:] if classes == 2 else expected, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(SHAPES, st.floats(0, 0.9))
def test_a_constant_network_gives_one_class_everywhere(shape: tuple[int, ...], overlap: float) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor, depth: int | None = None) -> Tensor:
            return torch.tensor([0.0, 0.5, 0.4]).view(1, 3, *[1] * (x.ndim - 2)).expand(len(x), 3, *x.shape[2:])

    found = predict_tiles([Constant()], Image((1, *shape)), plan((5,) * len(shape), overlap), (1,), CPU)
    assert found[1].shape == shape
    assert found[1].dtype == np.uint8
    assert (found[1] == 1).all()


@pytest.mark.parametrize("shape", [(40, 27), (6, 50), (17, 16, 11), (4, 20, 4)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
def test_streaming_equals_the_prediction_in_one_piece(shape: tuple[int, ...], overlap: float) -> None:
    image, net = Image((1, *shape)), network(len(shape))
    chosen = plan((16,) * 2 if len(shape) == 2 else (8,) * 3, overlap)
    found = every_row([net], image, chosen, (1, 2))
    for number, depth in enumerate((1, 2)):
        np.testing.assert_allclose(found[number], in_one_piece(net, image, chosen, depth), atol=1e-5)


def test_one_depth_of_all_is_that_depth_alone() -> None:
    image, net, chosen = Image((1, 30, 21)), network(2), plan((16, 16))
    both = predict_tiles([net], image, chosen, (1, 2), CPU)
    for depth in (1, 2):
        np.testing.assert_array_equal(both[depth], predict_tiles([net], image, chosen, (depth,), CPU)[depth])
    assert (both[1] != both[2]).any()


def test_where_memory_is_short_the_sums_are_on_disk_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image, chosen, net = Image((1, 40, 20)), plan((16, 16)), network(2)
    expected = every_row([net], image, chosen, (1, 2))
    made: list[np.ndarray] = []
    monkeypatch.setattr(sliding, "measure_free_bytes", lambda: 1000)
    allocate = scratch.allocate_array
    monkeypatch.setattr(scratch, "allocate_array", lambda *size: made.append(allocate(*size)) or made[0])
    monkeypatch.setattr(scratch, "LARGE", 1)
    np.testing.assert_array_equal(every_row([net], image, chosen, (1, 2)), expected)
    assert isinstance(made[0], np.memmap)


def test_networks_are_averaged() -> None:
    image, chosen = Image((1, 20, 20)), plan((16, 16))
    pair: list[nn.Module] = [network(2, seed=1), network(2, seed=2)]
    alone = [every_row([net], image, chosen, (2,)) for net in pair]
    np.testing.assert_allclose(every_row(pair, image, chosen, (2,)), (alone[0] + alone[1]) / 2, atol=1e-6)


def test_test_time_mirroring_commutes_with_mirroring_the_image() -> None:
    image, chosen, net = Image((1, 24, 20)), plan((16, 16)), network(2)
    turned = Image(image.shape)
    turned.array = image.array[:, ::-1, ::-1].copy()
    found, of_turned = (every_row([net], each, chosen, (2,), PredictOptions(tta=True)) for each in (image, turned))
    np.testing.assert_allclose(of_turned[:, :, ::-1, ::-1], found, atol=1e-5)
    assert np.abs(found - every_row([net], image, chosen, (2,))).max() > 1e-3


def test_no_block_is_larger_than_a_tile_and_progress_ends_at_all_tiles() -> None:
    image, seen = Image((1, 64, 33)), []
    for _ in stream_bands([network(2)], image, plan((16, 16)), (2,), CPU, progress=lambda *tiles: seen.append(tiles)):
        pass
    assert max(np.prod(shape) for shape in image.read_shapes) == 16 * 16
    assert seen[-1] == (len(TileGrid((64, 33), (16, 16), 0.5)),) * 2
    assert seen == sorted(seen)


def test_bands_of_several_streams_are_averaged_whatever_their_rows() -> None:
    values = [torch.rand(1, 2, 10, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]

    def cut(number: int, counts: list[int]) -> list[Band]:
        parts = values[number].split(counts, dim=2)
        return [Band(sum(counts[:place]), part) for place, part in enumerate(parts)]

    found = list(average_bands([cut(0, [3, 7]), cut(1, [5, 1, 4])]))
    assert [band.first_row for band in found] == [0, 3, 5, 6]
    torch.testing.assert_close(torch.cat([band.probabilities for band in found], dim=2), sum(values) / 2)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_regions_of_several_networks_are_averaged_and_then_decoded(count: int) -> None:
    """One or two regions are not taken for the compact form of two classes."""
    regions = tuple(tuple(range(first, count + 1)) for first in range(1, count + 1))
    coding, image, nets = RegionTensors(regions), Image((1, 9, 11)), [Pointwise(count), Pointwise(count)]
    nets[1].slopes = 1 - nets[0].slopes / 2
    options = PredictOptions(tta=True, probabilities=True, uncertainty="disagreement")
    bands = stream_bands(nets, image, plan((6, 6)), (1,), CPU, options, coding=coding)
    found = collect(bands, (9, 11), (1,), options, coding=coding)[1]
    assert found.probabilities is not None
    assert found.dice_sums is not None
    slopes = torch.stack([net.slopes for net in nets])[:, :, None, None]
    expected = (slopes * torch.from_numpy(image.array)).sigmoid().mean(dim=0)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    decoded = np.zeros((9, 11))
    for region, probability in zip(regions, found.probabilities, strict=True):
        decoded[probability > 0.5] = region[0]
    np.testing.assert_array_equal(found.segmentation, decoded)
    assert found.dice_sums.shape == (3, count)
    assert found.uncertainty is not None
    assert 0 <= found.uncertainty.min() < found.uncertainty.max() <= 1
