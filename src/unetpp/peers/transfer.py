"""Transfer of a peer's tensors into our network: each of ours is filled, each of the peer's is used or reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unetpp.errors import ModelFileError
from unetpp.model.build import build_from_plan, make_grid
from unetpp.model.resampling import INTERPOLATION
from unetpp.peers.import_settings import ImportSettings
from unetpp.plan import ModelPlan

SHOWN = 5
"""Number of tensors that an error lists."""


@dataclass(frozen=True)
class Source:
    """A peer's state_dict."""

    path: Path
    """File of the checkpoint, for errors."""
    tensors: Mapping[str, Tensor]
    """Tensors by the peer's own names, without the prefix of a wrapper."""

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; raise ModelFileError if there is none of this name."""
        if name not in self.tensors:
            action = "Save model.state_dict() again, whole."
            raise ModelFileError(self.path, f"a checkpoint without {name}", "all tensors of the network", action)
        return tuple(self.tensors[name].shape)


@dataclass(frozen=True)
class PeerNetwork:
    """A peer's network in our terms."""

    title: str
    """Class and library, for people."""
    model: ModelPlan
    """The network; its `out_channels` are the peer's and may be 1."""
    names: Mapping[str, str | None]
    """Name of our layer or tensor -> the peer's; None: a norm without weights, which becomes ones and zeros."""
    unused: Mapping[str, str] = field(default_factory=dict)
    """Pattern of the peer's tensors that have no place in our network -> reason."""
    changes: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    """Name of our tensor -> conversion of the peer's."""
    sigmoids: bool = False
    """Whether its channels are foreground classes, each with its own sigmoid."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `plan.data`, and `predict.tile`, that the checkpoint or its library defines, by dotted name."""


@dataclass(frozen=True)
class Peer:
    """A library whose checkpoints can be read."""

    name: str
    """Value of `from_` for this library."""
    marks: tuple[str, ...]
    """Tensors that only this library's checkpoints have; one of them is enough."""
    read: Callable[[Source, ImportSettings], PeerNetwork]
    """Reads the network."""


def transfer(peer: PeerNetwork, source: Source) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Fill every tensor of our network.

    Returns:
        The weights of our network, and the reason for each of the peer's tensors that is ignored.

    Raises:
        ModelFileError: tensors that are missing, of another shape, or unknown.
    """
    with torch.device("meta"):
        ours = build_from_plan(peer.model).state_dict()
    theirs = {name: _peer_name(peer.names, name) for name in ours}
    weights = {name: _convert(peer, source, name, theirs[name], like) for name, like in ours.items()}
    unused = set(source.tensors).difference(name for name in theirs.values() if name)
    reasons = {name: _why_unused(peer, name) for name in source.tensors if name in unused}
    ignored = {name: reason for name, reason in reasons.items() if reason}
    problems = [
        f"{theirs[name]} is missing"
        if weight is None
        else f"{theirs[name]} has shape {list(weight.shape)} instead of {list(ours[name].shape)}"
        for name, weight in weights.items()
        if weight is None or weight.shape != ours[name].shape
    ] + [f"{name} is unknown" for name in reasons if name not in ignored]
    if problems:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ModelFileError(
            source.path,
            f"tensors that are not those of {peer.title} ({', '.join(problems[:SHOWN])}{more})",
            "each of them once",
            "Check `set` and `from_`, and that the network was not modified before it was trained.",
        )
    return {name: weight for name, weight in weights.items() if weight is not None}, ignored


def add_background(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a background channel of logit 0 before the others: softmax([0, z]) is sigmoid(z)."""
    return {
        name: torch.cat([torch.zeros_like(each[:1]), each]) if name.startswith("heads.") else each
        for name, each in weights.items()
    }


def name_layers(
    model: ModelPlan,
    units: Callable[[int, int], Sequence[tuple[str, str]]],
    head: Callable[[int], str],
    up: Callable[[int, int], str] | None = None,
    affine: bool = True,
) -> dict[str, str | None]:
    """Map our layers of nodes, up-sampling and heads to a peer's.

    The result also has names of layers that this network lacks; they are never looked up.

    Args:
        model: our network, of plain blocks.
        units: returns the peer's (convolution, norm) of each unit of X[i, j], in order.
        head: returns the peer's head at a depth.
        up: returns the peer's layer that up-samples into X[i, j]; None: there is none with weights.
        affine: whether the peer's norms have weights.

    Returns:
        Name of our layer -> the peer's; None: a norm without weights.
    """
    grid, part_of_up = make_grid(model), {"pixel_shuffle": ".conv", **dict.fromkeys(INTERPOLATION, ".0")}
    names: dict[str, str | None] = {f"heads.{d}": head(d) for d in grid.head_depths(model.deep_supervision)}
    for level, column in grid.nodes():
        part = f"units.{min(1, len(grid.skips((level, column))))}." if column and model.attention != "none" else ""
        is_batch_norm = ((model.nested_norm if column else None) or model.norm) == "batch"
        for number, (conv, norm) in enumerate(units(level, column)):
            unit = f"nodes.x_{level}_{column}.{part}units.{number}"
            names |= {f"{unit}.conv": conv, f"{unit}.norm{'.norm' * is_batch_norm}": norm if affine else None}
        if column and up:
            names[f"ups.x_{level}_{column}{part_of_up.get(model.up, '')}"] = up(level, column)
    return names


def _peer_name(names: Mapping[str, str | None], name: str) -> str | None:
    if name in names:
        return names[name]
    layer, _, last = name.rpartition(".")
    return f"{names[layer]}.{last}" if names[layer] else None


def _convert(peer: PeerNetwork, source: Source, name: str, theirs: str | None, like: Tensor) -> Tensor | None:
    """Return our tensor `name` from the peer's; None if that is missing."""
    tensor = source.tensors.get(theirs or "")
    if tensor is not None:
        return peer.changes.get(name, torch.clone)(tensor).to(like.dtype)
    if theirs is None or name.endswith("num_batches_tracked"):  # old releases of torch had no such count
        return (torch.ones if name.endswith("weight") else torch.zeros)(like.shape, dtype=like.dtype)
    return None


def _why_unused(peer: PeerNetwork, name: str) -> str | None:
    return next((reason for pattern, reason in peer.unused.items() if fnmatchcase(name, pattern)), None)
