"""Prediction with torch: networks on a device, images in, segmentations out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from unetpp.data.first_stage import add_segmentation
from unetpp.data.preprocess import PreparedImage, prepare_image
from unetpp.data.training_range import find_outside
from unetpp.dial import name_sizes
from unetpp.errors import ModelFileError, UsageError
from unetpp.formats.sources import ImageSource
from unetpp.infer.bands import Band, collect, require_finite
from unetpp.infer.calibration import calibrate_together, join_levels
from unetpp.infer.case_predictor import CasePredictor
from unetpp.infer.doubts import describe_doubts, describe_verdicts
from unetpp.infer.early_exit import EarlyExit, choose_rule
from unetpp.infer.first_stage import find_first_stage
from unetpp.infer.options import DEFAULTS, PredictOptions
from unetpp.infer.prediction import AUTO, Prediction
from unetpp.infer.restore import resample_bands
from unetpp.infer.sliding import stream_bands
from unetpp.infer.tiles import TileGrid, TileProgress
from unetpp.labels.coding_torch import make_tensor_coding
from unetpp.measured import Calibration, DepthRow, DepthTable
from unetpp.metrics.scores import mean_of
from unetpp.model.file import load_model
from unetpp.model.network import UNetPlusPlus
from unetpp.model_notes import MAX_DROP, Notes, Rule, explain_no_expected_dice, has_unlearned
from unetpp.plan import Plan
from unetpp.run_folder import find_model_files
from unetpp.runtime.cuda import CudaNetwork
from unetpp.runtime.device import find_device, keep_freed_memory, memory_format
from unetpp.runtime.openvino import OpenVinoNetwork
from unetpp.runtime.runner import IncrementalRunner, Runner, choose_backend
from unetpp.runtime.shared_runner import SharedRunner
from unetpp.size_names import SizeNames
from unetpp.sizes import list_growth

FIRST_TILES = 40
"""Tiles that pay for compiling a network for OpenVINO, which takes seconds: fewer are predicted with torch."""


class Predictor(CasePredictor):
    """Segments images with one trained network, or with the average of several (folds).

    Threads may share it; each gets the result it would get alone. With torch, threads run at the same time; OpenVINO
    and CUDA graphs run the tiles of one thread after those of another, because a compiled graph has one set of buffers.

    Args:
        networks: trained networks of the same plan.
        plan: their plan.
        device: device to run on.
        name: name of the model, for errors and predictions.json; empty: that of the plan.
        backend: torch, cuda (on a GPU), openvino (on a CPU; extra `openvino`), or auto: cuda on a GPU, openvino on a
            CPU where it is installed and faster.
        calibrations: number of a size -> calibration of its expected Dice, as `calibration.calibrate` fits it.
        rules: rules of early exit, the most careful first, as `deploy.adapt` fits them.
        max_drop: points (hundredths) of Dice that early exit (`size="auto"`) may lose against the largest size, by the
            interval over validation cases.
        sizes: sizes of the networks, and their names, as `dial.name_sizes` makes them; None: named by the plan.
        first_stage: predicts the first stage of a cascade.

    Raises:
        UsageError: no networks, a cascade without a first stage, or a backend that does not run on `device`.
        MissingExtraError: OpenVINO is requested and not installed.
    """

    def __init__(
        self,
        networks: Sequence[UNetPlusPlus],
        plan: Plan,
        device: torch.device | str = "cpu",
        name: str = "",
        backend: str = "torch",
        calibrations: Mapping[int, Calibration] | None = None,
        rules: Sequence[Rule] = (),
        max_drop: float = MAX_DROP,
        sizes: SizeNames | None = None,
        first_stage: Predictor | None = None,
    ) -> None:
        if not networks:
            raise UsageError("networks", "none", "at least one", "Pass the networks of one or more folds.")
        if (first_stage is None) == (plan.data.resolution == "cascade"):
            expected = "a predictor of the first stage with the plan of a cascade, and with no other"
            raise UsageError("first_stage", str(first_stage), expected, "Load the run folder: `unetpp.load(RUN)`.")
        self.first_stage = first_stage
        self.plan, self.data, self.coding = plan, plan.data, make_tensor_coding(plan.data)
        self.sizes = sizes or name_sizes(DepthTable(), networks[0].head_depths, plan.model)
        self.device: torch.device = torch.device(device)
        self.name = name or plan.name
        self.calibrations = dict(calibrations or {})
        self.rules = tuple(rules)
        self.max_drop = max_drop
        self._backend = choose_backend(backend, self.device, plan.model.norm)
        self._first_tiles = 0 if backend == "auto" and self._backend == "openvino" else FIRST_TILES
        self.backend = self._backend if self._first_tiles else "torch"
        format_ = memory_format(plan.model, self.device)
        self.networks = [network.to(self.device).to(memory_format=format_).eval() for network in networks]
        self.runners = [self._make_runner(network, or_torch=backend == "auto") for network in self.networks]

    def _make_runner(self, network: UNetPlusPlus, or_torch: bool) -> IncrementalRunner:
        precision = self.plan.predict.precision
        if self._backend == "openvino":
            return OpenVinoNetwork(network, precision, or_torch)
        return CudaNetwork(network, precision) if self._backend == "cuda" else network

    def share_passes(self, most: int) -> None:
        """Let threads that predict at the same time run their tiles in common passes of at most so many.

        Each gets the result that it would get alone, up to the rounding of larger batches (docs/serve.md).
        """
        self.runners = [SharedRunner(runner, self.plan.predict.precision, most) for runner in self.runners]

    @property
    def growth(self) -> tuple[int, ...]:
        """Depths that `size="auto"` goes through, with shells numbers of sizes, each holding the one before."""
        return list_growth(self.depths, self.network.depth)

    @property
    def network(self) -> UNetPlusPlus:
        """The network; of several folds the first."""
        return self.networks[0]

    def choose_sizes(self, options: PredictOptions) -> tuple[int, ...]:
        """Resolve `options.size` or `options.depth`; see `PredictOptions.choose_sizes`.

        Raises:
            UsageError: the options do not fit the network, or the model has no rule for "auto".
        """
        depths = options.choose_sizes(self.sizes, self.plan.predict.depth, len(self.networks), self.name)
        if depths == (AUTO,):
            self._make_early_exits(self.runners, options)
        return depths

    def predict_source(
        self,
        source: ImageSource,
        where: str = "image",
        options: PredictOptions = DEFAULTS,
        progress: TileProgress | None = None,
    ) -> dict[int, Prediction]:
        """Predict an image that is read in blocks; see `CasePredictor.predict_source`."""
        depths = self.choose_sizes(options)
        image = self._prepare(source, where)
        runners = self._count_runners(image.shape[1:])
        exits = self._make_early_exits(runners, options) if depths == (AUTO,) else []
        used, heads = (exits, self.depths[-1:]) if exits else (runners, depths)
        on_image = self._stream(used, image, heads, where, options, progress)
        found = collect(on_image, image.image_shape, depths, options, image.geometry, image.orientation, self.coding)
        outside = find_outside(source, self.data)
        tiles = sum((each.images for each in exits), Counter[int]())
        return {depth: replace(prediction, tiles=tiles, outside=outside) for depth, prediction in found.items()}

    def stream_source(
        self,
        source: ImageSource,
        where: str,
        depths: Sequence[int],
        options: PredictOptions = DEFAULTS,
        progress: TileProgress | None = None,
    ) -> tuple[PreparedImage, Iterator[Band]]:
        """Stream the probabilities of an image on its own grid, turned to the axes of the network.

        Args:
            source: the image.
            where: its name, for errors.
            depths: numbers of the sizes, which are the first axis of the bands.
            options: mirrored copies, and whether the last channel is the disagreement; the size is that of `depths`.
            progress: called with (tiles done, tiles in total).

        Returns:
            The image, and bands as `sliding.stream_bands` yields them.

        Raises:
            DataError: the image does not fit the model.
        """
        image = self._prepare(source, where)
        return image, self._stream(self._count_runners(image.shape[1:]), image, depths, where, options, progress)

    def _prepare(self, source: ImageSource, where: str) -> PreparedImage:
        """Prepare an image; that of a cascade gets the channels of the first stage."""
        image = prepare_image(source, self.data, where)
        if self.first_stage is None:
            return image
        (found,) = self.first_stage.predict_source(source, where).values()
        return add_segmentation(image, found.segmentation, self.data)

    def _stream(
        self,
        runners: Sequence[Runner],
        image: PreparedImage,
        depths: Sequence[int],
        where: str,
        options: PredictOptions,
        progress: TileProgress | None,
    ) -> Iterator[Band]:
        bands = stream_bands(
            runners, image, self.plan.predict, depths, self.device, options, progress, self.sizes, self.coding
        )
        return resample_bands(require_finite(bands, where), image.shape[1:], image.turned_shape, image.thick)

    def choose_runners(self, tiles: int) -> Sequence[IncrementalRunner]:
        """Choose what runs the next tiles: compiling for OpenVINO takes longer than torch does for the first ones."""
        return self.networks if min(FIRST_TILES, self._first_tiles + tiles) < FIRST_TILES else self.runners

    def _count_runners(self, shape: tuple[int, ...]) -> Sequence[IncrementalRunner]:
        """Choose what runs an image, and count its tiles."""
        tiles = len(TileGrid(shape, self.plan.predict.tile, self.plan.predict.overlap))
        chosen = self.choose_runners(tiles)
        self._first_tiles = min(FIRST_TILES, self._first_tiles + tiles)
        self.backend = self._backend if chosen is self.runners else self.backend
        return chosen

    def _make_early_exits(self, runners: Sequence[IncrementalRunner], options: PredictOptions) -> list[EarlyExit]:
        rule = choose_rule(self.rules, self.max_drop, self.name, self.sizes, options.setting)
        return [EarlyExit(runner, self.growth, rule.doubts, self.coding) for runner in runners]


def load_predictor(
    path: str | PathLike[str], device: str = "auto", backend: str = "auto", max_drop: float = MAX_DROP
) -> Predictor:
    """Load a run folder, whose folds are averaged, or one model file. Folds exit early by the rules of the first.

    Args:
        path: run folder or model file.
        device: auto, cpu, cuda or cuda:K.
        backend: see `Predictor`.
        max_drop: points (hundredths) of Dice that early exit (`size="auto"`) may lose.

    Raises:
        ModelFileError: no model there, or one that cannot be used.
        UsageError: no such device, or a backend that does not run on it.
        MissingExtraError: OpenVINO is requested and not installed.
    """
    place = find_device(device)
    if place.type == "cpu":
        keep_freed_memory()  # halves the time of shallow heads: every tile allocates the same memory again
    return make_predictor(find_model_files(Path(path)), str(path), place, backend, max_drop)


def make_predictor(
    files: Sequence[Path], name: str, place: torch.device, backend: str = "auto", max_drop: float = MAX_DROP
) -> Predictor:
    """Make the predictor of some model files, whose probabilities are averaged; arguments as of `load_predictor`."""
    networks, plan, notes = load_files(files)
    rows = average_depths(notes)
    sizes = name_sizes(notes[0], networks[0].head_depths, plan.model)
    first = None
    if plan.data.resolution == "cascade":
        first = make_predictor(find_first_stage(files, plan.data), name, place, backend)
    predictor = Predictor(networks, plan, place, name, backend, rows, notes[0].auto, max_drop, sizes, first)
    verdicts = [fold.verdict for fold in notes]
    predictor.verdicts = describe_verdicts(verdicts)
    predictor.doubts = describe_doubts(verdicts, explain_no_expected_dice(notes))
    return predictor


def load_folds(path: Path) -> tuple[list[UNetPlusPlus], Plan, list[Notes]]:
    """Load the networks of a run folder, or of one model file, with their plan and the notes of each.

    Raises:
        ModelFileError: no model there, or networks that do not fit together.
    """
    return load_files(find_model_files(path))


def load_files(files: Sequence[Path]) -> tuple[list[UNetPlusPlus], Plan, list[Notes]]:
    """Load the networks of model files, with their plan and the notes of each; raises as `load_folds`."""
    networks, headers = zip(*map(load_model, files), strict=True)
    plan = headers[0].plan
    for file, header in zip(files, headers, strict=True):
        if (header.plan.data, header.plan.model) != (plan.data, plan.model):
            got = f"another network or other classes than {files[0]}"
            raise ModelFileError(file, got, "folds of one run", "Name a single model file.")
    return list(networks), plan, [header.notes for header in headers]


def average_depths(notes: Sequence[Notes]) -> dict[int, DepthRow]:
    """Average scores and calibrations of each size over the folds that have them; of one fold they are its own.

    Every case counts alike, as in `measure.pooled`. Folds that have too few cases for a calibration get one together. A
    network that has not learned is sure of what is wrong: then there are no calibrations.
    """
    if has_unlearned(notes):
        return {depth: row.uncalibrated() for depth, row in _average(notes).items()}
    return _average(notes)


def _average(notes: Sequence[Notes]) -> dict[int, DepthRow]:
    if len(notes) == 1:
        return {depth: row.scores() for depth, row in notes[0].depths.items()}
    known = all(fold.scored and fold.scored[0] for fold in notes)  # not those of earlier versions
    rows: dict[int, list[DepthRow]] = {}
    for fold in notes:
        for depth, row in fold.depths.items():
            rows.setdefault(depth, []).extend([row] * (fold.scored[0] if known and fold.scored else 1))
    lines = [name for name in Calibration.model_fields if name not in ("confidence_and_dice", "calibrated_cases")]
    names = (*lines, "dice", "iou", "hd95_mm", "nsd")
    means = {
        depth: {name: mean_of(getattr(row, name) for row in found) for name in names} for depth, found in rows.items()
    }
    together = {depth: [fold.depths[depth] for fold in notes if depth in fold.depths] for depth in rows}
    return {
        depth: DepthRow(**{name: mean for name, mean in found.items() if mean is not None}).merge(
            join_levels(together[depth]).merge(calibrate_together(together[depth]))
        )
        for depth, found in means.items()
    }
