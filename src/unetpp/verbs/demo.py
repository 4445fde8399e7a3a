"""The verb `demo`: the whole workflow on generated data."""

from __future__ import annotations

from typing import Literal

from unetpp.console import shows_progress
from unetpp.errors import UsageError
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Demonstrated
from unetpp.verbs.arguments import AnyPath, choose_run
from unetpp.verbs.predict import predict
from unetpp.verbs.train import train

DEMO_NAMES = {2: "cells", 3: "bodies"}
DEMO_SETTINGS = {"train.batch": 4, "train.ema_decay": 0.95}
"""Many small steps: they give the best result in two minutes."""


@shows_progress
def demo(
    dims: Literal[2, 3] = 2, minutes: float = 2.0, out: AnyPath | None = None, *, progress: ShowProgress = None
) -> Demonstrated:
    """Generate data, train on it, measure and predict.

    It takes a few minutes on the CPU of a laptop.

    Args:
        dims: 2 for images, 3 for volumes.
        minutes: Wall time of the training.
        out: Run folder; by default runs/demo_2d (or runs/demo_3d), with a number if it exists.

    Returns:
        The run, and where its data and predictions are.

    Raises:
        UsageError: other `dims`, or a run folder with a trained fold.

    Example:
        unetpp.demo(dims=3, minutes=5)
    """
    from unetpp.data.demo import write_demo_data
    from unetpp.data.folds import read_splits
    from unetpp.verbs.begun_folds import require_unstarted

    if dims not in (2, 3):
        raise UsageError("dims", repr(dims), "2 (images) or 3 (volumes)")
    progress = progress or Silence()
    folder = choose_run(out, f"demo_{dims}d", progress)
    require_unstarted(folder, [0], resume=False)
    run = folder.path
    data = run / DEMO_NAMES[dims]
    progress.note(f"Generating {dims}D data in {data}.")
    write_demo_data(data, dims)
    trained = train(data, run, minutes=minutes, set=DEMO_SETTINGS, progress=progress)
    unseen = {*read_splits(folder.splits)[0].validation}
    images = [path for path in sorted((data / "images").iterdir()) if path.name.split(".")[0] in unseen]
    predict(run, images, run / "predictions", progress=progress)
    return Demonstrated(data, trained, run / "predictions")
