"""The grid of nodes X[i, j] as plain data: which nodes exist, which sources each has, which nodes each head needs.

Level i counts the down-samplings (0 is full resolution), column j the up-samplings that led to the node (0 is the
encoder); i + j <= depth. The members of the family differ in `Grid.skips` alone:

    unet++   X[i, 0], ..., X[i, j-1]   dense skips             Zhou et al. 2018, equation 1
    unet+    X[i, j-1]                 short skips only        Zhou et al. 2019, figure 1d
    unet_e   X[i, 0]                   an ensemble: one encoder, one decoder for each depth, jointly trained (figure 1c)
    unet     X[i, 0]                   only the outermost diagonal exists (Ronneberger et al. 2015)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Node = tuple[int, int]
_Part = TypeVar("_Part")


def node_key(node: Node) -> str:
    """Name of a node in `nodes` and `ups` of a network, and so in the names of its weights."""
    return f"x_{node[0]}_{node[1]}"


@dataclass(frozen=True)
class Grid:
    """The nodes of one network."""

    topology: str
    depth: int
    """L, the number of down-samplings."""
    first_encoder_level: int = 0
    """First level of an encoder without a stem: the levels above have no X[i, 0] and no skips."""

    def nodes(self) -> tuple[Node, ...]:
        """List every node by diagonals i + j = 0, 1, ..., from the encoder up: each comes after its sources."""
        diagonal_first = ((diagonal - j, j) for diagonal in range(self.depth + 1) for j in range(diagonal + 1))
        return tuple(node for node in diagonal_first if self._exists(node))

    def skips(self, node: Node) -> tuple[Node, ...]:
        """List the nodes of the same level whose outputs `node` receives, shallowest column first."""
        i, j = node
        if j == 0 or i < self.first_encoder_level:
            return ()
        if self.topology == "unet++":
            return tuple((i, k) for k in range(j))
        return ((i, j - 1),) if self.topology == "unet+" else ((i, 0),)

    def sources(self, node: Node) -> tuple[Node, ...]:
        """List the nodes whose outputs `node` receives: skips, then the node below (in the encoder: the one above)."""
        i, j = node
        if j > 0:
            return (*self.skips(node), (i + 1, j - 1))
        return ((i - 1, 0),) if i > 0 and self._exists((i - 1, 0)) else ()

    def head_depths(self, deep_supervision: bool) -> tuple[int, ...]:
        """List the depths d at which X[0, d] has a head."""
        if not deep_supervision or self.topology == "unet":
            return (self.depth,)
        return tuple(range(max(1, self.first_encoder_level), self.depth + 1))

    def needed(self, heads: Iterable[int]) -> tuple[Node, ...]:
        """List the nodes that the heads at these depths depend on, in an order in which they can be computed."""
        needed: set[Node] = set()
        waiting: list[Node] = [(0, head) for head in heads]
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting.extend(self.sources(node))
        return tuple(node for node in self.nodes() if node in needed)

    def at_depth(self, depth: int) -> Grid:
        """Make the grid of the network pruned at `depth`."""
        return Grid(self.topology, depth, self.first_encoder_level)

    def _exists(self, node: Node) -> bool:
        i, j = node
        if j == 0:
            return i >= self.first_encoder_level
        return self.topology != "unet" or i + j == self.depth


def order_inputs(skips: Sequence[_Part], up: _Part, order: str) -> list[_Part]:
    """Put the inputs of a node in order.

    Args:
        skips: nodes of the same level, shallowest column first.
        up: the up-sampled node below.
        order: "skips_up", "up_skips", or "up_skips_reversed" (the nearest skip first).
    """
    if order == "skips_up":
        return [*skips, up]
    return [up, *(reversed(skips) if order == "up_skips_reversed" else skips)]
