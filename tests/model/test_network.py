"""Output of a network: any size, any strides, one head or all, pruned or not. test_family.py varies every field."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp.errors import UsageError
from unetpp.labels.coding_torch import CLASSES
from unetpp.model.build import build_model
from unetpp.model.network import HeadOutputs, UNetPlusPlus


def small(**fields: object) -> UNetPlusPlus:
    torch.manual_seed(0)
    return build_model(**{"topology": "unet++", "widths": (4, 5, 6), "in_channels": 2, "out_channels": 3, **fields})


@given(
    dims=st.sampled_from([2, 3]),
    depth=st.integers(1, 3),
    data=st.data(),
    norm=st.sampled_from(["instance", "batch", "group", "none"]),
    down=st.sampled_from(["pool", "conv"]),
    up=st.sampled_from(["transposed", "linear", "nearest"]),
)
@settings(max_examples=40, deadline=None)
def test_any_size_and_any_strides_work(
    dims: int, depth: int, data: st.DataObject, norm: str, down: str, up: str
) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 19)] * dims))
    strides = data.draw(st.lists(st.tuples(*[st.integers(1, 3)] * dims), min_size=depth, max_size=depth))
    kernels = data.draw(st.lists(st.tuples(*[st.sampled_from([1, 3])] * dims), min_size=depth + 1, max_size=depth + 1))
    network = small(
        dims=dims,
        depth=depth,
        widths=(3,) * (depth + 1),
        strides=strides,
        kernel_sizes=kernels,
        norm=norm,
        down=down,
        up=up,
    )
    x = torch.randn(1, 2, *shape)
    network(x).sum().backward()  # training at batch 1 and a bottleneck of one voxel
    network.eval()
    with torch.no_grad():
        full = network(x, heads=True)
        assert all(logits.shape == (1, 3, *shape) for logits in full.logits)
        for d in full.depths:
            assert torch.equal(network.prune(d)(x), full.at(d))


def test_one_head_computes_only_the_nodes_it_needs() -> None:
    network = small(widths=(4, 5, 6, 7))
    seen: list[str] = []
    for name, block in network.nodes.items():
        block.register_forward_hook(lambda *_, name=name: seen.append(name))
    network(torch.randn(1, 2, 8, 8), depth=1)
    assert sorted(seen) == ["x_0_0", "x_0_1", "x_1_0"]


def test_a_node_is_given_up_when_its_last_consumer_has_run() -> None:
    network = small(widths=(4, 5, 6, 7)).eval()
    outputs: dict[str, weakref.ref[torch.Tensor]] = {}
    alive: list[str] = []
    for name, block in network.nodes.items():
        block.register_forward_hook(
            lambda module, received, given, name=name: outputs.update({name: weakref.ref(given)})
        )
    network.heads["3"].register_forward_pre_hook(
        lambda *_: alive.extend(name for name, output in outputs.items() if output() is not None)
    )
    with torch.inference_mode():
        network(torch.randn(1, 2, 8, 8))
    assert alive == ["x_0_3"]


def test_output_is_one_tensor_or_a_typed_result() -> None:
    network = small()
    x = torch.randn(1, 2, 8, 8)
    assert isinstance(network(x), torch.Tensor)
    outputs = network(x, heads=True)
    assert isinstance(outputs, HeadOutputs)
    assert torch.equal(outputs.at(2), network(x))
    mean = outputs.mean_probabilities()
    assert torch.allclose(mean, (CLASSES.to_probabilities(outputs.at(1)) + CLASSES.to_probabilities(outputs.at(2))) / 2)
    assert torch.allclose(mean.sum(dim=1), torch.ones(1, 8, 8))


def test_a_pruned_network_is_independent_of_the_full_one() -> None:
    network = small()
    pruned = network.prune(1)
    with torch.no_grad():
        for weight in pruned.parameters():
            weight.zero_()
    assert network.heads["1"].weight.any()


def test_sizes_have_the_names_that_commands_take() -> None:
    fields = {"topology": "unet", "widths": (4, 8, 12), "norm": "instance", "block": "plain", "shells": (0.5, 1)}
    network, x = small(**fields).eval(), torch.rand(1, 2, 9, 8)
    assert network.sizes.words == {"small": 2, "large": 4}
    with torch.no_grad():
        for given in ({"size": "2x2"}, {"size": "small"}, {"depth": "2x2"}):
            assert torch.equal(network(x, **given), network(x, depth=2))
            assert torch.equal(network.prune(**given)(x), network.prune(2)(x))
        for size in (2, "2", "Large"):  # a depth alone is of the whole width, as in commands
            assert torch.equal(network(x, size=size), network(x, depth=4))
    sizes = r"one of small \(2x2\), large \(2x4\), the sizes of this network"
    with pytest.raises(UsageError, match=rf"size: got '2x3'; expected {sizes}\. "):
        network.prune(size="2x3")
    with pytest.raises(UsageError, match=rf"depth: got 1; expected {sizes}, or one of their numbers \[2, 4\]"):
        network(x, depth=1)
    with pytest.raises(UsageError, match="`depth`, `size`: got both"):
        network(x, depth=2, size="small")
    with pytest.raises(UsageError, match=r"depth: got 3; expected one of \[2, 4\], the numbers of these heads"):
        network(x, heads=True).at(3)
    with pytest.raises(UsageError, match=r"size: got '4x8'; expected one of \[1, 2\], the depths of this network"):
        small().prune(size="4x8")


def test_a_depth_without_head_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected one of \[1, 2\]"):
        small()(torch.randn(1, 2, 8, 8), depth=3)
    with pytest.raises(UsageError, match=r"expected one of \[2\]"):
        small(topology="unet").prune(1)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((1, 1, 8, 8), np.float32), r"^x: got ndarray; .*torch\.from_numpy"),
        (torch.zeros(1, 3, 8, 8), r"^x: got torch\.float32 of shape \(1, 3, 8, 8\); expected .*\(B, 1, Y, X\)"),
        (torch.zeros(1, 8, 8), r"Add the axis of the batch: `x\[None\]`"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), r"Use `x\.float\(\)`"),
    ],
)
def test_what_is_no_batch_of_images_is_one_message(x: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_model(widths=(4, 6))(x)
