"""Volumes for a 2D network: each plane is predicted as an image, and the results are stacked. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from unetpp.formats.planes import PlaneSource, find_turn
from unetpp.formats.sources import ImageSource
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import Prediction
from unetpp.infer.tiles import TileProgress
from unetpp.scratch import allocate_array, release


class PredictSource(Protocol):
    """Predicts an image, as `CasePredictor.predict_source`."""

    def __call__(
        self, source: ImageSource, where: str, options: PredictOptions, progress: TileProgress | None
    ) -> dict[int, Prediction]: ...


def predict_any(
    predict: PredictSource,
    dims: int,
    source: ImageSource,
    where: str,
    options: PredictOptions,
    progress: TileProgress | None,
) -> dict[int, Prediction]:
    """Predict an image of as many axes as the network has, or for a 2D network a volume plane by plane.

    Args:
        predict: predicts an image.
        dims: number of spatial axes of the network.
        source: the image or volume.
        where: its name, for errors.
        options: which depths, how, and which maps to return.
        progress: called with (tiles done, tiles in total).

    Returns:
        depth -> prediction, on the grid of the source.

    Raises:
        DataError: as `predict`.
    """
    if (dims, len(source.shape)) != (2, 4):
        return predict(source, where, options, progress)
    planes = source.shape[1]
    volumes: dict[int, Prediction] = {}
    ways: list[str] = []
    for plane in range(planes):
        found = predict(PlaneSource(source, plane), where, options, _show_plane(progress, plane, planes))
        for depth, image in found.items():
            volumes[depth] = _add_plane(volumes.get(depth), image, plane, source)
        ways += next(iter(found.values())).outside
    outside = _join_ways(ways, planes)
    return {depth: replace(volume, outside=outside) for depth, volume in volumes.items()}


def _join_ways(ways: Sequence[str], planes: int) -> tuple[str, ...]:
    """Say once how planes are unlike the training, if more than a tenth are: a volume may begin and end with nothing.

    Args:
        ways: those of all planes; the figures of each differ.
        planes: number of planes.
    """
    kinds: dict[str, list[str]] = {}
    for way in ways:
        kinds.setdefault(way.split(":")[0].split(";")[0], []).append(way)
    return tuple(
        found[0] if len(found) == planes else f"{len(found)} of {planes} planes: {found[0]}"
        for found in kinds.values()
        if len(found) > planes / 10
    )


def _show_plane(progress: TileProgress | None, plane: int, planes: int) -> TileProgress | None:
    if progress is None:
        return None
    return lambda done, tiles: progress(plane * tiles + done, planes * tiles)


def _add_plane(volume: Prediction | None, image: Prediction, plane: int, source: ImageSource) -> Prediction:
    """Write the prediction of a plane into that of its volume, which is allocated for the first one."""
    if volume is None:
        volume = _allocate(image, source)
    else:
        sums = None if volume.dice_sums is None or image.dice_sums is None else volume.dice_sums + image.dice_sums
        tiles = Counter(volume.tiles) + Counter(image.tiles)
        volume = replace(volume, dice_sums=sums, tiles=tiles)
    as_stored = find_turn(source.geometry).undo
    volume.segmentation[plane] = as_stored(image.segmentation)
    if volume.probabilities is not None and image.probabilities is not None:
        volume.probabilities[:, plane] = as_stored(image.probabilities)
    if volume.uncertainty is not None and image.uncertainty is not None:
        volume.uncertainty[plane] = as_stored(image.uncertainty)
    for array in (volume.segmentation, volume.probabilities, volume.uncertainty):
        release(array)
    return volume


def _allocate(image: Prediction, source: ImageSource) -> Prediction:
    """Allocate the prediction of a volume with the maps, and the sums, of that of its first plane."""
    shape, chances, doubts = source.shape[1:], image.probabilities, image.uncertainty
    return replace(
        image,
        segmentation=allocate_array(shape, image.segmentation.dtype),
        geometry=source.geometry,
        probabilities=None if chances is None else allocate_array((len(chances), *shape), chances.dtype),
        uncertainty=None if doubts is None else allocate_array(shape, doubts.dtype),
    )
