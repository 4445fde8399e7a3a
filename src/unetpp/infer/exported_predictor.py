"""Prediction with an exported file: needs `unetpp[runtime]`, and no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.data.preprocess import PreparedImage, prepare_image, resample_linear
from unetpp.data.training_range import find_outside
from unetpp.errors import DataError, ModelFileError, UsageError
from unetpp.formats.scratch import release
from unetpp.formats.sources import ImageSource
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import Prediction, describe_infinite, empty_prediction
from unetpp.infer.tiles import TileGrid, TileProgress, read_tile
from unetpp.labels.classes import most_probable
from unetpp.plan import DataPlan, PredictPlan
from unetpp.runtime.exported_file import RUNTIMES, ExportedNetwork, open_exported


class ExportedPredictor(CasePredictor):
    """Segments images as `infer.predictor.Predictor` does at the exported depth. Threads may share it.

    Args:
        network: runs the file.
        about: description inside the file.
        name: name of the file, for errors and predictions.json.
        backend: runtime that runs it.

    Raises:
        ModelFileError: the description is not one that `unetpp export` writes.
    """

    def __init__(self, network: ExportedNetwork, about: dict[str, Any], name: str, backend: str) -> None:
        try:
            self.data = DataPlan.model_validate({key: about[key] for key in DataPlan.model_fields if key in about})
            tiles = PredictPlan(tile=about["tile"], overlap=about["overlap"], depth=about["depth"])
            if len(tiles.tile) != self.data.dims:
                raise ValueError("a tile of other axes than the image")
            self._tile, self._overlap, self.depths = tiles.tile, tiles.overlap, (tiles.depth,)
        except (KeyError, TypeError, ValueError) as error:
            got, expected = "a file without a description of its network", "one that `unetpp export` wrote"
            raise ModelFileError(name, got, expected, "Export it again.") from error
        self._network = network
        self.name, self.backend, self.calibrations = name, backend, {}

    def choose_depths(self, options: PredictOptions) -> tuple[int, ...]:
        """Return the exported depth.

        Raises:
            UsageError: another depth, or an option that an exported file does not have.
        """
        if options.depth not in (None, *self.depths):
            got, expected = f"{options.depth!r} for {self.name}", f"{self.depths[0]}, the depth that was exported"
            raise UsageError("depth", got, expected, "Leave it out, or export another depth.")
        for option in options.changed:
            if option != "depth":
                got = f"an exported file ({self.name}), which returns classes alone"
                action = "Leave it out, or name the model that was exported."
                raise UsageError(option, got, "a .safetensors", action)
        return self.depths

    def predict_source(
        self,
        source: ImageSource,
        where: str = "image",
        options: PredictOptions = DEFAULTS,
        progress: TileProgress | None = None,
    ) -> dict[int, Prediction]:
        """Predict an image that is read in blocks; see `CasePredictor.predict_source`."""
        (depth,) = self.choose_depths(options)
        image = prepare_image(source, self.data, where)
        bands = self._stream_bands(image, where, progress)
        prediction = empty_prediction(depth, image.image_shape, self.data.num_classes, image.geometry)
        turned = image.orientation.turn(prediction.segmentation)  # a view: what is written there is on the image's grid
        if image.shape[1:] == image.turned_shape:
            row = 0
            for band in bands:
                most_probable(band, turned[row : row + band.shape[1]])
                row += band.shape[1]
                release(prediction.segmentation)
        else:
            on_image = (resample_linear(each, turned.shape) for each in np.concatenate(list(bands), axis=1))
            most_probable(on_image, turned)
        return {depth: replace(prediction, outside=find_outside(source, self.data))}

    def _stream_bands(self, image: PreparedImage, where: str, progress: TileProgress | None) -> Iterator[np.ndarray]:
        """Yield probabilities (classes, rows, *rest) on the network's grid, from its first row to its last.

        The NumPy version of `sliding.stream_bands`: keep the two equal.
        """
        grid = TileGrid(image.shape[1:], self._tile, self._overlap)
        top, height = 0, min(self._tile[0], grid.shape[0])
        sums = np.zeros((self.data.num_classes, height, *grid.shape[1:]), dtype=np.float32)
        for done, tile in enumerate(grid, start=1):
            values = self._network(read_tile(image, tile, self._tile)[None])[0]
            if not np.isfinite(values.sum()):
                raise DataError(describe_infinite(where))
            if count := tile[0].inside.start - top:
                yield sums[:, :count].copy()
                sums[:, :-count] = sums[:, count:]
                sums[:, -count:] = 0
                top += count
            weights = reduce(np.multiply.outer, (span.weights for span in tile))
            target = (slice(None), slice(len(tile[0].weights)), *(span.inside for span in tile[1:]))
            sums[target] += values[(slice(None), *(span.within for span in tile))] * weights
            if progress:
                progress(done, len(grid))
        yield sums[:, : grid.shape[0] - top]


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
