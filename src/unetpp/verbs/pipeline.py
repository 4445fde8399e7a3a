"""The verbs as functions, with the argument names of the command line. Each returns a typed result of `unetpp.results`.

Heavy modules are imported inside the functions: `info` and `--help` must not wait for torch.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

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

if TYPE_CHECKING:
    from unetpp.infer.options import PredictOptions

AnyPath = str | PathLike[str]
Settings = Mapping[str, Any] | Sequence[str]
"""{"section.key": value} or ["section.key=value"]."""
Backend = Literal["auto", "torch", "openvino", "cuda"]
Library = Literal["smp", "monai", "nested-unet", "unet-version", "pms", "nnunet-v1"]
DEMO_NAMES = {2: "cells", 3: "bodies"}
DEMO_SETTINGS = {"train.batch": 4, "train.ema_decay": 0.95}
"""Many small steps: what learns most in two minutes."""


def demo(
    dims: Literal[2, 3] = 2, minutes: float = 2.0, out: AnyPath | None = None, *, progress: Progress | None = None
) -> Demonstrated:
    """Run the whole journey on generated data: train, measure, predict.

    It takes a few minutes on the CPU of a laptop.

    Args:
        dims: 2 for images, 3 for volumes.
        minutes: Wall time of the training.
        out: Run folder; by default the first of runs/demo_2d, runs/demo_2d_2, ... that is free.

    Raises:
        UsageError: other `dims`, or a run folder that holds a trained fold.

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


def check(data: AnyPath, *, progress: Progress | None = None) -> Checked:
    """List every problem of a data set, each with what to do about it.

    Args:
        data: A folder of images and masks, a dataset in Decathlon, nnU-Net or Kaggle layout, or a CSV manifest.

    Returns:
        What was found; without problems the data set can be trained on.

    Example:
        unetpp.check("data/nuclei")
    """
    from unetpp.data.cases import find_cases
    from unetpp.data.inspect import inspect_dataset

    path, progress = Path(data), progress or Silence()
    try:
        dataset = find_cases(path, tolerant=True)
    except DataError as error:
        return Checked(path, "", 0, None, (), (), tuple(error.problems), ())
    found = inspect_dataset(dataset, progress.stage("Reading every file"))
    dims = len(found.facts[0].shape) if found.facts else None
    return Checked(
        path,
        dataset.layout,
        len(dataset.cases),
        dims,
        tuple(found.channels),
        tuple(found.classes),
        tuple(found.problems),
        tuple(found.notes),
    )


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
    """Plan a training, each choice with its reason, in a plan.json.

    Write fingerprint.json, plan.json and splits.json into the run folder. Edit them if you like: `unetpp train` uses
    them as they are.

    Args:
        data: A folder of images and masks, a dataset in Decathlon, nnU-Net or Kaggle layout, or a CSV manifest.
        out: Run folder.
        minutes: Wall time of the training that the plan is made for.
        epochs: Length of the training in epochs, instead of `minutes`.
        device: auto, cpu, cuda or cuda:K.
        set: Your own choices, as section.key=value, such as train.batch=4.
        dry_run: Report the time and memory that training would take, and write nothing.

    Raises:
        DataError: all problems of the data.
        PlanError: a setting that is unknown or does not fit.
        UsageError: the run holds a trained fold, whose plan it must keep.

    Example:
        unetpp.plan("data/nuclei", "runs/nuclei", set=["model.depth=3"])
    """
    from unetpp.runtime.device import choose_device, keep_freed_memory
    from unetpp.verbs.preparation import (
        describe_cost,
        new_plan,
        new_splits,
        read_source,
        read_wishes,
        require_unstarted,
        write_plan,
    )

    folder, progress = RunFolder(Path(out)), progress or Silence()
    wishes = read_wishes(minutes, epochs, set)
    require_unstarted(folder, folder.started_folds(), resume=False)
    keep_freed_memory()
    place = choose_device(device)
    source = read_source(Path(data), progress)
    made = new_plan(source, wishes, place)
    splits = new_splits(source.dataset)
    if dry_run:
        return describe_cost(folder, made, splits[0], place)
    write_plan(folder, source.fingerprint, made, splits)
    return replace(describe_cost(folder, made, splits[0], None), written=True)


class TrainOptions(TypedDict, total=False):
    """The arguments of `train` that do not change what it returns."""

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
    """Train on a data set, then score and time every depth.

    The data is checked and the training planned first; every depth is measured on the validation cases. A plan.json in the run folder is used as it is, with `set` applied.

    Args:
        data: A folder of images and masks, a dataset in Decathlon, nnU-Net or Kaggle layout, or a CSV manifest.
        out: Run folder.
        minutes: Wall time of the whole command, shared by the folds; plan and schedule are made to fit.
        epochs: Length of the training in epochs, instead of `minutes`.
        fold: Fold to train: 0, 1, ... or all.
        seed: Seed of the weights and of the order of patches; the folds do not depend on it.
        device: auto, cpu, cuda or cuda:K.
        resume: Continue an interrupted run exactly where it stopped.
        set: Your own choices, as section.key=value, such as train.batch=4.
        dry_run: Report the time and memory that training would take, and write nothing.

    Returns:
        The trained run; with `dry_run=True` what was planned.

    Raises:
        DataError: all problems of the data, before anything is trained.
        UsageError: arguments that do not go together, or a run that is trained already.
        Interrupted: Ctrl-C or SIGTERM; everything is saved.

    Example:
        unetpp.train("data/nuclei", "runs/nuclei", minutes=20)
    """
    from unetpp.runtime.device import choose_device, keep_freed_memory
    from unetpp.verbs.fold import Clock, train_and_measure
    from unetpp.verbs.preparation import (
        describe_cost,
        fold_numbers,
        plan_of_run,
        read_source,
        read_wishes,
        require_unstarted,
        splits_of_run,
        write_plan,
    )

    clock = Clock()
    folder, progress = RunFolder(Path(out)), progress or Silence()
    wishes = read_wishes(minutes, epochs, set, seed)
    keep_freed_memory()
    place = choose_device(device)
    source = read_source(Path(data), progress)
    splits = splits_of_run(folder, source.dataset)
    numbers = fold_numbers(fold, len(splits))
    require_unstarted(folder, numbers, resume)
    wishes = replace(wishes, minutes=wishes.minutes / len(numbers) if wishes.minutes else None)
    made = plan_of_run(folder, source, wishes, place, progress)
    if dry_run:
        return describe_cost(folder, made, splits[numbers[0]], place, len(numbers))
    write_plan(folder, source.fingerprint, made, splits)
    progress.note(describe_plan(made))
    folds = []
    try:
        for done, number in enumerate(numbers):
            allowance = clock.share(made.train.minutes, number=done, parts=len(numbers))
            folds.append(
                train_and_measure(
                    source.dataset, made, splits[number], folder, number, place, allowance, resume, progress
                )
            )
        return Run(folder.path, tuple(folds), report(folder.path, progress=progress).report, clock.seconds())
    except KeyboardInterrupt:  # before or after the steps of training, which stop by themselves
        raise Interrupted(
            "Stopped; what was done is saved. Continue with the same arguments and `resume=True`."
        ) from None


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
        model: Run folder, whose folds all answer together, a model file, or an exported .onnx or .xml, which needs no torch.
        inputs: Images, volumes or folders of them.
        out: Folder for the results.
        depth: Head that answers: 1 (fastest) to the depth of the model; mean of all heads; auto, for each tile the
            first head that is certain (after `unetpp adapt`); or all, each in files of its own. By default the plan's.
        tta: Average over mirrored copies: slower, a little better.
        probabilities: Write a map of each class's probability too.
        uncertainty: Write a map of the uncertainty too: entropy of the probabilities, or disagreement between heads, folds and
            (with `tta`) mirrored copies.
        device: auto, cpu, cuda or cuda:K.
        backend: What runs the network; auto takes cuda on a GPU, and openvino on a CPU where it is installed and faster.
        max_drop: Points (hundredths) of Dice that `depth="auto"` may lose against the deepest head.
        dry_run: List the images that would be predicted, and write nothing.

    Returns:
        The files that were written. A bad input file is skipped and listed.

    Raises:
        ModelFileError: the model cannot be used.

    Example:
        unetpp.predict("runs/nuclei", "new_images", "predictions", depth=2)
    """
    from unetpp.infer.loading import load
    from unetpp.infer.options import PredictOptions

    started = time.monotonic()
    progress = progress or Silence()
    options = PredictOptions(depth, tta, probabilities, uncertainty)
    paths = [Path(entry) for entry in ([inputs] if isinstance(inputs, (str, PathLike)) else inputs)]
    if dry_run:
        return _would_predict(Path(model), paths, Path(out), options, max_drop)

    early = RunFolder(Path(model)).unmeasured_folds() if Path(model).is_dir() else []
    notes = tuple(
        f"{model}: fold {fold} has no scores (its training has not ended?); the best weights that it has answered."
        for fold in early
    )
    predictor = load(Path(model), device, backend, max_drop)
    written = predictor.predict_files(paths, out, options, progress.stage("Predicting"))
    return Predicted(
        Path(out),
        written.depths,
        written.files,
        written.failed,
        time.monotonic() - started,
        doubtful=written.doubtful,
        notes=notes,
    )


def evaluate(
    predictions: AnyPath, references: AnyPath, out: AnyPath | None = None, *, progress: Progress | None = None
) -> Evaluated:
    """Score segmentations against references, by case and class.

    The scores are Dice, IoU, HD95 and surface Dice.

    Args:
        predictions: Folder of segmentations, as `unetpp predict` writes them.
        references: Folder of masks with the same names, or a data set with labels.
        out: JSON file for the scores.

    Returns:
        Scores per case and class. A single case that cannot be scored is listed.

    Raises:
        DataError: nothing could be compared.

    Example:
        unetpp.evaluate("predictions", "data/nuclei/masks", "scores.json")
    """
    from unetpp.measure.quality import evaluate_folders

    metrics, problems = evaluate_folders(Path(predictions), Path(references), (progress or Silence()).stage("Scoring"))
    target = None if out is None else Path(out)
    if target is not None:
        write_json(target, metrics.to_dict())
    return Evaluated(metrics, problems, target)


def report(run: AnyPath, *, progress: Progress | None = None) -> Reported:
    """Write one HTML file: curves, scores, overlays, the depth table.

    Args:
        run: Run folder.

    Example:
        unetpp.report("runs/nuclei")
    """
    from unetpp.report import write_report

    (progress or Silence()).note("Writing the report.")
    return Reported(write_report(Path(run)))


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
    """Write a smaller model with the predictions of one depth.

    It is compared with the full model before it takes its place.

    Args:
        model: Run folder of one fold, or a model file.
        out: Model file (.safetensors) to write.
        depth: Depth to keep.
        max_drop: Instead of `depth`: keep the smallest that loses at most so many points (hundredths) of validation
            Dice against the deepest, by the 95 % interval over cases.
        minutes: Fine-tune the smaller network for so long on the training cases of the run. The weights that are best on
            its validation cases are kept, those from before included.
        device: Device to fine-tune on: auto, cpu, cuda or cuda:K.

    Raises:
        UsageError: not exactly one of `depth` and `max_drop`, no such depth, no cases to train on, a run of several folds, or `out` is `model`.

    Example:
        unetpp.prune("runs/nuclei", "small.safetensors", max_drop=0.5)
    """
    from unetpp.deploy.prune import prune_file
    from unetpp.verbs.fold import shown_on

    file = find_model_file(Path(model))
    _require_model_name(Path(out), unlike=file)
    progress = progress or Silence()
    progress.note("Pruning, and comparing with the full network.")
    show = shown_on(progress.stage("Fine-tuning")) if minutes is not None else lambda status: None
    return prune_file(file, Path(out), depth, max_drop, minutes, device, show)


def adapt(
    model: AnyPath, *, device: str = "auto", backend: Backend = "auto", progress: Progress | None = None
) -> Adapted:
    """Fit the early exit of `depth="auto"` on the validation cases of a run.

    The rules are written into the model file.

    Args:
        model: Run folder of one fold, or the model file in it: the prepared validation cases of the run are needed.
        device: auto, cpu, cuda or cuda:K.
        backend: What runs the network; the times that are saved are measured with it.

    Raises:
        UsageError: a network with one head, or no validation cases.
        ModelFileError: the model cannot be used.

    Example:
        unetpp.adapt("runs/nuclei")
    """
    from unetpp.deploy.adapt import adapt_file

    file = find_model_file(Path(model))
    return Adapted(file, tuple(adapt_file(file, device, backend, (progress or Silence()).stage("Trying rules"))))


def export(
    model: AnyPath,
    out: AnyPath,
    *,
    depth: int | None = None,
    int8: bool = False,
    images: AnyPath | Sequence[AnyPath] | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write one depth for ONNX Runtime, OpenVINO or torch.export.

    The file is run and compared with the network before it takes its place; a model card is written beside it.

    Args:
        model: Run folder of one fold, or a model file.
        out: File to write; its suffix is the format: .onnx, .xml (OpenVINO) or .pt2 (torch.export).
        depth: Head that answers; by default the plan's.
        int8: 8-bit integers (.onnx, .xml), calibrated on training cases of the run folder or on `images`.
        images: Images or folders of them, to calibrate with and to compare on.

    Raises:
        UsageError: another suffix, no such depth, or nothing to calibrate with.
        ModelFileError: the model cannot be used, or what was written does not agree with it.
        MissingExtraError: without the exporter or the runtime of the format.

    Example:
        unetpp.export("runs/nuclei", "nuclei.onnx", depth=2)
    """
    from unetpp.deploy.export import export_file

    (progress or Silence()).note("Exporting, and comparing with the network.")
    paths = [Path(entry) for entry in ([images] if isinstance(images, (str, PathLike)) else images or ())]
    return export_file(find_model_file(Path(model)), Path(out), depth, int8, paths)


def import_checkpoint(
    checkpoint: AnyPath,
    out: AnyPath,
    *,
    from_: Library | None = None,
    set: Settings | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Convert a checkpoint of another library's UNet++ into a model file.

    The model predicts what the network of the other library predicts. Nothing but tensors is read from the checkpoint.

    Args:
        checkpoint: A state_dict that torch.save wrote, or a .safetensors.
        out: Model file (.safetensors) to write.
        from_: Library; by default it is recognised by the names of the tensors.
        set: What a state_dict does not say, as section.key=value.

    Raises:
        ModelFileError: the checkpoint cannot be read, or is not one of a known network.
        UsageError: something has to be said by `set`: all of it by name.

    Example:
        unetpp.import_checkpoint("smp.pth", "ours.safetensors", from_="smp")
    """
    from unetpp.peers import import_file
    from unetpp.verbs.preparation import read_settings

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
        model: Run folder, or a model file.
        measure: Measure the costs of every depth anew, on this machine.
        machine: GMACS,GB: what another machine can do in a second, such as 2000,80: 2000 x 10^9 multiply-adds in the precision
            of the model and 80 x 10^9 bytes copied. The times that every depth would take there are added.
        device: Device to measure on: auto, cpu, cuda or cuda:K.

    Raises:
        ModelFileError: no model there, or one that cannot be used.
        UsageError: a machine that is not two numbers, or a model whose costs were not measured.

    Example:
        unetpp.info("runs/nuclei")
    """
    from unetpp.model.header import read_header

    files = find_model_files(Path(model))
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
    return ModelInfo(Path(model), tuple(files), header.plan, header.parameters, header.file_bytes / 1e6, notes)


def _would_predict(
    model: Path, inputs: Sequence[Path], out: Path, options: PredictOptions, max_drop: float
) -> Predicted:
    """The cases that would be predicted, from the names of the files and the header of the model."""
    from unetpp.data.cases import find_images
    from unetpp.infer.exported_predictor import load_exported
    from unetpp.infer.prediction import name_depth
    from unetpp.runtime.exported_file import RUNTIMES

    if model.suffix in RUNTIMES:
        exported = load_exported(model)
        data, depths = exported.data, exported.choose_depths(options)
    else:
        from unetpp.infer.early_exit import choose_rule
        from unetpp.model.build import make_grid
        from unetpp.model.header import read_header

        files = find_model_files(model)
        header = read_header(files[0])
        data, wanted = header.plan.data, header.plan.model
        heads = make_grid(wanted).head_depths(wanted.deep_supervision)
        depths = options.choose_depths(heads, header.plan.predict.depth, len(files))
        if options.depth == "auto":
            choose_rule(header.notes.auto, max_drop, str(model), heads)
    images = tuple(path for case in find_images(inputs, len(data.channels)) for path in case.images)
    return Predicted(out, tuple(map(name_depth, depths)), images, (), 0.0, written=False)


def _require_model_name(out: Path, unlike: Path) -> None:
    """Refuse a name that is no model file's, or that of the file that is read."""
    if out.suffix != ".safetensors":
        raise UsageError("out", repr(str(out)), "the name of a model file, ending in .safetensors")
    if out.resolve() == unlike.resolve():
        raise UsageError(
            "out", f"{out}, the file that is read", "another file, so that it is kept", "Choose another name."
        )


def _absent(path: Path) -> Path:
    """`path`, or the first of path_2, path_3, ... that does not exist."""
    candidates = (path if number == 1 else path.with_name(f"{path.name}_{number}") for number in itertools.count(1))
    return next(candidate for candidate in candidates if not candidate.exists())
