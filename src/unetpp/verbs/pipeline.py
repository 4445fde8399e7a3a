"""The verbs as functions; `unetpp.cli` makes the commands from their signatures and docstrings.

Each returns a result of `unetpp.results`. Heavy modules are imported inside the functions: `info` and the help of the
commands must not wait for torch.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

from unetpp.errors import DataError, Interrupted, UsageError
from unetpp.files import write_json
from unetpp.progress import Progress, Silence
from unetpp.results import (
    Adapted,
    Checked,
    Demonstrated,
    Evaluated,
    Exported,
    Imported,
    ModelInfo,
    Planned,
    Predicted,
    Pruned,
    Reported,
    Run,
    describe_plan,
)
from unetpp.run_folder import RunFolder, find_model_file, find_model_files

AnyPath = str | PathLike[str]
Settings = Mapping[str, Any] | Sequence[str]
"""{"section.key": value} or ["section.key=value"]."""
Backend = Literal["auto", "torch", "openvino", "cuda"]
Library = Literal["smp", "monai", "nested-unet", "unet-version", "pms", "nnunet-v1"]
DEMO_NAMES = {2: "cells", 3: "bodies"}
DEMO_SETTINGS = {"train.batch": 4, "train.ema_decay": 0.95}
"""Many small steps: they give the best result in two minutes."""


def demo(
    dims: Literal[2, 3] = 2, minutes: float = 2.0, out: AnyPath | None = None, *, progress: Progress | None = None
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
    from unetpp.verbs.preparation import require_unstarted

    if dims not in (2, 3):
        raise UsageError("dims", repr(dims), "2 (images) or 3 (volumes)")
    run = _absent(Path("runs") / f"demo_{dims}d") if out is None else Path(out)
    require_unstarted(RunFolder(run), [0], resume=False)
    progress = progress or Silence()
    data = run / DEMO_NAMES[dims]
    progress.note(f"Generating {dims}D data in {data}.")
    write_demo_data(data, dims)
    trained = train(data, run, minutes=minutes, set=DEMO_SETTINGS, progress=progress)
    unseen = {case.id for case in trained.folds[0].metrics.cases}
    images = [path for path in sorted((data / "images").iterdir()) if path.name.split(".")[0] in unseen]
    predict(run, images, run / "predictions", progress=progress)
    return Demonstrated(data, trained, run / "predictions")


def check(data: AnyPath, *, set: Settings | None = None, progress: Progress | None = None) -> Checked:
    """List every problem of a data set, and how to fix it.

    Args:
        data: A folder of images and masks, a data set in Decathlon, nnU-Net or Kaggle layout, or a CSV manifest.
        set: Settings that say how files are read, as data.key=value, such as data.fill=0.

    Returns:
        The data set and its problems; without problems it can be trained on.

    Raises:
        PlanError: a setting that is unknown or does not fit.

    Example:
        unetpp.check("data/nuclei")
    """
    from unetpp.data.inspect import inspect_dataset
    from unetpp.data.parts import split_dataset
    from unetpp.layouts.cases import find_cases
    from unetpp.verbs.request import read_reading, read_settings

    path, progress = Path(data), progress or Silence()
    reading = read_reading(read_settings(set))
    try:
        dataset = split_dataset(find_cases(path, tolerant=True), reading)
    except DataError as error:
        return Checked(path, "", 0, None, (), (), tuple(error.problems), ())
    found = inspect_dataset(dataset, reading, progress.stage("Reading every file"))
    dims = len(found.facts[0].shape) if found.facts else None
    names, problems = (tuple(found.channels), tuple(found.classes)), (tuple(found.problems), tuple(found.notes))
    return Checked(path, dataset.layout, len(dataset.cases), dims, *names, *problems, labels=found.meaning.line)


def plan(
    data: AnyPath,
    out: AnyPath,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    device: str = "auto",
    set: Settings | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Planned:
    """Write the plan of a training, with a reason for each value.

    The files plan.json and splits.json in the run folder may be edited: `unetpp train` uses them as they are.

    Args:
        data: A folder of images and masks, a data set in Decathlon, nnU-Net or Kaggle layout, or a CSV manifest.
        out: Run folder.
        minutes: Wall time of the training for which to plan.
        epochs: Length of the training in epochs, instead of `minutes`.
        device: auto, cpu, cuda or cuda:K.
        set: Settings of the plan, as section.key=value, such as train.batch=4.
        dry_run: Report the time and memory that training would take; write nothing.

    Returns:
        The plan, and the memory (MB) and time (minutes) that training takes.

    Raises:
        DataError: all problems with the data.
        PlanError: a setting that is unknown or does not fit.
        UsageError: the run has a trained fold, whose plan must not change.

    Example:
        unetpp.plan("data/nuclei", "runs/nuclei", set=["model.depth=3"])
    """
    from unetpp.runtime.device import choose_device, keep_freed_memory
    from unetpp.verbs import preparation
    from unetpp.verbs.request import read_request

    folder, progress = RunFolder(Path(out)), progress or Silence()
    request = read_request(minutes, epochs, set)
    preparation.require_unstarted(folder, folder.started_folds(), resume=False)
    keep_freed_memory()
    place = choose_device(device)
    dataset, fingerprint = preparation.read_data(Path(data), request.settings, progress)
    made = preparation.create_plan(fingerprint, request, place)
    splits = preparation.create_splits(dataset)
    if not dry_run:
        preparation.write_plan(folder, fingerprint, made, splits)
    return preparation.estimate_cost(folder, made, splits[0], place if dry_run else None)


class TrainOptions(TypedDict, total=False):
    """Arguments of `train` that do not change the type of its result."""

    minutes: float | None
    epochs: int | None
    fold: int | str
    seed: int | None
    device: str
    resume: bool
    set: Settings | None
    progress: Progress | None


@overload
def train(data: AnyPath, out: AnyPath, *, dry_run: Literal[False] = False, **options: Unpack[TrainOptions]) -> Run: ...
@overload
def train(data: AnyPath, out: AnyPath, *, dry_run: Literal[True], **options: Unpack[TrainOptions]) -> Planned: ...
def train(
    data: AnyPath,
    out: AnyPath,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    fold: int | str = 0,
    seed: int | None = None,
    device: str = "auto",
    resume: bool = False,
    set: Settings | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Run | Planned:
    """Check the data, plan, train, then score and time every depth.

    Every depth is measured on the validation cases. A plan.json in the run folder is reused, with `set` applied.

    Args:
        data: A folder of images and masks, a data set in Decathlon, nnU-Net or Kaggle layout, or a CSV manifest.
        out: Run folder.
        minutes: Wall time of the whole command, shared by the folds; plan and schedule fit into it.
        epochs: Length of the training in epochs, instead of `minutes`.
        fold: Fold to train: 0, 1, ... or all.
        seed: Seed of weights and patches; the folds do not depend on it.
        device: auto, cpu, cuda or cuda:K.
        resume: Continue an interrupted run exactly where it stopped.
        set: Settings of the plan, as section.key=value, such as train.batch=4.
        dry_run: Report the time and memory that training would take; write nothing.

    Returns:
        The trained run; with `dry_run=True` the plan and its costs.

    Raises:
        DataError: all problems with the data, before anything is trained.
        UsageError: arguments that contradict each other, or a fold that is trained already.
        Interrupted: Ctrl-C or SIGTERM; the work done so far is saved.

    Example:
        unetpp.train("data/nuclei", "runs/nuclei", minutes=20)
    """
    from unetpp.runtime.device import choose_device, keep_freed_memory
    from unetpp.verbs import preparation
    from unetpp.verbs.fold import Clock, train_and_measure
    from unetpp.verbs.request import read_request

    clock = Clock()
    folder, progress = RunFolder(Path(out)), progress or Silence()
    request = read_request(minutes, epochs, set, seed)
    preparation.check_fold(fold)
    keep_freed_memory()
    place = choose_device(device)
    dataset, fingerprint = preparation.read_data(Path(data), request.settings, progress, folder)
    splits = preparation.reuse_splits(folder, dataset)
    numbers = preparation.parse_folds(fold, len(splits))
    preparation.require_unstarted(folder, numbers, resume)
    if request.minutes:
        request = replace(request, minutes=request.minutes / len(numbers))
    if dry_run:
        made = preparation.reuse_plan(folder, fingerprint, request, place, progress)
        return preparation.estimate_cost(folder, made, splits[numbers[0]], place, len(numbers))
    folds = []
    try:
        with preparation.hold_folds(folder, numbers):
            preparation.require_unstarted(folder, numbers, resume)  # again: another process may have trained meanwhile
            made = preparation.settle_plan(folder, fingerprint, splits, request, place, progress)
            progress.note(describe_plan(made))
            for done, number in enumerate(numbers):
                time_s = clock.share(made.train.minutes, number=done, parts=len(numbers))
                split = splits[number]
                folds.append(train_and_measure(dataset, made, split, folder, number, place, time_s, resume, progress))
        return Run(folder.path, tuple(folds), _try_report(folder.path, progress), clock.seconds())
    except KeyboardInterrupt:  # before or after the steps of training, which handle signals themselves
        told = "Stopped; the work so far is saved. Continue with the same arguments and `resume=True`."
        raise Interrupted(told) from None


def _try_report(run: Path, progress: Progress) -> Path | None:
    """Write the report of a training; whatever fails, the training is done."""
    try:
        written = report(run, progress=progress)
    except Exception as error:
        progress.note(f"note: no report was written ({error}); `unetpp report {run}` writes it")
        return None
    for text in written.left_out:
        progress.note(f"note: {text} cannot be read; the report leaves it out")
    return written.report


def predict(
    model: AnyPath,
    inputs: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    depth: int | str | None = None,
    tta: bool = False,
    probabilities: bool = False,
    uncertainty: Literal["entropy", "disagreement"] | None = None,
    device: str = "auto",
    backend: Backend = "auto",
    max_drop: float = 0.3,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Predicted:
    """Segment files of any size, in their own format and geometry.

    Args:
        model: Run folder, whose folds predict together, a model file, hf://OWNER/NAME on the Hugging Face hub, or an
            exported .onnx or .xml, which needs no torch.
        inputs: Images, volumes, folders of them (with folders in them), data sets, or lists: a CSV table with the
            column image, a text file with a path in each line.
        out: Folder for the results.
        depth: Depth to predict at: 1 (fastest) up to the depth of the model; mean, the mean of all heads; auto, early
            exit for each tile (after `unetpp adapt`); or all, each in its own files. By default that of the plan.
        tta: Average over mirrored copies: slower, slightly better.
        probabilities: Also write a map of the probability of each class.
        uncertainty: Also write a map of the uncertainty: entropy of the probabilities, or disagreement between heads,
            folds and (with `tta`) mirrored copies.
        device: auto, cpu, cuda or cuda:K.
        backend: Library that runs the network; auto takes cuda on a GPU, and openvino on a CPU if it is installed and
            faster.
        max_drop: Points (hundredths) of Dice that `depth="auto"` may lose against the deepest head.
        dry_run: List the images that would be predicted; write nothing.

    Returns:
        The files that were written. An input that cannot be read is skipped and listed.

    Raises:
        ModelFileError: the model cannot be used.

    Example:
        unetpp.predict("runs/nuclei", "new_images", "predictions", depth=2)
    """
    from unetpp.infer.loading import load
    from unetpp.infer.options import PredictOptions
    from unetpp.infer.prediction import name_depth
    from unetpp.layouts.inputs import find_images

    started = time.monotonic()
    path, paths, target = _find_model(model), _list_paths(inputs), Path(out)
    options = PredictOptions(depth=depth, tta=tta, probabilities=probabilities, uncertainty=uncertainty)
    predictor = load(path, device, backend, max_drop)
    if dry_run:
        depths = tuple(map(name_depth, predictor.choose_depths(options)))
        found = find_images(paths, predictor.data.channels, target)
        images = tuple(image for case in found.cases for image in case.images)
        return Predicted(target, depths, images, found.skipped, 0.0, written=False, notes=found.notes)
    notes = tuple(
        f"{path}: fold {fold} has no scores, because its training has not ended; its best weights so far were used."
        for fold in RunFolder(path).unmeasured_folds()
    )
    written = predictor.predict_files(paths, target, options, (progress or Silence()).stage("Predicting"))
    results, seconds = (written.depths, written.files, written.failed), time.monotonic() - started
    notes += written.notes
    return Predicted(target, *results, seconds, doubtful=written.doubtful, notes=notes, outside=written.outside)


def evaluate(
    predictions: AnyPath,
    references: AnyPath,
    out: AnyPath | None = None,
    *,
    labels: str | None = None,
    progress: Progress | None = None,
) -> Evaluated:
    """Score segmentations against references, by case and class.

    The scores are Dice, IoU, HD95 and surface Dice.

    Args:
        predictions: Folder of segmentations, as `unetpp predict` writes them.
        references: Folder of masks with the same names, or a data set with labels.
        out: JSON file for the scores.
        labels: Meaning of the values in the references, as the setting data.labels: binary:128, objects, classes, ...

    Returns:
        Scores by case and class. A case that cannot be scored is listed.

    Raises:
        DataError: no case could be scored.
        PlanError: a text that is no meaning of labels.

    Example:
        unetpp.evaluate("predictions", "data/nuclei/masks", "scores.json")
    """
    from unetpp.measure.quality import evaluate_folders
    from unetpp.verbs.request import read_reading

    plan = read_reading({} if labels is None else {"data.labels": labels}).labels
    show = (progress or Silence()).stage("Scoring")
    metrics, problems, notes = evaluate_folders(Path(predictions), Path(references), show, plan)
    target = None if out is None else Path(out)
    if target is not None:
        write_json(target, metrics.to_dict())
    return Evaluated(metrics, problems, target, notes)


def report(run: AnyPath, *, progress: Progress | None = None) -> Reported:
    """Write an HTML report: curves, scores, overlays, depth table.

    Args:
        run: Run folder.

    Example:
        unetpp.report("runs/nuclei")
    """
    from unetpp.report import read_run, write_report

    (progress or Silence()).note("Writing the report.")
    record = read_run(Path(run))
    return Reported(write_report(Path(run), record), record.left_out)


def prune(
    model: AnyPath,
    out: AnyPath,
    *,
    depth: int | None = None,
    max_drop: float | None = None,
    minutes: float | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Pruned:
    """Cut a model at a depth: a smaller model, same predictions.

    The output is compared with that of the full model before the file is put in place.

    Args:
        model: Run folder of one fold, a model file, or hf://OWNER/NAME on the Hugging Face hub.
        out: Model file (.safetensors) to write.
        depth: Depth to keep.
        max_drop: Instead of `depth`: keep the smallest depth that loses at most this many points (hundredths) of
            validation Dice against the deepest, by the 95 % interval over cases.
        minutes: Minutes to fine-tune the smaller network on the training cases of the run. The weights that are best
            on its validation cases are saved, or those from before if none are better.
        device: Device to fine-tune on: auto, cpu, cuda or cuda:K.

    Returns:
        The depth, its number of parameters, and the reason for it.

    Raises:
        UsageError: not exactly one of `depth` and `max_drop`, no such depth, no cases to train on, a run of several
            folds, or `out` is `model`.

    Example:
        unetpp.prune("runs/nuclei", "small.safetensors", max_drop=0.5)
    """
    from unetpp.deploy.prune import prune_file
    from unetpp.verbs.fold import show_status

    file, progress = find_model_file(_find_model(model)), progress or Silence()
    _require_model_name(Path(out), unlike=file)
    progress.note("Pruning, and comparing with the full network.")
    show = show_status(progress.stage("Fine-tuning")) if minutes is not None else lambda status: None
    return prune_file(file, Path(out), depth, max_drop, minutes, device, show)


def adapt(
    model: AnyPath, *, device: str = "auto", backend: Backend = "auto", progress: Progress | None = None
) -> Adapted:
    """Fit early exit (`depth="auto"`) on the validation cases.

    The rules are written into the model file.

    Args:
        model: Run folder of one fold, or the model file in it; the cached validation cases of the run are needed.
        device: auto, cpu, cuda or cuda:K.
        backend: Library that runs the network; the time that the rules save is measured with it.

    Returns:
        The rules, the most careful first.

    Raises:
        UsageError: a network with one head, or no validation cases.
        ModelFileError: the model cannot be used.

    Example:
        unetpp.adapt("runs/nuclei")
    """
    from unetpp.deploy.adapt import adapt_file

    file, stage = find_model_file(_find_model(model)), (progress or Silence()).stage("Trying rules")
    return Adapted(file, tuple(adapt_file(file, device, backend, stage)))


def export(
    model: AnyPath,
    out: AnyPath,
    *,
    depth: int | None = None,
    int8: bool = False,
    images: AnyPath | Sequence[AnyPath] | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Export one depth to ONNX, OpenVINO or torch.export.

    The file is run and compared with the network before it is put in place. A model card is written next to it.

    Args:
        model: Run folder of one fold, a model file, or hf://OWNER/NAME on the Hugging Face hub.
        out: File to write; its suffix is the format: .onnx, .xml (OpenVINO) or .pt2 (torch.export).
        depth: Depth to export; by default that of the plan.
        int8: Use 8-bit integers (.onnx, .xml), calibrated on training cases of the run folder or on `images`.
        images: Images, or folders of them, for calibration and comparison.

    Returns:
        The file (size in MB), its model card, and the comparison in words.

    Raises:
        UsageError: another suffix, no such depth, or nothing to calibrate with.
        ModelFileError: the model cannot be used, or the output of the file differs from that of the network.
        MissingExtraError: the exporter or the runtime of the format is not installed.

    Example:
        unetpp.export("runs/nuclei", "nuclei.onnx", depth=2)
    """
    from unetpp.deploy.export import export_file

    (progress or Silence()).note("Exporting, and comparing with the network.")
    return export_file(find_model_file(_find_model(model)), Path(out), depth, int8, _list_paths(images or ()))


def import_checkpoint(
    checkpoint: AnyPath,
    out: AnyPath,
    *,
    from_: Library | None = None,
    set: Settings | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Convert a checkpoint of another library into a model file.

    The model predicts the same as the network of the other library. Only tensors are read from the checkpoint.

    Args:
        checkpoint: A state_dict written by torch.save, or a .safetensors file.
        out: Model file (.safetensors) to write.
        from_: Library of the checkpoint; by default recognized by the names of the tensors.
        set: Settings that a state_dict does not tell, as section.key=value.

    Returns:
        The model, and the tensors that are not used, each with the reason.

    Raises:
        ModelFileError: the checkpoint cannot be read, or is not of a known network.
        UsageError: settings are missing; the message names all of them.

    Example:
        unetpp.import_checkpoint("smp.pth", "ours.safetensors", from_="smp")
    """
    from unetpp.peers import import_file
    from unetpp.verbs.request import read_settings

    _require_model_name(Path(out), unlike=Path(checkpoint))
    (progress or Silence()).note("Reading the checkpoint.")
    return import_file(Path(checkpoint), Path(out), from_, read_settings(set))


def info(
    model: AnyPath,
    *,
    measure: bool = False,
    machine: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> ModelInfo:
    """Describe a model: classes, channels, size, scores at every depth.

    Args:
        model: Run folder, a model file, or hf://OWNER/NAME on the Hugging Face hub.
        measure: Measure the costs of every depth on this machine.
        machine: GMACS,GB: rates of another machine, such as 2000,80: 2000 x 10^9 multiply-adds per second in the
            precision of the model, and 80 x 10^9 bytes copied per second. Estimated times there are added.
        device: Device to measure on: auto, cpu, cuda or cuda:K.

    Returns:
        The plan, the size in parameters and MB, and the notes of the model file.

    Raises:
        ModelFileError: there is no model, or it cannot be used.
        UsageError: `machine` is not two numbers, or the costs of the model were not measured.

    Example:
        unetpp.info("runs/nuclei")
    """
    from unetpp.model.header import read_header

    path = _find_model(model)
    files = find_model_files(path)
    header = read_header(files[0])
    notes = header.notes
    if measure:
        from unetpp.measure.depth_table import measure_depths
        from unetpp.runtime.device import choose_device

        stage = (progress or Silence()).stage("Measuring every depth")
        notes = notes.with_costs(measure_depths(files[0], batch=1, device=str(choose_device(device)), progress=stage))
    if machine is not None:
        from unetpp.measure.another_machine import project_notes

        notes = project_notes(notes, machine, header.plan.predict.precision)
    return ModelInfo(path, tuple(files), header.plan, header.parameters, header.file_bytes / 1e6, notes)


def _find_model(model: AnyPath) -> Path:
    """Return the path of a model; hf://OWNER/NAME is downloaded, unless it is in the cache."""
    from unetpp.infer.hub_file import HUB, download

    path = Path(model)  # makes hf://a/b hf:/a/b, as on the command line
    first, *names = path.parts or [""]
    return download("/".join(names)) if first == HUB.rstrip("/") else path


def _list_paths(paths: AnyPath | Sequence[AnyPath]) -> list[Path]:
    return [Path(path) for path in ([paths] if isinstance(paths, (str, PathLike)) else paths)]


def _require_model_name(out: Path, unlike: Path) -> None:
    """Raise UsageError unless `out` is the name of a model file, and not the file that is read."""
    if out.suffix != ".safetensors":
        raise UsageError("out", repr(str(out)), "the name of a model file, ending in .safetensors")
    if out.resolve() == unlike.resolve():
        raise UsageError("out", f"{out}, which is the input", "another file", "Choose another name.")


def _absent(path: Path) -> Path:
    """Return `path`, or the first of path_2, path_3, ... that does not exist."""
    candidates = (path if number == 1 else path.with_name(f"{path.name}_{number}") for number in itertools.count(1))
    return next(candidate for candidate in candidates if not candidate.exists())
