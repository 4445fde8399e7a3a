"""A trained network run by OpenVINO, which is faster than torch on CPUs (extra `openvino`; figures in docs/log.md)."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unetpp.errors import UsageError
from unetpp.model.blocks import GroupNorm
from unetpp.model.grid import Node
from unetpp.model.network import Growth, HeadOutputs, UNetPlusPlus
from unetpp.runtime.device import has_fast_bf16
from unetpp.runtime.exported_file import load_openvino, openvino_core
from unetpp.runtime.runner import Growing

_ONE_CONVERSION = threading.Lock()
"""Held while a graph is made, because that sets the filters of warnings, which are the process's."""


class OpenVinoNetwork:
    """Answers as the network that it is made from does in evaluation mode, without gradients.

    Each kind of pass (a depth, or all heads up to one, at one size of image) is compiled at its first use. Threads may
    share it: passes of one network run one after the other, each on all cores.

    Args:
        network: on the CPU.
        precision: fp32, or bf16 where the hardware gains from it.
        or_torch: a network that OpenVINO cannot run is run by torch.
    """

    def __init__(self, network: UNetPlusPlus, precision: str, or_torch: bool = False) -> None:
        self._or_torch = or_torch
        self._torch: UNetPlusPlus | None = None
        """The network, once it is known that OpenVINO cannot run it."""
        self._network = replace_group_norms(network)
        self._hint = (
            "bf16" if precision == "bf16" and has_fast_bf16(torch.device("cpu")) else "f32"
        )  # without a hint it takes bf16
        self._compiled: dict[tuple[Any, ...], Any] = {}
        self._one_pass = threading.Lock()

    def grow(self, x: Tensor) -> Growing:
        """A forward pass in steps."""
        return self._torch.grow(x) if self._torch else _OpenVinoGrowth(self, x)

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs:
        try:
            if self._torch:
                return self._torch(x, depth=depth, heads=heads)
            logits = self._run((depth, heads), _Answers(self._network, depth, heads), x.numpy())
        except _CannotConvertError:
            if not self._or_torch:
                raise
            self._torch = self._network
            return self._torch(x, depth=depth, heads=heads)
        if not heads:
            return torch.from_numpy(logits[0])
        depths = tuple(d for d in self._network.head_depths if depth is None or d <= depth)
        return HeadOutputs(depths, tuple(map(torch.from_numpy, logits)))

    def _run(self, kind: Any, module: nn.Module, *inputs: np.ndarray) -> list[np.ndarray]:
        """Outputs of a module, which is compiled at the first call of this kind with these sizes."""
        key = (kind, *(each.shape[1:] for each in inputs))
        with self._one_pass:
            if key not in self._compiled:
                self._compiled[key] = self._compile(module, key[1:])
            return list(self._compiled[key]([np.ascontiguousarray(each) for each in inputs]).values())

    def _compile(self, module: nn.Module, sizes: Sequence[Sequence[int]]) -> Any:
        options = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            with _ONE_CONVERSION:
                return openvino_core().compile_model(convert(module, *sizes), "CPU", options)
        except Exception as error:  # of any kind: an operation it does not have, an installation that is not whole
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            got = f"openvino, which cannot run this network ({reason})"
            raise _CannotConvertError("backend", got, "another", 'Use `backend="torch"`.') from error


class _CannotConvertError(UsageError):
    """OpenVINO cannot run a network."""


class _OpenVinoGrowth:
    """Each step is a graph of its own: from the image and the nodes that are there to the next logits and the nodes that are new."""

    def __init__(self, owner: OpenVinoNetwork, x: Tensor) -> None:
        self._owner = owner
        self._image = x.numpy()
        self._outputs: dict[Node, np.ndarray] = {}

    def logits(self, depth: int) -> Tensor:
        had = tuple(self._outputs)
        step = _Step(self._owner._network, depth, had)
        logits, *new = self._owner._run((depth, had), step, self._image, *self._outputs.values())
        self._outputs |= dict(zip(step.new, new, strict=True))
        return torch.from_numpy(logits)

    def keep(self, images: Tensor) -> None:
        chosen = images.numpy()
        self._image = self._image[chosen]
        self._outputs = {node: output[chosen] for node, output in self._outputs.items()}


class _Step(nn.Module):
    """A step of a growing forward pass, as tensors alone."""

    def __init__(self, network: UNetPlusPlus, depth: int, had: tuple[Node, ...]) -> None:
        super().__init__()
        self.network, self.depth, self.had = network, depth, had
        given = {(level, 0) for level in network.encoder.levels} if network.encoder is not None and not had else set()
        last = depth == network.head_depths[-1]
        self.new = (
            ()
            if last
            else tuple(
                node
                for node in network.grid.nodes()
                if node not in had and node in given | set(network.grid.needed((depth,)))
            )
        )

    def forward(self, image: Tensor, *had: Tensor) -> tuple[Tensor, ...]:
        growth = Growth(self.network, image, dict(zip(self.had, had, strict=True)) or None)
        logits = growth.logits(self.depth)
        return (logits, *(growth.outputs[node] for node in self.new))


@torch.inference_mode(False)
@torch.no_grad()
@torch.autocast("cpu", enabled=False)
def convert(module: nn.Module, *sizes: Sequence[int]) -> Any:
    """An openvino.Model of a module, for any number of inputs of fixed sizes (C, *spatial): tiles have one size, and graphs of any size are slower."""
    openvino = load_openvino("--backend openvino")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become numbers in the trace: they are meant to
        return openvino.convert_model(
            module.eval(),
            example_input=tuple(torch.zeros(1, *size) for size in sizes),
            input=[[-1, *size] for size in sizes],
        )


def replace_group_norms(network: nn.Module) -> Any:
    """A copy of the network that answers the same, its group normalisations in the terms that OpenVINO and ONNX Runtime are fast in."""
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, GroupNorm) and child.groups is not None:
                setattr(module, name, _GroupNorm(child, child.groups))
    return copied


class _GroupNorm(nn.Module):
    """Instance normalisation of groups that lie one after the other as one channel: the same numbers, in 0.7 of the time of OpenVINO's own (docs/log.md)."""

    def __init__(self, norm: GroupNorm, groups: int) -> None:
        super().__init__()
        self.norm, self.groups = norm, groups

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.groups, -1, *x.shape[3:])
        normal = torch.instance_norm(grouped, None, None, None, None, True, 0.0, self.norm.eps, False).reshape(x.shape)
        each = (-1, *[1] * (x.ndim - 2))
        return normal * self.norm.weight.view(each) + self.norm.bias.view(each)


class _Answers(nn.Module):
    """One kind of pass of a network, as tensors alone."""

    def __init__(self, network: nn.Module, depth: int | None, heads: bool) -> None:
        super().__init__()
        self.network, self.depth, self.heads = network, depth, heads

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self.network(x, depth=self.depth, heads=self.heads)
        return found.logits if self.heads else found
