"""Rules for `predict --depth auto`, fitted on validation cases: how sure a head has to be, what that loses, and what it saves on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.data.store import StoredCase
from unetpp.deploy.stored import StoredImage, stored_split
from unetpp.errors import UsageError
from unetpp.infer.adaptive import Adaptive
from unetpp.infer.engine import Runner
from unetpp.infer.predictor import Predictor, load_predictor
from unetpp.infer.sliding import predict_tiles
from unetpp.metrics.scores import bootstrap_interval, fast_dice, losses, mean_of
from unetpp.model.file import load_model, save_model

DOUBTS = (0.01, 0.02, 0.03, 0.045, 0.06, 0.09, 0.15)
FEWEST_CASES = 3
HOPELESS = 0.02
"""Loss of Dice beyond which no larger doubt is tried."""
Progress = Callable[[int, int], None]


def adapt_file(model: Path, device: str = "auto", backend: str = "auto", progress: Progress | None = None) -> list[dict[str, Any]]:
    """Fit rules for a model file and write them into it.

    Returns:
        a row for each rule, the most careful first: `doubt`, at which a tile stops; `dice_lost` against the deepest head with its interval over cases; `tiles` that stop at
        each depth; `time` as a share of that of the deepest head, measured.

    Raises:
        UsageError: a network with one head, or too few validation cases in the run folder.
        ModelFileError: the model cannot be used.
    """
    predictor = load_predictor(model, device, backend)
    if len(predictor.depths) < 2:
        raise UsageError(f"{model}: got a network with one head; expected several depths to choose from.")
    _, cases = stored_split(model, predictor.plan.data)
    if len(cases) < FEWEST_CASES:
        raise UsageError(
            f"{model}: got {len(cases)} validation cases in the run folder; expected {FEWEST_CASES} or more, prepared as training left them (RUN/splits.json, RUN/cache). "
            "Name the model in its run folder, or train again."
        )
    rows = fit_rules(predictor, cases, progress or (lambda done, total: None))
    network, header = load_model(model)
    save_model(model, network.state_dict(), header.plan, {**header.notes, "auto": rows})
    return rows


def fit_rules(predictor: Predictor, cases: Sequence[StoredCase], progress: Progress) -> list[dict[str, Any]]:
    """Predict the cases with each doubt, and at full depth."""
    depths, runner = predictor.depths, predictor.runners[0]
    full, full_s = scored(predictor, runner, cases)
    rows: list[dict[str, Any]] = []
    for number, doubt in enumerate(DOUBTS, start=1):
        adaptive = Adaptive(runner, depths, doubt)
        dice, seconds = scored(predictor, adaptive, cases)
        lost = losses(full, dice)
        if not lost:
            raise UsageError("adapt: got validation cases without any foreground; expected some, to see what is lost. Name a depth instead.")
        tiles = {str(depth): adaptive.images[depth] for depth in depths}
        rows.append({"doubt": doubt, "dice_lost": mean_of(lost), "dice_lost_interval": bootstrap_interval(lost), "tiles": tiles, "time": seconds / full_s})
        progress(number, len(DOUBTS))
        if (mean_of(lost) or 0.0) > HOPELESS or adaptive.images[depths[0]] == adaptive.images.total():
            break
    return rows


def scored(predictor: Predictor, runner: Runner, cases: Sequence[StoredCase]) -> tuple[list[float | None], float]:
    """Dice of each case, and seconds for all of them."""
    plan, deepest = predictor.plan, predictor.depths[-1]

    def segmented(case: StoredCase) -> np.ndarray:
        return predict_tiles([runner], StoredImage(case.image()), plan.predict, (deepest,), predictor.device)[deepest]

    segmented(cases[0])  # compiles what is compiled at its first use
    if isinstance(runner, Adaptive):
        runner.images.clear()
    started = time.perf_counter()
    found = [segmented(case) for case in cases]
    seconds = time.perf_counter() - started
    return [fast_dice(segmentation, case.label(), plan.data.num_classes) for segmentation, case in zip(found, cases, strict=True)], seconds
