"""Candidates, and the choice among them: the cheapest whose difference to the best is not clear."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from unetpp.deploy.select.runs import ComparedRun
from unetpp.errors import UsageError
from unetpp.infer.mirror import mirrorings
from unetpp.measured import Interval
from unetpp.metrics.scores import bootstrap_interval, compute_dice_losses, mean_of
from unetpp.selection import Candidate

NOISE = 0.01
"""Dice that a cheaper candidate may lose on average, even where few cases leave more unclear."""


@dataclass(frozen=True)
class Key:
    """What a candidate is made of."""

    members: tuple[tuple[int, int], ...]
    """Numbers of a run and of its size; the probabilities of two are averaged."""
    tta: bool


@dataclass(frozen=True, eq=False)
class Counted:
    """Voxels of one candidate in one case."""

    both: np.ndarray
    """(scored,) in prediction and reference, of each foreground class or region."""
    predicted: np.ndarray
    expected: np.ndarray

    def class_dice(self) -> list[float | None]:
        """Dice of each class or region; None where neither has it."""
        total = self.predicted + self.expected
        return [2 * float(both) / float(size) if size else None for both, size in zip(self.both, total, strict=True)]

    def dice(self) -> float | None:
        """Mean over the classes that either has; None without any."""
        return mean_of(self.class_dice())


class Tiles(NamedTuple):
    """Median numbers of tiles of an image."""

    own: float
    first: float = 0.0
    """On the grid of the first stage of a cascade; 0: there is none."""


def list_candidates(runs: Sequence[ComparedRun]) -> list[Key]:
    """List what is compared: every run at every size, and pairs of runs, each with and without mirrored copies.

    Pairs are averaged at the recommended and at the largest sizes.
    """
    single: list[tuple[tuple[int, int], ...]] = [
        ((number, size),) for number, run in enumerate(runs) for size in run.sizes.numbers
    ]
    pairs = []
    for one, other in itertools.combinations(range(len(runs)), 2):
        sizes = {(runs[one].favored[place], runs[other].favored[place]) for place in (0, -1)}
        pairs += [((one, own), (other, theirs)) for own, theirs in sorted(sizes)]
    return [Key(members, tta) for members in (*single, *pairs) for tta in (False, True)]


def name_candidate(key: Key, runs: Sequence[ComparedRun]) -> str:
    """Name a candidate, as in "a depth 2 + b depth 3, mirrored"."""
    parts = [f"{runs[number].name} {runs[number].name_size(size)}" for number, size in key.members]
    return " + ".join(parts) + (", mirrored" if key.tta else "")


def compute_ms(key: Key, runs: Sequence[ComparedRun], tiles: Sequence[Tiles]) -> float | None:
    """Compute the milliseconds of a candidate for an image: all folds, tiles and mirrored copies; None: not timed.

    The first stage of a cascade predicts once, without mirrored copies.

    Args:
        key: the candidate.
        runs: the runs.
        tiles: tiles of an image, for each run.
    """
    copies, total = len(mirrorings(runs[0].plan.data.dims)) if key.tta else 1, 0.0
    for number, size in key.members:
        run, own = runs[number], tiles[number]
        first = run.first_latency * own.first if own.first else 0.0
        total += len(run.files) * (copies * (run.latencies.get(size) or math.nan) * own.own + first)
    return total if math.isfinite(total) else None


def judge_candidates(
    keys: Sequence[Key],
    runs: Sequence[ComparedRun],
    counts: Mapping[Key, Sequence[Counted]],
    tiles: Sequence[Tiles],
    max_ms: float | None,
) -> tuple[list[Candidate], Key, str]:
    """Compare all candidates with the best, and choose one.

    Args:
        keys: the candidates.
        runs: the runs.
        counts: for each candidate the cases in the same order.
        tiles: tiles of an image, for each run.
        max_ms: milliseconds that an image may take; None: any.

    Returns:
        The candidates, best first; what was chosen, and the reason in words.

    Raises:
        UsageError: none is as fast as that.
    """
    dice = {key: [case.dice() for case in counts[key]] for key in keys}
    means = {key: mean_of(dice[key]) or 0.0 for key in keys}
    costs = {key: compute_ms(key, runs, tiles) for key in keys}
    cost = {key: math.inf if costs[key] is None else float(costs[key] or 0.0) for key in keys}
    allowed = [key for key in keys if max_ms is None or cost[key] <= max_ms]
    if not allowed:
        got, fastest = f"{max_ms:g} ms for an image", min(cost.values())
        raise UsageError(
            "max_ms", got, f"at least {fastest:.1f}, which the fastest candidate takes", "Allow more time."
        )
    best = max(allowed, key=lambda key: (means[key], -cost[key]))
    losses = {key: compute_dice_losses(dice[best], dice[key]) for key in keys}
    intervals = {key: bootstrap_interval(losses[key]) for key in keys}
    near = [key for key in allowed if key == best or _is_near(mean_of(losses[key]), intervals[key])]
    chosen = min(near, key=lambda key: (cost[key], -means[key]))
    names = runs[0].plan.data.scored
    found = [
        Candidate(
            name=name_candidate(key, runs),
            dice=means[key],
            dice_interval=bootstrap_interval([each for each in dice[key] if each is not None]),
            lost=mean_of(losses[key]),
            lost_interval=intervals[key],
            ms=costs[key],
            classes=dict(zip(names, _average_classes(counts[key]), strict=True)),
            best=key == best,
            chosen=key == chosen,
        )
        for key in sorted(keys, key=lambda key: (-means[key], cost[key]))
    ]
    return found, chosen, _explain(found, len(counts[best]), max_ms)


def _is_near(lost: float | None, interval: Interval | None) -> bool:
    """Tell whether a loss is not clear: its interval holds 0, and the mean is small."""
    return interval is not None and interval[0] <= 0 and (lost or 0.0) <= NOISE


def _average_classes(cases: Sequence[Counted]) -> list[float | None]:
    return [mean_of(values) for values in zip(*(case.class_dice() for case in cases), strict=True)]


def _explain(candidates: Sequence[Candidate], cases: int, max_ms: float | None) -> str:
    """Say why a candidate was chosen."""
    best = next(each for each in candidates if each.best)
    chosen = next(each for each in candidates if each.chosen)
    limit = "" if max_ms is None else f" of those that take at most {max_ms:g} ms an image"
    if chosen.best:
        cheaper = "" if cases > 1 else "; one case tells no difference from noise"
        return f"the best{limit}, and every cheaper one is clearly below it{cheaper}"
    low, high = chosen.lost_interval or (0.0, 0.0)
    return (
        f"the cheapest{limit} whose difference to the best ({best.name}) is not clear: "
        f"{100 * (chosen.lost or 0):.2f} points of Dice lost (95 %: {100 * low:.2f} to {100 * high:.2f})"
    )
