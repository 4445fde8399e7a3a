"""Planner: makes a plan from a fingerprint, a machine and the user's time, by the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from unetpp.data.preprocess import network_grid
from unetpp.errors import PlanError
from unetpp.model.encoder_weights import require_source
from unetpp.model.pruned_plan import prune_plan
from unetpp.plan import AugmentPlan, DataPlan, ModelPlan, Plan, PredictPlan, TrainPlan
from unetpp.planning import memory_rules, rules, stages
from unetpp.planning.choice import Choice, Decisions
from unetpp.planning.data_section import plan_data
from unetpp.planning.fingerprint import Fingerprint, resolve_labels
from unetpp.planning.inheritance import inherit
from unetpp.planning.nesting import average_seconds, choose_distillation, choose_growth, explain_nesting
from unetpp.planning.networks import Networks
from unetpp.planning.patches import SizePlanner, Sizes
from unetpp.planning.resolution import plan_resolution
from unetpp.planning.room import MemoryCount, Room, TileCount, find_room, grow_into_time, plan_within
from unetpp.planning.step_times import Step, StepTimer, StepTimes
from unetpp.runtime.device import has_fast_bf16
from unetpp.settings import parse_settings, validate

RARE = 1e-3
"""Fraction of the voxels below which a class is called rare."""


class Start(NamedTuple):
    """A model that training starts from."""

    file: Path
    plan: Plan
    origin: str
    """What the plan of the training records of it."""


def make_plan(
    fingerprint: Fingerprint,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    device: torch.device | None = None,
    settings: Mapping[str, Any] | None = None,
    start: Start | None = None,
    is_first: bool = False,
    vram_gb: float | None = None,
    step_seconds: StepTimer | None,
    count_bytes: MemoryCount | None = None,
    count_tile_bytes: TileCount | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> Plan:
    """Configure a run.

    Args:
        fingerprint: the data set.
        minutes: wall time of the training; the network is chosen to train well in it.
        epochs: length of the training instead, in passes over the data.
        device: device to train on; None: the CPU.
        settings: fields of the plan that the user decides, `{"section.key": value}`; the others are chosen to agree.
        start: the model that training starts from, whose network is taken over; None: there is none.
        is_first: it is the first stage of a cascade; then low resolution may be as fine as that of the images.
        vram_gb: memory in GB of the GPU that is planned for, which need not be there, with `device` cuda; None: that of
            the device.
        step_seconds: measures a training step on this machine; None: the training runs on another.
        count_bytes: counts the memory of a plan, to check that it fits; None: a quick estimate is trusted.
        count_tile_bytes: counts the memory of a prediction, for tiles on which training would not fit; None: they do.
        warn: is told where the memory of this machine may not suffice.

    Returns:
        The plan, with a reason for each choice.

    Raises:
        PlanError: a setting that is unknown or does not fit, or `vram_gb` that does not hold the smallest plan.
        UsageError: `start` does not fit the data.
    """
    device = device or torch.device("cpu")
    parsed = parse_settings(Plan, settings or {})
    _require_axes(parsed, fingerprint.dims)
    inherited = inherit(start.plan, start.origin, fingerprint, parsed) if start else {}
    values = {key: choice.value for key, choice in inherited.items()} | parsed
    times = StepTimes(step_seconds, minutes)

    def make(room: Room) -> Plan:
        decisions = Decisions(values)
        planner = _Planner(fingerprint, decisions, device, minutes, epochs, times, room, is_first, count_tile_bytes)
        return planner.plan()

    room = find_room(device, vram_gb, minutes, parsed.get("train.checkpointing", False))
    made = plan_within(room, make, count_bytes, warn)
    if times.limit and made.train.minutes:
        longer = grow_into_time(room, made, times.measure_planned(made))
        made = made if longer == room else plan_within(longer, make, count_bytes, warn)
    reasons = made.reasons | {key: choice.reason for key, choice in inherited.items()}
    return made.model_copy(update={"reasons": {key: reason for key, reason in reasons.items() if reason}})


def _require_axes(settings: Mapping[str, Any], dims: int) -> None:
    """Raise PlanError if a size that the user set does not have a number for each axis of the data."""
    for key, value in settings.items():
        each = key in ("model.strides", "model.kernel_sizes", "model.nested_kernel_sizes")
        if not each and key not in ("train.patch", "predict.tile", "data.spacing_mm", "model.divisor"):
            continue
        if value is not None and any(len(entry) != dims for entry in (value if each else [value])):
            expected = f"{dims} numbers{' in each entry' * each}, one for each axis of this {dims}D data"
            raise PlanError(key, str(value), expected, "Change it.")


@dataclass
class _Planner:
    """Makes the choices in order; values that the user set are taken as they are."""

    fingerprint: Fingerprint
    decisions: Decisions
    device: torch.device
    minutes: float | None
    epochs: int | None
    times: StepTimes
    room: Room
    is_first: bool = False
    count_tile_bytes: TileCount | None = None
    share: float = 1.0
    """Fraction of the time that the network has; of a cascade, the first stage has the rest."""

    def __post_init__(self) -> None:
        self.settings, self.reasons = self.decisions.settings, self.decisions.reasons
        self.choose, self.networks = self.decisions.choose, Networks(self.decisions.settings, self.fingerprint.dims)
        self._sized: dict[Any, tuple[Sizes, dict[str, str]]] = {}

    def plan(self) -> Plan:
        """Make the plan."""
        if weights := self.settings.get("model.encoder_weights"):
            require_source(weights)
        data = plan_data(self.fingerprint, self.decisions)
        precision = self.choose("train.precision", self._choose_precision())
        data = self._choose_resolution(data, precision)
        sizes, reasons = self._plan_sizes(data, precision)
        self.reasons |= reasons
        overlap = self.choose("predict.overlap", rules.choose_overlap(data.dims))
        step = self._fit_time(sizes.fields, Step(sizes.patch, sizes.batch, precision))
        model, seconds = self._choose_model(sizes, step)
        train = self._plan_training(data, model, step, seconds)
        considered = stages.consider_stages(data.dims, sizes.shape, data.voxel_mm, sizes.patch, data.resolution)
        predict = self._plan_prediction(model, sizes, step, overlap)
        sections = {"name": self.fingerprint.name, "data": data, "model": model, "train": train, "predict": predict}
        return validate(Plan, sections | {"reasons": self.reasons, "considered": considered}).changed(
            resolve_labels(dict(self.settings), self.fingerprint)
        )

    def _choose_resolution(self, data: DataPlan, precision: str) -> DataPlan:
        """Choose whether there is a low resolution; raises PlanError for one that cannot be."""

        def plan_sizes(considered: DataPlan) -> Sizes:
            return self._plan_sizes(considered, precision)[0]

        chosen = plan_resolution(self.fingerprint, data, self.decisions, plan_sizes, self.minutes, self.is_first)
        self.share = 1 - stages.FIRST_SHARE if chosen.resolution == "cascade" else 1.0
        return chosen

    def _plan_sizes(self, data: DataPlan, precision: str) -> tuple[Sizes, dict[str, str]]:
        """Plan the sizes of a step, with the reasons for them, once for each grid and number of channels."""
        key = data.spacing_mm, data.voxel_mm, data.in_channels  # all else is the same in the sections of a plan
        if key not in self._sized:
            alone = Decisions(self.settings)
            sizes = SizePlanner(self.fingerprint, data, alone, self.networks, self.room, precision, self.minutes).plan()
            self._sized[key] = sizes, alone.reasons
        return self._sized[key]

    @property
    def _limit(self) -> float | None:
        """Minutes of the network, if they are limited and can be measured."""
        return self.times.limit and self.share * self.times.limit

    def _choose_precision(self) -> Choice[str]:
        if self.room.is_elsewhere:
            return rules.choose_precision_elsewhere()
        return rules.choose_precision(self.device.type, has_fast_bf16(self.device))

    def _fit_time(self, fields: Mapping[str, Any], step: Step) -> Step:
        """Make the batch smaller where even the narrowest network would make too few steps with it in the time."""
        if "train.batch" in self.settings or not self._limit or step.batch == 1:
            return step
        narrowest = list(self.networks.list(fields).values())[-1]
        seconds = self.times.measure(narrowest, step)
        choice = rules.fit_batch_to_time(step.batch, seconds, self._limit, len(step.patch))
        if choice.value == step.batch:
            return step
        smaller = step._replace(batch=choice.value)
        self.times.expect(narrowest, smaller, seconds * choice.value / step.batch)  # as a rule of three
        self.reasons["train.batch"] = choice.reason
        return smaller

    def _choose_model(self, sizes: Sizes, step: Step) -> tuple[ModelPlan, float]:
        """Choose the widest network that fits the memory and sees enough patches in the time.

        Returns:
            The network, and seconds of one training step; 0 without a limit of time.
        """
        ladder = self.networks.list(sizes.fields)
        if self.networks.has_width:
            (model,) = ladder.values()
            return model, self.times.measure(model, step) if self._limit else 0.0
        times: dict[int, float] = {}
        if self._limit:
            widest = memory_rules.limit_width(self.device.type, sizes.is_full)
            ladder = {width: model for width, model in ladder.items() if width <= widest}
            times = self.times.measure_ladder(ladder, step, self.room.holds)
            width, reason = rules.choose_width_by_time(times, self._limit)
        else:
            fitting = [width for width, model in ladder.items() if self.room.holds(model, *step)] or [min(ladder)]
            is_full = self.room.grows and sizes.is_full
            width, reason = memory_rules.choose_width_by_memory(fitting, self.device.type, is_full)
        self.reasons["model.widths"] = reason
        return ladder[width], times.get(width, 0.0)

    def _plan_prediction(self, model: ModelPlan, sizes: Sizes, step: Step, overlap: float) -> PredictPlan:
        """Choose tiles of the planned size, smaller ones where the memory does not hold them."""
        kind = self.device.type
        # a CPU is fastest on one tile in its caches, a GPU on several (docs/log.md)
        tiles = 1 if kind == "cpu" else rules.choose_batch(prod(sizes.tile), model.dims, kind).value
        depth = self.choose("predict.depth", rules.choose_head(max(model.list_sizes())))
        planned = PredictPlan(
            tile=sizes.tile, overlap=overlap, precision=step.precision, depth=depth, batch=min(step.batch, tiles)
        )
        if self.count_tile_bytes is None or "predict.tile" in self.settings:
            return planned
        training = self.room.estimate(model, planned.tile, planned.batch, planned.precision)
        if training <= self.room.limit:
            return planned  # training on such tiles fits, so that their prediction does
        for predict in memory_rules.list_smaller_tiles(planned, sizes.patch):
            if self.count_tile_bytes(model, predict) <= self.room.limit:
                break
        if predict.tile != planned.tile:
            self.reasons["predict.tile"] = f"the size of a training patch: larger tiles do not fit {self.room}"
        return predict

    def _plan_training(self, data: DataPlan, model: ModelPlan, step: Step, seconds: float) -> TrainPlan:
        """Choose the length of the schedule, and how much patches are varied in it.

        Args:
            data: the data.
            model: the network.
            step: one training step.
            seconds: its time on this machine; 0: not measured.
        """
        minutes, cases = self.minutes, self.fingerprint.cases
        steps = self.choose("train.steps_per_epoch", rules.choose_steps_per_epoch(cases, step.batch))
        length = self.choose("train.epochs", rules.choose_epochs(self.epochs, minutes))
        counted = length * steps if minutes is None or self.epochs else None
        growth, distillation, seconds = self._choose_schedule(model, step, seconds, counted)
        timed = self.share * minutes * 60 / seconds if minutes and seconds else None
        first = f"{1 - self.share:.0%} of them for the first stage; " * (self.share < 1)
        if timed is not None:
            self.reasons["train.minutes"] = (
                f"given; {first}at most {int(timed)} steps of {seconds:.2f} s on this machine"
            )
        elif self.room.is_elsewhere:
            self.reasons["train.minutes"] = f"{'given' if minutes else 'not limited'}; {rules.NOT_TIMED}"
        self._note_constants(model)
        symmetries, reason = rules.choose_symmetries(data.dims, data.orientation is not None, data.voxel_mm)
        number = length * steps if timed is None or self.epochs else timed
        f = self.fingerprint
        grid = network_grid(f.median_shape, f.median_spacing_mm, data.spacing_mm)
        voxels = f.voxels * prod(grid) / prod(f.median_shape)
        variation = rules.choose_variation(number * step.batch * prod(step.patch) / voxels)
        self.reasons |= {
            "train.augment.mirror": reason,
            "train.augment.quarter_turns": reason,
            "train.augment.affine_probability": variation.reason,
        }
        return TrainPlan(
            **step._asdict(),
            growth=growth,
            distillation=distillation,
            steps_per_epoch=steps,
            epochs=length,
            minutes=None if self.epochs else minutes,
            augment=AugmentPlan(mirror=symmetries, quarter_turns=symmetries, **variation.value),
        )

    def _choose_schedule(
        self, model: ModelPlan, step: Step, seconds: float, steps: int | None
    ) -> tuple[tuple[float, ...], bool, float]:
        """Choose how shells are trained: in turn or together, and by what the inner one learns.

        Args:
            model: the network.
            step: one training step of all sizes.
            seconds: its time on this machine; 0: not measured.
            steps: number of steps of the schedule; None: it is limited by time.

        Returns:
            Growth and distillation, and the mean time of a step in seconds.
        """
        if len(model.shells) == 1 or "train.start" in self.settings:
            return self.settings.get("train.growth", ()), self.settings.get("train.distillation", False), seconds
        shares: list[float] = []
        if seconds and model.dims == 2 and "train.growth" not in self.settings and not self.times.has_taken_enough:
            inner = [prune_plan(model, shell * model.depth, keep_heads=True) for shell in range(1, len(model.shells))]
            shares = [self.times.measure(each, step) / seconds for each in inner]
        innermost = shares[0] if shares else None
        growth = tuple(self.choose("train.growth", choose_growth(len(model.shells), model.dims, innermost, steps)))
        distillation = self.choose("train.distillation", choose_distillation())
        return growth, distillation, average_seconds(seconds, shares, growth)

    def _note_constants(self, model: ModelPlan) -> None:
        """Give reasons for what does not depend on the data."""
        block = f"{model.convs_per_node} convolutions in each node"
        if model.block == "projected":
            block += ", added to a projection of its inputs: more steps and a better network in the same time"
        nesting = explain_nesting(model, self.networks.given)
        self.reasons |= {f"model.{name}": reason for name, reason in nesting.items()}
        if model.norm in ("group", "instance", "layer"):
            self.reasons["model.norm"] = (
                "statistics of each image, so that small batches do no harm; measured in docs/log.md"
            )
        self.reasons |= {
            "model.block": block,
            "train.optimizer": "kernels are learned in a fraction of the steps of AdamW, see docs/log.md",
            "train.learning_rate": "of AdamW, for all other weights: a warm-up and half a cosine down to 0",
            "train.head_weights": "one loss for each head, all of the same weight, as in the papers",
            "train.foreground_fraction": "so that rare classes are seen",
        }
        shares = zip(self.fingerprint.class_fractions[1:], self.fingerprint.classes[1:], strict=True)
        share, rarest = min(shares, default=(1.0, ""))
        if share < RARE:
            self.reasons["train.class_weights"] = (
                f"all the same, though {rarest} is {100 * share:.2g} % of the voxels: Dice counts classes alike, and "
                "patches are centered on one as often as on another"
            )
