"""The interface of everything that segments images: `Predictor` with torch, `ExportedPredictor` without."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np

from unetpp.data.arrays import Image, open_array_or_file, split_batch
from unetpp.data.case_files import open_case_image
from unetpp.data.training_range import find_scale
from unetpp.errors import UsageError
from unetpp.formats.sources import ImageSource
from unetpp.infer.options import DEFAULTS, Depth, PredictOptions
from unetpp.infer.planes import predict_any
from unetpp.infer.predict_files import WrittenFiles, predict_to_files
from unetpp.infer.prediction import Prediction, name_depth
from unetpp.infer.tiles import TileProgress
from unetpp.labels.cleaning import clean_segmentation
from unetpp.layouts.cases import Case
from unetpp.measured import Calibration
from unetpp.plan import DataPlan
from unetpp.progress import Stage
from unetpp.scratch import release
from unetpp.selection import Step
from unetpp.size_names import SizeNames


class ArrayOptions(TypedDict, total=False):
    """Arguments of `CasePredictor.predict` that do not change the type of its result."""

    size: int | str | None
    tta: bool
    axes: str | None
    spacing_mm: Sequence[float] | None
    progress: TileProgress | None


class CasePredictor(ABC):
    """Segments arrays, cases and files. Threads may share it.

    Attributes:
        data: the images and classes of the model.
        sizes: sizes at which it predicts, and their names.
        name: name of the model, for errors and predictions.json.
        backend: library that runs it.
        device: where it runs.
        calibrations: number of a size -> calibration of its expected Dice.
        verdicts: on its training, a line for each that is not good.
        doubts: these, and why no Dice is expected, in words.
        steps: post-processing of the segmentations.
    """

    data: DataPlan
    sizes: SizeNames
    name: str
    backend: str
    device: Any = "cpu"
    calibrations: Mapping[int, Calibration]
    verdicts: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    @abstractmethod
    def choose_sizes(self, options: PredictOptions) -> tuple[int, ...]:
        """Resolve `options.size` or `options.depth` to numbers of sizes; MEAN and AUTO stand for "mean" and "auto".

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
        """Predict an image that is read in blocks, on its own grid; all sizes are computed in one pass.

        Args:
            source: the image.
            where: its name, for errors.
            options: which sizes, how, and which maps to return.
            progress: called with (tiles done, tiles in total).

        Returns:
            Number of a size, in a network of one width its depth -> prediction.

        Raises:
            DataError: the image does not fit the model.
            UsageError: the options do not fit the model.
        """

    def __repr__(self) -> str:
        first, *rest = self.sizes.list_names()
        sizes = f"{self.sizes.noun}s {first} to {rest[-1]}" if rest else f"{self.sizes.noun} {first}"
        return f"{type(self).__name__}: {self.name}, {self.data.dims}D, {sizes}, {self.device}"

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths at which it predicts, shallowest first; with shells the numbers of its sizes."""
        return self.sizes.numbers

    @overload
    def predict(
        self,
        image: Image,
        *,
        depth: Literal["all"],
        probabilities: Literal[False] = False,
        **options: Unpack[ArrayOptions],
    ) -> dict[int | str, np.ndarray]: ...

    @overload
    def predict(
        self,
        image: Image,
        *,
        depth: int | Literal["mean", "auto"] | None = None,
        probabilities: Literal[False] = False,
        **options: Unpack[ArrayOptions],
    ) -> np.ndarray: ...

    @overload
    def predict(
        self, image: Image, *, depth: Literal["all"], probabilities: Literal[True], **options: Unpack[ArrayOptions]
    ) -> dict[int | str, Prediction]: ...

    @overload
    def predict(
        self,
        image: Image,
        *,
        depth: int | Literal["mean", "auto"] | None = None,
        probabilities: Literal[True],
        **options: Unpack[ArrayOptions],
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        image: list[Any] | tuple[Any, ...],
        *,
        depth: Depth = None,
        probabilities: bool = False,
        **options: Unpack[ArrayOptions],
    ) -> list[Any]: ...

    def predict(
        self,
        image: Any,
        *,
        depth: Depth = None,
        probabilities: bool = False,
        size: int | str | None = None,
        tta: bool = False,
        axes: str | None = None,
        spacing_mm: Sequence[float] | None = None,
        progress: TileProgress | None = None,
        **unknown: Any,
    ) -> Any:
        """Segment one image, or several; `predictor(image)` is the same.

            segmentation = predictor.predict(image)
            found = predictor.predict(image, probabilities=True)  # found.segmentation, found.probabilities, ...

        Args:
            image: a file, or an array: (Y, X), (Y, X, C), (C, Y, X), or in 3D (Z, Y, X), (C, Z, Y, X), (Z, Y, X, C)
                with the axes of the model (`data.orientation`): X to the right, Y to the front, Z to the head. Or a
                list of these, or an array with one axis more, the first, for the images.
            depth: depth of the head, with shells of the whole width; "mean": the mean of all heads (the accurate
                mode); "auto": for each tile the first depth that is certain; "all" depths; None: the plan's.
            probabilities: return a `Prediction`, with the probability of every class and the confidence.
            size: instead of `depth`: name of a size, such as "small" or "4x8", a depth, or one of the words of `depth`.
            tta: average over mirrored copies: 4 times the work in 2D, 8 times in 3D.
            axes: letter of each axis of an array in its order, such as "YXC", with B for that of the images; None:
                the channels are the first or the last axis, which is of as many as the model has. Three gray images in
                one array look like one image in colors: `axes="BYX"`.
            spacing_mm: voxel size of an array, in the order of its spatial axes; None: that of the network's grid.
            progress: called with (tiles done, tiles in total).

        Returns:
            Class indices (*spatial) on the image's grid, or a `Prediction`; with `depth="all"`, a dictionary of them by
            depth, with shells by the name of the size; for several images, a list.

        Raises:
            DataError: the file or array does not fit the model.
            UsageError: the model has not that size, an exported file has not that option, or an unknown argument.
        """
        if unknown:
            name, expected = next(iter(unknown)), ", ".join([*ArrayOptions.__annotations__, "depth", "probabilities"])
            action = "Thresholds: of `predict(image, probabilities=True).probabilities`." if name == "threshold" else ""
            raise UsageError(name, f"an unknown argument of {type(self).__name__}.predict", expected, action)
        options = PredictOptions(depth, tta, probabilities, size=size)
        images = split_batch(image, self.data, axes)
        if images is None:
            return self._predict_one(image, options, axes, spacing_mm, progress)
        axes = axes and axes.replace("B", "")
        return [self._predict_one(each, options, axes, spacing_mm, progress) for each in images]

    __call__ = predict

    def _predict_one(
        self,
        image: Image,
        options: PredictOptions,
        axes: str | None,
        spacing_mm: Sequence[float] | None,
        progress: TileProgress | None,
    ) -> Any:
        source, where = open_array_or_file(image, self.data, spacing_mm, axes)
        for way in find_scale(source, self.data):
            warnings.warn(f"{where}: {way}", UserWarning, stacklevel=3)
        found = self._predict_any(source, where, options, progress)
        by_size = {
            name_depth(number, self.sizes): each if options.probabilities else each.segmentation
            for number, each in found.items()
        }
        return by_size if options.wanted == "all" else next(iter(by_size.values()))

    def _predict_any(
        self, source: ImageSource, where: str, options: PredictOptions, progress: TileProgress | None
    ) -> dict[int, Prediction]:
        """Predict an image, or a volume by planes; the predictions have the names of their sizes."""
        found = predict_any(self.predict_source, self.data.dims, source, where, options, progress)
        for each in found.values():  # after all planes of a volume are there
            clean_segmentation(each.segmentation, self.steps, release)
        return {number: replace(each, size=str(name_depth(number, self.sizes))) for number, each in found.items()}

    def predict_case(
        self,
        case: Case,
        options: PredictOptions = DEFAULTS,
        progress: TileProgress | None = None,
        source: ImageSource | None = None,
    ) -> dict[int, Prediction]:
        """Predict the files of a case; all sizes are computed in one pass. A 2D network predicts volumes by planes.

        Args:
            case: the case, of one or several files.
            options: which sizes, how, and which maps to return.
            progress: called with (tiles done, tiles in total).
            source: its image, if it is open already.

        Returns:
            Number of a size, in a network of one width its depth -> prediction.

        Raises:
            DataError: the files cannot be read, or do not fit the model.
            UsageError: the options do not fit the model.
        """
        opened = open_case_image(case, self.data) if source is None else source
        return self._predict_any(opened, str(case.images[0]), options, progress)

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
            options: which sizes, how, and which maps to write in addition to the segmentations.
            progress: called with images done of all.
            overlay: write a picture of each image with the outlines of its segmentation.

        Raises:
            DataError: no images.
            UsageError: the options do not fit the model, or a result would overwrite its input.
            WriteError: no space, or no permission to write.
        """
        return predict_to_files(self, inputs, Path(out), options, progress, overlay)
