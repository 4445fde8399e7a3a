"""The verb `predict`: files to segmentations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unetpp.console import shows_progress
from unetpp.errors import PlanError, UsageError
from unetpp.parts import Part
from unetpp.plan import Plan, read_plan
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Predicted, PredictedBlocks
from unetpp.run_folder import MODEL, NO_VALIDATION, RunFolder, find_model_files
from unetpp.selection import is_selection
from unetpp.verbs.arguments import AnyPath, Backend, find_model, list_paths, name_header_sizes
from unetpp.words import list_some

if TYPE_CHECKING:
    from unetpp.infer.case_predictor import CasePredictor
    from unetpp.infer.case_result import CaseJob
    from unetpp.infer.options import PredictOptions
    from unetpp.infer.predict_files import Task


@shows_progress
def predict(
    model: AnyPath,
    inputs: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    depth: int | str | None = None,
    size: int | str | None = None,
    tta: bool = False,
    probabilities: bool = False,
    uncertainty: Literal["entropy", "disagreement"] | None = None,
    overlay: bool = False,
    device: str = "auto",
    backend: Backend = "auto",
    max_drop: float = 0.3,
    cluster: str | None = None,
    part: str | None = None,
    resume: bool = False,
    dry_run: bool = False,
    progress: ShowProgress = None,
) -> Predicted | PredictedBlocks:
    """Segment files of any size, in their own format and geometry.

    Args:
        model: Run folder, whose folds predict together, one that `unetpp select` wrote, a model file, hf://OWNER/NAME
            on the Hugging Face hub, or an exported .onnx or .xml, which needs no torch.
        inputs: Images, volumes, folders of them (with folders in them), data sets, or lists: a CSV table with the
            column image, a text file with a path in each line.
        out: Folder for the results. One that ends in .zarr, also at an address such as s3://BUCKET/OUT.zarr, is for the
            labels of one OME-Zarr image, which is read and written block by block.
        depth: Depth to predict at: 1 (fastest) up to the depth of the model; mean, the mean of all heads; auto, early
            exit for each tile (after `unetpp adapt`); or all, each in its own files. By default that of the plan.
        size: Instead of `depth`: size to predict at, by a name that `unetpp info` lists, such as small, or 4x8, depth 4
            of the first 8 channels of a model with shells; or a depth, mean, auto or all.
        tta: Average over mirrored copies: slower, slightly better.
        probabilities: Also write a map of the probability of each class.
        uncertainty: Also write a map of the uncertainty: entropy of the probabilities, or disagreement between heads,
            folds and (with `tta`) mirrored copies.
        overlay: Also write a picture of each image with the outlines of the classes: of a volume the slices in which
            most is labeled.
        device: auto, cpu, cuda, cuda:K or mps (the GPU of a Mac, on which it is untested).
        backend: Library that runs the network; auto takes cuda on a GPU, and openvino on a CPU if it is installed and
            faster.
        max_drop: Points (hundredths) of Dice that early exit, `size` auto, may lose to the largest size.
        cluster: Share the images between workers of Dask (the extra named cluster): local:4, four processes here;
            tcp://HOST:PORT or the JSON file of a scheduler; a YAML file of dask-jobqueue for SLURM, PBS, LSF or SGE.
        part: Share to predict, as 2/8, the second of eight, for arrays of jobs; the shares meet in the same folder.
        resume: Leave alone the segmentations that the same model has made of the same files; do the rest.
        dry_run: List the images that would be predicted, and the script of a job of `cluster`; write nothing.

    Returns:
        The files that were written. An input that cannot be read is skipped and listed.

    Raises:
        ModelFileError: the model cannot be used.
        UsageError: arguments that cannot work, or another command predicts into the same folder.
        Interrupted: the scheduler of the cluster was lost; what is finished stays, for `resume`.

    Example:
        unetpp.predict("runs/nuclei", "new_images", "predictions", depth=2)
    """
    from unetpp.cluster.opening import open_engine, show_script
    from unetpp.infer.options import PredictOptions
    from unetpp.infer.predict_files import Sharing, predict_to_files
    from unetpp.verbs.predict_store import Course, Devices, is_store, predict_into_store

    started, progress, share = time.monotonic(), progress or Silence(), Part.parse(part)
    path, paths, target = find_model(model), list_paths(inputs), Path(out)
    options = PredictOptions(depth, tta, probabilities, uncertainty, size)
    if is_store(out, paths):
        where, how = Devices(device, backend, cluster), Course(share, resume, dry_run)
        return predict_into_store(path, paths, out, options, where, how, overlay, progress)
    if paths and not any(each.exists() for each in paths):
        raise UsageError("inputs", list_some(paths), "images, or folders of them", "Check the path.")
    _require_size(path, options)
    script = show_script(cluster)
    predictor, make_task = _load(path, device, backend, max_drop, cluster)
    if dry_run:
        return _list_inputs(predictor, options, paths, target, share, script)
    notes = tuple(
        f"{path}: fold {fold} has no scores, because its training has not ended; its best weights so far were used."
        for fold in RunFolder(path).unmeasured_folds()
    )
    notes += _note_unused_fold(RunFolder(path))
    notes += _note_changed_plan(RunFolder(path), getattr(predictor, "plan", None))
    notes += predictor.doubts
    with open_engine(cluster, progress) as engine:
        sharing = Sharing(engine, share, resume, make_task)
        show = progress.stage("Predicting", "images")
        written = predict_to_files(predictor, paths, target, options, show, overlay, sharing)
    progress.detail(f"The network ran with {written.backend or predictor.backend}.")
    return Predicted(
        target,
        written.depths,
        written.files,
        written.failed,
        time.monotonic() - started,
        doubtful=written.doubtful,
        notes=(*notes, *written.notes),
        outside=written.outside,
        expected_dice=written.expected_dice,
        expected_dice_error=written.expected_dice_error,
        depth_shares=written.depth_shares,
    )


def _load(
    path: Path, device: str, backend: Backend, max_drop: float, cluster: str | None
) -> tuple[CasePredictor, Callable[[CaseJob], Task] | None]:
    """Load the model; with a cluster workers load it on their devices, and here is needed what it says of itself."""
    from unetpp.infer.loading import load
    from unetpp.runtime.exported_file import RUNTIMES

    if cluster is None:
        return load(path, device, backend, max_drop), None
    from unetpp.infer.remote import RemoteModel

    predictor = load(path, "cpu", backend if path.suffix in RUNTIMES else "torch", max_drop)
    return predictor, RemoteModel(str(path.absolute()), device, backend, max_drop).predict


def _list_inputs(
    predictor: CasePredictor, options: PredictOptions, paths: list[Path], target: Path, part: Part, script: str
) -> Predicted:
    """List what would be predicted."""
    from unetpp.infer.prediction import name_depth
    from unetpp.layouts.inputs import find_images

    depths = tuple(name_depth(each, predictor.sizes) for each in predictor.choose_sizes(options))
    found = find_images(paths, predictor.data.channels, target)
    images = tuple(image for case in part.choose(found.cases) for image in case.images)
    skipped = found.skipped
    return Predicted(target, depths, images, skipped, 0.0, written=False, notes=found.notes, job_script=script)


def _require_size(model: Path, options: PredictOptions) -> None:
    """Raise UsageError for a size that the model does not have, before torch and the network are loaded."""
    from unetpp.model.header import read_header
    from unetpp.runtime.exported_file import EXPORTED

    if options.wanted is None or model.suffix in EXPORTED or is_selection(model):
        return
    files = find_model_files(model)
    header = read_header(files[0])
    if sizes := name_header_sizes(header):
        options.choose_sizes(sizes, header.plan.predict.depth, len(files), str(model))


def _note_unused_fold(run: RunFolder) -> tuple[str, ...]:
    """Note that the model of all cases lies beside those of the folds."""
    file = run.fold(NO_VALIDATION) / MODEL
    if not file.is_file() or file in find_model_files(run.path):
        return ()
    return (f"The numbered folds predict, which have scores; the model of all cases is {file}.",)


def _note_changed_plan(run: RunFolder, trained: Plan | None) -> tuple[str, ...]:
    """Note that plan.json was changed after the training: models have the plan with which they were trained."""
    try:
        plan = read_plan(run.plan)
    except PlanError:
        return ()
    changed = [name for name in trained.differences(plan) if name.startswith("predict.")] if trained else []
    if not changed:
        return ()
    choose = "; `depth` or `size` chooses for each prediction" if "predict.depth" in changed else ""
    return (f"{run.plan} has another {', '.join(changed)} than the model, which keeps its own{choose}.",)
