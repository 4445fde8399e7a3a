"""Weights of a trained network for another one: what fits is taken, what does not is named.

A network that is as wide as some inner shells of the other becomes those shells, from which the others start as in
growth: at first every size answers as the one that it starts from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unetpp.model.network import UNetPlusPlus
from unetpp.model.shells import grow
from unetpp.plan import DataPlan, ModelPlan, Plan
from unetpp.sizes import Size, list_sizes, name_size
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


def fit_network(network: UNetPlusPlus, source: Plan, whole: UNetPlusPlus, plan: Plan) -> StartingWeights:
    """Take the weights of a trained network that fit another one, in place.

    Of networks with shells, the widest part that both hold is matched (`fit_weights`); the outer shells of `whole` grow
    from it: they begin at random, and their heads repeat those further in.

    Args:
        network: the trained network.
        source: its plan.
        whole: the other one, with random weights.
        plan: its plan.
    """
    theirs, ours = source.model.shell_channels, plan.model.shell_channels
    shared = max(set(theirs) & set(ours), default=None)
    if shared is None:
        found = fit_weights(network.state_dict(), source, whole.state_dict(), plan)
        whole.load_state_dict(found.weights)
        return found
    network, inner = _cut_to(network, theirs.index(shared)), _cut_to(whole, ours.index(shared))
    source = source.model_copy(update={"model": network.plan})
    found = fit_weights(network.state_dict(), source, inner.state_dict(), plan.model_copy(update={"model": inner.plan}))
    inner.load_state_dict(found.weights)
    grow_into(inner, whole, whole.shells)
    remarks = (_describe_width(theirs, ours, shared), _describe_separation(theirs, ours, shared), *found.remarks)
    return StartingWeights(whole.state_dict(), found.kernels, tuple(text for text in remarks if text))


def _cut_to(network: UNetPlusPlus, shell: int) -> UNetPlusPlus:
    """Cut a network to its shells up to a number: a copy, but the whole itself for the last one."""
    is_whole = shell == network.shells - 1
    return network if is_whole else network.prune(Size(network.depth, shell).number(network.depth), keep_heads=True)


def grow_into(inner: UNetPlusPlus, whole: UNetPlusPlus, shells: int) -> UNetPlusPlus:
    """Grow a network, shell by shell, with the weights of a wider one for the new channels.

    Args:
        inner: of the inner shells of `whole`; not changed.
        whole: gives the weights of new channels; if `shells` are all of its shells, it is changed and returned.
        shells: number of shells of the network that is made.
    """
    device = next(inner.parameters()).device
    for shell in range(inner.shells, shells):
        wider = _cut_to(whole, shell).to(device)
        grow(inner, wider, whole.depth)
        inner = wider
    return inner


def fit_weights(theirs: Mapping[str, Tensor], source: Plan, ours: Mapping[str, Tensor], plan: Plan) -> StartingWeights:
    """Take the weights of a trained network that fit another one.

    Tensors are matched by their names, which say where in the grid they are; heads by depth and width. Heads keep the
    rows of classes of the same name. The first convolution keeps the channels of the same name, and new ones start at
    0, so that the output is as before; without any such name and with another number of channels, each gets an equal
    share of the sum of theirs. Kernels of a 2D network are put into the middle plane of those of a 3D one, so that it
    sees each slice as before; those of a 3D network are summed over their planes.

    Args:
        theirs: `state_dict` of the trained network.
        source: its plan.
        ours: `state_dict` of the other one, with random weights.
        plan: its plan.
    """
    weights, missing, kernels, heads = dict(ours), [], 0, _pair_heads(source.model, plan.model)
    classes, channels = _pair_outputs(source.data, plan.data), plan.data.channels
    for name, like in ours.items():
        found = theirs.get(_rename_head(name, heads))
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
    remarks = (
        _describe_channels(source, plan),
        _describe_classes(source, plan, classes),
        _describe_missing(missing, plan.model),
    )
    return StartingWeights(weights, kernels, tuple(text for text in remarks if text))


def _pair_heads(theirs: ModelPlan, ours: ModelPlan) -> dict[int, int]:
    """Pair the heads of the same depth and width, and those of the whole widths: our number -> theirs."""
    known = {channels: shell for shell, channels in enumerate(theirs.shell_channels)}
    known[ours.shell_channels[-1]] = len(theirs.shells) - 1
    sizes = list_sizes(range(1, min(ours.depth, theirs.depth) + 1), len(ours.shells), ours.depth)
    shells = {number: known.get(ours.shell_channels[size.shell]) for number, size in sizes.items()}
    return {
        number: Size(sizes[number].depth, shell).number(theirs.depth)
        for number, shell in shells.items()
        if shell is not None
    }


def _rename_head(name: str, heads: Mapping[int, int]) -> str:
    """Name a tensor of ours as theirs; empty for a head that they do not have."""
    if not name.startswith("heads."):
        return name
    _, number, key = name.split(".", 2)
    return f"heads.{heads[int(number)]}.{key}" if int(number) in heads else ""


def _pair_outputs(source: DataPlan, data: DataPlan) -> dict[int, int]:
    """Pair outputs of one name, the backgrounds, and the only foreground of each: our index -> theirs."""
    theirs, ours = source.outputs, data.outputs
    shared = {ours.index(name): theirs.index(name) for name in ours if name in theirs}
    only = {1: 1} if len(theirs) == len(ours) == 2 else {}
    if source.regions or data.regions:
        return shared
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


def _describe_width(theirs: Sequence[int], ours: Sequence[int], shared: int) -> str:
    """Say which channels start from which, if not all from all."""
    taken = "its weights" if shared == theirs[-1] else f"the inner {shared} of its {theirs[-1]}"
    if shared == ours[-1]:
        return "" if shared == theirs[-1] else f"all {shared} channels of level 0 start from {taken}"
    new = "the outer ones begin at random, and heads of wider sizes repeat the inner ones at first"
    return f"the inner {shared} of {ours[-1]} channels start from {taken}; {new}"


def _describe_separation(theirs: Sequence[int], ours: Sequence[int], shared: int) -> str:
    """Say that inner channels no longer read outer ones, which changes the answers."""
    new = [str(channels) for channels in ours if channels < shared and channels not in theirs]
    if not new:
        return ""
    shells = f"{', '.join(new)} channels, which do not read those outside of them"
    return f"shells of {shells}: these weights are left out, so that the answers change"


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
    theirs, ours = source.data.outputs, plan.data.outputs
    if theirs == ours:
        return ""
    new = [name for index, name in enumerate(ours) if index not in pairs]
    gone = [name for index, name in enumerate(theirs) if index not in pairs.values()]
    renamed = [f"{ours[a]} starts as {theirs[b]}" for a, b in pairs.items() if ours[a] != theirs[b]]
    was, now = ("regions" if data.regions else "classes" for data in (source.data, plan.data))
    parts = [
        f"{len(ours)} {now} instead of {len(theirs)}{f' {was}' * (was != now)}" if len(theirs) != len(ours) else "",
        f"new: {', '.join(new)}" if new else "",
        f"left out: {', '.join(gone)}" if gone else "",
        *renamed,
    ]
    return "heads: " + "; ".join(part for part in parts if part)


def _describe_missing(names: Sequence[str], plan: ModelPlan) -> str:
    """Group the tensors that begin at random by the parts of the network."""
    if not names:
        return ""
    parts = dict.fromkeys(_name_part(name, plan) for name in names)
    return f"begin at random, as nothing fits: {list_some(parts, 8)}"


def _name_part(name: str, plan: ModelPlan) -> str:
    if node := _NODE.match(name):
        return f"X[{node[2]}, {node[3]}]"
    first, number, *_ = name.split(".")
    return first if first != "heads" else f"head {name_size(int(number), plan.depth, plan.shell_channels)}"
