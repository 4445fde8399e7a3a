"""Compiled and exported networks equal the network at every size: no graph is tied to the size it was made with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from tests.model.test_family import timm_is_here
from unetpp.model.build import build_model
from unetpp.model.network import UNetPlusPlus

NETWORKS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"preset": "paper"},
    "residual, batch": {"block": "residual", "norm": "batch"},
    "projected, instance": {"block": "projected", "norm": "instance", "nested_norm": "layer"},
    "shuffled": {"up": "pixel_shuffle", "norm_groups": 2, "attention": "scse"},
    "linear, fused": {"up": "linear", "align_corners": True, "fusion": "learned"},
    "floor": {"odd_sizes": "floor", "up": "nearest"},
    "divisor": {"divisor": (4, 4), "down": "conv"},
    "one group a channel": {"norm_groups": 4, "widths": (4, 4, 4), "strides": ((3, 3), (1, 2))},
    "unet_e": {"topology": "unet_e", "fusion": "mean"},
    "3D": {"dims": 3, "strides": ((1, 2, 2), (2, 2, 2))},
    "3D resenc": {"dims": 3, "encoder": "resenc", "encoder_blocks": (1, 2, 1), "norm": "instance", "conv_bias": True},
    "pruned": {"widths": (4, 6, 8, 10)},
    "timm": {"encoder": "test_resnet", "depth": 2, "widths": None, "first_width": 4},
    "timm, bare, half": {
        "encoder": "test_resnet",
        "depth": 2,
        "widths": None,
        "first_width": 4,
        "stem": False,
        "output_stride": 2,
    },
}
SIZES = ((2, (20, 24, 16)), (1, (16, 16, 16)), (3, (17, 21, 19)), (1, (13, 10, 9)))
"""Batch and spatial axes of the example that a graph is made with, then of others."""
QUICK_EXPORTS = (
    "default",
    "shuffled",
    "linear, fused",
    "floor",
    "one group a channel",
    "3D resenc",
    "timm, bare, half",
)
QUICK_ONNX = ("floor", "3D resenc")
QUICK_COMPILED = ("floor",)


def named(quick: Sequence[str]) -> list[Any]:
    """All networks; those that are not quick are left out with -m "not slow"."""
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in NETWORKS]


def network_of(name: str) -> UNetPlusPlus:
    if name.startswith("timm") and not timm_is_here:
        pytest.skip("timm is not installed")
    torch.manual_seed(0)
    network = build_model(
        **{"topology": "unet++", "widths": (4, 6, 8), "in_channels": 1, "out_channels": 2, **NETWORKS[name]}
    ).eval()
    return network.prune(2) if name == "pruned" else network


def images(dims: int) -> list[Tensor]:
    return [torch.randn(batch, 1, *size[-dims:], generator=torch.Generator().manual_seed(0)) for batch, size in SIZES]


def dims_of(network: nn.Module) -> int:
    return next(weight.ndim for weight in network.parameters() if weight.ndim > 1) - 2


def any_size(dims: int) -> tuple[dict[int, Any]]:
    return ({axis: Dim.DYNAMIC for axis in (0, *range(2, 2 + dims))},)


def check_agreement(network: nn.Module, other: Any) -> None:
    with torch.no_grad():
        for x in images(dims_of(network)):
            torch.testing.assert_close(other(x), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", named(QUICK_EXPORTS))
def test_exported_graphs_take_any_size(name: str) -> None:
    network = network_of(name)
    dims = dims_of(network)
    check_agreement(network, torch.export.export(network, (images(dims)[0],), dynamic_shapes=any_size(dims)).module())


def test_exported_graphs_may_name_their_sizes() -> None:
    network, size = (
        network_of("default"),
        [Dim(name, min=5) for name in ("height", "width")],
    )  # above the bottleneck of one voxel
    exported = torch.export.export(
        network, (images(2)[0],), dynamic_shapes=({0: Dim("batch"), 2: size[0], 3: size[1]},)
    )
    check_agreement(network, exported.module())


def test_graphs_of_one_size_have_no_gathers() -> None:
    nodes = torch.export.export(network_of("default"), (torch.randn(1, 1, 16, 16),)).graph.nodes
    assert not [node for node in nodes if "index_select" in str(node.target) or "pad" in str(node.target)]


@pytest.mark.parametrize("name", named(QUICK_COMPILED))
def test_networks_compile_as_one_graph_for_all_sizes(name: str) -> None:
    torch.compiler.reset()
    network = network_of(name)
    with torch._dynamo.config.patch(error_on_recompile=False, recompile_limit=2):  # one for images of batch 1
        check_agreement(network, torch.compile(network, fullgraph=True, dynamic=True, backend="eager"))


def test_training_compiles_as_one_graph() -> None:
    torch.compiler.reset()
    x, results = images(2)[2], []
    for compiled in (False, True):
        network = network_of("linear, fused").train()
        call = torch.compile(network, fullgraph=True, backend="aot_eager") if compiled else network
        outputs = call(x, heads=True)
        sum(logits.square().mean() for logits in outputs.logits).backward()
        results.append([*outputs.logits, *(weight.grad for weight in network.parameters())])
    for eager, other in zip(*results, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_inductor_agrees() -> None:
    torch.compiler.reset()
    network = network_of("default")
    with torch.no_grad():
        x = images(2)[2]
        torch.testing.assert_close(torch.compile(network, fullgraph=True)(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", named(QUICK_ONNX))
def test_onnx_agrees_at_any_size(name: str, tmp_path: Path) -> None:
    network = network_of(name)
    check_agreement(network, onnx_session(network, tmp_path / "model.onnx", images(dims_of(network))[0]))


def onnx_session(network: nn.Module, path: Path, x: Tensor) -> Any:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(network, (x,), path, dynamo=True, dynamic_shapes=any_size(x.ndim - 2), verbose=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])
