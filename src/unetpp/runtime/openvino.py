"""A trained network run by OpenVINO, which is faster than torch on CPUs (extra `openvino`; figures in docs/log.md)."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unetpp.errors import UsageError
from unetpp.model.blocks import GroupNorm
from unetpp.model.network import HeadOutputs, UNetPlusPlus
from unetpp.runtime.device import has_fast_bf16
from unetpp.runtime.exported_file import BACKEND_OPENVINO, load_openvino, openvino_core
from unetpp.runtime.runner import ForwardPass

_CONVERSION_LOCK = threading.Lock()
"""Held while a graph is made, because that changes the warning filters of the process."""


class OpenVinoNetwork:
    """Computes the output of a network in evaluation mode, without gradients.

    Each kind of pass (one depth, or all heads up to one, at one size of image) is compiled at its first use. Threads
    may share it: passes of one network run one after the other, each on all cores.

    Args:
        network: on the CPU.
        precision: fp32, or bf16 where the hardware is faster with it.
        or_torch: run a network that OpenVINO cannot run with torch.
    """

    def __init__(self, network: UNetPlusPlus, precision: str, or_torch: bool = False) -> None:
        self._or_torch = or_torch
        self._on_torch = False
        self._network = replace_group_norms(network)
        fast = precision == "bf16" and has_fast_bf16(torch.device("cpu"))
        self._precision = "bf16" if fast else "f32"  # by default OpenVINO chooses bf16
        self._compiled: dict[tuple[Any, ...], Any] = {}
        self.new: dict[tuple[int, ...], tuple[Any, ...]] = {}
        """What the last of some steps of an incremental pass computes for later ones."""
        self._lock = threading.Lock()

    def start_forward(self, x: Tensor) -> ForwardPass:
        """Begin an incremental forward pass of images (B, C, *spatial)."""
        return self._network.start_forward(x) if self._on_torch else _IncrementalPass(self, self._network, x)

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs:
        """Compute logits; arguments and result as those of `UNetPlusPlus.forward`."""
        if not self._on_torch:
            try:
                return self._forward(x, depth, heads)
            except _CannotConvertError:
                if not self._or_torch:
                    raise
                self._on_torch = True
        logits: Tensor | HeadOutputs = self._network(x, depth=depth, heads=heads)
        return logits

    def _forward(self, x: Tensor, depth: int | None, heads: bool) -> Tensor | HeadOutputs:
        def compute(network: nn.Module, x: Tensor) -> Any:
            found = network(x, depth=depth, heads=heads)
            return found.logits if heads else found

        logits = self.run((depth, heads), compute, x.numpy())
        if not heads:
            return torch.from_numpy(logits[0])
        depths = self._network._heads_to(self._network._resolve_size(depth))
        return HeadOutputs(depths, tuple(map(torch.from_numpy, logits)))

    def run(self, kind: Any, compute: Callable[..., Any], *inputs: np.ndarray) -> list[np.ndarray]:
        """Run a function of the network and some arrays, compiled at the first call of this kind with these sizes.

        Args:
            kind: cache key of the function.
            compute: called with the network and a tensor for each input; returns tensors.
            inputs: (B, C, *spatial) float32.
        """
        key = (kind, *(each.shape[1:] for each in inputs))
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = self._compile(_Traceable(self._network, compute), key[1:])
            return list(self._compiled[key]([np.ascontiguousarray(each) for each in inputs]).values())

    def _compile(self, module: nn.Module, sizes: Sequence[Sequence[int]]) -> Any:
        options = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            with _CONVERSION_LOCK:
                return openvino_core().compile_model(convert(module, *sizes), "CPU", options)
        except Exception as error:  # of any kind: an unsupported operation, an incomplete installation
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            got = f"openvino, which cannot run this network ({reason})"
            raise _CannotConvertError("backend", got, "another", 'Use `backend="torch"`.') from error


class _CannotConvertError(UsageError):
    """OpenVINO cannot run a network."""


class _Traceable(nn.Module):
    """A function of a network and tensors, as a module."""

    def __init__(self, network: nn.Module, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.compute = network, compute

    def forward(self, *inputs: Tensor) -> Any:
        return self.compute(self.network, *inputs)


class _IncrementalPass:
    """A forward pass in steps; each is a graph from the image and what is computed so far to logits and what is new."""

    def __init__(self, owner: OpenVinoNetwork, network: UNetPlusPlus, x: Tensor) -> None:
        self._owner, self._network = owner, network
        self._image = x.numpy()
        self._steps: tuple[int, ...] = ()
        self._outputs: dict[Any, np.ndarray] = {}

    def logits(self, depth: int) -> Tensor:
        """Compute logits (B, channels, *spatial) at a depth."""
        self._steps = (*self._steps, depth)
        known, kind = tuple(self._outputs), self._steps

        def compute(network: UNetPlusPlus, image: Tensor, *outputs: Tensor) -> tuple[Tensor, ...]:
            given = dict(zip(known, outputs, strict=True))
            forward_pass = network.start_forward(image, given or None)
            logits = forward_pass.logits(depth)
            is_last = depth == network.head_depths[-1]
            new = {} if is_last else {key: x for key, x in forward_pass.outputs.items() if x is not given.get(key)}
            self._owner.new[kind] = tuple(new)
            return (logits, *new.values())

        logits, *outputs = self._owner.run(kind, compute, self._image, *self._outputs.values())
        self._outputs |= dict(zip(self._owner.new[kind], outputs, strict=True))
        return torch.from_numpy(logits)

    def keep(self, images: Tensor) -> None:
        """Continue with some of the images: (B,) bool."""
        chosen = images.numpy()
        self._image = self._image[chosen]
        self._outputs = {key: output[chosen] for key, output in self._outputs.items()}


def convert(module: nn.Module, *sizes: Sequence[int]) -> Any:
    """Convert a module to an openvino.Model, for any batch size and fixed sizes (C, *spatial) of its inputs.

    Tiles have one size, and graphs of dynamic size are slower.
    """
    openvino = load_openvino(BACKEND_OPENVINO)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # sizes become constants in the trace, on purpose
        example = tuple(torch.zeros(1, *size) for size in sizes)
        return openvino.convert_model(module.eval(), example_input=example, input=[[-1, *size] for size in sizes])


def replace_group_norms(network: nn.Module) -> Any:
    """Copy a network, with group normalizations in a form that OpenVINO and ONNX Runtime run fast; same output."""
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, GroupNorm) and child.groups is not None:
                setattr(module, name, _GroupNorm(child))
    return copied


class _GroupNorm(nn.Module):
    """Instance normalization of groups laid out as one channel: 0.7 of the time of OpenVINO's own (docs/log.md)."""

    def __init__(self, norm: GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.norm.groups or 1, -1, *x.shape[3:])
        normal = torch.instance_norm(grouped, None, None, None, None, True, 0.0, self.norm.eps, False).reshape(x.shape)
        each = (-1, *[1] * (x.ndim - 2))
        return normal * self.norm.weight.view(each) + self.norm.bias.view(each)
