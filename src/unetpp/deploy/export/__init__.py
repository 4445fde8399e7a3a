"""Export: sizes of a model as a graph for other runtimes, compared with the network before it replaces a file."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unetpp import labels
from unetpp.deploy.export.choice import describe_default
from unetpp.deploy.export.graph import FORMATS, Exportable, SizeProbabilities, open_export, require_libraries
from unetpp.deploy.export.model_card import describe, note_export, read_license, write_card
from unetpp.deploy.export.quantization import QUANTIZABLE, quantize_file
from unetpp.deploy.export.samples import Samples, find_samples
from unetpp.deploy.export.selected import Source, note_selection, open_selected
from unetpp.dial import name_sizes
from unetpp.errors import ModelFileError, UnetppError, UsageError, WriteError
from unetpp.files import write_atomically
from unetpp.infer.doubts import describe_verdicts
from unetpp.infer.first_stage import require_one_stage
from unetpp.infer.predictor import load_folds
from unetpp.labels.coding_torch import make_tensor_coding
from unetpp.metrics.scores import fast_dice, mean_of
from unetpp.model_notes import ExportNotes
from unetpp.plan import DataPlan, Plan
from unetpp.progress import SILENCE, Progress, Stage
from unetpp.results import Exported
from unetpp.run_folder import find_model_files
from unetpp.runtime.exported_file import RUNTIMES, ExportedNetwork
from unetpp.selection import is_selection
from unetpp.size_names import choose_sizes
from unetpp.words import count_noun, write_command

TOLERANCE, AGREEMENT = 1e-3, 0.95
"""Largest difference of a probability due to rounding; smallest Dice between the segmentations of 8-bit integers and of
the network."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of an exported file with its network in float32; of several sizes the worst figures."""

    origin: str
    """Origin of the tiles."""
    tiles: int
    difference: float
    """Largest difference between probabilities."""
    same_classes: float
    """Fraction of voxels with the same class."""
    agreement: float | None
    """Dice between the two segmentations; None if both are empty."""
    dice_before: float | None
    """Mean Dice of the network over the tiles with labels, at the largest size."""
    dice: float | None
    """Mean Dice of the file over the tiles with labels, at the largest size."""

    def __str__(self) -> str:
        words = f"Compared with the network on {count_noun(self.tiles, 'tile')} ({self.origin}): "
        words += f"same class in {self.same_classes:.3%} of the voxels"
        words += f", Dice between the two {self.agreement:.4f}" if self.agreement is not None else ""
        words += f", probabilities differ by at most {self.difference:.1g}"
        if self.dice is None or self.dice_before is None:
            return f"{words}."
        words += "; Dice against the labels of these tiles, not of whole cases as in the depth table: "
        return f"{words}{self.dice_before:.4f} before, {self.dice:.4f} after."


def export_file(
    model: Path,
    out: Path,
    depth: int | str | None = None,
    int8: bool = False,
    images: Sequence[Path] = (),
    progress: Progress = SILENCE,
    size: int | str | None = None,
) -> Exported:
    """Write a model as ONNX, for OpenVINO or for torch.export, with a model card.

    Args:
        model: a .safetensors of this package, or a run folder, whose folds are averaged in the file.
        out: file to write; its suffix is the format: .onnx, .xml (OpenVINO, with a .bin) or .pt2 (torch.export).
        depth: depth of the exported head, with shells of the whole width; "all", or several, as "1,3"; None: the
            plan's.
        int8: quantize to 8-bit integers (ONNX and OpenVINO), calibrated on `images`, or on the training cases cached in
            the run folder of the model.
        images: images or folders of them, to calibrate with and to compare on.
        progress: shows the stages.
        size: instead of `depth`: name of a size; "all", or several, as "4x8,4x16".

    Returns:
        The file, its card, and how it compares with the network.

    Raises:
        UsageError: another suffix, no such size, or nothing to calibrate with.
        ModelFileError: the model cannot be used or exported, or the written file differs from it.
        MissingExtraError: the exporter or the runtime of the format.
        WriteError: it could not be written; a file that was at `out` before is intact.
    """
    _check_target(out, int8)
    require_libraries(out.suffix)
    options = ["--out", out, *(["--int8"] if int8 else []), *(["--images", *images] if images else [])]
    open_source = open_selected if is_selection(model) else _open_model
    source = open_source(model, out, depth, size, options)
    exported, plan, notes, sizes = source.network, source.plan, source.notes, source.network.sizes
    progress.stage("Reading images to compare on")
    samples = find_samples(find_model_files(model)[0], plan, images, calibrate=int8)
    if len(notes) > 1:
        samples = replace(samples, labels=())  # some of the folds were trained on them
    if int8 and not samples.calibrating:
        got = f"{model}, with neither training cases in its run folder nor two tiles of images"
        raise UsageError("int8", got, "images to calibrate with", "Add `images`.")
    described, card = note_export(exported, plan, notes, int8), out.with_name(f"{out.name}.md")
    described, about = note_selection(source.selection, described)
    with _temporary_folder(out) as folder:
        draft = folder / f"model{out.suffix}"
        described_as = {**describe(plan, described), **about}
        predict = _write(exported, plan, draft, described_as, samples.calibrating, progress)
        show = progress.stage("Comparing with the network", "tiles")
        comparison = compare(exported, predict, samples, plan.data, show)
        _require_agreement(out, comparison, int8)
        remarks = [*source.list_remarks(), *_remark(out, described, comparison)]
        text = write_card(out, plan, sizes, notes, remarks, read_license(card))
        with write_atomically(card) as place:
            place.write_text(text, encoding="utf-8")
            megabytes = _replace(draft, out)
    verdicts = describe_verdicts([described.verdict])
    names = tuple(sizes.list_names())
    return Exported(out, card, names, described.folds, int8, str(comparison), megabytes, verdicts, source.choice)


def _open_model(
    model: Path, out: Path, depth: int | str | None, size: int | str | None, options: Sequence[object]
) -> Source:
    """Open the folds of a run, or one model file, at the sizes that are asked for; arguments as of `export_file`."""
    networks, plan, notes = load_folds(model)
    require_one_stage(plan, model, "export")
    every = name_sizes(notes[0], networks[0].head_depths, plan.model)
    sizes = replace(every, numbers=choose_sizes(depth, size, every, plan.predict.depth))
    choice = describe_default(model, every, plan.predict.depth, notes, options) if depth is size is None else ""
    network = SizeProbabilities(networks, sizes, make_tensor_coding(plan.data))
    return Source(network.eval(), plan, notes, choice=choice)


def _remark(out: Path, notes: ExportNotes, comparison: Comparison) -> list[str]:
    """Say on the model card how the training stands, how the file is used, and how it compares with the network."""
    names, noun = notes.sizes.list_names(), notes.sizes.noun
    choice = f"; `--{noun} {names[0]}` is its fastest {noun}" if len(names) > 1 else ""
    usage = f"Predict without torch: `{write_command('predict', out.name, 'IMAGES', '--out', 'DIR')}`{choice}."
    training = [f"Training: {notes.verdict.finding}"] if notes.verdict else []
    return [*training, *([usage] if out.suffix in RUNTIMES else []), str(comparison)]


def _check_target(out: Path, int8: bool) -> None:
    if out.suffix not in FORMATS:
        raise UsageError(
            "out", repr(str(out)), f"a name that ends in {', '.join(FORMATS)}", "Choose a format by its name."
        )
    if int8 and out.suffix not in QUANTIZABLE:
        action = "Change `out`, or leave out `int8=True`."
        raise UsageError("int8", f"a {out.suffix} file", f"one of {', '.join(QUANTIZABLE)}", action)
    weights = out.with_suffix(".bin")
    if out.suffix == ".xml" and weights.exists() and not out.exists():
        got = f"{out}, whose weights go to {weights.name}, a file of something else"
        raise UsageError("out", got, "a free name", "Choose another name.")


@contextmanager
def _temporary_folder(out: Path) -> Iterator[Path]:
    """Temporary folder on the file system of `out`. Raises WriteError."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unetpp-", dir=out.parent, ignore_cleanup_errors=True) as name:
            yield Path(name)
    except OSError as error:
        action = "Free some space, or choose another `out`. A file that was there before is intact."
        raise WriteError(out, error.strerror or str(error), "to write it", action, setting="out") from error


def _write(
    network: Exportable,
    plan: Plan,
    path: Path,
    about: dict[str, Any],
    calibrating: Sequence[np.ndarray],
    progress: Progress,
) -> ExportedNetwork:
    """Write a file and open it again; errors of the libraries become a ModelFileError."""
    try:
        progress.stage("Exporting the network")
        FORMATS[path.suffix](network, (2, plan.model.in_channels, *plan.predict.tile), path, about)
        if calibrating:
            progress.stage("Calibrating 8-bit integers")
            quantize_file(path, calibrating)
        predict, description = open_export(path)
    except (UnetppError, OSError):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        got = f"a network that cannot be exported as {path.suffix} ({reason})"
        raise ModelFileError("out", got, "one that can", "Try another format.") from error
    if description != json.loads(json.dumps(about)):
        got = f"a {path.suffix} file without its description"
        raise ModelFileError("out", got, "it in the file", "Please report this.")
    return predict


def _replace(draft: Path, out: Path) -> float:
    """Move the file, and for OpenVINO its weights, to `out`: both or neither. Returns their size in MB."""
    weights, target, before = draft.with_suffix(".bin"), out.with_suffix(".bin"), draft.with_name("before.bin")
    moved = {draft: out} if out.suffix != ".xml" else {weights: target, draft: out}
    size = sum(path.stat().st_size for path in moved)
    if weights in moved and target.exists():
        target.replace(before)
    try:
        for path, place in moved.items():
            path.replace(place)
    except BaseException:
        if weights in moved:
            target.unlink(missing_ok=True)
        if before.exists():
            before.replace(target)
        raise
    return size / 1e6


@torch.inference_mode()
def compare(network: Exportable, predict: ExportedNetwork, samples: Samples, data: DataPlan, show: Stage) -> Comparison:
    """Run a network and its exported file on the same tiles; the first is cut to an odd size.

    Args:
        network: what was exported, in float32.
        predict: runs the file.
        samples: the tiles.
        data: what the probabilities mean.
        show: called with the number of tiles done.
    """
    rows: list[list[tuple[Any, ...]]] = [[] for _ in network.sizes.numbers]
    for number, tile in enumerate(samples.comparing):
        window = tuple(slice(max(1, size - (number == 0))) for size in tile.shape[1:])
        image = np.ascontiguousarray(tile[(None, slice(None), *window)])
        outputs = network(torch.from_numpy(image))
        wanted = outputs if isinstance(outputs, tuple) else (outputs,)
        label = samples.labels[number][window] if samples.labels else None
        for row, expected, found in zip(rows, wanted, predict(image, range(len(wanted))), strict=True):
            row.append(_compare_tile(expected.numpy()[0], found[0], label, data))
        show(number + 1, len(samples.comparing))
    differences, same, agreements, before, after = zip(*(zip(*row, strict=True) for row in rows), strict=True)
    agreement = min((mean for each in agreements if (mean := mean_of(each)) is not None), default=None)
    worst = float(np.max(differences)), min(map(float, map(np.mean, same)))
    return Comparison(samples.origin, len(same[0]), *worst, agreement, mean_of(before[-1]), mean_of(after[-1]))


def _compare_tile(
    expected: np.ndarray, found: np.ndarray, label: np.ndarray | None, data: DataPlan
) -> tuple[float, float, float | None, float | None, float | None]:
    """Compare the probabilities of a tile: largest difference, same classes, Dice between them and against a label."""
    coding, meaning = labels.make_coding(data), (data.num_classes, data.region_indices)
    before, after = (coding.fill_indices(each, np.empty(each.shape[1:], np.intp)) for each in (expected, found))
    scores = (None, None) if label is None else tuple(fast_dice(each, label, *meaning) for each in (before, after))
    difference, same = float(np.abs(expected - found).max()), float((before == after).mean())
    return difference, same, fast_dice(after, before, *meaning), scores[0], scores[1]


def _require_agreement(out: Path, comparison: Comparison, int8: bool) -> None:
    if not int8 and not comparison.difference <= TOLERANCE:
        got = f"a file whose probabilities differ by {comparison.difference:.2g} from the network's"
        raise ModelFileError(out, got, f"at most {TOLERANCE:g}", "Try another format.")
    if int8 and not (
        math.isfinite(comparison.difference) and (comparison.agreement is None or comparison.agreement >= AGREEMENT)
    ):
        got = f"8-bit integers whose segmentation has a Dice of {comparison.agreement or 0:.3f} with the network's"
        action = "Export without `int8=True`, or calibrate with `images` like those to be predicted."
        raise ModelFileError(out, got, f"{AGREEMENT} or more", action, setting="int8")
