"""Planner: makes a plan from a fingerprint, a machine and the user's time, by the rules."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from unetpp.data.preprocess import network_grid
from unetpp.errors import PlanError
from unetpp.model.build import model_plan
from unetpp.model.encoder_weights import require_source
from unetpp.model.encoders import EncoderShape, encoder_shape, encoder_statistics
from unetpp.model.pruned_plan import prune_plan
from unetpp.plan import (
    LARGEST_TILE,
    AugmentPlan,
    Axes,
    DataPlan,
    ModelPlan,
    Normalization,
    Plan,
    PredictPlan,
    TrainingRange,
    TrainPlan,
)
from unetpp.planning import geometry_rules, intensity_rules, rules, stages
from unetpp.planning.choice import Choice
from unetpp.planning.cost import estimate_training_bytes
from unetpp.planning.fingerprint import Fingerprint, resolve_labels
from unetpp.planning.inheritance import find_given_width, inherit
from unetpp.planning.nesting import average_seconds, choose_distillation, choose_growth, explain_nesting
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
    step_seconds: StepTimer,
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
        step_seconds: measures a training step on this machine.

    Returns:
        The plan, with a reason for each choice.

    Raises:
        PlanError: a setting that is unknown or does not fit.
        UsageError: `start` does not fit the data.
    """
    device = device or torch.device("cpu")
    parsed = parse_settings(Plan, settings or {})
    _require_axes(parsed, fingerprint.dims)
    inherited = inherit(start.plan, start.origin, fingerprint, parsed) if start else {}
    values = {key: choice.value for key, choice in inherited.items()}
    times = StepTimes(step_seconds, minutes)
    made = _Planner(fingerprint, values | parsed, device, minutes, epochs, times, is_first).plan()
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
    settings: dict[str, Any]
    device: torch.device
    minutes: float | None
    epochs: int | None
    times: StepTimes
    is_first: bool = False
    reasons: dict[str, str] = field(default_factory=dict)

    def plan(self) -> Plan:
        """Make the plan."""
        if weights := self.settings.get("model.encoder_weights"):
            require_source(weights)
        kind, data = self.device.type, self._plan_data()
        given = self.minutes
        if given and data.resolution == "cascade":
            self.minutes = (1 - stages.FIRST_SHARE) * given
        precision = self.choose("train.precision", rules.choose_precision(kind, has_fast_bf16(self.device)))
        fields, patch, tile = self._choose_sizes(data)
        overlap = self.choose("predict.overlap", rules.choose_overlap(data.dims))
        batch = self.choose("train.batch", rules.choose_batch(prod(patch), data.dims, kind))
        memory = measure_memory(self.device)
        step = self._fit_batch(fields, Step(patch, batch, precision), memory)
        model, seconds = self._choose_model(fields, step, memory)
        train = self._plan_training(data, model, step, seconds)
        if train.minutes:
            train = train.model_copy(update={"minutes": given})
        # a CPU is fastest on one tile in its caches, a GPU on several (docs/log.md)
        tiles = 1 if kind == "cpu" else rules.choose_batch(prod(tile), data.dims, kind).value
        shape = self._find_network_shape(data)
        considered = stages.consider_stages(data.dims, shape, data.voxel_mm, patch, data.resolution)
        predict = PredictPlan(
            tile=tile,
            overlap=overlap,
            precision=precision,
            depth=self.choose("predict.depth", rules.choose_head(max(model.list_sizes()))),
            batch=min(step.batch, tiles),
        )
        sections = {"name": self.fingerprint.name, "data": data, "model": model, "train": train, "predict": predict}
        return validate(Plan, sections | {"reasons": self.reasons, "considered": considered}).changed(
            resolve_labels(self.settings, self.fingerprint)
        )

    def choose(self, name: str, choice: Choice[Any]) -> Any:
        """Return the user's value of a field, else that of a rule, whose reason is noted."""
        if name in self.settings:
            return self.settings[name]
        self.reasons[name] = choice.reason
        return choice.value

    def _plan_data(self) -> DataPlan:
        f = self.fingerprint
        orientation = None
        if f.dims == 3:
            orientation = self.choose(
                "data.orientation", geometry_rules.choose_orientation(f.orientation, f.without_orientation)
            )
        target = geometry_rules.choose_spacing(f.median_spacing_mm, f.spacing_varies, f.fine_spacing_mm, f.median_shape)
        spacing = self.choose("data.spacing_mm", target)
        typical = (f.median_spacing_mm, f.smallest_spacing_mm, f.largest_spacing_mm)
        resampling = self.choose(
            "data.resampling", geometry_rules.choose_resampling(f.spacing_varies, typical, spacing)
        )
        normalization = self._choose_normalization()
        reasons = {choice.reason for choice in normalization}
        by_channel = (
            choice.reason if choice.reason.startswith(f"{each.name}:") else f"{each.name}: {choice.reason}"
            for each, choice in zip(f.channels, normalization, strict=True)
        )
        grey = " (grey images are repeated)" if any("grey" in note for note in f.notes) else ""
        values = f"the values {', '.join(map(str, f.label_values))} in the label files"
        self.reasons |= {
            "data.normalization": reasons.pop() if len(reasons) == 1 else "; ".join(by_channel),
            "data.dims": "images" if f.dims == 2 else "volumes",
            "data.channels": f"{len(f.channels)} in the files{grey}",
            "data.classes": "objects are foreground" if f.labels.kind == "objects" else values,
            "data.labels": f.label_meaning,
            **({"data.regions": "declared by the data set, in the order of writing"} if f.regions else {}),
        }
        fields = {
            "dims": 2 if f.dims == 2 else 3,
            "channels": tuple(channel.name for channel in f.channels),
            "classes": f.classes,
            "label_values": f.label_values,
            "labels": f.labels,
            "regions": self.settings.get("data.regions", f.regions),
            "orientation": orientation,
            "spacing_mm": spacing,
            "resampling": resampling,
            "voxel_mm": spacing or f.median_spacing_mm,
            "normalization": tuple(choice.value for choice in normalization),
            "training_range": self._find_range([choice.value for choice in normalization]),
        }
        return self._choose_resolution(validate(DataPlan, fields))

    def _choose_resolution(self, data: DataPlan) -> DataPlan:
        """Choose whether there is a low resolution, and make voxels larger for one that is alone.

        Raises:
            PlanError: the user asks for one where there can be none.
        """

        def find_sizes(mm: tuple[float, ...]) -> tuple[Axes, Axes]:
            coarse = data.model_copy(update={"spacing_mm": mm, "voxel_mm": mm})
            return self._find_network_shape(coarse), self._choose_sizes(coarse)[1]

        mm, is_started = data.voxel_mm, bool(self.settings.get("train.start"))
        patches = stages.count_patches(self._find_network_shape(data), self._choose_sizes(data)[1])
        cases = 0 if data.dims == 2 or is_started else self.fingerprint.cases
        resolution = self.choose("data.resolution", stages.choose_resolution(patches, mm, cases))
        if resolution == "full":
            return data
        obstacle = stages.find_obstacle(data.dims, patches, mm, is_started and resolution == "cascade")
        if resolution == "low" and "data.spacing_mm" in self.settings:
            obstacle = "with `data.spacing_mm`, which it chooses"
        if obstacle and not (self.is_first and patches <= stages.LOW_RESOLUTION_FROM):
            raise PlanError("data.resolution", f"{resolution} {obstacle}", "full", "Leave it out.")
        if resolution == "cascade" or mm is None:
            return data.model_copy(update={"resolution": resolution})
        low = self.choose("data.spacing_mm", stages.choose_low_spacing(mm, find_sizes))
        typical = (self.fingerprint.median_spacing_mm,)
        resampling = self.choose("data.resampling", geometry_rules.choose_resampling(True, typical, low))
        changes = {"resolution": resolution, "spacing_mm": low, "voxel_mm": low, "resampling": resampling}
        return data.model_copy(update=changes)

    def _find_range(self, normalization: Sequence[Normalization]) -> TrainingRange | None:
        """Return what the images are like, with intensities on the scale on which each channel is normalized."""
        f = self.fingerprint
        levels = [
            (channel.standardized_inside if plan.nonzero else channel.standardized) if plan.per_case else channel.levels
            for channel, plan in zip(f.channels, normalization, strict=True)
        ]
        known = [each for each in levels if each is not None]
        if len(known) < len(levels) or not f.file_channels:
            return None
        return TrainingRange(
            smallest_mm=f.smallest_spacing_mm,
            largest_mm=f.largest_spacing_mm,
            channels=f.file_channels,
            intensities=tuple(known),
        )

    def _choose_normalization(self) -> list[Choice[Normalization]]:
        """Return one for each channel: that of pretrained weights if they fit these images, else that of the data."""
        channels, encoder = self.fingerprint.channels, self.settings.get("model.encoder")
        given = self.settings.get("data.normalization")
        if given and len(given) == len(channels):
            return [Choice(Normalization(**each), "") for each in given]
        if self.settings.get("model.encoder_weights") and encoder not in (None, "resenc"):
            names, largest = [channel.name for channel in channels], max(channel.maximum for channel in channels)
            if intensity_rules.matches_pretraining(names, largest):
                return intensity_rules.choose_encoder_normalization(encoder, *encoder_statistics(encoder))
        return [
            intensity_rules.choose_normalization(
                each.name,
                (each.foreground_low, each.foreground_high, each.foreground_mean, each.foreground_std),
                self.fingerprint.inside,
            )
            for each in channels
        ]

    def _choose_sizes(self, data: DataPlan) -> tuple[dict[str, Any], Axes, Axes]:
        """Choose what follows from the size of images and voxels.

        Returns:
            The fields of the network that do not depend on its width, the patch and the tile (in voxels).
        """
        spacing, shape = data.voxel_mm, self._find_network_shape(data)
        encoder = self._find_encoder()
        long_axes = geometry_rules.count_long_axes(shape)
        largest = rules.LARGEST_PATCH[self.device.type, long_axes]
        about = self.settings.get("train.patch") or rules.choose_patch(shape, largest, (1,) * data.dims, spacing).value
        seen = tuple(map(min, shape, about))
        deepest = geometry_rules.choose_depth(seen)
        strides = self.choose(
            "model.strides",
            geometry_rules.choose_encoder_strides(self.settings["model.encoder"], encoder.widths, encoder.depth)
            if encoder
            else geometry_rules.choose_strides(seen, spacing, self._find_given_depth() or deepest.value),
        )
        self.reasons["model.depth"] = f"{len(strides)} down-samplings" + f"; {deepest.reason}" * (encoder is None)
        kernels = self.choose("model.kernel_sizes", geometry_rules.choose_kernels(seen, spacing, strides))
        divisors = (encoder.divisor,) * 2 if encoder else tuple(map(prod, zip(*strides, strict=True)))
        multiple = tuple(self.settings.get("model.divisor") or divisors)
        patch = self.choose("train.patch", rules.choose_patch(shape, largest, multiple, spacing))
        tile = self.choose("predict.tile", rules.choose_tile(patch, shape, LARGEST_TILE[long_axes], multiple, spacing))
        fields = {"dims": data.dims, "in_channels": data.in_channels, "out_channels": len(data.outputs)}
        return fields | {"strides": strides, "kernel_sizes": kernels, "depth": len(strides)}, patch, tile

    def _find_network_shape(self, data: DataPlan) -> Axes:
        """Return the median shape on the network's grid, in voxels."""
        f = self.fingerprint
        return network_grid(f.median_shape, f.median_spacing_mm, data.spacing_mm)

    def _find_given_depth(self) -> int | None:
        widths = self.settings.get("model.widths")
        return self.settings.get("model.depth", len(widths) - 1 if isinstance(widths, list) else None)

    def _find_encoder(self) -> EncoderShape | None:
        """Return the shape of the timm encoder that the user set, if any."""
        name = self.settings.get("model.encoder")
        if name is None or name == "resenc" or self.fingerprint.dims != 2:
            return None
        return encoder_shape(name, self._find_given_depth())

    def _fit_batch(self, fields: Mapping[str, Any], step: Step, memory: float) -> Step:
        """Make the batch smaller where even the narrowest network would not fit the memory with it, or the time."""
        if "train.batch" in self.settings:
            return step
        narrowest = list(self._list_models(fields).values())[-1]
        while step.batch > 1 and estimate_training_bytes(narrowest, *step) > memory:
            step = step._replace(batch=step.batch // 2)
            self.reasons["train.batch"] = f"no more fits the {memory / 1e9:.0f} GB of memory at hand"
        if self.minutes and step.batch > 1:
            seconds = self.times.measure(narrowest, step)
            choice = rules.fit_batch_to_time(step.batch, seconds, self.minutes, len(step.patch))
            if choice.value < step.batch:
                smaller = step._replace(batch=choice.value)
                self.times.expect(narrowest, smaller, seconds * choice.value / step.batch)  # as a rule of three
                step = smaller
                self.reasons["train.batch"] = choice.reason
        return step

    def _choose_model(self, fields: Mapping[str, Any], step: Step, memory: float) -> tuple[ModelPlan, float]:
        """Choose the widest network that fits the memory and sees enough patches in the time.

        Returns:
            The network, and seconds of one training step; 0 without a limit of time.
        """
        if self._has_width:
            (model,) = self._list_models(fields).values()
            return model, self.times.measure(model, step) if self.minutes else 0.0
        ladder = self._list_models(fields)
        times: dict[int, float] = {}
        if self.minutes:
            times = self.times.measure_ladder(ladder, step, memory)
            width, reason = rules.choose_width_by_time(times, self.minutes)
        else:
            fitting = [width for width, model in ladder.items() if estimate_training_bytes(model, *step) < memory]
            width, reason = rules.choose_width_by_memory(fitting or [min(ladder)], self.device.type)
        self.reasons["model.widths"] = reason
        return ladder[width], times.get(width, 0.0)

    @property
    def _has_width(self) -> bool:
        """Whether the user has set how wide the network is."""
        return (
            not {"model.widths", "model.preset"}.isdisjoint(self.settings)
            or find_given_width(self.settings) is not None
        )

    def _list_models(self, fields: Mapping[str, Any]) -> dict[int, ModelPlan]:
        """Make the networks to choose from, by their first width, the widest first: a single one if the user chose.

        Shells that are fractions do not divide every width: those that they divide are left, if there are any.
        """
        if self._has_width:
            return {0: self._make_model(fields, find_given_width(self.settings))}
        models: dict[int, ModelPlan] = {}
        for width in rules.WIDTH_LADDER:
            try:
                models[width] = self._make_model(fields, width)
            except PlanError:
                if width == rules.WIDTH_LADDER[-1] and not models:
                    raise
        return {width: model for width, model in models.items() if len(model.shells) > 1} or models

    def _make_model(self, fields: Mapping[str, Any], first_width: int | None = None) -> ModelPlan:
        """Make a network; a depth for predictions asks for a UNet++ if the user leaves the topology open."""
        given = self._list_given()
        if self.settings.get("predict.depth") is not None and given.get("preset", "default") == "default":
            given = {"topology": "unet++", **given}
        return model_plan(**{**fields, "first_width": first_width, **given})

    def _list_given(self) -> dict[str, Any]:
        return {key.removeprefix("model."): value for key, value in self.settings.items() if key.startswith("model.")}

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
        timed = minutes * 60 / seconds if minutes and seconds else None
        if timed is not None:
            steps_there = f"at most {int(timed)} steps of {seconds:.2f} s on this machine"
            first = f"{stages.FIRST_SHARE:.0%} of them for the first stage, then " * (data.resolution == "cascade")
            self.reasons["train.minutes"] = f"given; {first}{steps_there}"
        self._note_constants(model)
        symmetries, reason = rules.choose_symmetries(data.dims, data.orientation is not None, data.voxel_mm)
        number = length * steps if timed is None or self.epochs else timed
        voxels = self.fingerprint.voxels * prod(self._find_network_shape(data)) / prod(self.fingerprint.median_shape)
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
        share = None
        if seconds and model.dims == 2 and "train.growth" not in self.settings and not self.times.has_taken_enough:
            share = self.times.measure(prune_plan(model, model.depth, keep_heads=True), step) / seconds
        growth = tuple(self.choose("train.growth", choose_growth(len(model.shells), model.dims, share, steps)))
        distillation = self.choose("train.distillation", choose_distillation())
        return growth, distillation, average_seconds(seconds, share, growth)

    def _note_constants(self, model: ModelPlan) -> None:
        """Give reasons for what does not depend on the data."""
        block = f"{model.convs_per_node} convolutions in each node"
        if model.block == "projected":
            block += ", added to a projection of its inputs: more steps and a better network in the same time"
        nesting = explain_nesting(model, self._list_given())
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


def measure_memory(device: torch.device) -> float:
    """Return the bytes that a training may take: most of a GPU's, part of a computer's within a container's limit."""
    if device.type == "cuda":
        return 0.85 * torch.cuda.mem_get_info(device)[0]
    available: int = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no file outside a container, "max" without a limit
        available = min(available, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return 0.6 * available
