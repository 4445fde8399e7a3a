"""Numbers of channels of the nodes of a plan, and of their shells."""

from __future__ import annotations

from unetpp.model.grid import Node
from unetpp.model.resampling import INTERPOLATION
from unetpp.plan import ModelPlan


def node_width(plan: ModelPlan, node: Node) -> int:
    """Look up the number of channels of a node."""
    level, column = node
    widths = plan.nested_widths if column and plan.nested_widths else plan.widths
    return plan.node_widths.get(f"{level}_{column}", widths[level])


def up_width(plan: ModelPlan, node: Node) -> int:
    """Look up the number of channels that node (i, j) receives from below."""
    level, column = node
    if plan.up in INTERPOLATION and not plan.up_projection:
        return node_width(plan, (level + 1, column - 1))
    return plan.up_widths[level] if plan.up_widths else (plan.nested_widths or plan.widths)[level]


def shell_widths(plan: ModelPlan, width: int) -> tuple[int, ...]:
    """Compute the number of channels up to and with each shell, of `width` in all."""
    return tuple(round(width * fraction) for fraction in plan.shells)
