"""Export: one depth of a model as a graph for other runtimes, which is run and compared before it takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from unetpp.deploy.export.about import describe, model_card
from unetpp.deploy.export.graph import FORMATS, Answering
from unetpp.deploy.export.quantized import QUANTIZABLE, quantize_file
from unetpp.deploy.export.runtimes import Answer, open_exported
from unetpp.deploy.export.samples import Samples, find_samples
from unetpp.errors import ModelFileError, UsageError
from unetpp.files import write_text, written_aside
from unetpp.metrics.scores import fast_dice, mean_of
from unetpp.model.file import load_model

TOLERANCE, SAME_CLASSES = 1e-3, 0.95
"""Largest difference of a probability that rounding explains; smallest share of voxels whose class 8-bit integers may keep."""


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
    dice_before: float | None
    """Mean over the tiles that have labels, of the network."""
    dice: float | None
    """The same of the file."""


@dataclass(frozen=True)
class ExportedModel:
    """What was written."""

    out: Path
    card: Path
    depth: int
    int8: bool
    file_mb: float
    """With the weights, where these lie beside it."""
    comparison: Comparison


def export_file(model: Path, out: Path, depth: int | None = None, int8: bool = False, images: Sequence[Path] = ()) -> ExportedModel:
    """Write one depth of a model as ONNX, for OpenVINO, or as torch.export has it, and a model card beside it.

    Args:
        model: a .safetensors of this package.
        out: the suffix says the format: .onnx, .xml (OpenVINO, with a .bin) or .pt2.
        depth: the head that answers; None: the plan's.
        int8: 8-bit integers (ONNX and OpenVINO), calibrated on `images`, or on training cases that are still in the run folder of the model.
        images: to calibrate with and to compare on.

    Raises:
        UsageError: another suffix, no head at `depth`, or nothing to calibrate with.
        ModelFileError: the model cannot be used, or what was written does not agree with it.
        MissingExtraError: without the exporter or the runtime of the format.
        WriteError: it could not be written; what was at `out` is intact.
    """
    suffix = out.suffix
    if suffix not in FORMATS:
        raise UsageError(f"--out: got {str(out)!r}; expected a name that ends in {', '.join(FORMATS)}: it says the format.")
    if int8 and suffix not in QUANTIZABLE:
        raise UsageError(f"--int8: got a {suffix} file; expected one of {', '.join(QUANTIZABLE)}. Change --out, or leave out --int8.")
    network, header = load_model(model)
    plan = header.plan
    depth = plan.predict.depth if depth is None else depth
    answering = Answering(network, depth).eval()
    samples = find_samples(model, plan, images)
    if int8 and not samples.calibrating:
        raise UsageError(f"--int8: got {model} without the run folder of its training; expected images to calibrate with. Add --images FOLDER.")
    card = out.with_name(f"{out.name}.md")
    with written_aside(out) as aside:
        weights = aside.with_suffix(".bin")
        try:
            FORMATS[suffix](answering, (2, plan.model.in_channels, *plan.predict.tile), aside, describe(plan, depth, int8))
            if int8:
                quantize_file(aside, samples.calibrating)
            comparison = compare(answering, open_exported(aside)[0], samples, plan.data.num_classes)
            _require_agreement(out, comparison, int8)
            if suffix == ".xml":
                with written_aside(out.with_suffix(".bin")) as place:
                    weights.replace(place)
        finally:
            weights.unlink(missing_ok=True)
    files = [out, out.with_suffix(".bin")] if suffix == ".xml" else [out]
    write_text(card, model_card(out, plan, header.notes, depth, comparison_in_words(comparison)))
    return ExportedModel(out, card, depth, int8, sum(file.stat().st_size for file in files) / 1e6, comparison)


@torch.inference_mode()
def compare(network: Answering, answer: Answer, samples: Samples, classes: int) -> Comparison:
    """Run both on the same tiles."""
    difference, same = 0.0, []
    dice: list[tuple[float | None, float | None]] = []
    for number, tile in enumerate(samples.comparing):
        expected, found = network(torch.from_numpy(tile[None])).numpy()[0], answer(tile[None])[0]
        difference = max(difference, float(np.abs(expected - found).max()))
        before, after = _classes(expected), _classes(found)
        same.append(float((before == after).mean()))
        if samples.labels:
            label = samples.labels[number]
            dice.append((fast_dice(before, label, classes), fast_dice(after, label, classes)))
    return Comparison(samples.origin, len(same), difference, float(np.mean(same)), mean_of(before for before, _ in dice), mean_of(after for _, after in dice))


def comparison_in_words(comparison: Comparison) -> str:
    words = f"Compared with the network on {comparison.tiles} tiles ({comparison.origin}): same class in {comparison.same_classes:.3%} of the voxels"
    words += f", probabilities differ by at most {comparison.difference:.1g}"
    if comparison.dice is None or comparison.dice_before is None:
        return words + "."
    return words + f"; Dice {comparison.dice_before:.4f} before, {comparison.dice:.4f} after."


def _classes(probabilities: np.ndarray) -> np.ndarray:
    found: np.ndarray = probabilities.argmax(0) if len(probabilities) > 1 else probabilities[0] > 0.5
    return found.astype(np.uint8)


def _require_agreement(out: Path, comparison: Comparison, int8: bool) -> None:
    if int8 and comparison.same_classes < SAME_CLASSES:
        raise ModelFileError(
            f"{out}: got 8-bit integers that change the class of {1 - comparison.same_classes:.1%} of the voxels; expected at most {1 - SAME_CLASSES:.0%}. "
            "Export without --int8, or calibrate with images like those to be predicted (--images)."
        )
    if not int8 and comparison.difference > TOLERANCE:
        raise ModelFileError(f"{out}: got a file whose probabilities differ by {comparison.difference:.2g} from the network's; expected at most {TOLERANCE:g}. Try another format.")
