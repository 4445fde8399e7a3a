"""Backends of a trained network: torch, OpenVINO on CPUs, or fused kernels on GPUs (figures in docs/log.md)."""

from __future__ import annotations

import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from unetpp.errors import UsageError
from unetpp.model.network import HeadOutputs
from unetpp.runtime.exported_file import BACKEND_OPENVINO, load_openvino

BACKENDS = ("auto", "torch", "openvino", "cuda")
DEVICE_TYPES = {"cuda": "cuda", "openvino": "cpu"}
"""Backend -> the only type of device that it runs on."""
FASTER = ("batch", "instance", "none")
"""Norms of networks that OpenVINO runs faster than torch; with group normalization torch is as fast, one tile at a time
(docs/log.md)."""


class Runner(Protocol):
    """Runs a network; called as a UNetPlusPlus."""

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs: ...


class ForwardPass(Protocol):
    """An incremental forward pass, as `model.network.IncrementalForward`."""

    def logits(self, depth: int) -> Tensor: ...
    def keep(self, images: Tensor) -> None: ...


class IncrementalRunner(Runner, Protocol):
    """A runner that supports incremental forward passes."""

    def start_forward(self, x: Tensor) -> ForwardPass: ...


def choose_backend(name: str, device: torch.device, norm: str) -> str:
    """Resolve `auto`: cuda on a GPU; on a CPU openvino where it is installed and faster, otherwise torch.

    Args:
        name: one of BACKENDS.
        device: device of the network.
        norm: norm of the network.

    Raises:
        UsageError: no such backend, or one that does not run on `device`.
        MissingExtraError: OpenVINO is requested and not installed.
    """
    if name not in BACKENDS:
        raise UsageError("backend", repr(name), f"one of {', '.join(BACKENDS)}", "Choose one of them.")
    if name == "auto" and device.type == "cuda":
        return "cuda"
    if name == "auto":
        fast = device.type == "cpu" and norm in FASTER
        return "openvino" if fast and importlib.util.find_spec("openvino") else "torch"
    kind = DEVICE_TYPES.get(name, device.type)
    if device.type != kind:
        action = f'Use `device="{kind}"`, or `backend="torch"`.'
        raise UsageError("backend", f"{name} on {device}", f"a device of type {kind}", action)
    if name == "openvino":
        load_openvino(BACKEND_OPENVINO)
    return name
