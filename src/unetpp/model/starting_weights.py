"""Weights of a trained network for another one: what fits is taken, what does not is named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unetpp.plan import Plan
from unetpp.words import count_noun, list_some

_READS_IMAGE = re.compile(r"nodes\.x_0_0\.(units\.0|shortcut)\.conv\.weight|encoder\..+\.weight")
_NODE = re.compile(r"(nodes|ups)\.x_(\d+)_(\d+)\.")


@dataclass(frozen=True)
class StartingWeights:
    """Weights to start a training from."""

    weights: dict[str, Tensor]
    """Those of the whole network; random where nothing was taken."""
    kernels: int
    """Number of kernels below the heads that were taken; 0: the networks have nothing in common."""
    remarks: tuple[str, ...]
    """What was adapted, and what begins at random."""


def fit_weights(theirs: Mapping[str, Tensor], source: Plan, ours: Mapping[str, Tensor], plan: Plan) -> StartingWeights:
    """Take the weights of a trained network that fit another one.

    Tensors are matched by their names, which say where in the grid they are. Heads keep the rows of classes of the same
    name. The first convolution keeps the channels of the same name, and new ones start at 0, so that the output is as
    before; without any such name and with another number of channels, each gets an equal share of the sum of theirs.
    Kernels of a 2D network are put into the middle plane of those of a 3D one, so that it sees each slice as before;
    those of a 3D network are summed over their planes.

    Args:
        theirs: `state_dict` of the trained network.
        source: its plan.
        ours: `state_dict` of the other one, with random weights.
        plan: its plan.
    """
    weights, missing, kernels = dict(ours), [], 0
    classes, channels = _pair_classes(source.data.classes, plan.data.classes), plan.data.channels
    for name, like in ours.items():
        found = theirs.get(name)
        if found is not None:
            wide = source.model.up == "transposed_wide" and name.startswith("ups.")
            found = _change_dims(found, like, name.startswith("ups."), wide)
            if _READS_IMAGE.fullmatch(name) and found.ndim > 2:
                found = _fit_channels(found, source.data.channels, channels, like.shape[1])
        if found is not None and name.startswith("heads.") and found.shape[1:] == like.shape[1:]:
            weights[name] = like.clone()
            for ours_, theirs_ in classes.items():
                weights[name][ours_] = found[theirs_]
        elif found is not None and found.shape == like.shape:
            weights[name] = found.to(like.dtype)
            kernels += like.ndim > 2 and not name.startswith("heads.")
        else:
            missing.append(name)
    remarks = (_describe_channels(source, plan), _describe_classes(source, plan, classes), _describe_missing(missing))
    return StartingWeights(weights, kernels, tuple(text for text in remarks if text))


def _pair_classes(theirs: Sequence[str], ours: Sequence[str]) -> dict[int, int]:
    """Pair the classes of one name, the backgrounds, and the only foreground of each: our index -> theirs."""
    shared = {ours.index(name): theirs.index(name) for name in ours if name in theirs}
    only = {1: 1} if len(theirs) == len(ours) == 2 else {}
    return {0: 0, **only, **shared}


def _fit_channels(found: Tensor, theirs: Sequence[str], ours: Sequence[str], inputs: int) -> Tensor:
    """Match a kernel that reads the image to other channels; other kernels are returned as they are."""
    if found.shape[1] != len(theirs) or inputs != len(ours) or theirs == ours:
        return found
    if set(theirs) & set(ours):
        new = torch.zeros_like(found[:, 0])
        return torch.stack([found[:, theirs.index(name)] if name in theirs else new for name in ours], dim=1)
    if len(theirs) == len(ours):
        return found
    return (found.sum(dim=1, keepdim=True) / len(ours)).repeat_interleave(len(ours), dim=1)


def _change_dims(found: Tensor, like: Tensor, is_up: bool, is_wide: bool) -> Tensor:
    """Make a kernel of a 2D network one of a 3D network, or the reverse."""
    if {found.ndim, like.ndim} != {4, 5}:
        return found
    overlap = 2 if is_wide else 1  # planes of a transposed kernel that meet in one voxel
    if like.ndim < found.ndim:
        return found.mean(dim=2) * overlap if is_up else found.sum(dim=2)
    planes = like.shape[2]
    if is_up:
        return found.unsqueeze(2).repeat_interleave(planes, dim=2) / (overlap if planes > 1 else 1)
    kernel = found.new_zeros(*found.shape[:2], planes, *found.shape[2:])
    kernel[:, :, planes // 2] = found
    return kernel


def _describe_channels(source: Plan, plan: Plan) -> str:
    theirs, ours = source.data.channels, plan.data.channels
    if theirs == ours:
        return ""
    shared, change = set(theirs) & set(ours), f"first convolution: {count_noun(len(ours), 'channel')} "
    change += f"({', '.join(ours)}) instead of {len(theirs)} ({', '.join(theirs)})"
    if shared:
        return f"{change}; matched by name, new ones start at 0"
    return change if len(theirs) == len(ours) else f"{change}; each gets an equal share of the sum"


def _describe_classes(source: Plan, plan: Plan, pairs: Mapping[int, int]) -> str:
    theirs, ours = source.data.classes, plan.data.classes
    if theirs == ours:
        return ""
    new = [name for index, name in enumerate(ours) if index not in pairs]
    gone = [name for index, name in enumerate(theirs) if index not in pairs.values()]
    renamed = [f"{ours[a]} starts as {theirs[b]}" for a, b in pairs.items() if ours[a] != theirs[b]]
    parts = [
        f"{len(ours)} classes instead of {len(theirs)}" if len(theirs) != len(ours) else "",
        f"new: {', '.join(new)}" if new else "",
        f"left out: {', '.join(gone)}" if gone else "",
        *renamed,
    ]
    return "heads: " + "; ".join(part for part in parts if part)


def _describe_missing(names: Sequence[str]) -> str:
    """Group the tensors that begin at random by the parts of the network."""
    if not names:
        return ""
    parts = dict.fromkeys(_name_part(name) for name in names)
    return f"begin at random, as nothing fits: {list_some(parts, 8)}"


def _name_part(name: str) -> str:
    if node := _NODE.match(name):
        return f"X[{node[2]}, {node[3]}]"
    return name.split(".")[0] if not name.startswith("heads.") else f"head {name.split('.')[1]}"
