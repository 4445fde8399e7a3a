"""What runs a trained network for prediction: torch, OpenVINO on CPUs, or the kernels for GPUs (figures in docs/log.md)."""

from __future__ import annotations

import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from unetpp.errors import UsageError
from unetpp.model.network import HeadOutputs
from unetpp.runtime.exported_file import load_openvino

BACKENDS = ("auto", "torch", "openvino", "cuda")


class Runner(Protocol):
    """Is called as a UNetPlusPlus is."""

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs: ...


class ForwardPass(Protocol):
    """A forward pass in steps, as `model.network.IncrementalForward` is one."""

    def logits(self, depth: int) -> Tensor: ...
    def keep(self, images: Tensor) -> None: ...


class IncrementalRunner(Runner, Protocol):
    """Begins forward passes in steps, too."""

    def start_forward(self, x: Tensor) -> ForwardPass: ...


FASTER = ("batch", "instance", "none")
"""Norms of networks that OpenVINO runs faster than torch; with group normalisation torch is as fast, one tile at a time (docs/log.md)."""


def choose_backend(name: str, device: torch.device, norm: str) -> str:
    """`auto` takes what is made for GPUs on one, and OpenVINO on a CPU where it is installed and faster.

    Args:
        norm: of the network.

    Raises:
        UsageError: no such backend, or one that does not run on `device`.
        MissingExtraError: OpenVINO is asked for and is not installed.
    """
    if name not in BACKENDS:
        raise UsageError(f"--backend: got {name!r}; expected one of {', '.join(BACKENDS)}.")
    if name == "auto" and device.type == "cuda":
        return "cuda"
    if name == "auto":
        return "openvino" if norm in FASTER and importlib.util.find_spec("openvino") else "torch"
    if name == "cuda" and device.type != "cuda":
        raise UsageError(
            f"--backend: got cuda on {device}; expected a CUDA device. Add --device cuda, or use --backend torch."
        )
    if name == "openvino" and device.type != "cpu":
        raise UsageError(
            f"--backend: got openvino on {device}; expected the CPU. Add --device cpu, or use --backend torch."
        )
    if name == "openvino":
        load_openvino("--backend openvino")
    return name
