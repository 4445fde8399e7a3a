"""Export: one depth of a model as a graph for other runtimes, which is run and compared before it takes its place."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unetpp.deploy.export.about import describe, model_card, stated_licence
from unetpp.deploy.export.graph import FORMATS, Answering
from unetpp.deploy.export.quantized import QUANTIZABLE, quantize_file
from unetpp.deploy.export.runtimes import open_written
from unetpp.deploy.export.samples import Samples, find_samples
from unetpp.errors import ModelFileError, UnetppError, UsageError, WriteError
from unetpp.files import write_atomically
from unetpp.labels.classes import most_probable
from unetpp.labels.classes_torch import to_probabilities
from unetpp.metrics.scores import fast_dice, mean_of
from unetpp.model.file import load_model
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import Plan
from unetpp.results import Exported
from unetpp.runtime.exported_file import ExportedNetwork

TOLERANCE, AGREEMENT = 1e-3, 0.95
"""Largest difference of a probability that rounding explains; smallest Dice between the segmentation in 8-bit integers and that of the network."""


@dataclass(frozen=True)
class Comparison:
    """An exported file beside the network that it was made from, in float32."""

    origin: str
    """Of the images."""
    tiles: int
    difference: float
    """Largest, of probabilities."""
    same_classes: float
    """Share of voxels."""
    agreement: float | None
    """Dice between the two segmentations; None where both are empty."""
    dice_before: float | None
    """Mean over the tiles that have labels, of the network."""
    dice: float | None
    """The same of the file."""

    def __str__(self) -> str:
        words = f"Compared with the network on {self.tiles} tiles ({self.origin}): same class in {self.same_classes:.3%} of the voxels"
        words += f", Dice between the two {self.agreement:.4f}" if self.agreement is not None else ""
        words += f", probabilities differ by at most {self.difference:.1g}"
        if self.dice is None or self.dice_before is None:
            return f"{words}."
        return f"{words}; Dice against the labels {self.dice_before:.4f} before, {self.dice:.4f} after."


def export_file(
    model: Path, out: Path, depth: int | None = None, int8: bool = False, images: Sequence[Path] = ()
) -> Exported:
    """Write one depth of a model as ONNX, for OpenVINO, or as torch.export has it, and a model card beside it.

    Args:
        model: a .safetensors of this package.
        out: the suffix says the format: .onnx, .xml (OpenVINO, with a .bin) or .pt2.
        depth: the head that answers; None: the plan's.
        int8: 8-bit integers (ONNX and OpenVINO), calibrated on `images`, or on training cases that are still in the run folder of the model.
        images: to calibrate with and to compare on.

    Raises:
        UsageError: another suffix, no head at `depth`, or nothing to calibrate with.
        ModelFileError: the model cannot be used or exported, or what was written does not agree with it.
        MissingExtraError: without the exporter or the runtime of the format.
        WriteError: it could not be written; what was at `out` is intact.
    """
    _check_target(out, int8)
    network, header = load_model(model)
    plan = header.plan
    depth = plan.predict.depth if depth is None else depth
    answering = Answering(network, depth).eval()
    samples = find_samples(model, plan, images, calibrate=int8)
    if int8 and not samples.calibrating:
        got = f"{model}, with neither training cases in its run folder nor two tiles of images"
        raise UsageError("int8", got, "images to calibrate with", "Add `images`.")
    about, card = describe(plan, depth, int8), out.with_name(f"{out.name}.md")
    with _folder_beside(out) as folder:
        draft = folder / f"model{out.suffix}"
        answer = _written(answering, plan, draft, about, samples.calibrating)
        comparison = compare(network, depth, answer, samples, plan.data.num_classes)
        _require_agreement(out, comparison, int8)
        text = model_card(out, plan, header.notes, depth, str(comparison), stated_licence(card))
        with write_atomically(card) as place:
            place.write_text(text, encoding="utf-8")
            megabytes = _moved(draft, out)
    return Exported(out, card, depth, int8, str(comparison), megabytes)


def _check_target(out: Path, int8: bool) -> None:
    if out.suffix not in FORMATS:
        raise UsageError("out", repr(str(out)), f"a name that ends in {', '.join(FORMATS)}, the format")
    if int8 and out.suffix not in QUANTIZABLE:
        action = "Change `out`, or leave out `int8=True`."
        raise UsageError("int8", f"a {out.suffix} file", f"one of {', '.join(QUANTIZABLE)}", action)
    weights = out.with_suffix(".bin")
    if out.suffix == ".xml" and weights.exists() and not out.exists():
        got = f"{out}, whose weights go to {weights.name}, a file of something else"
        raise UsageError("out", got, "a free name", "Choose another name.")


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A folder for drafts on the disk of `out`; nothing of it stays. Raises WriteError."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unetpp-", dir=out.parent) as name:
            yield Path(name)
    except OSError as error:
        reason = error.strerror or str(error)
        action = "Free some space, or choose another `out`. What was there before is intact."
        raise WriteError(out, reason, "to write it", action, setting="out") from error


def _written(
    network: Answering, plan: Plan, path: Path, about: dict[str, Any], calibrating: Sequence[np.ndarray]
) -> ExportedNetwork:
    """Write a file and open it again; what the libraries for it raise becomes one error."""
    try:
        FORMATS[path.suffix](network, (2, plan.model.in_channels, *plan.predict.tile), path, about)
        if calibrating:
            quantize_file(path, calibrating)
        answer, said = open_written(path)
    except (UnetppError, OSError):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        got = f"a network that cannot be exported as {path.suffix} ({reason})"
        raise ModelFileError("out", got, "one that can", "Try another format.") from error
    if said != json.loads(json.dumps(about)):
        got = f"a {path.suffix} file that has lost its description"
        raise ModelFileError("out", got, "it inside", "Please report this.")
    return answer


def _moved(draft: Path, out: Path) -> float:
    """Put the file, and the weights beside it, in their places: both, or neither. Gives their megabytes."""
    if out.suffix != ".xml":
        size = draft.stat().st_size
        draft.replace(out)
        return size / 1e6
    weights, target, before = draft.with_suffix(".bin"), out.with_suffix(".bin"), draft.with_name("before.bin")
    size = draft.stat().st_size + weights.stat().st_size
    if target.exists():
        target.replace(before)
    try:
        weights.replace(target)
        draft.replace(out)
    except BaseException:
        target.unlink(missing_ok=True)
        if before.exists():
            before.replace(target)
        raise
    return size / 1e6


@torch.inference_mode()
def compare(network: UNetPlusPlus, depth: int, answer: ExportedNetwork, samples: Samples, classes: int) -> Comparison:
    """Run both on the same tiles, of which the first is cut to an odd size."""
    differences, same, agreement = [], [], []
    dice: list[tuple[float | None, float | None]] = []
    for number, tile in enumerate(samples.comparing):
        window = tuple(slice(max(1, size - (number == 0))) for size in tile.shape[1:])
        image = np.ascontiguousarray(tile[(None, slice(None), *window)])
        logits: Any = network(torch.from_numpy(image), depth=depth)
        expected, found = to_probabilities(logits).numpy()[0], answer(image)[0]
        differences.append(float(np.abs(expected - found).max()))
        before, after = (most_probable(each, np.empty(each.shape[1:], np.intp)) for each in (expected, found))
        same.append(float((before == after).mean()))
        agreement.append(fast_dice(after, before, classes))
        if samples.labels:
            label = samples.labels[number][window]
            dice.append((fast_dice(before, label, classes), fast_dice(after, label, classes)))
    means = [mean_of(values) for values in (agreement, [before for before, _ in dice], [after for _, after in dice])]
    return Comparison(samples.origin, len(same), float(np.max(differences)), float(np.mean(same)), *means)


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
