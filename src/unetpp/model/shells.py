"""Channel shells: a network nested in width, as UNet++ is nested in depth.

The channels of every node are divided into shells. Shell s of X[i, j] reads shells up to s of what X[i, j] receives,
never an outer one: along its channels, the weight of every convolution is block lower triangular. Therefore a network
cut to its inner shells gives exactly what their head in the whole network gives. The weights from outer to inner shells
exist in the dense layers and are zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from unetpp.model.blocks import BatchNorm, ConvUnit, GroupNorm, PlainBlock, ResidualBlock

Widths = tuple[int, ...]
"""Number of channels up to and with each shell."""
_CONVS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Channels:
    """Channels of a layer, by shell."""

    outputs: Widths
    inputs: tuple[Widths, ...] = ()
    """One for each part of the concatenated input of a convolution."""

    def count_inputs(self, shell: int) -> int:
        """Count the input channels of the layer cut to a shell."""
        return sum(part[shell] for part in self.inputs)

    def list_inputs(self, shell: int) -> Tensor:
        """List the input channels that the layer cut to a shell keeps."""
        return torch.cat([torch.arange(part.start, part.stop) for part in self.slice_inputs(shell)])

    def slice_inputs(self, shell: int) -> list[slice]:
        """Return the input channels that the layer cut to a shell keeps, of each part of the input."""
        return [slice(at, at + part[shell]) for at, part in zip(self.starts, self.inputs, strict=True)]

    def count_absent(self, shell: int) -> int:
        """Count the pairs of an output and an outer input that the layer cut to a shell does not connect."""
        rows = enumerate(pairwise((0, *self.outputs[: shell + 1])))
        return sum((end - start) * (self.count_inputs(shell) - self.count_inputs(own)) for own, (start, end) in rows)

    @property
    def starts(self) -> list[int]:
        """First channel of each part of the input."""
        return list(accumulate([0, *(part[-1] for part in self.inputs[:-1])]))


def list_layers(module: nn.Module) -> Iterator[tuple[nn.Module, Channels]]:
    """List the layers of a module that have shells."""
    for layer in module.modules():
        if channels := get_channels(layer):
            yield layer, channels


def get_channels(layer: nn.Module) -> Channels | None:
    """Look up the channels of a layer; None: it has no shells."""
    channels = getattr(layer, "channels", None)
    return channels if isinstance(channels, Channels) else None


def attach_channels(block: nn.Module, inputs: Sequence[Widths], fractions: Sequence[float]) -> None:
    """Tell each layer of a node its channels, by shell.

    Args:
        block: the node, or what samples up or down.
        inputs: channels of each part of its input.
        fractions: of the width of a layer, up to and with each shell.
    """
    first = set(_first_convs(block))
    for layer in block.modules():
        if isinstance(layer, _CONVS):
            received = tuple(inputs) if layer in first else (_split(layer.in_channels, fractions),)
            vars(layer)["channels"] = Channels(_split(layer.out_channels, fractions), received)
        elif isinstance(layer, GroupNorm | BatchNorm):
            width = len(layer.weight) if isinstance(layer, GroupNorm) else layer.norm.num_features
            vars(layer)["channels"] = Channels(_split(width, fractions))


def _split(width: int, fractions: Sequence[float]) -> Widths:
    return tuple(round(width * fraction) for fraction in fractions)


def _first_convs(module: nn.Module) -> Iterator[nn.Module]:
    """Find the convolutions that read the input of a node."""
    if isinstance(module, _CONVS):
        yield module
    elif isinstance(module, ConvUnit):
        yield module.conv
    elif isinstance(module, ResidualBlock):
        yield from _first_convs(module.units)
        yield from _first_convs(module.shortcut)
    elif isinstance(module, PlainBlock):
        yield from _first_convs(module.units)
    else:  # the first of a sequence with weights, such as the projection before up-sampling
        yield from next((found for child in module.children() if (found := list(_first_convs(child)))), [])


@torch.no_grad()
def initialize_shells(network: nn.Module) -> None:
    """Scale the initial weights of each shell to the number of channels that it reads; zero those of outer shells."""
    for layer, channels in list_layers(network):
        if channels.inputs:
            rows = as_rows(layer, layer.get_parameter("weight"))
            for shell, (start, end) in enumerate(pairwise((0, *channels.outputs))):
                rows[start:end] *= (channels.count_inputs(-1) / channels.count_inputs(shell)) ** 0.5
    separate_shells(network)


@torch.no_grad()
def separate_shells(network: nn.Module, *loaded: object) -> None:
    """Set the weights by which inner shells would read outer ones to zero: loaded ones may be of another network."""
    for block in list_outer_blocks(network):
        block.zero_()


@torch.no_grad()
def list_outer_blocks(network: nn.Module, gradients: bool = False) -> list[Tensor]:
    """List the blocks of all weights by which inner shells would read outer ones, as views; they have to be zero.

    Args:
        network: of any number of shells.
        gradients: list the blocks of the gradients instead.
    """
    blocks = []
    for layer, channels in list_layers(network):
        if not channels.inputs:
            continue
        weight = layer.get_parameter("weight")
        tensor = weight.grad if gradients else weight
        if tensor is None:
            continue
        rows = as_rows(layer, tensor)
        for shell, (start, end) in enumerate(pairwise((0, *channels.outputs[:-1]))):
            for at, part in zip(channels.starts, channels.inputs, strict=True):
                if part[shell] < part[-1]:
                    blocks.append(rows[start:end, at + part[shell] : at + part[-1]])
    return blocks


def list_shell_blocks(network: nn.Module) -> dict[Tensor, list[tuple[list[slice], list[slice]]]]:
    """List for each weight of a convolution the rows of each shell and the columns that they read.

    Returns:
        Parts of the first and of the second axis of the weight; nothing for a network of one shell.
    """
    found: dict[Tensor, list[tuple[list[slice], list[slice]]]] = {}
    for layer, channels in list_layers(network):
        if channels.inputs and len(channels.outputs) > 1:
            pairs = []
            for shell, (start, end) in enumerate(pairwise((0, *channels.outputs))):
                columns = [part for part in channels.slice_inputs(shell) if part.start < part.stop]
                if start < end and columns:
                    pairs.append(([slice(start, end)], columns))
            transposed = isinstance(layer, _TRANSPOSED)
            found[layer.get_parameter("weight")] = [(b, a) if transposed else (a, b) for a, b in pairs]
    return found


def as_rows(layer: nn.Module, tensor: Tensor) -> Tensor:
    """View the weight of a convolution, or what has its shape, as (outputs, inputs, *kernel)."""
    return tensor.transpose(0, 1) if isinstance(layer, _TRANSPOSED) else tensor


def cut_layers(network: nn.Module, shell: int, keep_shells: bool) -> None:
    """Cut the layers of a network to its shells up to and with number `shell`, in place.

    Args:
        network: of several shells.
        shell: the outermost one that is kept.
        keep_shells: whether what is left is still divided into shells.
    """
    for layer, channels in list(list_layers(network)):
        _cut_layer(layer, channels, shell)
        del vars(layer)["channels"]
        if keep_shells and shell:
            parts = tuple(part[: shell + 1] for part in channels.inputs)
            vars(layer)["channels"] = Channels(channels.outputs[: shell + 1], parts)


def _cut_layer(layer: nn.Module, channels: Channels, shell: int) -> None:
    holder, width = layer, channels.outputs[shell]
    if isinstance(layer, GroupNorm):
        layer.groups = layer.groups and layer.groups * width // channels.outputs[-1]
    elif isinstance(layer, BatchNorm):
        holder = layer.norm
        vars(holder)["num_features"] = width
    else:
        vars(layer).update(in_channels=channels.count_inputs(shell), out_channels=width)
    tensors = [*holder.named_parameters(recurse=False), *holder.named_buffers(recurse=False)]
    for name, tensor in tensors:
        if tensor.ndim:  # all but the count of batches
            cut = cut_tensor(layer, name, tensor.detach(), channels, shell).clone()
            setattr(holder, name, nn.Parameter(cut) if isinstance(tensor, nn.Parameter) else cut)


def cut_tensor(layer: nn.Module, name: str, tensor: Tensor, channels: Channels, shell: int) -> Tensor:
    """Cut a parameter of a layer, or what has its shape, to the shells up to and with number `shell`."""
    if not channels.inputs or name != "weight":
        return tensor[: channels.outputs[shell]]
    index = channels.list_inputs(shell).to(tensor.device)
    return as_rows(layer, as_rows(layer, tensor)[: channels.outputs[shell]].index_select(1, index))


@torch.no_grad()
def grow(inner: nn.Module, outer: nn.Module, depth: int) -> None:
    """Copy the weights of a network into the inner shells of a wider one, in place.

    The heads of the new sizes start as copies of those one shell further in, with zeros for the new channels.

    Args:
        inner: of the shells but the outermost, with the heads of all its sizes.
        outer: of one shell more.
        depth: of both networks.
    """
    held, modules = inner.state_dict(), dict(outer.named_modules())
    for name, tensor in outer.state_dict(keep_vars=True).items():
        place, _, key = name.rpartition(".")
        source = name
        if name not in held:  # a new head
            tensor.zero_()
            source = f"heads.{int(place.rpartition('.')[2]) - depth}.{key}"
        _copy_inner(modules[place], key, tensor, held[source])


def _copy_inner(layer: nn.Module, name: str, tensor: Tensor, inner: Tensor) -> None:
    """Copy a tensor of an inner network into one of a wider network."""
    channels = get_channels(layer)
    if channels and channels.inputs and name == "weight" and tensor.shape != inner.shape:
        rows, values = as_rows(layer, tensor), as_rows(layer, inner)
        shell = channels.outputs.index(len(values))
        rows[: len(values), channels.list_inputs(shell).to(tensor.device)] = values
    else:
        tensor[tuple(slice(length) for length in inner.shape)] = inner
