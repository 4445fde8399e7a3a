"""What runs a trained network for prediction: torch, or OpenVINO, which is faster on CPUs (extra `openvino`; figures in docs/log.md)."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from unetpp.errors import UsageError, optional_package
from unetpp.model.execution import gains_from_bf16
from unetpp.model.network import HeadOutputs, UNetPlusPlus

BACKENDS = ("auto", "torch", "openvino")


class Runner(Protocol):
    """Is called as a UNetPlusPlus is."""

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs: ...


FASTER = ("batch", "instance", "none")
"""Norms of networks that OpenVINO runs faster than torch; its group normalisation takes as long as it gains elsewhere (docs/log.md)."""


def choose_backend(name: str, device: torch.device, norm: str) -> str:
    """`auto` takes OpenVINO on a CPU where it is installed and faster.

    Args:
        norm: of the network.

    Raises:
        UsageError: no such backend, or one that does not run on `device`.
        MissingExtraError: OpenVINO is asked for and is not installed.
    """
    if name not in BACKENDS:
        raise UsageError(f"--backend: got {name!r}; expected one of {', '.join(BACKENDS)}.")
    if name == "auto":
        return "openvino" if device.type == "cpu" and norm in FASTER and importlib.util.find_spec("openvino") else "torch"
    if name == "openvino" and device.type != "cpu":
        raise UsageError(f"--backend: got openvino on {device}; expected the CPU. Add --device cpu, or use --backend torch.")
    if name == "openvino":
        with optional_package("openvino", "openvino", "--backend openvino"):
            import openvino  # noqa: F401
    return name


class OpenVinoNetwork:
    """Answers as the network that it is made from does in evaluation mode, without gradients.

    Each wish (a depth, or all heads up to one) at each size of image is compiled at its first use.

    Args:
        network: on the CPU.
        precision: fp32, or bf16 where the hardware gains from it.
    """

    def __init__(self, network: UNetPlusPlus, precision: str) -> None:
        self._network = network
        self._hint = "bf16" if precision == "bf16" and gains_from_bf16(torch.device("cpu")) else "f32"  # without a hint it takes bf16
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs:
        key = (depth, heads, x.shape[1:])
        if key not in self._compiled:
            self._compiled[key] = self._compile(x, depth, heads)
        found = self._compiled[key](np.ascontiguousarray(x.numpy()))
        logits = tuple(torch.from_numpy(values) for values in found.values())
        if not heads:
            return logits[0]
        return HeadOutputs(tuple(d for d in self._network.head_depths if depth is None or d <= depth), logits)

    @torch.inference_mode(False)
    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def _compile(self, x: Tensor, depth: int | None, heads: bool) -> Any:
        import openvino

        # the size of the image is fixed, as tiles have one size; the number of tiles is not
        example = torch.zeros(1, *x.shape[1:])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes become numbers in the trace: they are meant to
            model = openvino.convert_model(_Answers(self._network, depth, heads).eval(), example_input=example, input=[-1, *x.shape[1:]])
        options = {"INFERENCE_PRECISION_HINT": self._hint, "INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
        return openvino.Core().compile_model(model, "CPU", options)


class _Answers(nn.Module):
    """A network with a wish, as tensors alone."""

    def __init__(self, network: nn.Module, depth: int | None, heads: bool) -> None:
        super().__init__()
        self.network, self.depth, self.heads = network, depth, heads

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self.network(x, depth=self.depth, heads=self.heads)
        return found.logits if self.heads else found
