"""The nested network. It receives finished parts and holds no numbers; `model.build` makes the parts.

    X[i,0] = H(D(X[i-1,0]))                                  X[0,0] = H(image)
    X[i,j] = H([skips of X[i,j], U(X[i+1,j-1])])             j > 0

An encoder may give some of the X[i,0] in their place.

Any input size works. Down-sampling rounds sizes up (or down) and up-sampling is cropped (or continued) to its skip, so
that a node depends on the sizes of its own and the next level alone: this is what makes a pruned network equal the full one at every size.
(A network with an encoder extends the image to a multiple of `divisor` first, and so does what is pruned from it.)
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unetpp.errors import UsageError
from unetpp.labels.classes_torch import to_probabilities
from unetpp.model.blocks import Chain, Deferred, FrozenStatistics, Parts, fitted, gathered, multiple
from unetpp.model.encoders import Encoder
from unetpp.model.grid import Grid, Node

_Part = TypeVar("_Part")


class HeadOutputs(NamedTuple):
    """Logits of several heads, shallowest first."""

    depths: tuple[int, ...]
    logits: tuple[Tensor, ...]
    """One (B, out_channels, *spatial) tensor for each depth, all at full resolution."""

    def at(self, depth: int) -> Tensor:
        """Logits of the head of one depth."""
        return self.logits[self.depths.index(depth)]

    def mean_probabilities(self) -> Tensor:
        """The accurate mode of the papers: the mean of the heads' probabilities."""
        return torch.stack([to_probabilities(logits) for logits in self.logits]).mean(dim=0)


class HeadFusion(nn.Module):
    """What is answered at depth d: a weighted sum of the logits of heads 1..d, their mean unless weights are learned."""

    def __init__(self, heads: int, learned: bool) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((heads,), 1 / heads)) if learned else None

    def forward(self, logits: Sequence[Tensor]) -> list[Tensor]:
        if self.weights is None:
            return [torch.stack(list(logits[: d + 1])).mean(dim=0) for d in range(len(logits))]
        return list(
            torch.stack([weight * each for weight, each in zip(self.weights, logits, strict=False)]).cumsum(dim=0)
        )

    def first(self, heads: int) -> HeadFusion:
        """The fusion of a pruned network."""
        fusion = HeadFusion(heads, learned=self.weights is not None)
        if self.weights is not None:
            fusion.weights = nn.Parameter(self.weights.detach()[:heads].clone())
        return fusion


Concatenate = Callable[[nn.Module, Tensor, Sequence[Tensor], str, bool], Parts]
"""As `concatenate_parts`."""


def concatenate_parts(up: nn.Module, below: Tensor, skips: Sequence[Tensor], order: str, frugal: bool) -> Parts:
    """Concatenate the skips of a node and what comes from the level below, enlarged by `up` and fitted to their grid.

    Args:
        up: enlarges `below`, (B, C, *spatial).
        skips: outputs of the node's own level, or none.
        order: see `in_order`.
        frugal: enlarge again in the backward pass instead of keeping the result.
    """
    size = skips[0].shape[2:] if skips else None

    def enlarge(below: Tensor) -> Tensor:
        larger: Tensor = up(below)
        return larger if size is None else fitted(larger, size)

    return gathered(in_order(skips, Deferred(enlarge, below) if frugal else enlarge(below), order))


def in_order(skips: Sequence[_Part], up: _Part, order: str) -> list[_Part]:
    """The inputs of a node: "skips_up", "up_skips", or "up_skips_reversed" (the nearest skip first)."""
    if order == "skips_up":
        return [*skips, up]
    return [up, *(reversed(skips) if order == "up_skips_reversed" else skips)]


class UNetPlusPlus(nn.Module):
    """UNet++ and its family (Zhou et al. 2018, 2019), in 2D and 3D.

    Args:
        grid: which nodes there are, and what each receives.
        nodes: the block H of each node (i, j) that the encoder does not give.
        downs: D into level 1..depth; an identity where the encoder gives the level.
        ups: U into each node (i, j) with j > 0.
        heads: on X[0, d], for each d that has a head.
        encoder: gives X[i, 0] for some levels i.
        fusion: what is made of the heads' logits; None: each answers for itself.
        concat: order of the inputs of a node, see `in_order`.
        divisor: along each axis, the image is extended to a multiple of it.
        output_stride: size of a voxel of level 0; logits are interpolated to the size of the image.
        concatenate: puts together what a node with j > 0 receives.

    Attributes:
        head_depths: the depths at which a prediction can be had.
        checkpointing: what training computes again in the backward pass, in place of keeping it. "cheap": normalisations, activations and
            up-samplings; True: whole nodes. (A compiled network chooses by itself.)
    """

    def __init__(
        self,
        grid: Grid,
        *,
        nodes: Mapping[Node, nn.Module],
        downs: Sequence[nn.Module],
        ups: Mapping[Node, nn.Module],
        heads: Mapping[int, nn.Module],
        encoder: Encoder | None = None,
        fusion: HeadFusion | None = None,
        concat: str = "skips_up",
        divisor: Sequence[int] | None = None,
        output_stride: int = 1,
        concatenate: Concatenate = concatenate_parts,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.head_depths = tuple(sorted(heads))
        self.encoder = encoder
        self.nodes = nn.ModuleDict({node_key(node): block for node, block in nodes.items()})
        self.downs = nn.ModuleList(downs)
        self.ups = nn.ModuleDict({node_key(node): up for node, up in ups.items()})
        self.heads = nn.ModuleDict({str(d): head for d, head in heads.items()})
        self.fusion = fusion
        self.concat = concat
        self.divisor = tuple(divisor) if divisor else None
        self.output_stride = output_stride
        self.concatenate = concatenate
        self._checkpointing: bool | str = False

    @property
    def checkpointing(self) -> bool | str:
        return self._checkpointing

    @checkpointing.setter
    def checkpointing(self, value: bool | str) -> None:
        if value not in (False, True, "cheap"):
            raise UsageError(f'checkpointing: got {value!r}; expected False, "cheap" or True.')
        self._checkpointing = value
        for module in self.modules():
            if isinstance(module, Chain):
                module.frugal = value == "cheap"

    @property
    def depth(self) -> int:
        """L, the number of down-samplings."""
        return self.grid.depth

    def forward(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor | HeadOutputs:
        """Logits at the resolution of the input.

        Args:
            x: (B, in_channels, *spatial), any size.
            depth: compute only what the head of this depth needs; None: the deepest head.
            heads: give every head up to `depth`, as HeadOutputs.

        Returns:
            (B, out_channels, *spatial), or HeadOutputs.

        Raises:
            UsageError: there is no head at `depth`.
        """
        depth = self._checked(depth)
        wanted = self._heads_to(depth) if heads or self.fusion else (depth,)
        image, size = self._extended(x), x.shape[2:]
        outputs: dict[Node, Tensor] = {}
        if self.encoder is not None:
            outputs = {(level, 0): feature for level, feature in self.encoder(image, depth).items()}
        nodes = self.grid.needed(wanted)
        last_use = {source: node for node in nodes for source in self.grid.sources(node)} | {
            (0, d): None for d in wanted
        }
        for node in nodes:
            if node not in outputs:
                outputs[node] = self._node(node, image, outputs)
            for source in self.grid.sources(node):
                if last_use[source] == node:
                    del outputs[source]  # its memory is for the nodes that follow
        logits = [self.heads[str(d)](outputs[0, d]) for d in wanted]
        if self.fusion is not None:
            logits = self.fusion(logits)
        logits = [self._on_image(each, size) for each in logits]
        return HeadOutputs(wanted, tuple(logits)) if heads else logits[-1]

    def start_forward(self, x: Tensor) -> IncrementalForward:
        """A forward pass that goes to one depth after the other, for as many of the images as want it.

        Raises:
            UsageError: the heads do not answer each for itself.
        """
        if self.fusion is not None:
            raise UsageError(
                "depth: got auto for a network whose heads answer together (model.fusion); expected heads that answer each for itself. Name a depth."
            )
        return IncrementalForward(self, x)

    def prune(self, depth: int, keep_heads: bool = False) -> UNetPlusPlus:
        """A smaller, independent network whose output equals `self(x, depth=depth)` (Zhou et al. 2018, section 3.3).

        Args:
            depth: the head to predict with; nodes that it does not need are left out.
            keep_heads: keep the shallower heads and what they need too.

        Raises:
            UsageError: there is no head at `depth`.
        """
        depth = self._checked(depth)
        kept = self._heads_to(depth) if keep_heads or self.fusion else (depth,)
        needed = self.grid.needed(kept)
        pruned = UNetPlusPlus(
            self.grid.at_depth(depth),
            nodes={node: self.nodes[node_key(node)] for node in needed if node_key(node) in self.nodes},
            downs=list(self.downs)[:depth],
            ups={node: self.ups[node_key(node)] for node in needed if node[1] > 0},
            heads={d: self.heads[str(d)] for d in kept},
            encoder=self.encoder.pruned(depth) if self.encoder else None,
            fusion=self.fusion.first(len(kept)) if self.fusion else None,
            concat=self.concat,
            divisor=self.divisor,
            output_stride=self.output_stride,
            concatenate=self.concatenate,
        )
        pruned = copy.deepcopy(pruned)
        pruned.checkpointing = self.checkpointing
        return pruned

    def _node(self, node: Node, image: Tensor, outputs: Mapping[Node, Tensor]) -> Tensor:
        received = (outputs[source] for source in self.grid.sources(node))
        if self.checkpointing and self.checkpointing != "cheap" and self.training and not torch.compiler.is_compiling():
            return checkpoint(
                self._computed,
                node,
                image,
                *received,
                use_reentrant=False,
                context_fn=lambda: (contextlib.nullcontext(), FrozenStatistics(self)),
            )
        return self._computed(node, image, *received)

    def _computed(self, node: Node, image: Tensor, *received: Tensor) -> Tensor:
        """One node, from what it receives in the order of `Grid.sources`."""
        i, j = node
        block = self.nodes[node_key(node)]
        if j == 0:
            return block(self.downs[i - 1](*received) if i > 0 else image)
        *skips, below = received
        frugal = self.checkpointing == "cheap" and self.training and not torch.compiler.is_compiling()
        return block(self.concatenate(self.ups[node_key(node)], below, skips, self.concat, frugal))

    def _extended(self, x: Tensor) -> Tensor:
        """The image, continued by its last values to a multiple of the divisor."""
        if self.divisor is None:
            return x
        return fitted(x, multiple(x.shape[2:], self.divisor))

    def _on_image(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        if self.output_stride > 1:
            logits = functional.interpolate(
                logits, scale_factor=self.output_stride, mode="bilinear" if logits.ndim == 4 else "trilinear"
            )
        return fitted(logits, size)

    def _heads_to(self, depth: int) -> tuple[int, ...]:
        return tuple(d for d in self.head_depths if d <= depth)

    def _checked(self, depth: int | None) -> int:
        if depth is None:
            return self.head_depths[-1]
        if depth not in self.head_depths:
            raise UsageError(
                f"depth: got {depth!r}; expected one of {list(self.head_depths)}, the depths at which this network has a head."
            )
        return depth


class IncrementalForward:
    """A forward pass in steps, from a shallow head to deeper ones. What was computed is not computed again.

    (An encoder of timm gives all its levels at once, at the start.)

    Args:
        x: images (B, in_channels, *spatial).
        outputs: of the nodes that are computed already.
    """

    def __init__(self, network: UNetPlusPlus, x: Tensor, outputs: Mapping[Node, Tensor] | None = None) -> None:
        self._network = network
        self._size = x.shape[2:]
        self._image = network._extended(x)
        if outputs is None and network.encoder is not None:
            outputs = {(level, 0): feature for level, feature in network.encoder(self._image, network.depth).items()}
        self.outputs = dict(outputs or {})

    def logits(self, depth: int) -> Tensor:
        """Of the head at `depth`, equal to the network's own: (B, out_channels, *spatial)."""
        network = self._network
        for node in network.grid.needed((depth,)):
            if node not in self.outputs:
                self.outputs[node] = network._node(node, self._image, self.outputs)
        return network._on_image(network.heads[str(depth)](self.outputs[0, depth]), self._size)

    def keep(self, images: Tensor) -> None:
        """Go on with some of the images: (B,) bool."""
        self._image = self._image[images]
        self.outputs = {node: output[images] for node, output in self.outputs.items()}


def node_key(node: Node) -> str:
    return f"x_{node[0]}_{node[1]}"
