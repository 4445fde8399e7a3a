"""From a fingerprint, a machine and the user's time to a plan. The numbers of the rules' outcome end up in one Plan."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import psutil
import torch

from unetpp.errors import PlanError
from unetpp.model.build import model_plan
from unetpp.model.encoder_weights import require_source
from unetpp.model.encoders import EncoderShape, encoder_shape, encoder_statistics
from unetpp.plan import (
    LARGEST_TILE,
    AugmentPlan,
    DataPlan,
    ModelPlan,
    Normalization,
    Plan,
    PredictPlan,
    TrainPlan,
)
from unetpp.planning import rules
from unetpp.planning.cost import training_bytes
from unetpp.planning.fingerprint import Fingerprint
from unetpp.planning.rules import Axes, Choice
from unetpp.runtime.device import has_fast_bf16
from unetpp.settings import parse_settings, validate

StepTimer = Callable[[ModelPlan, Axes, int, str], float]
"""Seconds of one training step of a network with a patch, a batch and a precision."""


def make_plan(
    fingerprint: Fingerprint,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    device: torch.device | None = None,
    settings: Mapping[str, Any] | None = None,
    step_seconds: StepTimer,
) -> Plan:
    """Configure a run.

    Args:
        minutes: wall time that the user gives to training; the network is chosen to train well in it.
        epochs: the length instead, in passes over the data.
        settings: `{"section.key": value}` that the user decides; what follows from them is chosen to agree.
        step_seconds: measures this machine.

    Raises:
        PlanError: a setting that is unknown or does not fit.
    """
    device = device or torch.device("cpu")
    parsed = parse_settings(Plan, settings or {})
    _require_axes(parsed, fingerprint.dims)
    return _Planner(fingerprint, parsed, device, step_seconds).plan(minutes, epochs)


def _require_axes(settings: Mapping[str, Any], dims: int) -> None:
    """Sizes that the user set have a number for each axis of the data."""
    for key, value in settings.items():
        each = key in ("model.strides", "model.kernel_sizes", "model.nested_kernel_sizes")
        if not each and key not in ("train.patch", "predict.tile", "data.spacing_mm", "model.divisor"):
            continue
        if value is not None and any(len(entry) != dims for entry in (value if each else [value])):
            expected = f"{dims} numbers{' in each entry' * each}, one for each axis of this {dims}D data"
            raise PlanError(key, str(value), expected, "Change it.")


@dataclass(frozen=True)
class _Sizes:
    """What a network is made for and fed with."""

    strides: tuple[Axes, ...]
    kernels: tuple[Axes, ...]
    patch: Axes
    tile: Axes


class _Planner:
    """Makes the choices in order; a choice that the user made is taken as it is."""

    def __init__(
        self, fingerprint: Fingerprint, settings: dict[str, Any], device: torch.device, step_seconds: StepTimer
    ) -> None:
        self.fingerprint, self.settings, self.device = fingerprint, settings, device
        self.step_seconds = step_seconds
        self.memory_bytes = memory_bytes(device)
        self.reasons: dict[str, str] = {}

    def plan(self, minutes: float | None, epochs: int | None) -> Plan:
        if weights := self.settings.get("model.encoder_weights"):
            require_source(weights)
        data = self._data()
        precision = self.choose("train.precision", rules.choose_precision(self.device.type, has_fast_bf16(self.device)))
        sizes = self._sizes(data)
        overlap = self.choose("predict.overlap", rules.choose_overlap(data.dims))
        batch = self.choose("train.batch", rules.choose_batch(prod(sizes.patch), data.dims, self.device.type))
        batch = self._fitting_batch(data, sizes, batch, precision)
        model, seconds = self._model(data, sizes, batch, precision, minutes)
        train = self._train(data, model, sizes.patch, batch, precision, minutes, epochs, seconds)
        predict = PredictPlan(
            tile=sizes.tile,
            overlap=overlap,
            precision=precision,
            depth=self.choose("predict.depth", rules.choose_head(model.depth)),
            batch=min(batch, self._tiles_at_once(sizes.tile)),
        )
        sections = {"name": self.fingerprint.name, "data": data, "model": model, "train": train, "predict": predict}
        return validate(Plan, sections | {"reasons": self.reasons}).changed(self.settings)

    def _sizes(self, data: DataPlan) -> _Sizes:
        """What follows from the size of images and voxels."""
        shape, spacing = self._network_shape(data), data.voxel_mm
        encoder = self._encoder()
        strides = self.choose(
            "model.strides",
            self._strides_of(encoder) if encoder else rules.choose_strides(shape, spacing, self._largest_depth()),
        )
        self.note("model.depth", f"{len(strides)} down-samplings")
        kernels = self.choose("model.kernel_sizes", rules.choose_kernels(spacing, strides))
        divisors = (
            (encoder.divisor,) * 2
            if encoder
            else tuple(prod(stride[axis] for stride in strides) for axis in range(len(shape)))
        )
        multiple = tuple(self.settings.get("model.divisor") or divisors)
        largest = rules.LARGEST_PATCH[self.device.type, data.dims]
        patch = self.choose("train.patch", rules.choose_patch(shape, largest, multiple))
        tile = self.choose("predict.tile", rules.choose_tile(patch, shape, LARGEST_TILE[data.dims], multiple))
        return _Sizes(strides, kernels, patch, tile)

    def _tiles_at_once(self, tile: Axes) -> int:
        """A CPU works on one tile in its caches, on several outside of them (docs/log.md)."""
        return 1 if self.device.type == "cpu" else rules.choose_batch(prod(tile), len(tile), self.device.type).value

    def _train(
        self,
        data: DataPlan,
        model: ModelPlan,
        patch: Axes,
        batch: int,
        precision: str,
        minutes: float | None,
        epochs: int | None,
        seconds: float,
    ) -> TrainPlan:
        """The length of the schedule, and how much patches are varied in it.

        Args:
            seconds: of one step on this machine; 0: not measured.
        """
        steps = self.choose("train.steps_per_epoch", rules.choose_steps_per_epoch(self.fingerprint.cases, batch))
        length = self.choose("train.epochs", rules.choose_epochs(epochs, minutes))
        timed = minutes * 60 / seconds if minutes and seconds else None
        if timed is not None:
            self.note("train.minutes", f"given; at most {int(timed)} steps of {seconds:.2f} s on this machine")
        self._note_constants(model)
        symmetries, reason = rules.choose_symmetries(data.dims, data.voxel_mm)
        self.note("train.augment.mirror", reason)
        self.note("train.augment.quarter_turns", reason)
        number = length * steps if timed is None or epochs else timed
        variation = rules.choose_variation(number * batch * prod(patch) / self.fingerprint.voxels)
        self.note("train.augment.affine_probability", variation.reason)
        return TrainPlan(
            patch=patch,
            batch=batch,
            steps_per_epoch=steps,
            epochs=length,
            minutes=None if epochs else minutes,
            precision=precision,
            augment=AugmentPlan(mirror=symmetries, quarter_turns=symmetries, **variation.value),
        )

    def _note_constants(self, model: ModelPlan) -> None:
        """What does not depend on the data has its reason too."""
        self.note("model.topology", "the nested network: one training, a network for each depth")
        if model.norm in ("group", "instance", "layer"):
            self.note(
                "model.norm", "statistics of each image, so that small batches do no harm; measured in docs/log.md"
            )
        self.note(
            "model.block",
            f"{model.convs_per_node} convolutions in each node"
            + (
                ", added to a projection of what it receives: more steps and a better network in the same time"
                if model.block == "projected"
                else ""
            ),
        )
        self.note("train.optimizer", "kernels are learned in a fraction of the steps of AdamW, see docs/log.md")
        self.note("train.learning_rate", "of AdamW, which moves all else: a warm-up and half a cosine down to 0")
        self.note("train.head_weights", "one loss for each head, all of the same weight, as in the papers")
        self.note("train.foreground_fraction", "so that rare classes are seen")

    def choose(self, name: str, choice: Choice[Any]) -> Any:
        if name in self.settings:
            return self.settings[name]
        self.note(name, choice.reason)
        return choice.value

    def note(self, name: str, reason: str) -> None:
        self.reasons[name] = reason

    def _largest_depth(self) -> int:
        return self._given_depth() or rules.MAX_DEPTH

    def _given_depth(self) -> int | None:
        widths = self.settings.get("model.widths")
        return self.settings.get("model.depth", len(widths) - 1 if isinstance(widths, list) else None)

    def _encoder(self) -> EncoderShape | None:
        """What the model of timm gives that the user wants."""
        name = self.settings.get("model.encoder")
        if name is None or name == "resenc" or self.fingerprint.dims != 2:
            return None
        return encoder_shape(name, self._given_depth())

    def _strides_of(self, encoder: EncoderShape) -> Choice[tuple[Axes, ...]]:
        return rules.choose_strides_of_encoder(self.settings["model.encoder"], encoder.widths, encoder.depth)

    def _data(self) -> DataPlan:
        f = self.fingerprint
        spacing = self.choose(
            "data.spacing_mm",
            rules.choose_spacing(f.median_spacing_mm, f.spacing_varies)
            if f.dims == 3
            else rules.choose_spacing(None, False),
        )
        normalization = self._normalization()
        reasons = [
            f"{channel.name}: {choice.reason}" for channel, choice in zip(f.channels, normalization, strict=True)
        ]
        self.note(
            "data.normalization",
            normalization[0].reason if len({choice.reason for choice in normalization}) == 1 else "; ".join(reasons),
        )
        self.note("data.dims", "images" if f.dims == 2 else "volumes")
        self.note(
            "data.channels",
            f"{len(f.channels)} in the files"
            + (" (grey images are repeated)" if any("grey" in note for note in f.notes) else ""),
        )
        self.note(
            "data.classes",
            "objects are foreground"
            if f.instances
            else f"the values {', '.join(map(str, f.label_values))} in the label files",
        )
        return DataPlan(
            dims=2 if f.dims == 2 else 3,
            channels=tuple(channel.name for channel in f.channels),
            classes=f.classes,
            label_values=f.label_values,
            instances=f.instances,
            spacing_mm=spacing,
            voxel_mm=(spacing or f.median_spacing_mm) if f.dims == 3 else None,
            normalization=tuple(choice.value for choice in normalization),
        )

    def _normalization(self) -> list[Choice[Normalization]]:
        """One for each channel: that of the encoder's weights where they know these channels, else that of the data."""
        channels, encoder, weights = (
            self.fingerprint.channels,
            self.settings.get("model.encoder"),
            self.settings.get("model.encoder_weights"),
        )
        if weights and encoder not in (None, "resenc"):
            names, largest = tuple(channel.name for channel in channels), max(channel.maximum for channel in channels)
            if rules.encoder_knows(names, largest):
                return rules.choose_normalization_of_encoder(encoder, *encoder_statistics(encoder))
        foregrounds = [
            (channel.foreground_low, channel.foreground_high, channel.foreground_mean, channel.foreground_std)
            for channel in channels
        ]
        return [
            rules.choose_normalization(channel.name, foreground)
            for channel, foreground in zip(channels, foregrounds, strict=True)
        ]

    def _network_shape(self, data: DataPlan) -> Axes:
        """Median shape as the network sees it."""
        f = self.fingerprint
        if data.spacing_mm is None or f.median_spacing_mm is None:
            return f.median_shape
        return tuple(
            max(1, round(size * have / want))
            for size, have, want in zip(f.median_shape, f.median_spacing_mm, data.spacing_mm, strict=True)
        )

    def _model(
        self, data: DataPlan, sizes: _Sizes, batch: int, precision: str, minutes: float | None
    ) -> tuple[ModelPlan, float]:
        """The widest network of the ladder that fits the memory and sees enough patches in the time.

        Returns:
            The network, and seconds of one training step; 0 where no time was given.
        """
        fields, fixed, patch = self._model_settings(), self._fixed(data, sizes), sizes.patch
        if "widths" in fields or "preset" in fields:
            model = model_plan(**{**fixed, **fields})
            return model, self.step_seconds(model, patch, batch, precision) if minutes else 0.0
        ladder = {width: model_plan(**{**fixed, "first_width": width, **fields}) for width in rules.WIDTH_LADDER}
        fitting = {
            width: model
            for width, model in ladder.items()
            if training_bytes(model, patch, batch, precision) < self.memory_bytes
        }
        fitting = fitting or dict([list(ladder.items())[-1]])
        if not minutes:
            choice = rules.choose_width_by_memory(list(fitting), self.device.type)
            self.note("model.widths", choice.reason)
            return fitting[choice.value], 0.0
        times = self._time_widths(fitting, patch, batch, precision, 60 * minutes / rules.WANTED_STEPS)
        choice = rules.choose_width_by_time(times, minutes)
        self.note("model.widths", choice.reason)
        return fitting[choice.value], times[choice.value]

    def _time_widths(
        self, models: Mapping[int, ModelPlan], patch: Axes, batch: int, precision: str, longest_s: float
    ) -> dict[int, float]:
        """Seconds of a step for each first width, narrow ones first, up to the first that takes longer than wanted."""
        times: dict[int, float] = {}
        for width in sorted(models):  # wide ones would take minutes
            try:
                times[width] = self.step_seconds(models[width], patch, batch, precision)
            except torch.OutOfMemoryError:  # of a GPU: wider ones will not fit either
                if not times:
                    raise
                torch.cuda.empty_cache()
                break
            if times[width] > longest_s:
                break
        return times

    def _fitting_batch(self, data: DataPlan, sizes: _Sizes, batch: int, precision: str) -> int:
        """A smaller batch where even the narrowest network would not fit the memory with the chosen one."""
        if "train.batch" in self.settings:
            return batch
        fixed = self._fixed(data, sizes)
        narrowest = model_plan(**{**fixed, "first_width": rules.WIDTH_LADDER[-1], **self._model_settings()})
        while batch > 1 and training_bytes(narrowest, sizes.patch, batch, precision) > self.memory_bytes:
            batch //= 2
            self.note("train.batch", f"no more fits the {self.memory_bytes / 1e9:.0f} GB of memory at hand")
        return batch

    def _model_settings(self) -> dict[str, Any]:
        return {key.removeprefix("model."): value for key, value in self.settings.items() if key.startswith("model.")}

    @staticmethod
    def _fixed(data: DataPlan, sizes: _Sizes) -> dict[str, Any]:
        """The fields of a network that do not depend on its width."""
        shape = {"strides": sizes.strides, "kernel_sizes": sizes.kernels, "depth": len(sizes.strides)}
        return {"dims": data.dims, "in_channels": len(data.channels), "out_channels": data.num_classes, **shape}


def memory_bytes(device: torch.device) -> float:
    """Memory that a training may take: most of a GPU's, part of a computer's, within the limit of a container."""
    if device.type == "cuda":
        return 0.85 * torch.cuda.mem_get_info(device)[0]
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no such file outside a container, "max" without a limit
        available = min(available, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return 0.6 * available
