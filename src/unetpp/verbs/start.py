"""The model that a training starts from: found and checked, copied into the run, fitted to its network."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch

from unetpp.data.folds import read_splits
from unetpp.errors import DataError, ModelFileError, UsageError
from unetpp.files import digest_file, write_atomically
from unetpp.infer.first_stage import require_one_stage
from unetpp.model.build import build_from_plan
from unetpp.model.file import load_model
from unetpp.model.header import read_header
from unetpp.model.starting_weights import StartingWeights, fit_network
from unetpp.plan import Plan
from unetpp.planning.planner import Start
from unetpp.run_folder import RunFolder, find_model_file
from unetpp.runtime.exported_file import EXPORTED
from unetpp.verbs.arguments import AnyPath, find_model
from unetpp.verbs.splits import choose_split
from unetpp.words import count_noun, list_some, write_command

CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl", ".model")
OTHER_SIZE = 1.2
"""Ratio of voxel sizes from which on a training is told of it."""
EXPECTED = "a run folder or a model file (.safetensors)"


def find_start(model: AnyPath | None) -> Start | None:
    """Find the model that a training starts from, before any image is read.

    Args:
        model: run folder, model file or hf://OWNER/NAME; None: training starts from random weights.

    Returns:
        The model file, its plan and its origin.

    Raises:
        UsageError: an exported file, a checkpoint of another library, or a run of several folds.
        ModelFileError: there is no model, or one that cannot be used.
    """
    if model is None:
        return None
    path = Path(model)
    if path.suffix in EXPORTED:
        action = "Give the model from which it was exported: training needs its weights."
        raise UsageError("from_", f"{model}, an exported file", EXPECTED, action)
    if path.suffix in CHECKPOINTS:
        action = f"Convert it first: {write_command('import', model, '--out', 'model.safetensors')}"
        raise UsageError("from_", f"{model}, a checkpoint of another program", EXPECTED, action)
    file = find_model_file(find_model(model))
    in_run = path.name == file.name and file.parent.name.startswith("fold_")
    name = file.resolve().parent.parent.name if in_run else path.name or path.resolve().name
    plan = read_header(file).plan
    require_one_stage(plan, file, "start from")
    return Start(file, plan, f"{name}, sha256 {digest_file(file)[:16]}")


def copy_start(file: Path, folder: RunFolder) -> None:
    """Copy the model into the run, which needs it for its other folds and to begin anew; raises WriteError."""
    with write_atomically(folder.start) as temporary:
        temporary.write_bytes(file.read_bytes())


def fit_start(file: Path, plan: Plan) -> StartingWeights:
    """Fit the weights of a model to the network of a plan; what does not fit begins at random, as in any training.

    Raises:
        UsageError: the networks have nothing in common.
    """
    network, header = load_model(file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        found = fit_network(network, header.plan, build_from_plan(plan.model), plan)
    if not found.kernels:
        got = f"a network of which nothing fits the plan (widths {list(header.plan.model.widths)})"
        expected = f"one that fits widths {list(plan.model.widths)}"
        raise UsageError("from_", got, expected, "Leave out the settings `model.*`, or choose another model.")
    return found


def describe_start(start: Start, plan: Plan, held_out: Collection[str], data: Path) -> list[str]:
    """Say what a training takes of the model that it starts from.

    Args:
        start: the model.
        plan: plan of the training.
        held_out: validation cases; the model should not have been trained on them.
        data: the data set of the training.

    Raises:
        UsageError: the networks have nothing in common.
    """
    remarks = fit_start(start.file, plan).remarks or ("all of its weights are taken",)
    remarks = (*remarks, *_describe_images(start.plan, plan))
    lines = [f"Starts from {start.origin.partition(',')[0]}:", *(f"  {text}" for text in remarks)]
    known = sorted(_list_known_cases(start) & set(held_out))
    if known:
        lines.append(f"note: {_describe_known(known, RunFolder(start.file.parent.parent).recall_data(), data)}")
    return lines


def _describe_images(before: Plan, now: Plan) -> Iterator[str]:
    """Say where images reach the network otherwise than those that the model knows."""
    old, new = (plan.data.spacing_mm or plan.data.voxel_mm for plan in (before, now))
    if old and new and len(old) == len(new):
        if any(max(one, other) > OTHER_SIZE * min(one, other) for one, other in zip(old, new, strict=True)):
            sizes = (" x ".join(f"{size:.3g}" for size in each) for each in (new, old))
            yield "voxels of {} mm instead of {} mm: what it knows has another size in them".format(*sizes)
    elif bool(old) != bool(new):
        yield f"voxels whose size is {'known' if new else 'not known'}, unlike those that it knows"
    named = dict(zip(before.data.channels, before.data.normalization, strict=True))
    pairs = zip(now.data.channels, now.data.normalization, strict=True)
    if changed := [name for name, each in pairs if named.get(name, each) != each]:
        yield f"intensities of {', '.join(changed)} are on another scale: normalized anew"


def _describe_known(names: Sequence[str], before: str, data: Path) -> str:
    """Say that the model has seen validation cases. Only in the same folder is that sure: names are often alike."""
    cases = f"{count_noun(len(names), 'validation case')} ({list_some(names)})"
    if Path(before).resolve() == data.resolve():
        return f"the model was trained on {cases}: their scores are too good"
    one = len(names) == 1
    have = "has the name of a case" if one else "have names of cases"
    are = "it is the same" if one else "they are the same"
    return f"{cases} {have} that the model was trained on, in {before}: if {are}, scores are too good"


def _list_known_cases(start: Start) -> set[str]:
    """List the cases that the model was trained on, if it lies in its run."""
    run, fold = RunFolder(start.file.parent.parent), start.file.parent.name.removeprefix("fold_")
    if not run.splits.is_file():
        return set()
    try:
        splits = read_splits(run.splits, validated=False)
        return set(choose_split(splits, fold).train)
    except (DataError, ValueError, IndexError):  # an edited file, or no fold of this run
        return set()


def recall_start(folder: RunFolder, plan: Plan) -> dict[str, torch.Tensor] | None:
    """Load the weights that the folds of a run start from; None for random ones.

    Raises:
        ModelFileError: the copy of the model in the run is lost, or another one.
    """
    if plan.train.start is None:
        return None
    if not folder.start.is_file() or not plan.train.start.endswith(digest_file(folder.start)[:16]):
        got = "another file" if folder.start.is_file() else "no such file"
        action = "Give the model again: `from_=MODEL`."
        raise ModelFileError(folder.start, got, f"the model that training starts from ({plan.train.start})", action)
    return fit_start(folder.start, plan).weights
