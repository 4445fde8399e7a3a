"""The units of work of one image in a store: measuring, predicting a block, shrinking labels to the next level.

Each is called with a number, on any machine that reaches the store and the model; what it finishes is in the store.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias, cast

import numpy as np
from torch import Tensor

from unetpp.data.case_files import fill_voxels
from unetpp.data.normalize import (
    Moments,
    Scales,
    SlabMeasure,
    join_slabs,
    measure_slab,
    needs_measuring,
)
from unetpp.data.preprocess import ConvertedChannels, PreparedImage, prepare_image, to_label_values
from unetpp.data.resampling import find_nearest
from unetpp.errors import DataError
from unetpp.formats.sources import ArraySource, ImageSource, Slices
from unetpp.formats.zarr_image import ZarrImage
from unetpp.infer.block import predict_block
from unetpp.infer.block_cut import Layer, cut_layers
from unetpp.infer.block_marks import Marks
from unetpp.infer.label_store import LabelStore
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import describe_infinite
from unetpp.infer.predictor import Predictor
from unetpp.infer.remote import RemoteModel
from unetpp.infer.selected import SelectedPredictor
from unetpp.infer.tiles import TileGrid
from unetpp.labels.classes import index_type
from unetpp.labels.decision import MOST_PROBABLE, Threshold
from unetpp.plan import DataPlan
from unetpp.scratch import allocate_array
from unetpp.slabs import slabs

MEASURED, PREDICTED = "measured", "blocks"
"""Stages of the work, and `name_level` for those after them."""
_Blockwise: TypeAlias = Predictor | SelectedPredictor
"""What `predict_store` lets pass."""


def name_level(level: int) -> str:
    """Name the stage in which the labels of a level are made."""
    return f"level_{level}"


@dataclass(frozen=True)
class ImagesOfStore:
    """The images of a store that a network sees: the time points, for a network of planes also the planes."""

    store: ZarrImage
    channels: tuple[int, ...]
    by_planes: bool
    data: DataPlan

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes before those of an image: t, z, as far as the store has them."""
        order = self.store.metadata.order
        return tuple(name for name in ("t", "z") if name in order and (name == "t" or self.by_planes))

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of images along these axes."""
        return tuple(self.store.size(name) for name in self.axes)

    def __len__(self) -> int:
        return prod(self.counts)

    def find(self, area: Slices) -> tuple[int, Slices]:
        """Return the number of the image in which an area of the labels lies, and the area within it."""
        first = len(self.counts)
        places = [part.start for part in area[:first]]
        return int(np.ravel_multi_index(places, self.counts)) if places else 0, area[first:]

    def source(self, number: int) -> ImageSource:
        """Open an image."""
        places = dict(zip(self.axes, self._unravel(number), strict=True))
        return fill_voxels(self.store.source(self.channels, places.get("t", 0), places.get("z")), self.data)

    def name(self, number: int) -> str:
        """Name an image in messages."""
        places = zip(self.axes, self._unravel(number), self.counts, strict=True)
        return " ".join([str(self.store.objects), *(f"{name}={place}" for name, place, count in places if count > 1)])

    def _unravel(self, number: int) -> tuple[int, ...]:
        return tuple(int(place) for place in np.unravel_index(number, self.counts)) if self.counts else ()

    @property
    def is_measured(self) -> bool:
        """Whether the images are measured before they are predicted."""
        return needs_measuring(self.data.normalization, self.source(0).dtype.kind == "f")

    def list_layers(self) -> list[Layer]:
        """List the layers in which each image is measured."""
        kept, chunks = self.source(0).shape[1:], self.store.array().chunks
        return list(cut_layers(slabs(kept), chunks[len(chunks) - len(kept)]))


@dataclass(frozen=True)
class Measure:
    """Measures one layer of one image, whose numbers count through all images."""

    images: ImagesOfStore
    marks: Marks

    def __call__(self, number: int) -> None:
        """Measure, and leave what was found with the mark."""
        layers = self.images.list_layers()
        image, layer = number // len(layers), layers[number % len(layers)]
        found = measure_layer(self.images, image, layer)
        self.marks.set(MEASURED, number, [_to_json(slab) for slab in found])


def measure_layer(images: ImagesOfStore, image: int, layer: Layer) -> list[SlabMeasure]:
    """Measure the slabs of a layer, each as `NormalizedImage` measures it; the chunks are read once.

    Raises:
        DataError: voxels are NaN or infinite, or a chunk cannot be decoded.
    """
    source, rows = images.source(image), layer.rows
    rest = source.shape[2:]
    held = allocate_array((source.shape[0], rows.stop - rows.start, *rest), source.dtype)  # a large one lies on disk
    step = max(1, images.store.array().chunks[-1])
    for start in range(0, rest[-1], step):
        part = slice(start, min(start + step, rest[-1]))
        held[..., part] = source.read((rows, *(slice(0, size) for size in rest[:-1]), part))
    where = images.name(image)
    converted = ConvertedChannels(ArraySource(held, source.geometry), images.data.channels, where)
    whole = tuple(slice(0, size) for size in rest)
    places = (slice(slab.start - rows.start, slab.stop - rows.start) for slab in layer.slabs)
    return [measure_slab(converted, (place, *whole), images.data.normalization, where) for place in places]


@functools.lru_cache(maxsize=4)
def read_scales(marks: Marks, image: int, layers: int, images: _ByStore) -> Scales:
    """Join what was measured of an image.

    Raises:
        DataError: it was not measured.
    """
    slabs_found: list[SlabMeasure] = []
    for number in range(image * layers, (image + 1) * layers):
        content = marks.read(MEASURED, number)
        if content is None:
            raise DataError([_describe_unmeasured(images.value.name(image))])
        slabs_found += [_from_json(slab) for slab in content]
    return join_slabs(slabs_found, images.value.data.normalization)


class _ByStore:
    """Images as an argument of a cache, told apart by their store as one command has opened it."""

    def __init__(self, value: ImagesOfStore) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByStore) and self.value.store == other.value.store

    def __hash__(self) -> int:
        return hash(self.value.store)


@dataclass(frozen=True)
class PredictBlock:
    """Predicts one block of the labels at full resolution, of all sizes that are asked for."""

    model: RemoteModel
    options: PredictOptions
    images: ImagesOfStore
    store: LabelStore
    marks: Marks

    def __call__(self, number: int) -> None:
        """Predict the block, write it, then mark it."""
        image, area = self.images.find(self.store.cuts[0].area(number))
        found = self.predict(image, area)
        whole = tuple(part.stop - part.start for part in self.store.cuts[0].area(number))
        for name, values in zip(self.store.names, found, strict=True):
            self.store.write(name, 0, number, values.reshape(whole))
        self.marks.set(PREDICTED, number)

    def predict(self, image: int, area: Slices, scales: Scales | None = None) -> list[np.ndarray]:
        """Return the label values of a block of an image, for each size; `scales`: those to be used for a trial."""
        if scales is None and self.images.is_measured:
            scales = read_scales(self.marks, image, len(self.images.list_layers()), _ByStore(self.images))
        where = self.images.name(image)
        prepared = prepare_image(self.images.source(image), self.images.data, where, once=True, scales=scales)
        found = predict_classes(cast(_Blockwise, self.model.load()), prepared, area, self.options, image, where)
        return [to_label_values(each, self.images.data) for each in found]


def predict_classes(
    predictor: Predictor | SelectedPredictor,
    image: PreparedImage,
    area: Slices,
    options: PredictOptions,
    before: int = 0,
    where: str = "image",
) -> list[np.ndarray]:
    """Predict the class indices of a block, for each size, as the whole prediction has them.

    Args:
        predictor: the model.
        image: the prepared image.
        area: one slice for each of its axes.
        options: which sizes, and mirrored copies.
        before: number of images of this size that were predicted before this one: what runs them depends on it.
        where: name of the image, for errors.

    Raises:
        DataError: the network returns what is not finite.
    """
    probabilities, threshold, coding = _predict_probabilities(predictor, image, area, options, before)
    if not bool(probabilities.sum().isfinite()):
        raise DataError(describe_infinite(where))
    classes = coding.count_classes(coding.count_outputs(probabilities.shape[1]))
    return [coding.class_indices(each, threshold).cpu().numpy().astype(index_type(classes)) for each in probabilities]


def _predict_probabilities(
    predictor: Predictor | SelectedPredictor, image: PreparedImage, area: Slices, options: PredictOptions, before: int
) -> tuple[Tensor, Threshold, Any]:
    """Predict the probabilities of a block, averaged over the members of a selection."""
    if isinstance(predictor, Predictor):
        members, sizes = [predictor], [predictor.choose_sizes(options)]
        threshold, tta = MOST_PROBABLE.threshold, options.tta
    else:
        members, sizes = predictor.members, [(each.size,) for each in predictor.selection.members]
        threshold, tta = predictor.decision.threshold, options.tta or predictor.selection.tta
    total: Tensor | None = None
    for member, depths in zip(members, sizes, strict=True):
        plan = member.plan.predict
        tiles = len(TileGrid(image.shape[1:], plan.tile, plan.overlap))
        runners = member.choose_runners((before + 1) * tiles)
        used = PredictOptions(tta=tta)
        found = predict_block(runners, image, area, plan, depths, member.device, used, member.sizes, member.coding)
        total = found if total is None else total.add_(found)
    assert total is not None
    return total if len(members) == 1 else total.div_(len(members)), threshold, members[0].coding


@dataclass(frozen=True)
class Shrink:
    """Makes one block of the labels of a level from those of the level before, by the nearest voxel."""

    store: LabelStore
    marks: Marks
    level: int

    def __call__(self, number: int) -> None:
        """Read, shrink and write the block, then mark it."""
        before, cut = self.store.cuts[self.level - 1].shape, self.store.cuts[self.level]
        area = cut.area(number)
        places = [find_nearest(old, new)[part] for old, new, part in zip(before, cut.shape, area, strict=True)]
        around = tuple(slice(int(each[0]), int(each[-1]) + 1) for each in places)
        for name in self.store.names:
            values = self.store.read(name, self.level - 1, around)
            chosen = values[np.ix_(*(each - part.start for each, part in zip(places, around, strict=True)))]
            self.store.write(name, self.level, number, chosen)
        self.marks.set(name_level(self.level), number)


def _describe_unmeasured(where: str) -> Any:
    from unetpp.errors import Problem

    return Problem(where, "an image that was not measured", "its mean and range", "Run the command again.")


def _to_json(slab: SlabMeasure) -> dict[str, Any]:
    def write(moments: Moments) -> dict[str, Any]:
        return {"count": moments.count, "mean": moments.mean.tolist(), "squares": moments.squares.tolist()}

    ends = {name: [float(end) for end in values] for name, values in (("low", slab.low), ("high", slab.high))}
    return {"voxels": write(slab.voxels), "filled": slab.filled and write(slab.filled), **ends}


def _from_json(values: Mapping[str, Any]) -> SlabMeasure:
    def read(moments: Mapping[str, Any]) -> Moments:
        return Moments(moments["count"], np.asarray(moments["mean"]), np.asarray(moments["squares"]))

    low, high = (np.asarray(values[name]) for name in ("low", "high"))
    return SlabMeasure(read(values["voxels"]), values["filled"] and read(values["filled"]), low, high)
