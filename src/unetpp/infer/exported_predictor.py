"""Prediction with an exported file: needs `unetpp[runtime]`, and no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from unetpp import labels
from unetpp.data.preprocess import PreparedImage, prepare_image
from unetpp.data.resampling import choose_methods, resample_block
from unetpp.data.training_range import find_outside
from unetpp.errors import DataError, UsageError
from unetpp.formats.sources import ArraySource, ImageSource
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.doubts import describe_doubts, describe_verdicts
from unetpp.infer.mirror import mirrorings
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import MEAN, Prediction, describe_infinite, empty_prediction
from unetpp.infer.tiles import TileGrid, TileProgress, read_tile
from unetpp.labels.coding import Coding
from unetpp.labels.decision import MOST_PROBABLE, Decision, make_decision
from unetpp.runtime.exported_file import RUNTIMES, ExportedNetwork, open_exported, parse_description
from unetpp.scratch import allocate_array, release
from unetpp.size_names import choose_setting
from unetpp.slabs import slabs
from unetpp.volume import Geometry

_Slices = tuple[slice, ...]
_OPTIONS = ("depth", "size", "tta", "probabilities", "uncertainty")
"""Options that exported files have; a new one is refused until it is implemented here."""
_NAME_THE_MODEL = "name the model that was exported"


class ExportedPredictor(CasePredictor):
    """Segments images as `infer.predictor.Predictor` does, at the exported depths. Threads may share it.

    Args:
        network: runs the file.
        about: description inside the file.
        name: name of the file, for errors and predictions.json.
        backend: runtime that runs it.

    Raises:
        ModelFileError: the description is not one that `unetpp export` writes.
    """

    def __init__(self, network: ExportedNetwork, about: dict[str, Any], name: str, backend: str) -> None:
        described = parse_description(about, name)
        self.data, self._tiles = described.data, described.tiles
        self.sizes, self.calibrations = described.notes.sizes, described.notes.depths
        self.verdicts = describe_verdicts([described.notes.verdict])
        self.doubts = describe_doubts([described.notes.verdict], described.notes.no_expected_dice)
        self._decision, self._tta = MOST_PROBABLE, False
        if chosen := described.selection:
            self._decision, self._tta = make_decision(chosen, self.data), chosen.tta
            self.steps = chosen.steps
        self._network, self._coding = network, labels.make_coding(self.data)
        self.name, self.backend = name, backend

    def choose_sizes(self, options: PredictOptions) -> tuple[int, ...]:
        """Resolve `options.size` or `options.depth` to exported ones; see `PredictOptions.choose_sizes`.

        Raises:
            UsageError: another size, or an option that an exported file does not have.
        """
        sizes, wanted = self.sizes, options.wanted
        if wanted not in (None, "all", "all and mean", "mean") and sizes.find(wanted) is None:
            one = f"{sizes.list_names()[0]}, the {sizes.noun}"
            some = one if len(sizes.numbers) == 1 else f"{sizes.describe()}, the {sizes.noun}s"
            action = f"Leave it out, export another {sizes.noun}, or {_NAME_THE_MODEL}."
            setting = choose_setting(options.depth, options.size)
            raise UsageError(setting, f"{wanted!r} for {self.name}", f"{some} in the file", action)
        for option in options.changed:
            if option not in _OPTIONS:
                got, action = (
                    f"an exported file ({self.name}), which has no such option",
                    f"Leave it out, or {_NAME_THE_MODEL}.",
                )
                raise UsageError(option, got, "a .safetensors", action)
        if options.uncertainty == "disagreement":
            got = f"disagreement of an exported file ({self.name})"
            raise UsageError("uncertainty", got, "entropy", f"Change it, or {_NAME_THE_MODEL}.")
        return options.choose_sizes(sizes, self._tiles.depth, model=self.name)

    def predict_source(
        self,
        source: ImageSource,
        where: str = "image",
        options: PredictOptions = DEFAULTS,
        progress: TileProgress | None = None,
    ) -> dict[int, Prediction]:
        """Predict an image that is read in blocks; see `CasePredictor.predict_source`."""
        depths = self.choose_sizes(options)
        image = prepare_image(source, self.data, where)
        outputs = len(self.data.outputs)
        maps = (outputs if options.probabilities else 0, options.uncertainty is not None)
        sizes = (image.image_shape, self.data.num_classes, image.geometry, maps)
        found = [empty_prediction(depth, *sizes) for depth in depths]
        sums = [np.zeros((3, len(self.data.scored))) for _ in depths]
        bands = self._stream_bands(image, depths, options.tta or self._tta, where, progress)
        for slices, block in _restore(bands, image, (len(depths), outputs)):
            for prediction, total, probabilities in zip(found, sums, block, strict=True):
                viewed = prediction.viewed(image.orientation.turn)
                total += _fill(viewed, slices, probabilities, self._coding, self._decision)
        outside = find_outside(source, self.data)
        return {
            prediction.depth: replace(prediction, dice_sums=total, outside=outside)
            for prediction, total in zip(found, sums, strict=True)
        }

    def _stream_bands(
        self, image: PreparedImage, depths: Sequence[int], tta: bool, where: str, progress: TileProgress | None
    ) -> Iterator[np.ndarray]:
        """Yield probabilities (depths, outputs, rows, *rest) on the network's grid, from its first row to its last.

        The NumPy version of `sliding.stream_bands`: keep the two equal.
        """
        tile_shape = self._tiles.tile
        grid = TileGrid(image.shape[1:], tile_shape, self._tiles.overlap)
        top, height = 0, min(tile_shape[0], grid.shape[0])
        sums = np.zeros((len(depths), len(self.data.outputs), height, *grid.shape[1:]), dtype=np.float32)
        for done, tile in enumerate(grid, start=1):
            values = self._predict_tile(read_tile(image, tile, tile_shape), depths, tta)
            if not np.isfinite(values.sum()):
                raise DataError(describe_infinite(where))
            if count := tile[0].inside.start - top:
                yield sums[:, :, :count].copy()
                sums[:, :, :-count] = sums[:, :, count:]
                sums[:, :, -count:] = 0
                top += count
            weights = reduce(np.multiply.outer, (span.weights for span in tile))
            target: Any = (..., slice(len(tile[0].weights)), *(span.inside for span in tile[1:]))
            within: Any = (..., *(span.within for span in tile))
            sums[target] += values[within] * weights
            if progress:
                progress(done, len(grid))
        yield sums[:, :, : grid.shape[0] - top]

    def _predict_tile(self, tile: np.ndarray, depths: Sequence[int], tta: bool) -> np.ndarray:
        """Predict a tile (C, *tile): probabilities (depths, outputs, *tile), averaged over mirrored copies."""
        heads = [number for number, head in enumerate(self.depths) if head in depths or MEAN in depths]
        copies = mirrorings(self.data.dims) if tta else ((),)
        total: Any = 0
        for axes in copies:
            found = np.stack(self._network(np.ascontiguousarray(np.flip(tile, axes))[None], heads))[:, 0]
            total = total + np.flip(found, axes)
        total = total / np.float32(len(copies)) if tta else total
        by_depth = dict(zip((self.depths[head] for head in heads), total, strict=True))
        return np.stack([total.mean(axis=0) if depth == MEAN else by_depth[depth] for depth in depths])


def _fill(
    prediction: Prediction, slices: _Slices, probabilities: np.ndarray, coding: Coding, decision: Decision
) -> np.ndarray:
    """Write a block of probabilities (outputs, *block) into a prediction; returns its sums for `soft_dice`."""
    indices = coding.fill_indices(probabilities, prediction.segmentation[slices], decision.threshold)
    probabilities = decision.scale(probabilities)
    if prediction.probabilities is not None:
        prediction.probabilities[(slice(None), *slices)] = probabilities
    if prediction.uncertainty is not None:
        prediction.uncertainty[slices] = coding.entropy(probabilities)
    for array in (prediction.segmentation, prediction.probabilities, prediction.uncertainty):
        release(array)
    return coding.soft_counts(probabilities, indices)


def _restore(
    bands: Iterable[np.ndarray], image: PreparedImage, channels: tuple[int, int]
) -> Iterator[tuple[_Slices, np.ndarray]]:
    """Bring probabilities to the grid of the image, block by block; many probabilities of another grid lie on disk.

    Args:
        bands: probabilities (depths, outputs, rows, *rest) on the network's grid, from its first row to its last.
        image: the image.
        channels: numbers of depths and of outputs.

    Returns:
        The place of each block on the grid of the image, turned to the axes of the network, and what is there.
    """
    grid, shape = image.shape[1:], image.turned_shape
    whole, row = slice(None), 0
    probabilities = None if grid == shape else allocate_array((channels[0] * channels[1], *grid), np.float32)
    for band in bands:
        rows = slice(row, row + band.shape[2])
        row = rows.stop
        if probabilities is None:
            yield (rows, *[whole] * (len(shape) - 1)), band
        else:
            probabilities[:, rows] = band.reshape(-1, *band.shape[2:])
            release(probabilities)
    if probabilities is not None:
        source, methods = ArraySource(probabilities, Geometry()), choose_methods(len(grid), "linear", image.thick)
        for slices in slabs(shape):
            block = resample_block(source, slices, grid, shape, methods)
            yield slices, block.reshape(*channels, *block.shape[1:])


def load_exported(path: Path, device: str = "auto", backend: str = "auto") -> ExportedPredictor:
    """Load an exported .onnx or .xml.

    Args:
        path: the file.
        device: auto or cpu.
        backend: auto, or the runtime of the file.

    Raises:
        ModelFileError: the file cannot be used.
        MissingExtraError: its runtime is not installed.
        UsageError: a device or backend that does not run it.
    """
    runtime, action = RUNTIMES[path.suffix], "Leave it out, or name the model that was exported."
    if device not in ("auto", "cpu"):
        raise UsageError("device", f"{device} for {path}", "cpu, where exported files run", action)
    if backend not in ("auto", runtime):
        raise UsageError("backend", f"{backend} for {path}", f"{runtime}, which runs it", action)
    return ExportedPredictor(*open_exported(path), str(path), runtime)
