"""Prediction with an exported file: what `unetpp[runtime]` needs, and no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.data.arrays import open_array_or_file
from unetpp.data.cases import Case
from unetpp.data.preprocess import PreparedImage, prepare_image, resample_linear
from unetpp.data.readers import open_images
from unetpp.data.scratch import release
from unetpp.data.sources import ImageSource
from unetpp.errors import ModelFileError, UsageError
from unetpp.infer.options import DEFAULTS, Depth, PredictOptions
from unetpp.infer.predict_files import FileProgress, WrittenFiles, predict_to_files
from unetpp.infer.prediction import Prediction, empty_prediction
from unetpp.infer.tiles import TileGrid, TileProgress, read_tile
from unetpp.labels.classes import most_probable
from unetpp.measured import Calibration
from unetpp.plan import DataPlan
from unetpp.runtime.exported_file import RUNTIMES, ExportedNetwork, open_exported


class ExportedPredictor:
    """Segments images as `infer.predictor.Predictor` does at the depth that was exported. Threads may share it.

    Args:
        answer: runs the file.
        about: what the file says of itself.
        name: of the file, for records.
        backend: what runs it.

    Raises:
        ModelFileError: the file does not say what `unetpp export` writes.
    """

    def __init__(self, answer: ExportedNetwork, about: dict[str, Any], name: str, backend: str) -> None:
        try:
            self.data = DataPlan.model_validate({key: about[key] for key in DataPlan.model_fields if key in about})
            self._tile, self._overlap = tuple(about["tile"]), float(about["overlap"])
            self.depths = (int(about["depth"]),)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"{name}: got a file that does not say what it was made for; expected one that `unetpp export` wrote. Export it again."
            ) from error
        self._answer = answer
        self.name, self.backend = name, backend
        self.worth: dict[int, Calibration] = {}

    def predict(
        self,
        image: np.ndarray | str | PathLike[str],
        *,
        depth: Depth = None,
        tta: bool = False,
        spacing_mm: Sequence[float] | None = None,
        progress: TileProgress | None = None,
    ) -> np.ndarray:
        """Class indices (*spatial) on the image's grid; arguments and errors as those of `Predictor.predict`.

        Raises:
            UsageError: another depth than the exported one, or `tta`.
        """
        self.choose_depths(PredictOptions(depth=depth, tta=tta))
        return self._predicted(*open_array_or_file(image, self.data, spacing_mm), progress).segmentation

    def predict_case(
        self, case: Case, options: PredictOptions = DEFAULTS, progress: TileProgress | None = None
    ) -> dict[int, Prediction]:
        """The prediction for the files of a case.

        Raises:
            DataError: the files cannot be read, or do not fit the network.
            UsageError: what an exported file does not give.
        """
        (depth,) = self.choose_depths(options)
        return {depth: self._predicted(open_images(case.images), str(case.images[0]), progress)}

    def predict_files(
        self,
        inputs: Sequence[str | PathLike[str]],
        out: str | PathLike[str],
        options: PredictOptions = DEFAULTS,
        progress: FileProgress | None = None,
    ) -> WrittenFiles:
        """Segment files and folders into `out`; see `predict_files.predict_to_files`."""
        return predict_to_files(self, inputs, Path(out), options, progress)

    def choose_depths(self, options: PredictOptions) -> tuple[int, ...]:
        """The depth that was exported.

        Raises:
            UsageError: another one is asked for, or an option that an exported file does not have.
        """
        if options.depth not in (None, *self.depths):
            got, expected = f"{options.depth!r} for {self.name}", f"{self.depths[0]}, the depth that was exported"
            raise UsageError("depth", got, expected, "Leave it out, or export another depth.")
        for option in options.changed:
            if option != "depth":
                got = f"an exported file ({self.name}), which gives classes alone"
                action = "Leave it out, or name the model that was exported."
                raise UsageError(option, got, "a .safetensors", action)
        return self.depths

    def _predicted(self, source: ImageSource, where: str, progress: TileProgress | None) -> Prediction:
        image = prepare_image(source, self.data, where)
        pieces = self._pieces(image, progress)
        prediction = empty_prediction(self.depths[0], image.image_shape, self.data.num_classes, image.geometry)
        if image.shape[1:] == image.image_shape:
            row = 0
            for piece in pieces:
                most_probable(piece, prediction.segmentation[row : row + piece.shape[1]])
                row += piece.shape[1]
                release(prediction.segmentation)
        else:
            on_image = (resample_linear(each, image.image_shape) for each in np.concatenate(list(pieces), axis=1))
            most_probable(on_image, prediction.segmentation)
        return prediction

    def _pieces(self, image: PreparedImage, progress: TileProgress | None) -> Iterator[np.ndarray]:
        """Probabilities (classes, rows, *rest) on the network's grid, from its first row to its last."""
        grid = TileGrid(image.shape[1:], self._tile, self._overlap)
        top, height = 0, min(self._tile[0], grid.shape[0])
        sums = np.zeros((self.data.num_classes, height, *grid.shape[1:]), dtype=np.float32)
        for done, tile in enumerate(grid, start=1):
            values = self._answer(read_tile(image, tile, self._tile)[None])[0]
            if count := tile[0].inside.start - top:
                yield sums[:, :count].copy()
                sums[:, :-count] = sums[:, count:]
                sums[:, -count:] = 0
                top += count
            weights = reduce(np.multiply.outer, (span.weights for span in tile))
            sums[(slice(None), slice(len(tile[0].weights)), *(span.inside for span in tile[1:]))] += (
                values[(slice(None), *(span.within for span in tile))] * weights
            )
            if progress:
                progress(done, len(grid))
        yield sums[:, : grid.shape[0] - top]


def load_exported(path: Path, device: str = "auto", backend: str = "auto") -> ExportedPredictor:
    """A predictor from an exported .onnx or .xml.

    Raises:
        ModelFileError: the file cannot be used.
        MissingExtraError: without its runtime.
        UsageError: a device or backend that does not run it.
    """
    runs = RUNTIMES[path.suffix]
    if device not in ("auto", "cpu"):
        raise UsageError(
            f"--device: got {device} for {path}; expected cpu, where exported files run. Leave it out, or name the model that was exported."
        )
    if backend not in ("auto", runs):
        raise UsageError(
            f"--backend: got {backend} for {path}, which {runs} runs. Leave it out, or name the model that was exported."
        )
    answer, about = open_exported(path)
    return ExportedPredictor(answer, about, str(path), runs)
