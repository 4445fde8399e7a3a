"""Forward passes in steps, from smaller sizes of a network to larger ones, nothing computed twice (early exit)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unetpp.model.blocks import PlainBlock, ResidualBlock, crop_or_pad
from unetpp.model.grid import Node, node_key, order_inputs
from unetpp.model.shell_parts import Steps
from unetpp.model.shells import list_layers

if TYPE_CHECKING:
    from unetpp.model.network import UNetPlusPlus


class IncrementalForward:
    """An incremental forward pass of a network of one width: from a shallow head to deeper ones, each node once.

    (An encoder of timm computes all its levels at the start.)

    Args:
        network: the network.
        x: images (B, in_channels, *spatial).
        outputs: outputs of nodes that are already computed.
    """

    def __init__(self, network: UNetPlusPlus, x: Tensor, outputs: Mapping[Node, Tensor] | None = None) -> None:
        self._network = network
        self._size = x.shape[2:]
        self._image = network._pad(x)
        if outputs is None and network.encoder is not None:
            outputs = {(level, 0): feature for level, feature in network.encoder(self._image, network.depth).items()}
        self.outputs = dict(outputs or {})

    def logits(self, depth: int) -> Tensor:
        """Compute the logits of the head at `depth`, equal to `network(x, depth)`: (B, out_channels, *spatial)."""
        network = self._network
        for node in network.grid.needed((depth,)):
            if node not in self.outputs:
                self.outputs[node] = network._run_node(node, self._image, self.outputs, network.shells)
        return network._resize_to_image(network._run_head(depth, self.outputs), self._size)

    def keep(self, images: Tensor) -> None:
        """Continue with some of the images: (B,) bool."""
        self._image = self._image[images]
        self.outputs = {node: output[images] for node, output in self.outputs.items()}


Key = tuple[Node, int] | nn.Module
"""Of what a pass holds: the output of a node from one step, with the number of shells after it; the input of a layer
so far."""


class ShellForward:
    """An incremental forward pass of a network with shells, each shell of each node computed once.

    (An encoder of timm computes all its levels at the start.)

    Args:
        network: the network.
        x: images (B, in_channels, *spatial).
        outputs: what steps before this pass computed: its `outputs`.

    Attributes:
        outputs: channels of nodes and inputs of layers that later steps need, in the order in which they were computed.
    """

    def __init__(self, network: UNetPlusPlus, x: Tensor, outputs: Mapping[Key, Tensor] | None = None) -> None:
        self._network = network
        self._size = x.shape[2:]
        self._image = network._pad(x)
        if outputs is None and network.encoder is not None:
            features = network.encoder(self._image, network.depth)
            outputs = {((level, 0), network.shells): feature for level, feature in features.items()}
        self.outputs = dict(outputs or {})
        self._steps: dict[Node, Steps] = {}
        for key in self.outputs:
            if isinstance(key, tuple):
                self._steps[key[0]] = (*self._steps.get(key[0], ()), key[1])

    def logits(self, depth: int) -> Tensor:
        """Compute the logits of a size, by its number, equal to `network(x, depth)`: (B, out_channels, *spatial)."""
        network, size = self._network, self._network._size(depth)
        for node in network.grid.needed((size.depth,)):
            steps = self._steps.get(node, ())
            if not steps or steps[-1] <= size.shell:
                self._compute_shells(node, (*steps, size.shell + 1))
        output = _join(self._read((0, size.depth), 0, size.shell + 1))
        return network._resize_to_image(network.heads[str(depth)](output), self._size)

    def keep(self, images: Tensor) -> None:
        """Continue with some of the images: (B,) bool."""
        self._image = self._image[images]
        self.outputs = {key: output[images] for key, output in self.outputs.items()}

    def _compute_shells(self, node: Node, steps: Steps) -> None:
        """Compute the shells of the last step of a node from those of its sources."""
        network, (i, j) = self._network, node
        start, stop = (0, *steps)[-2], steps[-1]
        if j > 0:
            *skips, below = (_join(self._read(source, start, stop)) for source in network.grid.sources(node))
            x = self._concatenate(node, steps, skips, below)
        elif i > 0:
            x = self._run(network.downs[i - 1], steps, _join(self._read((i - 1, 0), start, stop)))
        else:
            x = self._image if start == 0 else self._image[:, :0]  # all shells read the whole image
        self.outputs[node, stop] = self._run(network.nodes[node_key(node)], steps, x)
        self._steps[node] = steps

    def _concatenate(self, node: Node, steps: Steps, skips: Sequence[Tensor], below: Tensor) -> Tensor:
        up = self._run(self._network.ups[node_key(node)], steps, below)
        if skips and up.shape[1]:
            up = crop_or_pad(up, skips[0].shape[2:])
        return _join(order_inputs(skips, up, self._network.concat))

    def _read(self, node: Node, start: int, stop: int) -> list[Tensor]:
        """List the channels of shells start..stop of a node, as they were computed."""
        steps, found = self._steps[node], []
        if len(steps) == 1 and (start, stop) == (0, steps[0]):
            return [self.outputs[node, stop]]
        widths = self._list_widths(node)
        for first, last in zip((0, *steps), steps, strict=False):
            begin, end = (widths[min(max(each, first), last)] - widths[first] for each in (start, stop))
            if begin < end:
                found.append(self.outputs[node, last][:, begin:end])
        return found or [self.outputs[node, steps[0]][:, :0]]

    def _list_widths(self, node: Node) -> list[int]:
        """List the channels of a node up to each number of shells, from 0."""
        network = self._network
        if node_key(node) not in network.nodes:  # all shells read what an encoder computes
            return [0] + [self.outputs[node, network.shells].shape[1]] * network.shells
        convs = [channels for _, channels in list_layers(network.nodes[node_key(node)]) if channels.inputs]
        return [0, *convs[-1].outputs]

    def _run(self, module: nn.Module, steps: Steps, x: Tensor) -> Tensor:
        """Run the part of a module on new channels."""
        if isinstance(module, PlainBlock):
            module = module.units
        if isinstance(module, nn.Sequential):
            for each in module:
                x = self._run(each, steps, x)
            return x
        if isinstance(module, ResidualBlock):
            carried = self._run(module.shortcut, steps, x)
            output: Tensor = module.activation(self._run(module.units, steps, x) + carried)
            return output
        return self._run_layer(module, steps, x)

    def _run_layer(self, layer: nn.Module, steps: Steps, x: Tensor) -> Tensor:
        part = self._network.parts.find(layer, steps)
        if part is layer and not x.shape[1]:
            return x  # torch refuses to pool no channels
        if part is not layer:
            x = self._recall(layer, steps, x)
        output: Tensor = part(x)
        return output

    def _recall(self, layer: nn.Module, steps: Steps, x: Tensor) -> Tensor:
        """Put the channels that a layer received before in front of new ones."""
        known = self.outputs.pop(layer, None)
        x = x if known is None else _join([known, x])
        if steps[-1] < self._network.shells:
            self.outputs[layer] = x
        return x


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate along the channels; those without channels may have any size."""
    filled = [tensor for tensor in tensors if tensor.shape[1]] or [tensors[0]]
    return filled[0] if len(filled) == 1 else torch.cat(filled, dim=1)
