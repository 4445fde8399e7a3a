"""Rules for the sizes that a network holds: nested in width or in depth, and trained in turn or together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unetpp.planning.choice import Choice

SHELLS = (0.5, 1.0)
"""Widths of the sizes, as fractions of the widest: the outer one costs about four times the inner one on CPUs."""
OF_NESTED_SKIPS = frozenset({"fusion", "nested_widths", "nested_norm", "nested_kernel_sizes", "node_widths", "encoder"})
"""Fields of `plan.model` that speak of nodes which a U-Net does not have, or were tried with UNet++ alone."""
FAST_INNER = 0.6
"""Time of a step of the inner size, as a fraction of that of all sizes, up to which it is trained alone first."""


def choose_nesting(given: Mapping[str, Any], predict_depth: Any = None) -> dict[str, Choice[Any]]:
    """Choose the grid and its widths where the user leaves both open: fields of `plan.model`, by name.

    Args:
        given: fields of `plan.model` that the user sets.
        predict_depth: a depth for predictions that the user sets; None: none.
    """
    if given.get("preset", "default") != "default" or "topology" in given:
        return {}
    if predict_depth is not None or OF_NESTED_SKIPS & set(given):
        return {"topology": Choice("unet++", "nested in depth: one training, a network for each depth")}
    topology = Choice("unet", "nested in width: in equal minutes better than the nested depths of UNet++")
    shells = Choice(SHELLS, "a network of half the width within the whole: one training, two sizes")
    return {"topology": topology} | ({} if "shells" in given else {"shells": shells})


def choose_growth(shells: int, dims: int, inner_share: float | None) -> Choice[tuple[float, ...]]:
    """Choose `train.growth`: equal parts of the schedule.

    Args:
        shells: number of widths of the network, 2 or more.
        dims: number of spatial axes.
        inner_share: time of a step of the innermost size, as a fraction of that of all sizes; None: not measured.
    """
    measured = "" if inner_share is None else f" ({inner_share:.0%} of the time of a step here)"
    if dims == 2 if inner_share is None else inner_share <= FAST_INNER:
        growth = tuple(round(place / shells, 4) for place in range(1, shells))
        return Choice(growth, f"the inner size is trained first and alone, in many quick steps{measured}")
    return Choice((), f"all sizes are trained together: the inner one alone would be hardly faster{measured}")


def choose_distillation() -> Choice[bool]:
    """Choose `train.distillation` of a network of several sizes."""
    return Choice(
        True, "smaller sizes learn what the largest one answers, so that all of them ask for the same weights"
    )


def average_seconds(seconds: float, inner_share: float | None, growth: tuple[float, ...]) -> float:
    """Compute the mean time of a step in a given time of two shells, of which the inner one is trained alone first.

    Args:
        seconds: time of a step of all sizes.
        inner_share: time of a step of the inner size, as a fraction of it; None: not measured.
        growth: fraction of the time of the inner size alone; (): none.
    """
    alone = growth[0] if growth and inner_share else 0.0
    return seconds / (1 - alone + alone / (inner_share or 1.0))
