"""Generic_UNetPlusPlus of the fork of nnU-Net v1, and its plans as JSON.

The state_dict determines the whole network. Spacing, intensities, patch and channel names are in the plans, which
nnU-Net pickles: they are read from a plans.json in the folder of the checkpoint or the one above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count, permutations
from pathlib import Path
from typing import Any

from torch import Tensor

from unetpp.errors import UsageError
from unetpp.json_files import read_json
from unetpp.model.build import model_plan
from unetpp.peers.import_settings import ImportSettings
from unetpp.peers.transfer import Peer, PeerNetwork, Source, name_layers
from unetpp.plan import ModelPlan, Normalization

DEPTH = 5
"""Number of poolings; the peer does not run with another."""
MARK = "loc0.0.0.blocks.0.conv.weight"
PLANS = "plans.json"
HOW_TO_CONVERT = (
    'If the pickle beside the checkpoint is trusted: python -c "import json, pickle; json.dump(pickle.load(open('
    f"'model_final_checkpoint.model.pkl', 'rb'))['plans'], open('{PLANS}', 'w'), "
    "default=lambda x: x.tolist() if hasattr(x, 'tolist') else str(x))\""
)


def read(source: Source, settings: ImportSettings) -> PeerNetwork:
    """Read the network and, if there is one, its plans.json; without it, intensities and 3D spacing are required."""
    dims, plans = len(source.shape(MARK)) - 2, _read_plans(source.path)
    axes = _find_axes(plans, dims)
    model = _read_model(
        Source(source.path, {name: _permute(each, axes) for name, each in source.tensors.items()}), dims
    )
    settings.assume(
        "predict.depth",
        "the fork's loss trains one head only, which may not be the deepest: compare the depths with `depth=all`",
    )
    if plans is None:
        alternative = f"; or give all of it as {PLANS} beside the checkpoint. {HOW_TO_CONVERT}"
        settings.require_normalization(model.in_channels, alternative)
        if dims == 3:
            settings.require("data.spacing_mm", "voxel size of the training in millimeters, as [z,y,x]; or null")
    names = name_layers(
        model,
        partial(_units, model.convs_per_node),
        head=lambda depth: f"seg_outputs.{DEPTH - depth}",
        up=lambda level, column: f"up{DEPTH - level - column}.{column - 1}",
    )
    return PeerNetwork(
        "Generic_UNetPlusPlus of nnU-Net v1",
        model,
        names,
        changes={f"{ours}.weight": partial(_permute, axes=axes) for ours in names},
        data=_read_data(plans, model, axes, settings) if plans else {},
    )


PEER = Peer("nnunet-v1", (MARK,), read)


def _read_model(source: Source, dims: int) -> ModelPlan:
    encoder = [f"conv_blocks_context.{level}" for level in range(DEPTH)] + [f"conv_blocks_context.{DEPTH}.0"]
    first = f"{encoder[0]}.blocks.0"
    nested = [source.shape(f"loc{DEPTH - 1 - level}.0.0.blocks.0.conv.weight") for level in range(DEPTH)]
    kernels = [source.shape(f"{block}.blocks.0.conv.weight") for block in encoder]
    return model_plan(
        topology="unet++",
        block="plain",
        dims=dims,
        in_channels=kernels[0][1],
        out_channels=source.shape("seg_outputs.0.weight")[0],
        depth=DEPTH,
        widths=[kernel[0] for kernel in kernels],
        nested_widths=[kernel[0] for kernel in nested],
        strides=[source.shape(f"up{DEPTH - 1 - level}.0.weight")[2:] for level in range(DEPTH)],
        kernel_sizes=[kernel[2:] for kernel in kernels],
        nested_kernel_sizes=[kernel[2:] for kernel in nested],
        convs_per_node=next(n for n in count() if not source.has(f"{encoder[0]}.blocks.{n}.conv.weight")),
        norm="batch" if source.has(f"{first}.instnorm.running_mean") else "instance",
        activation="leaky_relu",
        leaky_slope=0.01,
        conv_bias=source.has(f"{first}.conv.bias"),
        down="first",
        up="transposed",
        up_bias=False,
        head_bias=source.has("seg_outputs.0.bias"),
    )


def _units(convs: int, level: int, column: int) -> list[tuple[str, str]]:
    """Diagonal d = i + j of the grid is loc and up number 5 - d, from the deepest node.

    In nested nodes and the deepest one, the last convolution is in a separate part.
    """
    block = f"loc{DEPTH - level - column}.{column - 1}" if column else f"conv_blocks_context.{level}"
    units = [f"{block}.blocks.{n}" for n in range(convs)]
    if column or level == DEPTH:
        units = [f"{block}.0.blocks.{n}" for n in range(convs - 1)] + [f"{block}.1.blocks.0"]
    return [(f"{unit}.conv", f"{unit}.instnorm") for unit in units]


def _permute(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """Put the spatial axes of a convolution's weights in the order of the image's."""
    return tensor.permute(0, 1, *(2 + axis for axis in axes)) if tensor.ndim == 2 + len(axes) else tensor


def _read_plans(checkpoint: Path) -> Mapping[str, Any] | None:
    """Return the plans in the checkpoint's folder; None if there are none."""
    path = next((path for folder in checkpoint.parents[:2] if (path := folder / PLANS).is_file()), None)
    if path is None:
        return None
    expected, action = "the plans of nnU-Net v1 as JSON", "Write it again, or remove it."
    try:
        plans = read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(path, f"a file that cannot be read ({error})", expected, action) from None
    if not isinstance(plans, dict) or "plans_per_stage" not in plans:
        raise UsageError(path, "JSON without plans_per_stage", expected, action)
    return plans


def _find_axes(plans: Mapping[str, Any] | None, dims: int) -> tuple[int, ...]:
    """Return the network's axis for each axis of the image: nnU-Net puts that of the thickest slices first."""
    forward = (plans or {}).get("transpose_forward", range(dims))
    forward = list(forward) if isinstance(forward, list | range) else []
    if dims == 2 or forward not in map(
        list, permutations(range(dims))
    ):  # a 2D network sees slices across the first axis
        return tuple(range(dims))
    return tuple(forward.index(axis) for axis in range(dims))


def _read_data(
    plans: Mapping[str, Any], model: ModelPlan, axes: Sequence[int], settings: ImportSettings
) -> dict[str, Any]:
    """Return the fields of our plan that nnU-Net's plans define; raise UsageError if these are incomplete."""
    try:
        stage = _find_stage(plans, model, axes, settings)
        channels = [str(channel) for channel in range(model.in_channels)]
        data: dict[str, Any] = {
            "data.spacing_mm": _read_spacing(stage, axes),
            "data.normalization": [_read_normalization(plans, channel, settings) for channel in channels],
            "predict.tile": [int(stage["patch_size"][axis]) for axis in axes],
        }
        if "modalities" in plans:
            data["data.channels"] = [str(plans["modalities"][channel]) for channel in channels]
        if len(plans.get("all_classes", ())) == model.out_channels - 1:
            data["data.label_values"] = [0, *map(int, plans["all_classes"])]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        got = f"incomplete plans ({type(error).__name__}: {error})"
        raise UsageError(PLANS, got, "those of nnU-Net v1", HOW_TO_CONVERT) from None
    return data


def _read_spacing(stage: Mapping[str, Any], axes: Sequence[int]) -> list[float]:
    spacing = list(stage["current_spacing"])[-len(axes) :]
    return [spacing[axis] for axis in axes]


def _find_stage(
    plans: Mapping[str, Any], model: ModelPlan, axes: Sequence[int], settings: ImportSettings
) -> Mapping[str, Any]:
    """Return the stage with the poolings and kernels of the network; several differ in the required voxel size."""

    def permute(sizes: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(size[axis] for axis in axes) for size in sizes)

    found: list[Mapping[str, Any]] = [
        stage
        for stage in plans["plans_per_stage"].values()
        if permute(stage["pool_op_kernel_sizes"]) == model.strides
        and ("conv_kernel_sizes" not in stage or permute(stage["conv_kernel_sizes"]) == model.kernel_sizes)
    ]
    if not found:
        expected = f"{[list(stride) for stride in model.strides]} in one of plans_per_stage"
        got = "plans with other poolings than the checkpoint's"
        raise UsageError(PLANS, got, expected, "Use the plans of this checkpoint.")
    if len(found) == 1:
        return found[0]
    spacings = [_read_spacing(stage, axes) for stage in found]
    hint = f"the network fits several stages of {PLANS}, which differ in the voxel size: one of {spacings}"
    spacing = settings.require("data.spacing_mm", hint, spacings)
    return found[spacings.index(spacing)] if spacing else found[0]


def _read_normalization(plans: Mapping[str, Any], channel: str, settings: ImportSettings) -> Normalization:
    scheme = plans["normalization_schemes"][channel]
    if scheme == "CT":
        found = plans["dataset_properties"]["intensityproperties"][channel]
        lower, upper = found["percentile_00_5"], found["percentile_99_5"]
        return Normalization(per_case=False, lower=lower, upper=upper, mean=found["mean"], std=found["sd"])
    is_masked = scheme == "nonCT" and bool(plans.get("use_mask_for_norm", {}).get(channel))
    if scheme not in ("noNorm", "nonCT"):
        settings.assume(
            "data.normalization",
            f"nnU-Net's {scheme} takes mean and standard deviation of a part of the image, here those of the whole",
        )
    elif is_masked:
        settings.assume(
            "data.normalization",
            "nnU-Net's nonCT takes mean and standard deviation of the body with its holes, here of what is not 0",
        )
    return Normalization(per_case=scheme != "noNorm", nonzero=is_masked)
