"""Steps that the tests of all peers share: modify a peer's network, read it, and compare outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unetpp.model.build import build_from_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.peers.import_settings import ImportSettings
from unetpp.peers.importing import convert, make_plan
from unetpp.plan import Plan

PLAIN = {"per_case": False, "std": 255}


def require(name: str) -> Any:
    """Import a library, or skip the test without it; a torchvision that does not fit torch raises RuntimeError."""
    try:
        return pytest.importorskip(name)
    except RuntimeError as error:
        pytest.skip(f"{name}: {error}")


def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm its own weights and statistics, as training does, so that mixing up two of them shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.2, generator=generator)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2, generator=generator)
        for weight in network.parameters():
            if weight.ndim == 1:
                weight.add_(torch.empty_like(weight).uniform_(-0.3, 0.3, generator=generator))
    return network.eval()


def read(
    tensors: Mapping[str, Tensor],
    settings: Mapping[str, Any] | None = None,
    peer: str | None = None,
    path: Path = Path("checkpoint.pt"),
) -> tuple[UNetPlusPlus, Plan, dict[str, str]]:
    """Return our network with the peer's weights and output channels, its plan, and the ignored tensors; no file."""
    given = ImportSettings(settings or {})
    found, weights, ignored = convert(tensors, peer, path, given)
    network = build_from_plan(found.model)
    network.load_state_dict(weights)
    return network.eval(), make_plan(found, given, "peer"), ignored


def differences(theirs: Sequence[Tensor], ours: Sequence[Tensor]) -> list[float]:
    """Return the largest absolute difference of each head."""
    return [float((mine - other).abs().max()) for mine, other in zip(ours, theirs, strict=True)]


def run(network: nn.Module, image: Tensor, **options: Any) -> Any:
    with torch.inference_mode():
        return network(image, **options)
