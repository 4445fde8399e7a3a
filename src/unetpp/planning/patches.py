"""Patches, tiles and batches, and the down-samplings that go with them: of the usual size, or as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

from unetpp.data.preprocess import network_grid
from unetpp.plan import LARGEST_TILE, Axes, DataPlan, ModelPlan
from unetpp.planning import geometry_rules, memory_rules, rules
from unetpp.planning.choice import Choice, Decisions
from unetpp.planning.fingerprint import Fingerprint
from unetpp.planning.networks import Networks
from unetpp.planning.room import Room


class Geometry(NamedTuple):
    """Choices that belong together, since a patch is a multiple of the strides, which follow from its size."""

    depth: str
    """Reason of the depth."""
    strides: Choice[tuple[Axes, ...]]
    kernels: Choice[tuple[Axes, ...]]
    patch: Choice[Axes]
    tile: Choice[Axes]


class Sizes(NamedTuple):
    """Sizes of a training step, and of prediction."""

    fields: dict[str, Any]
    """Fields of the network that do not depend on its width."""
    patch: Axes
    tile: Axes
    batch: int
    shape: Axes
    """Typical size of a case on the network's grid, in voxels."""
    is_full: bool
    """Patches and batches cannot grow any further, whatever the memory."""


@dataclass(frozen=True)
class SizePlanner:
    """Chooses what follows from the size of images and voxels, and from the memory.

    Args:
        fingerprint: the data set.
        data: how it is brought to the network's grid.
        decisions: what the user set; reasons are noted there.
        networks: those to choose from.
        room: the memory.
        precision: arithmetic of training.
        minutes: wall time of the training; None: not limited.
    """

    fingerprint: Fingerprint
    data: DataPlan
    decisions: Decisions
    networks: Networks
    room: Room
    precision: str
    minutes: float | None

    def plan(self) -> Sizes:
        """Choose the sizes, and note why."""
        found = next((each for each in self._list_geometries() if self._fits(each)), None) or self._smallest()
        strides = self.decisions.choose("model.strides", found.strides)
        kernels = self.decisions.choose("model.kernel_sizes", found.kernels)
        patch = self.decisions.choose("train.patch", found.patch)
        tile = self.decisions.choose("predict.tile", found.tile)
        self.decisions.reasons["model.depth"] = found.depth
        fields = self._list_fields(strides, kernels)
        batch = self._choose_batch(fields, patch)
        is_full = patch == memory_rules.pad_case(self.shape, self._find_multiples(strides))
        return Sizes(fields, patch, tile, batch, self.shape, is_full and batch >= self._limit_batch(patch))

    @property
    def shape(self) -> Axes:
        """Median shape on the network's grid, in voxels."""
        f = self.fingerprint
        return network_grid(f.median_shape, f.median_spacing_mm, self.data.spacing_mm)

    @property
    def _is_short(self) -> bool:
        """Whether a level less does: in a short training on a processor, if depths are no sizes to choose from."""
        short = self.minutes is not None and self.minutes <= geometry_rules.SHALLOW_MINUTES
        return short and self.room.device == "cpu" and not self.networks.has_depths

    def _list_geometries(self) -> Iterator[Geometry]:
        """List what there is to choose from, the largest patch first: larger ones than usual if sizes grow."""
        shape, spacing, axes = self.shape, self.data.voxel_mm, geometry_rules.count_long_axes(self.shape)
        usual = partial(rules.choose_patch, shape, rules.LARGEST_PATCH[self.room.device, axes], spacing_mm=spacing)
        if "train.patch" in self.decisions.settings:
            yield self._make_geometry(usual)
            return
        largest = None
        if not self.room.grows:
            yield (first := self._make_geometry(usual))
            largest = prod(first.patch.value)
        sizes = memory_rules.list_patch_voxels(shape, largest)
        smaller = {each.patch.value: each for each in map(self._make_filling, sizes)}
        yield from sorted(smaller.values(), key=lambda each: -prod(each.patch.value))

    def _make_filling(self, voxels: int) -> Geometry:
        def choose(multiples: Axes) -> Choice[Axes]:
            memory, spacing = str(self.room), self.data.voxel_mm
            return memory_rules.choose_filling_patch(self.shape, voxels, memory, multiples, spacing)

        return self._make_geometry(choose)

    def _smallest(self) -> Geometry:
        *_, last = self._list_geometries()
        return last

    def _fits(self, each: Geometry) -> bool:
        """Tell whether a patch fits: two with the usual network if sizes grow, else one with the narrowest."""
        models = self.networks.list(self._list_fields(each.strides.value, each.kernels.value))
        model = self._pick_usual(models) if self.room.grows else list(models.values())[-1]
        fewest = memory_rules.FEWEST_PATCHES if self.room.grows else 1
        batch = self.decisions.settings.get("train.batch", fewest)
        return self.room.holds(model, each.patch.value, batch, self.precision)

    def _make_geometry(self, choose_patch: Callable[[Axes], Choice[Axes]]) -> Geometry:
        """Choose down-samplings, kernels, patch and tile, given the rule for a patch of multiples of the strides."""
        spacing, shape, settings = self.data.voxel_mm, self.shape, self.decisions.settings
        encoder = self.networks.encoder

        def decide(name: str, choice: Choice[Any]) -> Choice[Any]:
            return Choice(settings[name], "") if name in settings else choice

        about = settings.get("train.patch") or choose_patch((1,) * self.data.dims).value
        seen = tuple(map(min, shape, about))
        deepest = geometry_rules.choose_depth(seen, self._is_short)
        strides = decide(
            "model.strides",
            geometry_rules.choose_encoder_strides(settings["model.encoder"], encoder.widths, encoder.depth)
            if encoder
            else geometry_rules.choose_strides(seen, spacing, self.networks.find_given_depth() or deepest.value),
        )
        kernels = decide("model.kernel_sizes", geometry_rules.choose_kernels(seen, spacing, strides.value))
        multiples = self._find_multiples(strides.value)
        patch = decide("train.patch", choose_patch(multiples))
        largest = LARGEST_TILE[geometry_rules.count_long_axes(shape)]
        tile = decide("predict.tile", rules.choose_tile(patch.value, shape, largest, multiples, spacing))
        depth = f"{len(strides.value)} down-samplings" + f"; {deepest.reason}" * (encoder is None)
        return Geometry(depth, strides, kernels, patch, tile)

    def _find_multiples(self, strides: tuple[Axes, ...]) -> Axes:
        """Return what the sides of a patch are multiples of, so that no level is padded."""
        encoder = self.networks.encoder
        multiples = (encoder.divisor,) * 2 if encoder else tuple(map(prod, zip(*strides, strict=True)))
        return tuple(self.decisions.settings.get("model.divisor") or multiples)

    def _list_fields(self, strides: tuple[Axes, ...], kernels: tuple[Axes, ...]) -> dict[str, Any]:
        data = self.data
        fields = {"dims": data.dims, "in_channels": data.in_channels, "out_channels": len(data.outputs)}
        return fields | {"strides": strides, "kernel_sizes": kernels, "depth": len(strides)}

    def _pick_usual(self, models: dict[int, ModelPlan]) -> ModelPlan:
        """Pick the network for which patches and batches are made to fit: of the user's width, else of the usual."""
        usual = memory_rules.USUAL_WIDTH[self.room.device]
        return models[max((width for width in models if width <= usual), default=min(models))]

    def _limit_batch(self, patch: Axes) -> int:
        return memory_rules.limit_batch(prod(patch), self.fingerprint.cases * prod(self.shape))

    def _choose_batch(self, fields: dict[str, Any], patch: Axes) -> int:
        """Choose the usual batch, or one that fills the memory; less where even the narrowest network does not fit."""
        models, step = self.networks.list(fields), self.precision
        usual, narrowest = self._pick_usual(models), list(models.values())[-1]
        if self.room.grows:
            choice = memory_rules.choose_filling_batch(
                prod(patch),
                self._limit_batch(patch),
                str(self.room),
                lambda batch: self.room.holds(usual, patch, batch, step),
            )
        else:
            choice = rules.choose_batch(prod(patch), self.data.dims, self.room.device)
        batch = int(self.decisions.choose("train.batch", choice))
        while (
            "train.batch" not in self.decisions.settings
            and batch > 1
            and not self.room.holds(narrowest, patch, batch, step)
        ):
            batch //= 2
            self.decisions.reasons["train.batch"] = f"no more fits {self.room}"
        return batch
