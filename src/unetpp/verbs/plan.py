"""The verb `plan`: the plan of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unetpp.console import shows_progress
from unetpp.data_plan import Resolution
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Planned, describe_plan
from unetpp.verbs.arguments import AnyPath, Settings, choose_run, name_data, require_data


@shows_progress
def plan(
    data: AnyPath,
    out: AnyPath | None = None,
    *,
    from_: AnyPath | None = None,
    minutes: float | None = None,
    epochs: int | None = None,
    resolution: Resolution | None = None,
    device: str = "auto",
    vram_gb: float | None = None,
    set: Settings | None = None,
    cluster: str | None = None,
    dry_run: bool = False,
    progress: ShowProgress = None,
) -> Planned:
    """Write the plan of a training, with a reason for each value.

    The files plan.json and splits.json in the run folder may be edited: `unetpp train` uses them as they are. plan.html
    is the page to look at, and to sign: the data, every choice with its reason, costs, and what was not done.

    Args:
        data: The folder with your images and masks, a data set in Decathlon, nnU-Net or Kaggle layout, or a CSV table.
        out: Run folder; by default runs/NAME of the data, with a number if it exists.
        from_: Model whose weights training will start from: a run folder, a model file, or hf://OWNER/NAME. Its network
            is taken over.
        minutes: Wall time of the training for which to plan.
        epochs: Length of the training in epochs, instead of `minutes`.
        resolution: full: one network on the grid of the images; low: one on a coarser grid, of which a patch shows
            more; cascade: low resolution first, then a network that reads its segmentation. By default cascade for
            volumes far larger than a patch, else full.
        device: auto, cpu, cuda or cuda:K.
        vram_gb: Memory of the GPU in GB: patch, batch, depth and width grow until training takes 85 % of it. The GPU
            need not be in this machine; then nothing is timed.
        set: Settings of the plan, as section.key=value, such as train.batch=4.
        cluster: Read the cases on workers of Dask, as `unetpp predict` does: local:4, tcp://HOST:PORT, or a file; the
            plan is made for the device of this machine.
        dry_run: Report what would be planned; write nothing.

    Returns:
        The plan, and the memory (MB) and time (minutes) that training takes.

    Raises:
        DataError: all problems with the data.
        PlanError: a setting that is unknown or does not fit, or a GPU that is too small for any plan.
        UsageError: the run has a trained fold, whose plan must not change.

    Example:
        unetpp.plan("data/nuclei", "runs/nuclei", set=["model.depth=3"])
    """
    from unetpp.cluster.opening import open_engine
    from unetpp.data.known_cases import KnownCases
    from unetpp.runtime.device import keep_freed_memory
    from unetpp.verbs import begun_folds, preparation
    from unetpp.verbs.first_stage import settle_first_plan
    from unetpp.verbs.plan_page import make_plan_page
    from unetpp.verbs.request import read_request
    from unetpp.verbs.splits import find_splits
    from unetpp.verbs.start import describe_start, find_start

    progress = progress or Silence()
    request = read_request(minutes, epochs, set, resolution=resolution, vram_gb=vram_gb)
    start = find_start(from_)
    require_data(data)
    folder = choose_run(out, name_data(data), progress)
    begun_folds.require_unstarted(folder, folder.started_folds(), resume=False)
    keep_freed_memory()
    place = preparation.choose_place(device, request.vram_gb)
    with open_engine(cluster, progress) as engine:
        known = KnownCases(folder.known_cases)
        found = preparation.read_data(Path(data), request.settings, progress, engine=engine, known=known)
    made = preparation.create_plan(found.fingerprint, request, place.device, progress, start)
    progress.detail(describe_plan(made))
    splits = find_splits(folder, found.dataset, progress, classes=found.list_classes())
    for text in describe_start(start, made, splits[0].validation, Path(data)) if start else []:
        progress.note(text)
    if not dry_run:
        preparation.write_plan(folder, found.fingerprint, made, splits, start)
        folder.note_data(Path(data))
        known.write(folder.known_cases)
    settled = made, found.fingerprint, request, place.device, progress
    first = settle_first_plan(folder, *settled, write=not dry_run, anew=True)
    if place.timed_on is None:
        progress.note(
            "The GPU that is planned for is not in this machine: nothing is timed. Train with this run there."
        )
    elif made.train.minutes is None:
        progress.stage("Measuring a training step")
    planned = preparation.estimate_cost(
        Path(data), folder, made, splits[0], place.timed_on, 1, None, place.device, first
    )
    planned = replace(planned, vram_gb=request.vram_gb)
    return replace(planned, written=False) if dry_run else make_plan_page(folder, found, splits, planned, progress)
