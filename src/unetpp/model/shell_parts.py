"""Parts of the layers of a network with shells: what computes some shells, given what those further in computed.

A part computes the rows of its shells from the input channels up to its outermost shell. Normalization, activation and
resampling work channel by channel (or within a group), so that only convolutions need channels of inner shells.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unetpp.model.shells import Channels, Widths, as_rows, list_layers

Steps = tuple[int, ...]
"""Numbers of shells after each step of the computation of a node; the last step is the part."""


class _Source(NamedTuple):
    """A tensor or module from which a part was cut."""

    holder: dict[str, Any]
    name: str
    value: Any
    alias: Tensor | None = None
    """Shares the memory of a tensor, which therefore nothing else can be given."""
    version: int = 0

    def is_unchanged(self) -> bool:
        """Tell whether the holder still has the value, with the same content."""
        is_same = self.holder.get(self.name) is self.value
        if not is_same or self.alias is None:
            return is_same
        tensor: Tensor = self.value
        return self.alias.data_ptr() == tensor.data_ptr() and self.version == tensor._version


class ShellParts:
    """Parts of modules, cut at their first use and again when their weights have changed.

    While gradients are recorded, they are cut anew each time, as views through which gradients reach the weights.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[nn.Module, Steps, bool], tuple[list[_Source], nn.Module]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> ShellParts:
        return ShellParts()

    def find(self, module: nn.Module, steps: Steps) -> nn.Module:
        """Find or cut the part of a module; the module itself if nothing in it has shells.

        Args:
            module: a layer, or a block that is computed in one step.
            steps: numbers of shells after each step up to this part. Its inputs are in the order of the steps, and
                within a step in that of the parts of the input.
        """
        if torch.is_grad_enabled():
            return cut(module, steps)
        key = (module, steps, module.training)
        found = self._parts.get(key)
        if found and all(source.is_unchanged() for source in found[0]):
            return found[1]
        part = cut(module, steps)
        if not any(tensor.is_inference() for tensor in (*module.parameters(), *module.buffers())):
            self._parts[key] = list(_list_sources(module)), part  # the others do not tell whether they change
        return part


def _list_sources(module: nn.Module) -> Iterator[_Source]:
    for each in module.modules():
        for holder in (each._modules, each._parameters, each._buffers):
            for name, value in holder.items():
                if isinstance(value, Tensor):
                    yield _Source(holder, name, value, value.detach(), value._version)
                else:
                    yield _Source(holder, name, value)


def cut(module: nn.Module, steps: Steps) -> nn.Module:
    """Copy a module with the weights of a part alone; arguments as `ShellParts.find`."""
    if next(list_layers(module), None) is None:
        return module
    part = copy.deepcopy(module, {id(each): each for each in (*module.parameters(), *module.buffers())})
    for layer, channels in list(list_layers(part)):
        rows = slice(_count(channels.outputs, steps[-2] if len(steps) > 1 else 0), channels.outputs[steps[-1] - 1])
        width, holder = rows.stop - rows.start, layer
        if channels.inputs:
            vars(layer).update(in_channels=len(list_columns(channels, steps)), out_channels=width)
        else:
            holder = _cut_groups(layer, width / channels.outputs[-1])
        for name, tensor in [*holder.named_parameters(recurse=False), *holder.named_buffers(recurse=False)]:
            if tensor.ndim:  # all but the count of batches
                delattr(holder, name)
                given = tensor if torch.is_grad_enabled() else tensor.detach()  # a trace refuses views of weights
                setattr(holder, name, _cut_tensor(layer, given, channels, rows, steps))
        del vars(layer)["channels"]
    return part


def _cut_groups(norm: Any, fraction: float) -> nn.Module:
    """Cut the number of groups of a normalization; return what holds its weights."""
    if hasattr(norm, "groups"):
        norm.groups = norm.groups and round(norm.groups * fraction)
    holder: nn.Module = norm if hasattr(norm, "groups") else norm.norm
    return holder


def _cut_tensor(layer: nn.Module, tensor: Tensor, channels: Channels, rows: slice, steps: Steps) -> Tensor:
    if not channels.inputs or tensor.ndim == 1:
        return tensor[rows]
    is_last = tensor.ndim > 3 and not tensor.is_contiguous()
    index = list_columns(channels, steps).to(tensor.device)
    part = as_rows(layer, as_rows(layer, tensor)[rows].index_select(1, index))
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return part.contiguous(memory_format=formats[tensor.ndim] if is_last else torch.contiguous_format)


def list_columns(channels: Channels, steps: Steps) -> Tensor:
    """List the input channels of a part in the order of its input."""
    parts = list(zip(channels.starts, channels.inputs, strict=True))
    return torch.cat(
        [
            torch.arange(at + _count(part, start), at + _count(part, stop))
            for start, stop in pairwise((0, *steps))
            for at, part in parts
        ]
    )


def _count(widths: Widths, shells: int) -> int:
    """Count the channels of the innermost shells."""
    return widths[shells - 1] if shells else 0
