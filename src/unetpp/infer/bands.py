"""Bands of probabilities, collected into predictions without ever holding all probabilities in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from unetpp.data.orientation import Orientation, keep_axes
from unetpp.errors import DataError
from unetpp.infer.confidence import SoftDice
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import Prediction, describe_infinite, empty_prediction
from unetpp.labels.coding_torch import CLASSES, TensorCoding
from unetpp.labels.decision import MOST_PROBABLE, Decision
from unetpp.scratch import release
from unetpp.volume import Geometry

CHUNK_BYTES = 2**24
"""Bytes of probabilities that are processed at once; each step allocates a few temporaries of this size."""


@dataclass(frozen=True, eq=False)
class Band:
    """Finished rows (of the first spatial axis) of probabilities. Valid until the next band is requested."""

    first_row: int
    probabilities: Tensor
    """(depths, channels, rows, *rest) float32, compact where `TensorCoding` has such a form.
    A disagreement, if requested, is the last channel."""


def require_finite(bands: Iterable[Band], where: str) -> Iterator[Band]:
    """Pass bands on; a number that is NaN or infinite would be background without a word.

    Raises:
        DataError: a band that is not finite.
    """
    for band in bands:
        if not bool(band.probabilities.sum().isfinite()):
            raise DataError(describe_infinite(where))
        yield band


def rows_per_chunk(values: int) -> int:
    """Return the number of rows, of `values` float32 numbers each, that fit in a chunk; at least 1."""
    return max(1, CHUNK_BYTES // (4 * values))


def collect(
    bands: Iterable[Band],
    shape: tuple[int, ...],
    depths: Sequence[int],
    options: PredictOptions = DEFAULTS,
    geometry: Geometry | None = None,
    orientation: Orientation | None = None,
    coding: TensorCoding = CLASSES,
    decision: Decision = MOST_PROBABLE,
) -> dict[int, Prediction]:
    """Collect bands into predictions as they arrive.

    Args:
        bands: from the first row to the last.
        shape: shape of the image, (*spatial).
        depths: depths of the bands' first axis, in its order.
        options: which maps to collect; with disagreement, the bands contain it.
        geometry: geometry of the image.
        orientation: what turned the axes of the image into those of the bands; None: they are the same.
        coding: what the channels mean.
        decision: how probabilities become classes, and which are reported.

    Returns:
        depth -> prediction, on the image's grid.
    """
    turn = (orientation or keep_axes(len(shape))).turn
    found: dict[int, Prediction] = {}
    disagreement = options.uncertainty == "disagreement"
    confidence = {depth: SoftDice(coding) for depth in depths}
    for band in bands:
        if not found:
            outputs = coding.count_outputs(band.probabilities.shape[1] - disagreement)
            maps = (outputs if options.probabilities else 0, options.uncertainty is not None)
            sizes = (shape, coding.count_classes(outputs), geometry or Geometry(), maps)
            found = {depth: empty_prediction(depth, *sizes) for depth in depths}
        rows = slice(band.first_row, band.first_row + band.probabilities.shape[2])
        for prediction, values in zip(found.values(), band.probabilities, strict=True):
            probabilities, uncertainty = (values[:-1], values[-1]) if disagreement else (values, None)
            indices = coding.class_indices(probabilities, decision.threshold)
            probabilities = decision.scale(probabilities)
            _fill(prediction.viewed(turn), rows, indices, probabilities, uncertainty, coding)
            confidence[prediction.depth].add(probabilities, indices)
    return {depth: replace(each, dice_sums=confidence[depth].sums()) for depth, each in found.items()}


def _fill(
    prediction: Prediction,
    rows: slice,
    indices: Tensor,
    probabilities: Tensor,
    uncertainty: Tensor | None,
    coding: TensorCoding,
) -> None:
    """Write a band into a prediction. Without `uncertainty`, the entropy is written."""
    prediction.segmentation[rows] = indices.cpu().numpy()
    if prediction.probabilities is not None:
        prediction.probabilities[:, rows] = coding.expand(probabilities).cpu().numpy()
    if prediction.uncertainty is not None:
        values = coding.entropy(probabilities) if uncertainty is None else uncertainty
        prediction.uncertainty[rows] = values.cpu().numpy()
    for array in (prediction.segmentation, prediction.probabilities, prediction.uncertainty):
        release(array)


def align_bands(streams: Sequence[Iterable[Band]]) -> Iterator[tuple[Band, ...]]:
    """Cut the bands of several streams over the same rows to the same pieces, and pass them on together."""
    sources = [iter(stream) for stream in streams]
    current, row = [next(source, None) for source in sources], 0
    while found := [band for band in current if band is not None]:
        ends = [band.first_row + band.probabilities.shape[2] for band in found]
        stop = min(ends)
        yield tuple(Band(row, band.probabilities[:, :, row - band.first_row : stop - band.first_row]) for band in found)
        current = [
            next(source, None) if end == stop else band for source, band, end in zip(sources, found, ends, strict=True)
        ]
        row = stop


def average_bands(streams: Sequence[Iterable[Band]]) -> Iterator[Band]:
    """Average the bands of several streams; those of one pass as they are."""
    if len(streams) == 1:
        yield from streams[0]
        return
    for bands in align_bands(streams):
        total = bands[0].probabilities.clone()
        for band in bands[1:]:
            total += band.probabilities
        yield Band(bands[0].first_row, total.div_(len(bands)))
