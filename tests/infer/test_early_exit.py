"""Early exit: each tile gets the output of its depth, no node is computed twice, and uncertainty is well defined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from unetpp.errors import UsageError
from unetpp.infer.early_exit import EarlyExit, estimate_uncertainty
from unetpp.model.build import build_model
from unetpp.model.network import UNetPlusPlus
from unetpp.runtime.openvino import OpenVinoNetwork


def network(**fields: Any) -> UNetPlusPlus:
    torch.manual_seed(0)
    return build_model(**{"topology": "unet++", "widths": (4, 8, 8, 8), **fields}).eval()


def on_torch(net: UNetPlusPlus) -> UNetPlusPlus:
    return net


def on_openvino(net: UNetPlusPlus) -> OpenVinoNetwork:
    pytest.importorskip("openvino")
    return OpenVinoNetwork(net, "fp32")


def images(count: int, dims: int = 2) -> Tensor:
    scales = torch.logspace(-2, 1, count).view(-1, *[1] * (dims + 1))
    return scales * torch.randn(count, 1, *(18, 21, 16)[:dims], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("runs", [on_torch, on_openvino])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dims": 3},
        {"topology": "unet+"},
        {"topology": "unet_e"},
        {"divisor": (8, 8), "norm": "batch"},
        {"widths": (16, 16, 32, 32), "shells": (8, 16)},
        {"widths": (8, 8, 16, 16), "shells": (2, 4, 8), "topology": "unet", "norm": "batch", "block": "plain"},
    ],
    ids=str,
)
def test_a_pass_in_steps_gives_what_the_network_gives(
    fields: dict[str, Any], runs: Callable[[UNetPlusPlus], Any]
) -> None:
    net, x = network(**fields), images(4, fields.get("dims", 2))
    with torch.inference_mode():
        forward_pass, chosen = runs(net).start_forward(x), torch.tensor([True, False, True, True])
        tolerance = 0 if runs is on_torch else 1e-4
        first, *others = net.head_depths
        torch.testing.assert_close(forward_pass.logits(first), net(x, depth=first), rtol=tolerance, atol=tolerance)
        forward_pass.keep(chosen)
        for depth in others:
            expected = net(x, depth=depth)[chosen]
            torch.testing.assert_close(forward_pass.logits(depth), expected, rtol=1e-4, atol=max(tolerance, 1e-6))


def test_no_node_is_computed_twice() -> None:
    net, calls = network(), Counter()
    for name, block in net.nodes.items():
        block.register_forward_hook(lambda *_, name=name: calls.update([name]))
    with torch.inference_mode():
        forward_pass = net.start_forward(images(2))
        for depth in (1, 2, 3):
            forward_pass.logits(depth)
    assert calls == Counter(net.nodes.keys())


@pytest.mark.parametrize("runs", [on_torch, on_openvino])
def test_every_image_stops_at_the_first_depth_that_is_sure(runs: Callable[[UNetPlusPlus], Any]) -> None:
    net, x = network(), images(6)
    with torch.inference_mode():
        heads = [net(x, depth=depth) for depth in (1, 2, 3)]
        limits = [
            float(estimate_uncertainty(logits).quantile(0.5)) for logits in heads[:2]
        ]  # between two images: neither is at the very limit
        adaptive = EarlyExit(runs(net), (1, 2, 3), limits)
        found = adaptive(x)
        stops = [
            next((n for n, logits in enumerate(heads[:2]) if estimate_uncertainty(logits)[image] <= limits[n]), 2)
            for image in range(len(x))
        ]
        expected = torch.stack([heads[stop][image] for image, stop in enumerate(stops)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert adaptive.images == Counter(stop + 1 for stop in stops)
    assert len(set(stops)) > 1


def test_where_no_image_may_stop_the_head_is_not_computed() -> None:
    net, x = network(), images(4)
    seen: list[str] = []
    for name, head in net.heads.items():
        head.register_forward_hook(lambda *_, name=name: seen.append(name))
    with torch.inference_mode():
        adaptive = EarlyExit(net, (1, 2, 3), [None, 1e9])
        torch.testing.assert_close(adaptive(x), net(x, depth=2), rtol=1e-4, atol=1e-6)
    assert seen == ["2", "2"]
    assert adaptive.images == {2: 4}


def test_uncertainty_is_the_fraction_of_foreground_that_is_expected_to_be_wrong() -> None:
    logits = torch.zeros(1, 2, 10, 20)
    logits[:, 1, :5], logits[:, 1, 5:] = 2.0, -2.0
    wrong = float(torch.sigmoid(torch.tensor(-2.0)))
    assert float(estimate_uncertainty(logits)) == pytest.approx(200 * wrong / 100)
    assert float(estimate_uncertainty(20 * logits)) == pytest.approx(0, abs=1e-6)
    logits[:, 1] = -2.0
    assert float(estimate_uncertainty(logits)) == pytest.approx(200 * wrong / 2)  # no foreground


def test_fused_heads_have_no_incremental_forward_pass() -> None:
    with pytest.raises(UsageError, match="combines the logits of its heads"):
        network(fusion="mean").start_forward(images(1))


def test_a_model_of_one_output_has_an_uncertainty_too() -> None:
    certain = torch.cat([torch.full((1, 1, 8, 16), 30.0), torch.full((1, 1, 8, 16), -30.0)], dim=2)
    assert float(estimate_uncertainty(certain)) == pytest.approx(0, abs=1e-6)
    assert float(estimate_uncertainty(0 * certain)) == pytest.approx(0.5 * 256 / 2.56, rel=0.01)
