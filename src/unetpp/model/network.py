"""The nested network. It receives finished parts and holds no numbers; `model.build` makes the parts.

    X[i,0] = H(D(X[i-1,0]))                                  X[0,0] = H(image)
    X[i,j] = H([skips of X[i,j], U(X[i+1,j-1])])             j > 0

Any input size works. Down-sampling rounds sizes up and up-sampling is cropped to its skip, so that a node depends on
the sizes of its own and the next level alone: this is what makes a pruned network equal the full one at every size.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unetpp.errors import UsageError
from unetpp.model.grid import Node, needed_nodes, skips


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


def to_probabilities(logits: Tensor) -> Tensor:
    """Soft-max over the classes (dimension 1); a sigmoid where there is but one channel."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


class UNetPlusPlus(nn.Module):
    """UNet++ and its family (Zhou et al. 2018, 2019), in 2D and 3D.

    Args:
        topology: a member of the family, see `model.grid`.
        depth: L, the number of down-samplings.
        nodes: the block H of each node (i, j).
        downs: D into level 1..depth.
        ups: U into each node (i, j) with j > 0.
        heads: a 1x1 convolution on X[0, d], for each d that has a head.

    Attributes:
        head_depths: the depths at which a prediction can be had.
    """

    def __init__(
        self, topology: str, depth: int, *, nodes: Mapping[Node, nn.Module], downs: Sequence[nn.Module], ups: Mapping[Node, nn.Module], heads: Mapping[int, nn.Module]
    ) -> None:
        super().__init__()
        self.topology = topology
        self.depth = depth
        self.head_depths = tuple(sorted(heads))
        self.nodes = nn.ModuleDict({_key(node): block for node, block in nodes.items()})
        self.downs = nn.ModuleList(downs)
        self.ups = nn.ModuleDict({_key(node): up for node, up in ups.items()})
        self.heads = nn.ModuleDict({str(d): head for d, head in heads.items()})

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
        wanted = tuple(d for d in self.head_depths if d <= depth) if heads else (depth,)
        outputs: dict[Node, Tensor] = {}
        for node in needed_nodes(self.topology, self.depth, wanted):
            outputs[node] = self._node(node, x, outputs)
        logits = tuple(self.heads[str(d)](outputs[0, d]) for d in wanted)
        return HeadOutputs(wanted, logits) if heads else logits[0]

    def prune(self, depth: int, keep_heads: bool = False) -> UNetPlusPlus:
        """A smaller, independent network whose output equals `self(x, depth=depth)` (Zhou et al. 2018, section 3.3).

        Args:
            depth: the head to predict with; nodes that it does not need are left out.
            keep_heads: keep the shallower heads and what they need too.

        Raises:
            UsageError: there is no head at `depth`.
        """
        depth = self._checked(depth)
        kept = tuple(d for d in self.head_depths if d == depth or (keep_heads and d < depth))
        needed = needed_nodes(self.topology, self.depth, kept)
        pruned = UNetPlusPlus(
            self.topology,
            depth,
            nodes={node: self.nodes[_key(node)] for node in needed},
            downs=list(self.downs)[:depth],
            ups={node: self.ups[_key(node)] for node in needed if node[1] > 0},
            heads={d: self.heads[str(d)] for d in kept},
        )
        return copy.deepcopy(pruned)

    def _node(self, node: Node, x: Tensor, outputs: Mapping[Node, Tensor]) -> Tensor:
        i, j = node
        block = self.nodes[_key(node)]
        if j == 0:
            return block(self.downs[i - 1](outputs[i - 1, 0]) if i > 0 else x)
        same_level = [outputs[skip] for skip in skips(self.topology, node)]
        up = self.ups[_key(node)](outputs[i + 1, j - 1])
        up = up[(..., *(slice(size) for size in same_level[0].shape[2:]))]
        return block(torch.cat([*same_level, up], dim=1))

    def _checked(self, depth: int | None) -> int:
        if depth is None:
            return self.head_depths[-1]
        if depth not in self.head_depths:
            raise UsageError(f"depth: got {depth!r}; expected one of {list(self.head_depths)}, the depths at which this network has a head.")
        return depth


def _key(node: Node) -> str:
    return f"x_{node[0]}_{node[1]}"
