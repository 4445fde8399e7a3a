"""Rows of the depth table, and the depth, with shells the size, that they recommend. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

from unetpp.dial import describe_size, has_shells, list_by_cost
from unetpp.measured import DepthRow, DepthTable, Recommendation, Scores
from unetpp.model_notes import Metrics
from unetpp.words import count_noun

RECOMMENDED_LOSS = 0.5
"""Points (hundredths) of Dice that the recommended depth may lose against the deepest, by the upper end of the interval
over cases."""


def choose_depth(rows: Mapping[int, DepthRow], max_drop: float) -> tuple[int, str]:
    """Choose the fastest depth that loses at most `max_drop` points of Dice against the deepest.

    With shells: the fastest size, against the largest. Without latencies it is the one of the smallest number. The loss
    is judged by the upper end of its interval over the validation cases, if there is one.

    Args:
        rows: depth, with shells the number of a size -> its row of the depth table; those without a Dice are left out.
        max_drop: points (hundredths) of Dice: 0.5 accepts 0.905 if the deepest has 0.910.

    Returns:
        The depth, with shells the number of the size, and the reason in words.
    """
    table = DepthTable(depths={depth: row for depth, row in rows.items() if row.dice is not None})
    deepest = max(table.depths)
    depth = next(
        each for each in list_by_cost(table) if each == deepest or max(_find_loss(table, each)) <= max_drop + 1e-7
    )
    return depth, f"{describe_loss(table, depth)}; a loss of {count_noun(max_drop, 'point')} was allowed"


def _find_loss(table: DepthTable, depth: int) -> tuple[float, float]:
    """Points of Dice that a depth loses against the deepest: the mean over cases, and the upper end of its interval."""
    row, deepest = table.depths[depth], table.depths[max(table.depths)]
    mean = 100 * ((deepest.dice or 0.0) - (row.dice or 0.0))
    return mean, max(mean, 100 * row.dice_lost_interval[1] if row.dice_lost_interval else mean)


def describe_loss(table: DepthTable, depth: int) -> str:
    """Say the Dice of a depth and what it loses against the deepest: "validation Dice 0.905, 0.50 points below ...".

    Args:
        table: rows with a Dice.
        depth: one of them.
    """
    row, deepest, (mean, worst) = table.depths[depth], max(table.depths), _find_loss(table, depth)
    reason = f"validation Dice {row.dice:.4f}"
    if depth != deepest:
        reason += f", {abs(mean):.2f} points {'below' if mean >= 0 else 'above'} {describe_size(table, deepest)}"
        if row.dice_lost_interval:
            reason += f" (a loss of at most {worst:.2f} by the 95 % interval over cases)"
    return reason


def describe_saving(table: DepthTable, depth: int) -> str:
    """Say the time that a depth saves against the deepest; empty where it is that, or one was not timed."""
    own, whole = (table.depths[each].latency_ms for each in (depth, max(table.depths)))
    if depth == max(table.depths) or not own or not whole:
        return ""
    if has_shells(table):
        return f"{own:.1f} ms a tile instead of {whole:.1f}"
    return f"it takes {own / whole:.0%} of the time of depth {max(table.depths)}"


def make_row(scores: Metrics, deepest: Metrics) -> DepthRow:
    """Make a row of the depth table: mean scores, loss against the deepest head, Dice of each of several classes.

    Args:
        scores: scores at one depth.
        deepest: scores of the deepest head, on the same cases.
    """
    from unetpp.metrics.scores import compare_dice  # here, because `info` needs no NumPy

    lost, interval = compare_dice(scores, deepest)
    row = DepthRow(dice_lost=lost, dice_lost_interval=interval).merge(scores.mean)
    if len(scores.classes) == 1:
        return row
    classes = {
        name: Scores(dice=found.dice, dice_interval=found.dice_interval) for name, found in scores.classes.items()
    }
    return row.merge(DepthRow(classes=classes))


def recommend_depth(table: DepthTable) -> Recommendation | None:
    """Find the fastest depth, with shells the fastest size, that loses little, and state the time it saves.

    None without a choice, of a network that has not learned, or before all validation cases are scored at every depth.
    """
    rows = table.depths
    if not table.is_comparable or len(rows) < 2:
        return None
    depth, reason = choose_depth(rows, RECOMMENDED_LOSS)
    return Recommendation(depth=depth, reason="; ".join(filter(None, [reason, describe_saving(table, depth)])))
