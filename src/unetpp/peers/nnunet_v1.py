"""Generic_UNetPlusPlus of the fork of nnU-Net v1, and its plans as JSON.

The state_dict tells the whole network. Spacing, intensities, patch and names of the data are in the plans, which nnU-Net
pickles: they are read from a plans.json in the folder of the checkpoint or the one above.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from unetpp.errors import UsageError
from unetpp.model.build import make_grid, model_plan
from unetpp.peers.answers import Answers, normalization_hint
from unetpp.peers.transfer import Peer, PeerNetwork, Source, node_names
from unetpp.plan import ModelPlan, Normalization

DEPTH = 5
"""The only number of poolings with which it runs."""
MARK = "loc0.0.0.blocks.0.conv.weight"
PLANS = "plans.json"
HOW_TO_CONVERT = (
    "Where the pickle beside the checkpoint is trusted: python -c \"import json, pickle; json.dump(pickle.load(open('model_final_checkpoint.model.pkl', 'rb'))['plans'], "
    f"open('{PLANS}', 'w'), default=lambda x: x.tolist() if hasattr(x, 'tolist') else str(x))\""
)


def read(source: Source, answers: Answers) -> PeerNetwork:
    """Asked, where there is no plans.json: the intensities, and in 3D the spacing."""
    dims, plans = len(source.shape(MARK)) - 2, _read_plans(source.path)
    axes = _axes(plans, dims)
    turned = Source(source.path, {name: _turn(tensor, axes) for name, tensor in source.tensors.items()})
    model = _model(turned, dims)
    answers.assume(
        "predict.depth",
        "the fork's loss trains one head only, which may not be the deepest: compare the depths with --depth all",
    )
    stage: Mapping[str, Any] = {}
    if plans is not None:
        with _complete():
            stage = _stage(plans, model, axes, answers)
    else:
        answers.need(
            "data.normalization",
            f"{normalization_hint(model.in_channels)}; or all of it by {PLANS} beside the checkpoint. {HOW_TO_CONVERT}",
        )
        if dims == 3:
            answers.need(
                "data.spacing_mm", "the voxel size that it was trained at, in millimetres, as [z,y,x]; or null"
            )
    answers.settle(str(source.path))
    names = dict(_names(model))
    changes = {f"{ours}.weight": partial(_turn, axes=axes) for ours in names}
    return PeerNetwork(
        "Generic_UNetPlusPlus of nnU-Net v1",
        model,
        names,
        changes=changes,
        data=_data(plans, stage, model, axes, answers) if plans else {},
    )


PEER = Peer("nnunet-v1", (MARK,), read)


def _model(source: Source, dims: int) -> ModelPlan:
    context = [f"conv_blocks_context.{level}" for level in range(DEPTH)] + [f"conv_blocks_context.{DEPTH}.0"]
    first = f"{context[0]}.blocks.0"
    nested = [source.shape(f"loc{DEPTH - 1 - level}.0.0.blocks.0.conv.weight") for level in range(DEPTH)]
    kernels = [source.shape(f"{block}.blocks.0.conv.weight") for block in context]
    return model_plan(
        block="plain",
        dims=dims,
        in_channels=source.shape(f"{first}.conv.weight")[1],
        out_channels=source.shape("seg_outputs.0.weight")[0],
        depth=DEPTH,
        widths=[kernel[0] for kernel in kernels],
        nested_widths=[kernel[0] for kernel in nested],
        strides=[source.shape(f"up{DEPTH - 1 - level}.0.weight")[2:] for level in range(DEPTH)],
        kernel_sizes=[kernel[2:] for kernel in kernels],
        nested_kernel_sizes=[kernel[2:] for kernel in nested],
        convs_per_node=next(n for n in count() if not source.has(f"{context[0]}.blocks.{n}.conv.weight")),
        norm="batch" if source.has(f"{first}.instnorm.running_mean") else "instance",
        activation="leaky_relu",
        leaky_slope=0.01,
        conv_bias=source.has(f"{first}.conv.bias"),
        down="first",
        up="transposed",
        up_bias=False,
        head_bias=source.has("seg_outputs.0.bias"),
    )


def _names(model: ModelPlan) -> Iterator[tuple[str, str | None]]:
    """Diagonal d of the grid is its loc and up number 5 - d, from the deepest node; the last convolution of a nested node and of the deepest level has a part of its own."""
    last = model.convs_per_node - 1
    for node in make_grid(model).nodes():
        number, place = DEPTH - sum(node), node[1] - 1
        block = f"loc{number}.{place}" if node[1] else f"conv_blocks_context.{node[0]}"
        split = [f"{block}.0.blocks.{n}" for n in range(last)] + [f"{block}.1.blocks.0"]
        units = split if node[1] or node[0] == DEPTH else [f"{block}.blocks.{n}" for n in range(last + 1)]
        yield from node_names(model, node, [f"{unit}.conv" for unit in units], [f"{unit}.instnorm" for unit in units])
        if node[1]:
            yield f"ups.x_{node[0]}_{node[1]}", f"up{number}.{place}"
    for depth in make_grid(model).head_depths(model.deep_supervision):
        yield f"heads.{depth}", f"seg_outputs.{DEPTH - depth}"


def _turn(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """The weights of a convolution with their spatial axes in the order of the image's."""
    return tensor.permute(0, 1, *(2 + axis for axis in axes)) if tensor.ndim == 2 + len(axes) else tensor


def _read_plans(checkpoint: Path) -> Mapping[str, Any] | None:
    """The plans beside the checkpoint; None where there are none."""
    path = next(
        (path for path in (checkpoint.parent / PLANS, checkpoint.parent.parent / PLANS) if path.is_file()), None
    )
    if path is None:
        return None
    try:
        plans = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: got a file that cannot be read ({error}); expected the plans of nnU-Net v1 as JSON. Write it again, or take it away."
        ) from None
    if not isinstance(plans, dict) or "plans_per_stage" not in plans:
        raise UsageError(
            f"{path}: got JSON without plans_per_stage; expected the plans of nnU-Net v1. Write it again, or take it away."
        )
    return plans


def _axes(plans: Mapping[str, Any] | None, dims: int) -> tuple[int, ...]:
    """The network's axis for each axis of the image: nnU-Net puts the one of the thickest slices first."""
    forward = list((plans or {}).get("transpose_forward", range(dims)))
    if dims == 2 or sorted(forward) != list(range(dims)):  # a 2D network sees slices across the first axis
        return tuple(range(dims))
    return tuple(forward.index(axis) for axis in range(dims))


@contextmanager
def _complete() -> Iterator[None]:
    """Name what plans lack."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(
            f"{PLANS}: got plans that lack something ({type(error).__name__}: {error}); expected those of nnU-Net v1. {HOW_TO_CONVERT}"
        ) from None


def _data(
    plans: Mapping[str, Any], stage: Mapping[str, Any], model: ModelPlan, axes: Sequence[int], answers: Answers
) -> dict[str, Any]:
    """Fields of the plan that nnU-Net's plans tell.

    Raises:
        UsageError: they lack something.
    """
    with _complete():
        data: dict[str, Any] = {
            "data.spacing_mm": _spacing(stage, model, axes),
            "data.normalization": [_normalization(plans, channel, answers) for channel in range(model.in_channels)],
            "predict.tile": [int(stage["patch_size"][axis]) for axis in axes],
        }
        if "modalities" in plans:
            data["data.channels"] = [str(plans["modalities"][str(channel)]) for channel in range(model.in_channels)]
        if len(plans.get("all_classes", ())) == model.out_channels - 1:
            data["data.label_values"] = [0, *(int(value) for value in plans["all_classes"])]
    return data


def _spacing(stage: Mapping[str, Any], model: ModelPlan, axes: Sequence[int]) -> list[float]:
    spacing = list(stage["current_spacing"])[-model.dims :]
    return [spacing[axis] for axis in axes]


def _stage(plans: Mapping[str, Any], model: ModelPlan, axes: Sequence[int], answers: Answers) -> Mapping[str, Any]:
    """The stage whose poolings and kernels are those of the network; asked for by its voxel size where several are.

    Raises:
        UsageError: there is none.
    """

    def turned(sizes: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        return [tuple(size[axis] for axis in axes) for size in sizes]

    stages = [
        dict(stage)
        for stage in plans["plans_per_stage"].values()
        if turned(stage["pool_op_kernel_sizes"]) == list(model.strides)
    ]
    found = [
        stage
        for stage in stages
        if "conv_kernel_sizes" not in stage or turned(stage["conv_kernel_sizes"]) == list(model.kernel_sizes)
    ]
    if len(found) > 1:
        spacings = [_spacing(stage, model, axes) for stage in found]
        said = answers.need(
            "data.spacing_mm",
            f"the network fits several stages of {PLANS}, which differ in the voxel size: one of {spacings}",
            spacings,
        )
        return found[spacings.index(said)] if said else found[0]
    if found:
        return found[0]
    raise UsageError(
        f"{PLANS}: got plans with other poolings than the checkpoint's; expected {[list(stride) for stride in model.strides]} in one of plans_per_stage. Take its own plans."
    )


def _normalization(plans: Mapping[str, Any], channel: int, answers: Answers) -> dict[str, Any]:
    scheme = plans["normalization_schemes"][str(channel)]
    if scheme == "CT":
        properties = plans["dataset_properties"]["intensityproperties"][str(channel)]
        lower, upper = properties["percentile_00_5"], properties["percentile_99_5"]
        return Normalization(
            per_case=False, lower=lower, upper=upper, mean=properties["mean"], std=properties["sd"]
        ).model_dump()
    if scheme == "noNorm":
        return Normalization(per_case=False).model_dump()
    if scheme != "nonCT" or plans.get("use_mask_for_norm", {}).get(str(channel)):
        answers.assume(
            "data.normalization",
            f"nnU-Net's {scheme} takes mean and deviation of a part of the image, here they are those of the whole",
        )
    return Normalization().model_dump()
