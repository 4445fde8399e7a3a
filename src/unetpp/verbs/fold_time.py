"""Time of a fold: its share of the command's, and that of training, validations and what follows within it."""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from unetpp.measure.pace import SHARE_AFTER
from unetpp.measure.validation import DepthValidation
from unetpp.model.build import build_from_plan
from unetpp.progress import Progress, Stage
from unetpp.train.trainer import Status
from unetpp.words import format_time

LEAST_SHARE = 0.25
"""Smallest fraction of its minutes that a fold gets, whatever went before: on a busy machine loading takes long."""
SHARE_FOR_TRAINING = 0.6
"""Smallest fraction of the time that is left for training, however long a single case takes."""
SHARE_FOR_VALIDATION = 0.15
"""Largest fraction of the time for validations during training."""
SECONDS_PER_DEPTH = 4.0
"""Time to measure the costs of one depth, in processes of their own, on an idle machine."""
SECONDS_FOR_PASSES = 2.0
"""Time that is kept free in any case to time the depths."""
SECONDS_FOR_REPORT = 1.0
"""Time to write a report without pictures, on an idle machine."""
SECONDS_PER_PICTURE = 0.03
"""Time to put the picture of a case into it."""
SHARE_TO_SCORE_AGAIN = 0.2
"""Largest fraction of the time of a further training that is kept free to measure its result as well as the former."""
MARGIN = 1.5
"""Time that is kept free for what took a known time before, as a multiple of that."""
SECONDS_TO_SCORE, LATE = 10.0, 3.0
"""If the former scoring took at most so many seconds, the next one may take a multiple of them, and end late."""
SURFACE_FACTOR = 0.5
"""Time for the distances between surfaces of a case, as a multiple of the time to predict it."""


class Clock:
    """Time that is left to a command.

    Args:
        started: time of `time.monotonic` at which it started; None: now.
    """

    def __init__(self, started: float | None = None) -> None:
        self._started = time.monotonic() if started is None else started

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    def share(self, minutes: float | None, number: int, parts: int) -> float | None:
        """Compute the time for one of several parts; earlier ones may have taken longer than planned.

        No part gets less than LEAST_SHARE of its minutes, even if all of them together take longer: without any step
        there would be nothing.

        Args:
            minutes: time for each part; None: no limit.
            number: index of the part.
            parts: number of parts.

        Returns:
            Seconds; None without a limit.
        """
        if minutes is None:
            return None
        left = (60 * minutes * parts - self.seconds()) / (parts - number)
        return min(60 * minutes, max(60 * minutes * LEAST_SHARE, left))

    def find_end(self, minutes: float, parts: int) -> datetime:
        """Find the time of day at which all parts will have ended, if none of them has begun."""
        left_s = 60 * minutes * parts - self.seconds()
        return datetime.now() + timedelta(seconds=max(left_s, 60 * minutes * parts * LEAST_SHARE))


@dataclass(frozen=True)
class FollowUp:
    """What follows the training of a fold: the time that it takes, and the time that is kept free for it."""

    tiles: int
    """Tiles of all validation cases."""
    cases: int
    """Number of validation cases."""
    depths: int
    """Number of heads."""
    allowance_s: float = math.inf
    """Seconds for all of the fold."""
    report: bool = True
    """Whether the report is written then."""
    load: float = 1.0
    """See `measure_load`."""
    former_s: float = 0.0
    """Seconds in which the cases were scored before, in a further training; 0: not known."""

    @property
    def again_s(self) -> float:
        """Seconds that are kept free to score the cases as well as before."""
        return min(MARGIN * self.former_s * self.load, SHARE_TO_SCORE_AGAIN * self.allowance_s)

    @property
    def granted_s(self) -> float:
        """Seconds for scoring, however late it is: a good result is not replaced by one that is hardly measured."""
        return LATE * self.former_s * self.load if self.former_s <= SECONDS_TO_SCORE else self.again_s

    @property
    def report_s(self) -> float:
        """Seconds for the report."""
        return (SECONDS_FOR_REPORT + SECONDS_PER_PICTURE * self.cases) * self.load * self.report

    def needed_s(self, tile_s: float) -> float:
        """Estimate the seconds for all of it, given those for one tile."""
        scoring_s = max(tile_s * (1 + SURFACE_FACTOR) * self.tiles, self.again_s)
        return scoring_s + SECONDS_PER_DEPTH * self.load * self.depths + self.report_s

    def reserved_s(self, tile_s: float) -> float:
        """Compute the seconds that are kept free: a tenth at most, unless the least takes longer.

        That is a single case and its picture, in a further training all that was scored before; two short passes of
        each depth, and the report.
        """
        passes_s = min(2 * tile_s * self.depths, SECONDS_FOR_PASSES)
        least = max(2 * tile_s * self.tiles / max(1, self.cases), self.again_s) + passes_s + self.report_s
        return min(self.needed_s(tile_s), max(SHARE_AFTER * self.allowance_s, least))


def share_time(until: float, validation: DepthValidation | None, after: FollowUp) -> Callable[[float], float]:
    """Share the time of a fold between training, its validations and what follows.

    Shortens the validation if it would take more than its share.

    Args:
        until: time of `time.monotonic` at which the fold ends.
        validation: validation during training, if any.
        after: what follows training.

    Returns:
        A function that computes the seconds of training, by the clock and the latest validation, given those so far.
    """
    if validation:
        plan = validation.plan
        tile_s = validation.seconds_per_tile(build_from_plan(plan.model).to(validation.device).eval())
        left = until - time.monotonic()
        validation.shorten(SHARE_FOR_VALIDATION * left / plan.train.validations / tile_s)
    left = until - time.monotonic()

    def compute_budget(elapsed_s: float) -> float:
        tile_s = (validation and validation.tile_s) or 0.0
        last = validation.estimate_seconds() if validation else 0.0
        rest = until - time.monotonic() - last - after.reserved_s(tile_s)
        return max(elapsed_s + rest, SHARE_FOR_TRAINING * left, 1.0)

    return compute_budget


def load_libraries(progress: Progress) -> None:
    """Import what training needs, which takes seconds, before its clock runs."""
    if "torch._dynamo" not in sys.modules:
        progress.stage("Loading PyTorch")
        importlib.import_module("torch._dynamo")  # which the optimizers of torch import


def show_status(stage: Stage, after_s: Callable[[], float] = lambda: 0.0, later: int = 0) -> Callable[[Status], None]:
    """Return a function that shows the status of a training on a stage of the progress display.

    Args:
        stage: the stage.
        after_s: seconds between the end of the training and that of the fold.
        later: number of folds that follow, each as long as this one.
    """

    def show(status: Status) -> None:
        done = status.step - status.begun
        total = status.begun + round(done / status.fraction) if status.fraction > 0 and done else 0
        parts = []
        if status.seconds_left is not None and status.fraction < 1:  # a last validation would stop the clock
            whole_s = status.seconds_left / max(1 - status.fraction, 1e-9)
            left_s = status.seconds_left + after_s() + later * (whole_s + after_s())
            parts.append(f"{format_time(left_s)} left")
        parts += [f"loss {status.loss:.3f}"] if math.isfinite(status.loss) else []
        parts += [status.part] if status.part else []  # before what is left out on a narrow terminal
        parts += [f"Dice {status.best_dice:.3f}"] if status.best_dice is not None else []
        training = status.activity == "training"
        parts += [f"{status.images_per_second:.1f} images/s" if training else status.activity]
        stage(status.step, max(total, status.step), ", ".join(parts))

    return show
