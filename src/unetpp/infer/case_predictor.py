"""The interface of everything that segments images: `Predictor` with torch, `ExportedPredictor` without."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal, overload

import numpy as np

from unetpp.data.arrays import open_array_or_file
from unetpp.data.case_files import open_case_image
from unetpp.formats.sources import ImageSource
from unetpp.infer.options import DEFAULTS, Depth, PredictOptions
from unetpp.infer.planes import predict_any
from unetpp.infer.predict_files import WrittenFiles, predict_to_files
from unetpp.infer.prediction import Prediction
from unetpp.infer.tiles import TileProgress
from unetpp.layouts.cases import Case
from unetpp.measured import Calibration
from unetpp.plan import DataPlan
from unetpp.progress import Stage


class CasePredictor(ABC):
    """Segments arrays, cases and files. Threads may share it.

    Attributes:
        data: the images and classes of the model.
        depths: depths at which it predicts, shallowest first.
        name: name of the model, for errors and predictions.json.
        backend: library that runs it.
        calibrations: depth -> calibration of its expected Dice.
    """

    data: DataPlan
    depths: tuple[int, ...]
    name: str
    backend: str
    calibrations: Mapping[int, Calibration]

    @abstractmethod
    def choose_depths(self, options: PredictOptions) -> tuple[int, ...]:
        """Resolve `options.depth`; MEAN and AUTO stand for "mean" and "auto".

        Raises:
            UsageError: the options do not fit the model.
        """

    @abstractmethod
    def predict_source(
        self,
        source: ImageSource,
        where: str = "image",
        options: PredictOptions = DEFAULTS,
        progress: TileProgress | None = None,
    ) -> dict[int, Prediction]:
        """Predict an image that is read in blocks, on its own grid; all depths are computed in one pass.

        Args:
            source: the image.
            where: its name, for errors.
            options: which depths, how, and which maps to return.
            progress: called with (tiles done, tiles in total).

        Returns:
            depth -> prediction.

        Raises:
            DataError: the image does not fit the model.
            UsageError: the options do not fit the model.
        """

    @overload
    def predict(
        self,
        image: np.ndarray | str | PathLike[str],
        *,
        depth: Literal["all"],
        tta: bool = False,
        spacing_mm: Sequence[float] | None = None,
        progress: TileProgress | None = None,
    ) -> dict[int, np.ndarray]: ...

    @overload
    def predict(
        self,
        image: np.ndarray | str | PathLike[str],
        *,
        depth: int | Literal["mean", "auto"] | None = None,
        tta: bool = False,
        spacing_mm: Sequence[float] | None = None,
        progress: TileProgress | None = None,
    ) -> np.ndarray: ...

    def predict(
        self,
        image: np.ndarray | str | PathLike[str],
        *,
        depth: Depth = None,
        tta: bool = False,
        spacing_mm: Sequence[float] | None = None,
        progress: TileProgress | None = None,
    ) -> np.ndarray | dict[int, np.ndarray]:
        """Segment one image.

        Args:
            image: a file, or an array: (Y, X), (Y, X, C), (C, Y, X), or in 3D (Z, Y, X), (C, Z, Y, X) with the axes of
                the model (`data.orientation`): X to the right, Y to the front, Z to the head.
            depth: depth of the head; "mean": the mean of all heads (the accurate mode); "auto": for each tile the first
                depth that is certain; "all" depths; None: the plan's.
            tta: average over mirrored copies: 4 times the work in 2D, 8 times in 3D.
            spacing_mm: voxel size of an array, in the order of its spatial axes; None: that of the network's grid.
            progress: called with (tiles done, tiles in total).

        Returns:
            Class indices (*spatial) on the image's grid; with `depth="all"`, a dictionary of them by depth.

        Raises:
            DataError: the file or array does not fit the model.
            UsageError: the model has no head at `depth`, or is an exported file, which has one depth and no `tta`.
        """
        source, where = open_array_or_file(image, self.data, spacing_mm)
        found = predict_any(self.predict_source, self.data.dims, source, where, PredictOptions(depth, tta), progress)
        by_depth = {head: prediction.segmentation for head, prediction in found.items()}
        return by_depth if depth == "all" else next(iter(by_depth.values()))

    def predict_case(
        self, case: Case, options: PredictOptions = DEFAULTS, progress: TileProgress | None = None
    ) -> dict[int, Prediction]:
        """Predict the files of a case; all depths are computed in one pass. A 2D network predicts volumes by planes.

        Args:
            case: the case, of one or several files.
            options: which depths, how, and which maps to return.
            progress: called with (tiles done, tiles in total).

        Returns:
            depth -> prediction.

        Raises:
            DataError: the files cannot be read, or do not fit the model.
            UsageError: the options do not fit the model.
        """
        source, where = open_case_image(case, self.data), str(case.images[0])
        return predict_any(self.predict_source, self.data.dims, source, where, options, progress)

    def predict_files(
        self,
        inputs: Sequence[str | PathLike[str]],
        out: str | PathLike[str],
        options: PredictOptions = DEFAULTS,
        progress: Stage | None = None,
        overlay: bool = False,
    ) -> WrittenFiles:
        """Segment files and folders; a bad file is skipped and listed, the others are written.

        Args:
            inputs: files, lists and folders, as `layouts.inputs.find_images` reads them.
            out: folder for the results.
            options: which depths, how, and which maps to write in addition to the segmentations.
            progress: called with images done of all.
            overlay: write a picture of each image with the outlines of its segmentation.

        Raises:
            DataError: no images.
            UsageError: the options do not fit the model, or a result would overwrite its input.
            WriteError: no space, or no permission to write.
        """
        return predict_to_files(self, inputs, Path(out), options, progress, overlay)
