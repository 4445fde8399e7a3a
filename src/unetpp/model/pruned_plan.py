"""Plan of a pruned network."""

from __future__ import annotations

from typing import Any

from unetpp.model.encoders import encoder_shape
from unetpp.plan import ModelPlan
from unetpp.sizes import find_size


def prune_plan(plan: ModelPlan, depth: int, keep_heads: bool = False) -> ModelPlan:
    """Make the plan of `build_from_plan(plan).prune(depth, keep_heads)`.

    Args:
        plan: plan of the whole network.
        depth: depth of the pruned network, with shells the number of its size (`unetpp.sizes`).
        keep_heads: keep the heads of smaller sizes.
    """
    depth, shell = find_size(depth, plan.depth)
    if len(plan.shells) > 1:
        plan = _cut_plan(plan, shell, keep_heads)

    def cut(axes: tuple[Any, ...] | None, levels: int) -> tuple[Any, ...] | None:
        return axes[:levels] if axes else None

    return plan.model_copy(
        update={
            "depth": depth,
            "widths": plan.widths[: depth + 1],
            "nested_widths": cut(plan.nested_widths, depth),
            "node_widths": {
                key: width for key, width in plan.node_widths.items() if sum(map(int, key.split("_"))) <= depth
            },
            "up_widths": cut(plan.up_widths, depth),
            "strides": plan.strides[:depth],
            "kernel_sizes": plan.kernel_sizes[: depth + 1],
            "nested_kernel_sizes": cut(plan.nested_kernel_sizes, depth),
            "encoder_blocks": cut(plan.encoder_blocks, depth + 1),
            "deep_supervision": plan.deep_supervision and (keep_heads or plan.fusion != "none"),
        }
    )


def _cut_plan(plan: ModelPlan, shell: int, keep_heads: bool) -> ModelPlan:
    """Make the plan of a network cut to its shells up to number `shell`."""
    fraction = plan.shells[shell]
    shells = tuple(each / fraction for each in plan.shells[: shell + 1]) if keep_heads else (1.0,)
    return scale_widths(plan, fraction).model_copy(update={"shells": shells})


def scale_widths(plan: ModelPlan, factor: float) -> ModelPlan:
    """Multiply the width of all nodes by a factor; what an encoder of timm computes stays as it is."""

    def scale(widths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return tuple(round(width * factor) for width in widths) if widths else None

    is_own = plan.encoder in (None, "resenc")
    given = set() if is_own else set(encoder_shape(plan.encoder or "", plan.depth, plan.output_stride).widths)
    return plan.model_copy(
        update={
            "widths": tuple(
                width if level in given else round(width * factor) for level, width in enumerate(plan.widths)
            ),
            "nested_widths": scale(plan.nested_widths),
            "node_widths": {key: round(width * factor) for key, width in plan.node_widths.items()},
            "up_widths": scale(plan.up_widths),
            "norm_groups": plan.norm_groups and round(plan.norm_groups * factor),
        }
    )
