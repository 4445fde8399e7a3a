"""The grid of nodes X[i, j] as plain data: which nodes exist, what each receives, what each head needs.

Level i counts the down-samplings (0 is full resolution), column j the up-samplings that led to the node (0 is the
encoder); i + j <= depth. One function, `skips`, is all in which the members of the family differ:

    unet++   X[i, 0], ..., X[i, j-1]   dense skips             Zhou et al. 2018, equation 1
    unet+    X[i, j-1]                 short skips only        Zhou et al. 2019, figure 1d
    unet_e   X[i, 0]                   an ensemble: one encoder, one decoder for each depth, jointly trained (figure 1c)
    unet     X[i, 0]                   only the outermost diagonal exists (Ronneberger et al. 2015)
"""

from __future__ import annotations

Node = tuple[int, int]


def all_nodes(topology: str, depth: int) -> tuple[Node, ...]:
    """Every node, by diagonals i + j = 0, 1, ..., and from the encoder up: each comes after all that it receives."""
    diagonal_first = [(diagonal - j, j) for diagonal in range(depth + 1) for j in range(diagonal + 1)]
    if topology == "unet":
        return tuple((i, j) for i, j in diagonal_first if j == 0 or i + j == depth)
    return tuple(diagonal_first)


def skips(topology: str, node: Node) -> tuple[Node, ...]:
    """The nodes of the same level whose outputs `node` receives, in the order of concatenation."""
    i, j = node
    if j == 0:
        return ()
    if topology == "unet++":
        return tuple((i, k) for k in range(j))
    return ((i, j - 1),) if topology == "unet+" else ((i, 0),)


def sources(topology: str, node: Node) -> tuple[Node, ...]:
    """All nodes that `node` receives from: those of its level, then the one below (or, in the encoder, above)."""
    i, j = node
    if j > 0:
        return (*skips(topology, node), (i + 1, j - 1))
    return ((i - 1, 0),) if i > 0 else ()


def head_depths(topology: str, depth: int, deep_supervision: bool) -> tuple[int, ...]:
    """Depths d at which a head sits on X[0, d]."""
    return tuple(range(1, depth + 1)) if deep_supervision and topology != "unet" else (depth,)


def needed_nodes(topology: str, depth: int, heads: tuple[int, ...]) -> tuple[Node, ...]:
    """The nodes that the named heads depend on, in an order in which they can be computed."""
    needed: set[Node] = set()
    waiting: list[Node] = [(0, head) for head in heads]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting.extend(sources(topology, node))
    return tuple(node for node in all_nodes(topology, depth) if node in needed)
