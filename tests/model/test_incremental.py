"""A pass in steps gives what the network gives at every size, and computes no shell of a node twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.model.test_shells import networks, roughen, shelled
from unetpp.model.network import UNetPlusPlus
from unetpp.runtime.cuda import fuse_operations


@torch.no_grad()
def assert_steps_agree(
    runner: Any, network: UNetPlusPlus, x: Tensor, sizes: list[int], keep: Tensor, tolerance: float = 1e-6
) -> None:
    """Compare the logits of some sizes in a row with those of the whole network; half way, keep some of the images."""
    expected, forward_pass = network(x, heads=True), runner.start_forward(x)
    for step, number in enumerate(sizes):
        if step == (len(sizes) + 1) // 2:
            forward_pass.keep(keep)
        wanted = expected.at(number)[keep] if step >= (len(sizes) + 1) // 2 else expected.at(number)
        assert (forward_pass.logits(number) - wanted).abs().max() <= tolerance * wanted.abs().max()


@given(fields=networks, data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_pass_in_steps_gives_every_size_in_any_order(fields: dict[str, Any], data: st.DataObject) -> None:
    network = shelled(**fields).double().eval()
    roughen(network)
    x = torch.randn(3, 3, *data.draw(st.tuples(*[st.integers(1, 13)] * fields["dims"])), dtype=torch.float64)
    sizes = data.draw(st.lists(st.sampled_from(network.head_depths), min_size=1, max_size=6))
    keep = torch.tensor(data.draw(st.sampled_from([(True, False, True), (False, True, False), (True, True, True)])))
    assert_steps_agree(network, network, x, sizes, keep, 1e-10)
    with torch.no_grad():
        expected = network(x, heads=True)
        for number in network.head_depths:  # without the shells and nodes that a size does not need
            assert torch.allclose(network(x, depth=number), expected.at(number), rtol=0, atol=1e-10)
            inner = network(x, depth=number, heads=True)
            for each, logits in zip(*inner, strict=True):
                assert torch.allclose(logits, expected.at(each), rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_steps_agree_in_float32(norm: str) -> None:
    network = shelled(widths=(32, 64, 64), norm=norm, shells=(8, 16, 32)).eval()
    keep = torch.tensor([True, False])
    assert_steps_agree(network, network, torch.randn(2, 3, 37, 50), [1, 2, 4, 6], keep)
    assert_steps_agree(network, network, torch.randn(2, 3, 37, 50), [2, 1, 3, 6], keep)


@pytest.mark.parametrize("fields", [{"norm": "batch"}, {"norm": "batch", "block": "residual"}, {"up": "linear"}])
def test_steps_of_fused_operations_agree(fields: dict[str, Any]) -> None:
    network = shelled(**fields).eval()
    roughen(network)
    fused = fuse_operations(network, torch.float32)
    assert_steps_agree(fused, network, torch.randn(2, 3, 20, 20), [1, 2, 4], torch.tensor([True, False]), 1e-4)


@pytest.mark.parametrize("fields", [{}, {"stem": False}, {"up": "linear", "up_projection": False}])
def test_steps_above_an_encoder_agree(fields: dict[str, Any]) -> None:
    pytest.importorskip("timm")
    network = shelled(encoder="resnet18", widths=None, depth=3, first_width=16, block="plain", **fields).eval()
    numbers = network.head_depths
    sizes = [numbers[0], numbers[len(numbers) // 2 - 1], numbers[-1]]
    assert_steps_agree(network, network, torch.randn(2, 3, 40, 56), sizes, torch.tensor([False, True]), 1e-5)


@torch.no_grad()
def count(run: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("topology", ["unet++", "unet"])
def test_nothing_is_computed_twice(topology: str) -> None:
    network, x = shelled(topology=topology, norm="instance").eval(), torch.randn(1, 3, 24, 32)
    whole = count(lambda: network(x))
    inner = count(lambda: network.prune(2)(x))
    assert inner == count(lambda: network(x, depth=2)) < 0.3 * whole
    with torch.no_grad():
        forward_pass = network.start_forward(x)
    head = count(lambda: network.heads["2"](x.new_zeros(1, 4, 24, 32)))
    assert count(lambda: forward_pass.logits(2)) == inner
    assert count(lambda: forward_pass.logits(2)) == head
    outer = count(lambda: forward_pass.logits(4))
    assert inner + outer - head < 0.8 * whole  # of what the outer shell computes, a third would have been known
    assert outer < 0.6 * whole


def test_parts_follow_the_weights() -> None:
    network, x = shelled().eval(), torch.randn(1, 3, 12, 12)

    @torch.no_grad()
    def assert_agrees() -> None:
        forward_pass = network.start_forward(x.to(network.heads["1"].weight.dtype))
        for number in (2, 4):
            expected = network(x.to(network.heads["1"].weight.dtype), heads=True).at(number)
            assert (forward_pass.logits(number) - expected).abs().max() < 1e-5 * expected.abs().max()

    assert_agrees()
    first = network.nodes["x_0_0"].get_parameter("units.0.conv.weight")
    with torch.no_grad():
        first.mul_(2)
    assert_agrees()
    network.load_state_dict({name: 1.5 * each for name, each in network.state_dict().items()})
    assert_agrees()
    first.data = torch.randn_like(first)
    assert_agrees()
    network.half().float()
    assert_agrees()
    network.double()
    assert_agrees()
    network.to(torch.float32, memory_format=torch.channels_last)
    assert_agrees()
    with torch.no_grad():
        network.train()(torch.randn(2, 3, 16, 16), depth=2)
    network.nodes["x_0_0"].units[0].norm.weight = torch.nn.Parameter(torch.rand(8))
    network.eval()
    assert_agrees()


def test_gradients_pass_through_a_pass_in_steps() -> None:
    network, x = shelled().double().eval(), torch.randn(1, 3, 12, 12, dtype=torch.float64)
    found = []
    for run in (lambda: network(x, heads=True).at(4), lambda: network.start_forward(x).logits(4)):
        network.zero_grad()
        run().square().sum().backward()
        found.append(network.nodes["x_1_1"].get_parameter("units.1.units.0.conv.weight").grad)
    rows = slice(8, 16)  # those of the outer shell read all channels
    assert torch.allclose(found[0][rows], found[1][rows], atol=1e-9)
