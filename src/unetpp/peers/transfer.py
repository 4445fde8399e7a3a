"""From a peer's tensors to ours: every one of ours is filled, every one of the peer's is used or named as ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unetpp.errors import ModelFileError
from unetpp.model.build import build_from_plan, make_grid
from unetpp.model.grid import Node
from unetpp.peers.answers import Answers
from unetpp.plan import ModelPlan

SHOWN = 5
"""Names that an error lists."""


@dataclass(frozen=True)
class Source:
    """A peer's state_dict."""

    path: Path
    tensors: Mapping[str, Tensor]
    """By the peer's own names, without those of wrappers around it."""

    def has(self, name: str) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises ModelFileError where there is no such tensor."""
        if name not in self.tensors:
            raise ModelFileError(
                f"{self.path}: got a checkpoint without {name}; expected all tensors of the network. Save model.state_dict() again, whole."
            )
        return tuple(self.tensors[name].shape)


@dataclass(frozen=True)
class PeerNetwork:
    """A peer's network in our terms."""

    title: str
    model: ModelPlan
    """Its out_channels are the peer's: it may be 1."""
    names: Mapping[str, str | None]
    """Layer (or tensor) of ours -> of the peer's. None: a norm without weights, which is one of ones and zeros."""
    unused: Mapping[str, str] = field(default_factory=dict)
    """Pattern of the peer's names that are left out -> why."""
    changes: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    """Tensor of ours -> what has to be done to the peer's."""
    sigmoids: bool = False
    """Its channels are foreground classes, each through a sigmoid of its own."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `plan.data` and `plan.predict.tile` that the checkpoint or its library tell, by dotted name."""


@dataclass(frozen=True)
class Peer:
    """A library whose checkpoints can be read."""

    name: str
    """As --from has it."""
    marks: tuple[str, ...]
    """A checkpoint with one of these tensors is this peer's."""
    read: Callable[[Source, Answers], PeerNetwork]


class Transferred(NamedTuple):
    """Weights for our network, and what of the peer's has no place in it."""

    weights: dict[str, Tensor]
    ignored: dict[str, str]
    """Name of the peer's -> why."""


def transfer(peer: PeerNetwork, source: Source) -> Transferred:
    """Fill every tensor of our network.

    Raises:
        ModelFileError: tensors that are missing, of another shape, or unknown.
    """
    with torch.device("meta"):
        ours = build_from_plan(peer.model).state_dict()
    weights: dict[str, Tensor] = {}
    used: set[str] = set()
    problems: list[str] = []
    for name, wanted in ours.items():
        theirs = _peer_name(peer, name)
        if theirs is None or (
            theirs not in source.tensors and name.endswith("num_batches_tracked")
        ):  # old releases of torch had no such count
            weights[name] = (
                torch.ones(wanted.shape) if name.endswith("weight") else torch.zeros(wanted.shape, dtype=wanted.dtype)
            )
        elif theirs not in source.tensors:
            problems.append(f"{theirs} is missing")
        else:
            used.add(theirs)
            weights[name] = peer.changes.get(name, torch.clone)(source.tensors[theirs]).to(wanted.dtype)
            if weights[name].shape != wanted.shape:
                problems.append(f"{theirs} has shape {list(weights[name].shape)} in place of {list(wanted.shape)}")
    ignored = {name: reason for name in source.tensors if name not in used and (reason := _why_unused(peer, name))}
    problems += [f"{name} is unknown" for name in source.tensors if name not in used and name not in ignored]
    if problems:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ModelFileError(
            f"{source.path}: got tensors that are not those of {peer.title} ({', '.join(problems[:SHOWN])}{more}); expected each of them once. "
            "Check what was --set and --from, and that the network was not changed before it was trained."
        )
    return Transferred(weights, ignored)


def with_background(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A background channel of logit 0 before the others: softmax([0, z]) is sigmoid(z)."""
    return {
        name: torch.cat([torch.zeros_like(each[:1]), each]) if name.startswith("heads.") else each
        for name, each in weights.items()
    }


def node_names(
    model: ModelPlan, node: Node, convs: Sequence[str], norms: Sequence[str | None]
) -> Iterator[tuple[str, str | None]]:
    """Our names of the convolutions and norms of a node made of plain units, each with the peer's.

    Args:
        convs: the peer's convolutions, in order.
        norms: its norms; none where the network has none there.
    """
    level, column = node
    part = ("units.1." if make_grid(model).skips(node) else "units.0.") if column and model.attention != "none" else ""
    kind = (model.nested_norm if column else None) or model.norm
    for number, conv in enumerate(convs):
        unit = f"nodes.x_{level}_{column}.{part}units.{number}"
        yield f"{unit}.conv", conv
        if kind != "none":
            yield f"{unit}.norm" + (".norm" if kind == "batch" else ""), norms[number]


def _peer_name(peer: PeerNetwork, name: str) -> str | None:
    if name in peer.names:
        return peer.names[name]
    layer, _, last = name.rpartition(".")
    theirs = peer.names[layer]
    return None if theirs is None else f"{theirs}.{last}"


def _why_unused(peer: PeerNetwork, name: str) -> str | None:
    return next((reason for pattern, reason in peer.unused.items() if fnmatchcase(name, pattern)), None)
