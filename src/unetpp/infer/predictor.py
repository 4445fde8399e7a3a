"""The stateful side of prediction: networks on a device, and images in, segmentations out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch

from unetpp.data.arrays import open_array_or_file
from unetpp.data.cases import Case
from unetpp.data.preprocess import prepare_image
from unetpp.data.readers import open_images
from unetpp.data.sources import ImageSource
from unetpp.errors import ModelFileError, UsageError
from unetpp.infer.bands import collect
from unetpp.infer.early_exit import EarlyExit, choose_rule
from unetpp.infer.options import DEFAULTS, Depth, PredictOptions
from unetpp.infer.predict_files import Failure, FileProgress, WrittenFiles, predict_to_files
from unetpp.infer.prediction import AUTO, Prediction
from unetpp.infer.restore import resample_bands
from unetpp.infer.sliding import stream_bands
from unetpp.infer.tiles import TileProgress
from unetpp.measured import Calibration, DepthRow, Notes, Rule
from unetpp.metrics.scores import mean_of
from unetpp.model.file import load_model
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import DataPlan, Plan
from unetpp.run_folder import model_files
from unetpp.runtime.cuda import CudaNetwork
from unetpp.runtime.device import find_device, keep_freed_memory, memory_format
from unetpp.runtime.openvino import OpenVinoNetwork
from unetpp.runtime.runner import Grower, choose_backend

__all__ = ["Failure", "Prediction", "Predictor", "WrittenFiles", "load_predictor"]

MAX_DROP = 0.3
"""Points (hundredths) of Dice that "auto" may lose."""


class Predictor:
    """Segments images with one trained network, or with several that answer together (folds).

    Threads may share it, and get what they would get one after the other. With torch they work at the same time; OpenVINO
    and CUDA graphs take the tiles of one thread after those of another, because what they compile has one set of buffers.

    Args:
        networks: of the same plan.
        plan: what they were trained with.
        device: where they run.
        name: of the model, for records.
        backend: torch, cuda (on a GPU), openvino (CPU; extra `openvino`), or auto: cuda on a GPU, openvino on a CPU where it is installed and faster.
        worth: depth -> what its expected Dice is worth, as `confidence.calibrate` says it.
        rules: for "auto", the most careful first, as `deploy.adapt` fits them.
        max_drop: points of Dice that "auto" may lose against the deepest head, by the interval over validation cases.
    """

    def __init__(
        self,
        networks: Sequence[UNetPlusPlus],
        plan: Plan,
        device: torch.device | str = "cpu",
        name: str = "",
        backend: str = "torch",
        worth: Mapping[int, Calibration] | None = None,
        rules: Sequence[Rule] = (),
        max_drop: float = MAX_DROP,
    ) -> None:
        if not networks:
            raise UsageError("networks: got none; expected at least one.")
        self.plan = plan
        self.device = torch.device(device)
        self.name = name
        self.worth = dict(worth or {})
        self.rules = tuple(rules)
        self.max_drop = max_drop
        self.backend = choose_backend(backend, self.device, plan.model.norm)
        self.networks = [
            network.to(self.device).to(memory_format=memory_format(plan.model, self.device)).eval()
            for network in networks
        ]
        self.runners: list[Grower] = [self._runner(network, backend == "auto") for network in self.networks]

    def _runner(self, network: UNetPlusPlus, or_torch: bool) -> Grower:
        precision = self.plan.predict.precision
        if self.backend == "openvino":
            return OpenVinoNetwork(network, precision, or_torch)
        return CudaNetwork(network, precision) if self.backend == "cuda" else network

    @property
    def data(self) -> DataPlan:
        """What images and labels are to it."""
        return self.plan.data

    @property
    def network(self) -> UNetPlusPlus:
        """The network; of several folds the first."""
        return self.networks[0]

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths at which a prediction can be had."""
        return self.network.head_depths

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
        """Class indices (*spatial) on the image's grid; with depth "all", a dictionary of them by depth.

        Args:
            image: a file, or an array: (Y, X), (Y, X, C), (C, Y, X); (Z, Y, X), (C, Z, Y, X) where the network is 3D.
            depth: the head that answers; "mean": the mean of all heads (the accurate mode); "auto": for each tile the first that is sure; None: the plan's.
            tta: average over mirrored copies: 4 times the work in 2D, 8 times in 3D.
            spacing_mm: voxel size of an array, in the order of its spatial axes; None: that of the network's grid.
            progress: called with (tiles done, tiles in all).

        Raises:
            DataError: the file or array does not fit the network.
            UsageError: there is no head at `depth`.
        """
        source, where = open_array_or_file(image, self.plan.data, spacing_mm)
        found = self.predict_source(source, where, PredictOptions(depth=depth, tta=tta), progress)
        by_depth = {head: prediction.segmentation for head, prediction in found.items()}
        return by_depth if depth == "all" else next(iter(by_depth.values()))

    def predict_case(
        self, case: Case, options: PredictOptions = DEFAULTS, progress: TileProgress | None = None
    ) -> dict[int, Prediction]:
        """Predictions for the files of a case, by depth; all depths are computed in one pass.

        Raises:
            DataError: the files cannot be read, or do not fit the network.
        """
        return self.predict_source(open_images(case.images), str(case.images[0]), options, progress)

    def predict_source(
        self,
        source: ImageSource,
        where: str = "image",
        options: PredictOptions = DEFAULTS,
        progress: TileProgress | None = None,
    ) -> dict[int, Prediction]:
        """Predictions for anything that can be read in blocks, on its own grid, by depth.

        Args:
            source: the image.
            where: the name of the image in errors.
            options: which depths, how, and what to keep of them.
            progress: called with (tiles done, tiles in all).

        Raises:
            DataError: the image does not fit the network.
            UsageError: the options do not fit the network.
        """
        depths = self.choose_depths(options)
        image = prepare_image(source, self.plan.data, where)
        runners, heads = (self._adaptive(), self.depths[-1:]) if depths == (AUTO,) else (self.runners, depths)
        bands = stream_bands(runners, image, self.plan.predict, heads, self.device, options, progress)
        on_image = resample_bands(bands, image.shape[1:], image.image_shape)
        return collect(on_image, image.image_shape, depths, options, image.geometry)

    def predict_files(
        self,
        inputs: Sequence[str | PathLike[str]],
        out: str | PathLike[str],
        options: PredictOptions = DEFAULTS,
        progress: FileProgress | None = None,
    ) -> WrittenFiles:
        """Segment files and folders into `out`; see `predict_files.predict_to_files`.

        Raises:
            DataError: a folder without images, or two images with the same stem.
            UsageError: the options do not fit the network, or a result would take the place of its input.
            WriteError: a result could not be written.
        """
        return predict_to_files(self, inputs, Path(out), options, progress)

    def choose_depths(self, options: PredictOptions) -> tuple[int, ...]:
        """Resolve the depths that are asked for; see `PredictOptions.choose_depths`.

        Raises:
            UsageError: the options do not fit the network, or "auto" has no rule.
        """
        depths = options.choose_depths(self.depths, self.plan.predict.depth, len(self.networks))
        if depths == (AUTO,):
            self._adaptive()
        return depths

    def _adaptive(self) -> list[EarlyExit]:
        rule = choose_rule(self.rules, self.max_drop, self.name, self.depths)
        return [EarlyExit(runner, self.depths, rule.doubts) for runner in self.runners]


def load_predictor(
    path: str | PathLike[str], device: str = "auto", backend: str = "auto", max_drop: float = MAX_DROP
) -> Predictor:
    """A predictor from a run folder, whose folds all answer together, or from one model file.

    Args:
        device: auto, cpu, cuda or cuda:K.
        backend: torch, cuda (on a GPU), openvino (CPU; extra `openvino`), or auto: cuda on a GPU, openvino on a CPU where it is installed and faster.
        max_drop: points of Dice that "auto" may lose.

    Raises:
        ModelFileError: no model there, or one that cannot be used.
        UsageError: no such device.
    """
    place = find_device(device)
    if place.type == "cpu":
        keep_freed_memory()  # halves the time of shallow heads: every tile asks for the same memory again
    files = model_files(Path(path))
    loaded = [load_model(file) for file in files]
    plan = loaded[0][1].plan
    for file, (_, header) in zip(files, loaded, strict=True):
        if (header.plan.data, header.plan.model) != (plan.data, plan.model):
            raise ModelFileError(
                f"{file}: got another network or other classes than {files[0]}; expected folds of one run. Name a single model file."
            )
    notes = [header.notes for _, header in loaded]
    rules = notes[0].auto  # folds decide each for itself, by the rules of the first
    return Predictor(
        [network for network, _ in loaded], plan, place, str(path), backend, _worth(notes), rules, max_drop
    )


def _worth(notes: Sequence[Notes]) -> dict[int, Calibration]:
    """Of each depth, the mean over the folds that know it."""
    rows: dict[int, list[DepthRow]] = {}
    for depth, row in (item for entry in notes for item in entry.depths.items()):
        rows.setdefault(depth, []).append(row)
    names = Calibration.model_fields
    return {
        depth: Calibration(**{name: mean_of(getattr(row, name) for row in found) for name in names})
        for depth, found in rows.items()
    }
