"""How a prediction grows from bands of probabilities, without all of these ever being in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from unetpp.data.scratch import release
from unetpp.data.volume import Geometry
from unetpp.infer.confidence import SoftDice
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import Prediction, empty_prediction
from unetpp.labels.classes_torch import class_indices, entropy, expand_probabilities


@dataclass(frozen=True, eq=False)
class Band:
    """Finished rows (of the first spatial axis) of probabilities. Valid until the next band is asked for."""

    first_row: int
    probabilities: Tensor
    """(depths, channels, rows, *rest) float32; one channel, that of class 1, where there are two classes; last that of the disagreement, where it is asked for."""


PIECE = 2**24
"""Bytes of probabilities that are worked on at once: each step makes several copies of them."""


def rows_at_once(values: int) -> int:
    """How many rows of so many float32 values each."""
    return max(1, PIECE // (4 * values))


def collect(
    bands: Iterable[Band],
    shape: tuple[int, ...],
    depths: Sequence[int],
    options: PredictOptions = DEFAULTS,
    geometry: Geometry | None = None,
) -> dict[int, Prediction]:
    """Turn bands into predictions as they come.

    Args:
        shape: of the grid that the bands cover.
        depths: those of the bands' first axis, in its order.
        options: what to keep; a disagreement the bands have already.
        geometry: of the image.
    """
    found: dict[int, Prediction] = {}
    apart = options.uncertainty == "disagreement"
    confidence = {depth: SoftDice() for depth in depths}
    for band in bands:
        if not found:
            classes = max(2, band.probabilities.shape[1] - apart)
            found = {
                depth: empty_prediction(
                    depth,
                    shape,
                    classes,
                    geometry or Geometry(),
                    options.probabilities,
                    options.uncertainty is not None,
                )
                for depth in depths
            }
        rows = slice(band.first_row, band.first_row + band.probabilities.shape[2])
        for prediction, values in zip(found.values(), band.probabilities, strict=True):
            answers, doubt = (values[:-1], values[-1]) if apart else (values, None)
            confidence[prediction.depth].add(answers, _fill(prediction, rows, answers, doubt))
    return {depth: replace(prediction, expected_dice=confidence[depth].value()) for depth, prediction in found.items()}


def _fill(prediction: Prediction, rows: slice, values: Tensor, doubt: Tensor | None) -> Tensor:
    """Write a band into a prediction, and give its class indices; without a `doubt` of its own it is the entropy."""
    indices = class_indices(values)
    prediction.segmentation[rows] = indices.cpu().numpy()
    if prediction.probabilities is not None:
        prediction.probabilities[:, rows] = expand_probabilities(values).cpu().numpy()
    if prediction.uncertainty is not None:
        prediction.uncertainty[rows] = (entropy(values) if doubt is None else doubt).cpu().numpy()
    for array in (prediction.segmentation, prediction.probabilities, prediction.uncertainty):
        release(array)
    return indices
