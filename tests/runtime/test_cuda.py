"""The network as it is fused for a GPU, tested on the CPU; `tests/test_cuda.py` has the tests that need a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from unetpp.model.build import build_model
from unetpp.model.network import UNetPlusPlus
from unetpp.runtime.cuda import fuse_operations


def norms(network: UNetPlusPlus) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


@pytest.mark.parametrize(
    "fields",
    [
        {"norm": "batch", "activation": "relu"},
        {"norm": "batch", "activation": "silu", "dims": 3},
        {"norm": "batch", "block": "residual", "attention": "scse"},
        {"norm": "none", "activation": "relu"},
        {},
        {"encoder": "resenc"},
    ],
)
def test_batch_normalisations_go_into_convolutions(fields: dict[str, Any]) -> None:
    network = build_model(**{"topology": "unet++", "widths": (8, 16, 24), **fields}).eval()
    require_same(network, torch.randn(2, 1, *(9, 22, 17)[: fields.get("dims", 2)]))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "mobilenetv3_small_100", "convnext_atto"])
def test_those_of_encoders_too(name: str) -> None:
    pytest.importorskip("timm")
    require_same(build_model(encoder=name, in_channels=3).eval(), torch.randn(1, 3, 64, 64))


def require_same(network: UNetPlusPlus, image: torch.Tensor) -> None:
    torch.manual_seed(0)
    for norm in norms(network):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.uniform_(-0.3, 0.3)
        norm.running_var.uniform_(0.8, 2)
    faster = fuse_operations(network, torch.float32)
    assert not norms(faster)
    assert all(not weight.requires_grad for weight in faster.parameters())
    with torch.no_grad():
        for got, expected in zip(faster(image, heads=True).logits, network(image, heads=True).logits, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
