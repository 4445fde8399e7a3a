"""Rules for the sizes that a network holds: nested in width or in depth, and trained in turn or together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from unetpp.plan import ModelPlan
from unetpp.planning.choice import Choice

SLOW_INNER = 0.8
"""Time of a step of the inner size, as a fraction of that of all sizes, above which it is not trained alone first.
It is about 0.5 in 2D: only a machine that is busy with something else than computing comes here."""

INNER_TIME = 0.75
"""Fraction of the schedule in which inner sizes are trained alone: on nuclei, in 20 minutes, both sizes are 0.2 points
of Dice better than with half of it (docs/benchmarks.md)."""

ONE_WIDTH = {
    2: "for one fixed size `model.topology=unet` is level or better (by up to 0.1 points of Dice, docs/benchmarks.md)",
    3: "for one fixed size `model.topology=unet` is better (0.2 to 0.6 points of Dice on hippocampus)",
}
"""What a U-Net of one width, trained alone for the same minutes, has over the sizes of one training, by axes."""


def explain_nesting(model: ModelPlan, given: Collection[str]) -> dict[str, str]:
    """Say why the sizes of a network are nested as they are, where the user leaves that open.

    Args:
        model: the network.
        given: names of the fields of `plan.model` that the user sets.

    Returns:
        Reasons by the name of a field.
    """
    if "topology" in given or model.preset != "default":
        return {}
    if model.topology == "unet++":
        return {"topology": "nested in depth: one training, a network for each depth"}
    nested = "nested in width: in equal minutes better than the nested depths of UNet++"
    reasons = {"topology": f"{nested}; {ONE_WIDTH[model.dims]}"}
    if "shells" in given:
        return reasons
    one, two = (
        "one width: half of it is none that this network can have",
        "a network of half the width within the whole",
    )
    return reasons | {"shells": one if len(model.shells) == 1 else f"{two}: one training, two sizes"}


def choose_growth(
    shells: int, dims: int, inner_share: float | None, steps: int | None = None
) -> Choice[tuple[float, ...]]:
    """Choose `train.growth`: most of the schedule for inner sizes, in equal parts.

    Args:
        shells: number of widths of the network, 2 or more.
        dims: number of spatial axes.
        inner_share: time of a step of the innermost size, as a fraction of that of all sizes; None: not measured.
        steps: number of steps of the schedule; None: it is limited by time.
    """
    if steps is not None and steps * (1 - INNER_TIME) < 1:
        return Choice((), "too few steps")
    if dims == 3:
        return Choice((), "all sizes are trained together, which was better in volumes")
    measured = "" if inner_share is None else f" ({inner_share:.0%} of the time of a step here)"
    if inner_share is not None and inner_share > SLOW_INNER:
        return Choice((), f"all sizes are trained together: the inner one alone would be hardly faster{measured}")
    growth = tuple(round(INNER_TIME * place / (shells - 1), 4) for place in range(1, shells))
    return Choice(growth, f"the inner size is trained first and alone, in many quick steps{measured}")


def choose_distillation() -> Choice[bool]:
    """Choose `train.distillation` of a network of several sizes."""
    return Choice(
        True, "smaller sizes learn what the largest one answers, so that all of them ask for the same weights"
    )


def average_seconds(seconds: float, inner_shares: Sequence[float], growth: tuple[float, ...]) -> float:
    """Compute the mean time of a step in a given time, in which inner sizes are trained in turn before all of them.

    Args:
        seconds: time of a step of all sizes.
        inner_shares: time of a step of the network up to each shell but the last, as a fraction of it, the innermost
            first; (): not measured.
        growth: fractions of the time at which another shell joins in, up to as many as there are inner ones; (): none.
    """
    if not growth or len(inner_shares) < len(growth):
        return seconds
    shares = (*inner_shares[-len(growth) :], 1.0)
    parts = [end - start for start, end in pairwise((0.0, *growth, 1.0))]
    return seconds / sum(part / share for part, share in zip(parts, shares, strict=True))
