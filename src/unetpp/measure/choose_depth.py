"""Rows of the depth table, and the depth, with shells the size, that they recommend. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

from unetpp.dial import describe_size, has_shells, list_by_cost
from unetpp.measured import DepthRow, DepthTable, Metrics, Recommendation, Scores
from unetpp.metrics.scores import compare_dice
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
    dice = {depth: row.dice for depth, row in rows.items() if row.dice is not None}
    table, deepest = DepthTable(depths={depth: rows[depth] for depth in dice}), max(dice)
    means = {depth: 100 * (dice[deepest] - value) for depth, value in dice.items()}
    intervals = {depth: rows[depth].dice_lost_interval for depth in dice}
    worst = {depth: max(mean, 100 * ends[1] if (ends := intervals[depth]) else mean) for depth, mean in means.items()}
    depth = next(each for each in list_by_cost(table) if each == deepest or worst[each] <= max_drop + 1e-7)
    reason = f"validation Dice {dice[depth]:.4f}"
    if depth != deepest:
        largest = describe_size(table, deepest)
        reason += f", {abs(means[depth]):.2f} points {'below' if means[depth] >= 0 else 'above'} {largest}"
        if intervals[depth]:
            reason += f" (a loss of at most {worst[depth]:.2f} by the 95 % interval over cases)"
    return depth, f"{reason}; a loss of {count_noun(max_drop, 'point')} was allowed"


def make_row(scores: Metrics, deepest: Metrics) -> DepthRow:
    """Make a row of the depth table: mean scores, loss against the deepest head, Dice of each of several classes.

    Args:
        scores: scores at one depth.
        deepest: scores of the deepest head, on the same cases.
    """
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
    if depth == max(rows):
        return Recommendation(depth=depth, reason=reason)
    own, whole = (rows[each].latency_ms or 0.0 for each in (depth, max(rows)))
    if has_shells(table):
        saved = f"{own:.1f} ms a tile instead of {whole:.1f}"
    else:
        saved = f"it takes {own / (whole or 1.0):.0%} of the time of depth {max(rows)}"
    return Recommendation(depth=depth, reason=f"{reason}; {saved}")
