"""What the tests of all peers do: make a peer's network differ from its start, read it, and compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unetpp.model.build import build_from_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.peers.answers import Answers
from unetpp.peers.importing import plan_of, recognise
from unetpp.peers.transfer import transfer
from unetpp.plan import Plan

PLAIN = {"per_case": False, "std": 255}


def require(name: str) -> Any:
    """A library that another machine may lack; a torchvision that does not fit torch raises RuntimeError."""
    try:
        return pytest.importorskip(name)
    except RuntimeError as error:
        pytest.skip(f"{name}: {error}")


def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """As if trained: every norm and its statistics are of their own, so that two that are mixed up show."""
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
    """Our network with the peer's weights and output channels, its plan, and what was ignored; all without a file."""
    answers = Answers(settings or {})
    reader, source, beside = recognise(tensors, peer, path)
    found = reader.read(source, answers)
    answers.require_agreement(found.model)
    weights, ignored = transfer(found, source)
    network = build_from_plan(found.model)
    network.load_state_dict(weights)
    return network.eval(), plan_of(found, answers, "peer"), beside | ignored


def differences(theirs: Sequence[Tensor], ours: Sequence[Tensor]) -> list[float]:
    """Largest absolute difference for each head."""
    return [float((mine - other).abs().max()) for mine, other in zip(ours, theirs, strict=True)]


def run(network: nn.Module, image: Tensor, **options: Any) -> Any:
    with torch.inference_mode():
        return network(image, **options)
