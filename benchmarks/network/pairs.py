"""Pairs of a peer's network and ours with the same weights (imported by us), so that both compute the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tests.peers.fixtures.networks import NestedUNet
from torch import Tensor, nn

from unetpp.model.file import load_model
from unetpp.model.network import UNetPlusPlus
from unetpp.peers import import_file
from unetpp.plan import Plan


@dataclass(frozen=True)
class Pair:
    """A peer's network and ours with the same weights."""

    name: str
    peer: nn.Module
    ours: UNetPlusPlus
    plan: Plan

    def on(self, device: str) -> Pair:
        """Move both networks to a device."""
        return Pair(self.name, self.peer.to(device), self.ours.to(device), self.plan)

    def image(self, batch: int, size: int) -> Tensor:
        """Make noise of standard deviation 1, (batch, C, size, ...), on the device of the networks."""
        shape = (batch, self.plan.model.in_channels, *(size,) * self.plan.model.dims)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(next(self.ours.parameters()).device)


class DeepestHead(nn.Module):
    """Wrap a peer that returns a list, to return only the last item."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[-1]


def smp_resnet34() -> Pair:
    import segmentation_models_pytorch as smp

    return _paired("SMP UnetPlusPlus resnet34", smp.UnetPlusPlus("resnet34", encoder_weights=None, classes=2), {})


def monai_2d() -> Pair:
    return _monai(2)


def monai_3d() -> Pair:
    return _monai(3)


def nested_unet() -> Pair:
    network = NestedUNet(2, 3, widths=(32, 64, 128, 256, 512))
    return _paired("NestedUNet 32..512", network, {"data.channels": ["blue", "green", "red"]}, DeepestHead)


PAIRS: dict[str, Callable[[], Pair]] = {
    "smp": smp_resnet34,
    "monai2d": monai_2d,
    "monai3d": monai_3d,
    "nested": nested_unet,
}


def _monai(dims: int) -> Pair:
    from monai.networks.nets import BasicUNetPlusPlus

    said = {"data.normalization": [{"per_case": True}]}
    return _paired(f"MONAI BasicUNetPlusPlus {dims}D", BasicUNetPlusPlus(dims, 1, 2), said, DeepestHead)


def _paired(
    name: str,
    network: nn.Module,
    said: dict[str, Any],
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> Pair:
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / "peer.pt")
        import_file(Path(folder) / "peer.pt", Path(folder) / "ours.safetensors", None, said)
        ours, header = load_model(Path(folder) / "ours.safetensors")
    return Pair(name, wrap(network).eval(), ours.eval(), header.plan)
