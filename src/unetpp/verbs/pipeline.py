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
from typing import TYPE_CHECKING, Any, Literal, cast

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
from unetpp.run_folder import RunFolder, model_files, single_model_file

if TYPE_CHECKING:
    from unetpp.infer.options import PredictOptions

AnyPath = str | PathLike[str]
DEMO_NAMES = {2: "cells", 3: "bodies"}
DEMO_SETTINGS = {"train.batch": 4, "train.ema_decay": 0.95}
"""Many small steps: what learns most in two minutes."""


def demo(
    dims: Literal[2, 3] = 2, minutes: float = 2.0, out: AnyPath | None = None, *, progress: Progress | None = None
) -> Demonstrated:
    """Generate data, train on it, measure every depth and predict: the whole journey.

    Args:
        dims: 2 for images, 3 for volumes.
        minutes: wall time of the training.
        out: run folder; by default the first of runs/demo_2d, runs/demo_2d_2, ... that is free.
    """
    from unetpp.data.demo import write_demo_data
    from unetpp.verbs.preparation import require_unstarted

    if dims not in (2, 3):
        raise UsageError(f"--dims: got {dims!r}; expected 2 (images) or 3 (volumes).")
    run = _absent(Path("runs") / f"demo_{dims}d") if out is None else Path(out)
    require_unstarted(RunFolder(run), [0], resume=False)
    progress = progress or Silence()
    data = run / DEMO_NAMES[dims]
    progress.note(f"Generating {dims}D data in {data}.")
    write_demo_data(data, dims)
    trained = cast(Run, train(data, run, minutes=minutes, set=DEMO_SETTINGS, progress=progress))
    unseen = {case.id for case in trained.folds[0].metrics.cases}
    images = [path for path in sorted((data / "images").iterdir()) if path.name.split(".")[0] in unseen]
    predict(run, images, run / "predictions", progress=progress)
    return Demonstrated(data, trained, run / "predictions")


def check(data: AnyPath, *, progress: Progress | None = None) -> Checked:
    """Every problem of a data set at once; an empty list of problems means that it can be trained on."""
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
    set: Mapping[str, Any] | Sequence[str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Planned:
    """Make `fingerprint.json`, `plan.json` and `splits.json` of a run; each choice has its reason.

    Args:
        data: any of the layouts.
        out: run folder.
        minutes: wall time of the training that the plan is made for.
        epochs: length of the training instead.
        device: auto, cpu, cuda or cuda:K.
        set: choices of the user, {"section.key": value} or ["section.key=value"].
        dry_run: write nothing.

    Raises:
        DataError: all problems of the data.
        PlanError: a setting that is unknown or does not fit.
        UsageError: the run holds a trained fold, whose plan it must keep.
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
    set: Mapping[str, Any] | Sequence[str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Run | Planned:
    """Check the data, plan, train, and measure every depth on the validation cases.

    Args:
        data: any of the layouts.
        out: run folder; a `plan.json` in it is used as it is, with `set` applied.
        minutes: wall time of the whole call, shared by the folds.
        epochs: length of the training instead.
        fold: 0, 1, ... or "all".
        seed: of weights and patches.
        device: auto, cpu, cuda or cuda:K.
        resume: go on with an interrupted run, exactly where it stopped.
        set: choices of the user, {"section.key": value} or ["section.key=value"].
        dry_run: say what would be done and write nothing; gives `Planned`.

    Raises:
        DataError: all problems of the data, before anything is trained.
        UsageError: arguments that do not go together, or a run that is trained already.
        Interrupted: Ctrl-C or SIGTERM; everything is saved.
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
        raise Interrupted("Stopped; what was done is saved. Go on with the same command and --resume.") from None


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
    backend: str = "auto",
    max_drop: float = 0.3,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Predicted:
    """Segment files of any size; results have the format and the geometry of what went in.

    Args:
        model: run folder (all its folds answer together), model file, or what `export` made of one (.onnx, .xml), which needs no torch.
        inputs: files or folders.
        out: folder for the results.
        depth: the head that answers, 1 (fastest) to the model's depth, "mean" of all heads, "auto" for each tile the first that is sure, or "all", each by itself;
            None: the plan's.
        tta: average over mirrored copies.
        probabilities: write a map of each class's probability too.
        uncertainty: write a map of how unsure the network is too: "entropy" of its probabilities, or "disagreement" of its heads, folds and (with tta) mirrored copies.
        device: auto, cpu, cuda or cuda:K.
        backend: torch, cuda (on a GPU), openvino (CPU; extra `openvino`), or auto: cuda on a GPU, openvino on a CPU where it is installed and faster.
        max_drop: points (hundredths) of Dice that depth "auto" may lose against the deepest head, by the interval over validation cases.
        dry_run: list what would be done and write nothing.

    Raises:
        ModelFileError: MODEL cannot be used. A bad input file is skipped and listed in the result instead.
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
    """Score segmentations against references: Dice, IoU, HD95 and surface Dice, per case and class.

    Args:
        predictions: folder of segmentations, as `predict` writes them.
        references: folder of masks with the same stems, or a data set with labels.
        out: JSON file for the scores.

    Raises:
        DataError: nothing could be compared. A single case that cannot is listed in the result instead.
    """
    from unetpp.measure.quality import evaluate_folders

    metrics, problems = evaluate_folders(Path(predictions), Path(references), (progress or Silence()).stage("Scoring"))
    target = None if out is None else Path(out)
    if target is not None:
        write_json(target, metrics.to_dict())
    return Evaluated(metrics, problems, target)


def report(run: AnyPath, *, progress: Progress | None = None) -> Reported:
    """Write RUN/report.html: curves, scores of each case, overlays, the depth table."""
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
    """Write a smaller model that predicts what `model` predicts at a depth.

    Args:
        model: run folder of one fold, or a model file.
        out: model file to write (.safetensors).
        depth: the depth to keep.
        max_drop: or the smallest depth that loses at most so many points (hundredths) of validation Dice against the deepest, by the 95 % interval over cases.
        minutes: of training of the smaller network, on the training cases of the run; the best weights on validation cases are kept, those before it among them.
        device: to train on: auto, cpu, cuda or cuda:K.

    Raises:
        UsageError: not exactly one of `depth` and `max_drop`, no such depth, no cases to train on, a run of several folds, or `out` is `model`.
    """
    from unetpp.deploy.prune import prune_file
    from unetpp.verbs.fold import shown_on

    if Path(out).suffix != ".safetensors":
        raise UsageError(f"--out: got {str(out)!r}; expected the name of a model file, ending in .safetensors.")
    file = single_model_file(Path(model))
    if Path(out).resolve() == file.resolve():
        raise UsageError(
            f"--out: got {out}, the model that is pruned; expected another file, so that the full model is kept. Choose another --out."
        )
    progress = progress or Silence()
    progress.note("Pruning, and comparing with the full network.")
    show = shown_on(progress.stage("Fine-tuning")) if minutes is not None else lambda status: None
    done = prune_file(file, Path(out), depth, max_drop, minutes, device, show)
    finetuning = None if done.finetuning is None else str(done.finetuning)
    return Pruned(
        done.out, done.depth, done.parameters, done.parameters_before, done.reason, done.difference, finetuning
    )


def adapt(model: AnyPath, *, device: str = "auto", backend: str = "auto", progress: Progress | None = None) -> Adapted:
    """Fit the rules of `predict --depth auto` on validation cases, and write them into the model file.

    Args:
        model: run folder of one fold, or the model file in it: the prepared validation cases of the run are needed.
        device: auto, cpu, cuda or cuda:K.
        backend: torch, cuda, openvino, or auto; what is saved is measured with it.

    Raises:
        UsageError: a network with one head, or no validation cases.
        ModelFileError: the model cannot be used.
    """
    from unetpp.deploy.adapt import adapt_file

    file = single_model_file(Path(model))
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
    """Write one depth of a model for other runtimes, with a model card beside it; it is run and compared with the network before it takes its place (docs/export.md).

    Args:
        model: run folder of one fold, or a model file.
        out: .onnx, .xml (OpenVINO) or .pt2 (torch.export).
        depth: the head that answers; None: the plan's.
        int8: 8-bit integers (.onnx and .xml), calibrated on `images`, or else on training cases in the run folder.
        images: files or folders to calibrate with and to compare on.

    Raises:
        UsageError: another suffix, no such depth, or nothing to calibrate with.
        ModelFileError: the model cannot be used, or what was written does not agree with it.
        MissingExtraError: without the exporter or the runtime of the format.
    """
    from unetpp.deploy.export import comparison_in_words, export_file

    (progress or Silence()).note("Exporting, and comparing with the network.")
    paths = [Path(entry) for entry in ([images] if isinstance(images, (str, PathLike)) else images or ())]
    done = export_file(single_model_file(Path(model)), Path(out), depth, int8, paths)
    return Exported(done.out, done.card, done.depth, done.int8, comparison_in_words(done.comparison), done.file_mb)


def import_checkpoint(
    checkpoint: AnyPath,
    out: AnyPath,
    *,
    from_: str | None = None,
    set: Mapping[str, Any] | Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Write a model that predicts what the UNet++ of another library predicts, from its state_dict (docs/import.md).

    Args:
        checkpoint: what torch.save wrote, or a .safetensors.
        out: model file to write (.safetensors).
        from_: the library: smp, monai, nested-unet, unet-version, pms or nnunet-v1; None: recognised by the names of the tensors.
        set: what a state_dict cannot say, {"section.key": value} or ["section.key=value"].

    Raises:
        ModelFileError: the checkpoint cannot be read, or is not one of a known network. Nothing of it but tensors is ever unpickled.
        UsageError: something has to be said by `set`: all of it by name.
    """
    from unetpp.peers import import_file
    from unetpp.verbs.preparation import read_settings

    if Path(out).suffix != ".safetensors":
        raise UsageError(f"--out: got {str(out)!r}; expected the name of a model file, ending in .safetensors.")
    if Path(out).resolve() == Path(checkpoint).resolve():
        raise UsageError(
            f"--out: got {out}, the checkpoint that is imported; expected another file, so that it is kept. Choose another --out."
        )
    (progress or Silence()).note("Reading the checkpoint.")
    done = import_file(Path(checkpoint), Path(out), from_, read_settings(set))
    return Imported(done.out, done.title, done.plan, done.parameters, done.tensors, done.ignored, done.assumed)


def info(
    model: AnyPath,
    *,
    measure: bool = False,
    machine: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> ModelInfo:
    """What a model is, from its header alone.

    Args:
        model: run folder, or a model file.
        measure: measure the costs of every depth anew, on this machine.
        machine: "GMACS,GB": what another machine can do in a second, 10^9 multiply-adds (in the model's precision) and 10^9 bytes copied. Says what every depth would take there.
        device: to measure on: auto, cpu, cuda or cuda:K.

    Raises:
        ModelFileError: no model there, or one that cannot be used.
        UsageError: a machine that is no two numbers, or a model whose costs were not measured.
    """
    from unetpp.model.header import read_header

    files = model_files(Path(model))
    header = read_header(files[0])
    notes = header.notes
    if measure:
        from unetpp.measure.depth_table import measured_notes

        notes = measured_notes(files[0], notes, device, (progress or Silence()).stage("Measuring every depth"))
    if machine is not None:
        from unetpp.measure.another_machine import notes_for_machine

        notes = notes_for_machine(notes, machine, header.plan.predict.precision)
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
        from unetpp.model.build import grid_of
        from unetpp.model.header import read_header

        files = model_files(model)
        header = read_header(files[0])
        data, wanted = header.plan.data, header.plan.model
        heads = grid_of(wanted).head_depths(wanted.deep_supervision)
        depths = options.choose_depths(heads, header.plan.predict.depth, len(files))
        if options.depth == "auto":
            choose_rule(header.notes.auto, max_drop, str(model), heads)
    images = tuple(path for case in find_images(inputs, len(data.channels)) for path in case.images)
    return Predicted(out, tuple(map(name_depth, depths)), images, (), 0.0, written=False)


def _absent(path: Path) -> Path:
    """`path`, or the first of path_2, path_3, ... that does not exist."""
    candidates = (path if number == 1 else path.with_name(f"{path.name}_{number}") for number in itertools.count(1))
    return next(candidate for candidate in candidates if not candidate.exists())
